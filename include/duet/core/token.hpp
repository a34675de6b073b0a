#pragma once

#include <cstdint>

namespace duet {

/// A position in a model's vocabulary.
using TokenId = std::int32_t;

}  // namespace duet
