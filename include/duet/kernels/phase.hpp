#pragma once

#include "duet/core/workspace.hpp"

namespace duet {

/// Which kernels run a forward pass. The two accumulate in different orders, so the choice follows what is done, never
/// how many rows there are: a prompt of one token still prefills, a batch of conversations still decodes. That keeps a
/// row's bits the same however it is chunked and whatever runs beside it.
enum class Phase : unsigned char {
  kPrefill,  ///< many rows: bound by arithmetic
  kDecode,   ///< one row a sequence: bound by reading the weights
};

}  // namespace duet
