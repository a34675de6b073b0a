#pragma once

#include <cstring>
#include <span>

#include "duet/core/assert.hpp"
#include "duet/core/dtype.hpp"
#include "duet/kernels/isa_namespace.hpp"

namespace duet::kernels {
inline namespace DUET_ISA_NAMESPACE {

/// Stored F32, F16 or BF16 values, of any alignment, as floats.
/// Requires stored.size() == out.size() * size_of(dtype)
inline void to_float(std::span<const std::byte> stored, DType dtype, std::span<float> out) noexcept {
  DUET_ASSERT(stored.size() == out.size() * size_of(dtype), "one stored value for each float");
  if (dtype == DType::kF32) {
    if (!out.empty()) std::memcpy(out.data(), stored.data(), stored.size());
    return;
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    std::uint16_t bits;
    std::memcpy(&bits, stored.data() + 2 * i, sizeof bits);
    out[i] = dtype == DType::kF16 ? duet::to_float(F16{bits}) : duet::to_float(Bf16{bits});
  }
}

}  // namespace DUET_ISA_NAMESPACE
}  // namespace duet::kernels
