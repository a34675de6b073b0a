#pragma once

#include <algorithm>
#include <cstring>
#include <limits>
#include <type_traits>

#include "duet/core/dtype.hpp"
#include "duet/kernels/isa_namespace.hpp"
#include "duet/kernels/matmul_types.hpp"
#include "duet/kernels/simd/attributes.hpp"

#if DUET_NEON

namespace duet::kernels {
inline namespace DUET_ISA_NAMESPACE {
namespace neon {

/// Eight floats in two registers.
struct V {
  float32x4_t low, high;
};

/// Through memory's bytes: weights lie anywhere, and words are read as floats.
template <class Register>
inline Register read_as(const void* at) noexcept {
  Register value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

/// Thirty-two registers: a tile of 4 rows by two vectors keeps 16 sums, as many as four units' latency asks for. With 6 rows
/// g++ spills, for it loads the rows' values ahead.
struct Ops {
  using Vector = V;
  static constexpr Index kWidth = 8;
  static constexpr int kRows = 4;
  static constexpr int kDecodeRows = 2;

  static V zero() noexcept { return broadcast(0.0f); }
  static V load(const float* at) noexcept { return {read_as<float32x4_t>(at), read_as<float32x4_t>(at + 4)}; }
  static V load_f16(const std::byte* at) noexcept {
    const auto halves = read_as<float16x8_t>(at);
    return {vcvt_f32_f16(vget_low_f16(halves)), vcvt_high_f32_f16(halves)};
  }
  static V load_bf16(const std::byte* at) noexcept {
    const auto bits = read_as<uint16x8_t>(at);
    return {vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(bits), 16)),
            vreinterpretq_f32_u32(vshll_high_n_u16(bits, 16))};
  }
  static void store(float* at, V value) noexcept { std::memcpy(at, &value, sizeof value); }
  static V broadcast(float value) noexcept { return {vdupq_n_f32(value), vdupq_n_f32(value)}; }
  static V add(V a, V b) noexcept { return {vaddq_f32(a.low, b.low), vaddq_f32(a.high, b.high)}; }
  static V mul(V a, V b) noexcept { return {vmulq_f32(a.low, b.low), vmulq_f32(a.high, b.high)}; }
  static V fma(V a, V b, V c) noexcept { return {vfmaq_f32(c.low, a.low, b.low), vfmaq_f32(c.high, a.high, b.high)}; }
  static float fma(float a, float b, float c) noexcept { return __builtin_fmaf(a, b, c); }
  /// The sum of each vector's lanes.
  static void store_sums(V a, V b, V c, V d, float* sums) noexcept {
    const auto four = [](V v) { return vaddq_f32(v.low, v.high); };
    const float32x4_t all = vpaddq_f32(vpaddq_f32(four(a), four(b)), vpaddq_f32(four(c), four(d)));
    std::memcpy(sums, &all, sizeof all);
  }

  /// rows[i][j] becomes rows[j][i].
  static void transpose(V* rows) noexcept {
    V turned[8];
    DUET_UNROLL for (int i = 0; i < 2; ++i) {  // squares of 4 x 4, those of one row of squares side by side
      const V* from = rows + 4 * i;
      const Square left = turn({from[0].low, from[1].low, from[2].low, from[3].low});
      const Square right = turn({from[0].high, from[1].high, from[2].high, from[3].high});
      DUET_UNROLL for (int j = 0; j < 4; ++j) {
        (i == 0 ? turned[j].low : turned[j].high) = left.row[j];
        (i == 0 ? turned[4 + j].low : turned[4 + j].high) = right.row[j];
      }
    }
    DUET_UNROLL for (int i = 0; i < 8; ++i) rows[i] = turned[i];
  }

 private:
  struct Square {
    float32x4_t row[4];
  };
  static Square turn(const Square& s) noexcept {
    const auto two = [](float32x4_t v) { return vreinterpretq_f64_f32(v); };
    const float64x2_t even_low = two(vtrn1q_f32(s.row[0], s.row[1])), odd_low = two(vtrn2q_f32(s.row[0], s.row[1]));
    const float64x2_t even_high = two(vtrn1q_f32(s.row[2], s.row[3])), odd_high = two(vtrn2q_f32(s.row[2], s.row[3]));
    const auto four = [](float64x2_t v) { return vreinterpretq_f32_f64(v); };
    return {{four(vtrn1q_f64(even_low, even_high)), four(vtrn1q_f64(odd_low, odd_high)),
             four(vtrn2q_f64(even_low, even_high)), four(vtrn2q_f64(odd_low, odd_high))}};
  }
};

#include "duet/kernels/simd/matmul_body.inl"

}  // namespace neon
}  // namespace DUET_ISA_NAMESPACE
}  // namespace duet::kernels

#endif  // DUET_NEON
