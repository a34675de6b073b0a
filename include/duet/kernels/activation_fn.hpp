#pragma once

#include "duet/core/matrix.hpp"

namespace duet::kernels {

/// Applies an activation to `count` floats in place.
using ActivationFn = void (*)(float* values, Index count) noexcept;

}  // namespace duet::kernels
