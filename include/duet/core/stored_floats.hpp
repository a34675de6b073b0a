#pragma once

#include <algorithm>
#include <cstring>
#include <span>

#include "duet/core/quantized_block.hpp"

namespace duet {

/// Elements [begin, begin + out.size()) of a stored row (a whole tensor, where nothing is quantized), of any alignment, as floats.
/// Requires a dtype of floats (F64, F32, F16, BF16), Q8_0 or Q4_0
inline void read_floats(const std::byte* row, DType dtype, std::size_t begin, std::span<float> out) noexcept {
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
  const auto each = [&]<class Stored>(Stored stored, auto&& value) {
    const std::byte* at = row + begin * sizeof stored;
    for (float& to : out) {
      std::memcpy(&stored, at, sizeof stored);
      to = value(stored);
      at += sizeof stored;
    }
  };
  if (dtype == DType::kF64) {
    each(double{}, [](double v) { return static_cast<float>(v); });
  } else if (dtype == DType::kF32) {
    each(float{}, [](float v) { return v; });
  } else if (dtype == DType::kF16) {
    each(F16{}, [](F16 v) { return to_float(v); });
  } else {
    each(Bf16{}, [](Bf16 v) { return to_float(v); });
  }
}

}  // namespace duet
