#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>

#include "duet/core/dtype.hpp"

namespace duet {

// What stands in a block of Q8_0 or Q4_0: an f16 scale and 32 small integers.

inline constexpr std::size_t kBlockSize = block_size(DType::kQ8_0);
inline constexpr std::size_t kScaleBytes = 2;  ///< in front of a block's integers

[[nodiscard]] inline float block_scale(const std::byte* block) noexcept {
  std::uint16_t bits;
  std::memcpy(&bits, block, sizeof bits);
  return to_float(F16{bits});
}

/// The block's integers, in order: value = scale · integer.
inline void unpack_block(DType dtype, const std::byte* block, std::int8_t* integers) noexcept {
  const std::byte* const packed = block + kScaleBytes;
  if (dtype == DType::kQ8_0) {
    std::memcpy(integers, packed, kBlockSize);
    return;
  }
  for (std::size_t i = 0; i < kBlockSize / 2; ++i) {
    const auto two = std::to_integer<unsigned>(packed[i]);
    integers[i] = static_cast<std::int8_t>(static_cast<int>(two & 0xf) - 8);
    integers[i + kBlockSize / 2] = static_cast<std::int8_t>(static_cast<int>(two >> 4) - 8);
  }
}

namespace detail {

/// To nearest, ties to even: the sum has no room for a fraction, and its last bits are the whole number. A call of the C
/// library would take longer than all the rest.
inline std::int8_t rounded(float value, float inverse_scale, float least, float most) noexcept {
  constexpr float kNoFraction = 0x1.8p23f;
  const auto bits = std::bit_cast<std::int32_t>(std::clamp(value * inverse_scale, least, most) + kNoFraction);
  return static_cast<std::int8_t>(bits - std::bit_cast<std::int32_t>(kNoFraction));
}

/// The f16 nearest to a scale, as it will be read: values are rounded with what they will be multiplied by.
inline float stored_scale(float scale) noexcept { return to_float(to_f16(scale)); }
inline float inverse(float scale) noexcept { return scale == 0.0f ? 0.0f : 1.0f / scale; }

/// Rounds 32 values to integers of `least` to `most`; returns the scale.
inline float quantize_q8(const float* values, float most, std::int8_t* integers) noexcept {
  const float scale = stored_scale(most / 127.0f), factor = inverse(scale);
  for (std::size_t i = 0; i < kBlockSize; ++i) integers[i] = rounded(values[i], factor, -127.0f, 127.0f);
  return scale;
}

/// Tries scales that send the value farthest from 0 to about −8, takes for each the scale that suits its integers best (least
/// squares, in which larger values weigh more), and keeps the best of all.
inline float quantize_q4(const float* values, float farthest, std::int8_t* integers) noexcept {
  float mean_square = 0.0f, weights[kBlockSize];
  for (std::size_t j = 0; j < kBlockSize; ++j) mean_square += values[j] * values[j] / float{kBlockSize};
  for (std::size_t j = 0; j < kBlockSize; ++j) weights[j] = std::sqrt(mean_square) + std::abs(values[j]);
  float best_scale = 0.0f, best_gain = 0.0f;
  std::fill_n(integers, kBlockSize, std::int8_t{0});
  for (int i = -5; i <= 5; ++i) {
    const float factor = inverse(farthest / (-8.0f + 0.25f * static_cast<float>(i)));
    float products = 0.0f, squares = 0.0f;
    std::int8_t tried[kBlockSize];
    for (std::size_t j = 0; j < kBlockSize; ++j) {
      tried[j] = rounded(values[j], factor, -8.0f, 7.0f);
      const auto integer = static_cast<float>(tried[j]);
      products += weights[j] * values[j] * integer;
      squares += weights[j] * integer * integer;
    }
    // Σ w·(v − s·q)² = Σ w·v² − (Σ w·v·q)² / Σ w·q² for the best s
    if (squares == 0.0f || !(products * products / squares > best_gain)) continue;
    best_gain = products * products / squares;
    best_scale = stored_scale(products / squares);
    std::copy_n(tried, kBlockSize, integers);
  }
  return best_scale;
}

}  // namespace detail

/// Writes up to 32 values as one block of `dtype`, filled up with zeros; one that holds an infinity or NaN becomes NaN.
/// Source  the layouts of GGUF's Q8_0 and Q4_0; scales and rounding are our own
inline void quantize_block(std::span<const float> values, DType dtype, std::byte* block) noexcept {
  float padded[kBlockSize] = {};
  std::copy(values.begin(), values.end(), padded);
  float farthest = 0.0f, finite = 0.0f;
  for (const float value : padded) {
    if (std::abs(value) > std::abs(farthest)) farthest = value;
    finite += value * 0.0f;
  }
  std::int8_t integers[kBlockSize];
  float scale = std::numeric_limits<float>::quiet_NaN();
  if (finite != 0.0f || std::abs(farthest) > 127.0f * 65504.0f) {
    std::fill_n(integers, kBlockSize, std::int8_t{1});
  } else {
    scale = dtype == DType::kQ8_0 ? detail::quantize_q8(padded, std::abs(farthest), integers)
                                  : detail::quantize_q4(padded, farthest, integers);
  }
  const std::uint16_t bits = to_f16(scale).bits;
  std::memcpy(block, &bits, sizeof bits);
  std::byte* const packed = block + kScaleBytes;
  if (dtype == DType::kQ8_0) {
    std::memcpy(packed, integers, kBlockSize);
    return;
  }
  constexpr std::size_t kHalf = kBlockSize / 2;
  for (std::size_t i = 0; i < kHalf; ++i) {
    packed[i] = static_cast<std::byte>((integers[i] + 8) | (integers[i + kHalf] + 8) << 4);
  }
}

}  // namespace duet
