#pragma once

namespace duet::testing {

/// Allocations this program has made so far (allocations.cpp counts them).
long allocation_count();

}  // namespace duet::testing
