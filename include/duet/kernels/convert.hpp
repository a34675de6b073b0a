#pragma once

#include <algorithm>
#include <cstring>
#include <span>

#include "duet/core/assert.hpp"
#include "duet/core/quantized_block.hpp"
#include "duet/kernels/isa_namespace.hpp"

namespace duet::kernels {
inline namespace DUET_ISA_NAMESPACE {

/// Elements [begin, begin + out.size()) of a stored row of weights, of any alignment, as floats.
/// Requires a dtype that weights have: F32, F16, BF16, Q8_0 or Q4_0
inline void to_float(const std::byte* row, DType dtype, std::size_t begin, std::span<float> out) noexcept {
  if (is_quantized(dtype)) {
    std::int8_t integers[kBlockSize];
    for (std::size_t done = 0; done < out.size();) {
      const std::size_t at = begin + done, within = at % kBlockSize;
      const std::size_t count = std::min(kBlockSize - within, out.size() - done);
      const std::byte* const block = row + at / kBlockSize * size_of(dtype);
      const float scale = block_scale(block);
      unpack_block(dtype, block, integers);
      for (std::size_t i = 0; i < count; ++i) out[done + i] = scale * static_cast<float>(integers[within + i]);
      done += count;
    }
    return;
  }
  const std::byte* const from = row + begin * size_of(dtype);
  if (dtype == DType::kF32) {
    if (!out.empty()) std::memcpy(out.data(), from, out.size() * sizeof(float));
    return;
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    std::uint16_t bits;
    std::memcpy(&bits, from + 2 * i, sizeof bits);
    out[i] = dtype == DType::kF16 ? duet::to_float(F16{bits}) : duet::to_float(Bf16{bits});
  }
}

}  // namespace DUET_ISA_NAMESPACE
}  // namespace duet::kernels
