#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "duet/kernels/key_value_pages.hpp"
#include "duet/kernels/simd/attributes.hpp"

namespace duet::kernels {

// Attention to keys and values of eight bits multiplies them by whole numbers of sixteen. A lane's four bytes stand in the order
// 0 2 1 3 (kernels::place_in_quads), so that one shift leaves the last two, and two shifts the first two, as numbers of sixteen
// bits side by side: what an instruction multiplies and adds. Sums are exact: up to 512 products fit into 32 bits.

/// sums[h][lane] = Σ_i quads[i / 4][lane][i % 4] · numbers[h · stride + i], for as many heads as the function is made for.
using SumQuads = void (*)(const std::int8_t* quads, Index count, const std::int16_t* numbers, Index stride,
                          std::int32_t* sums) noexcept;

/// An instruction set's functions for one head to four.
struct QuadKernels {
  static constexpr int kHeads = 4;
  SumQuads sum[kHeads];
};

inline namespace DUET_ISA_NAMESPACE {
namespace quads {

/// Bytes from what is multiplied to what is fetched meanwhile: between keys and values, and between pages, nothing is read for
/// so long that prefetchers fall behind.
inline constexpr Index kAhead = 4096;

/// Two numbers of a quad, as one word.
inline std::int32_t pair_at(const std::int16_t* numbers) noexcept {
  std::int32_t word;
  std::memcpy(&word, numbers, sizeof word);
  return word;
}

template <int heads>
void sum_portable(const std::int8_t* quads, Index count, const std::int16_t* numbers, Index stride, std::int32_t* sums) noexcept {
  using Lanes = std::int32_t __attribute__((vector_size(16)));
  constexpr int kVectors = 4;
  Lanes total[heads][kVectors] = {};
  for (Index g = 0; g < count; ++g, quads += kQuadBytes, numbers += kQuad) {
    for (int v = 0; v < kVectors; ++v) {
      Lanes all;
      std::memcpy(&all, quads + v * 16, sizeof all);
      const Lanes first = all << 24 >> 24, second = all << 8 >> 24, third = all << 16 >> 24, fourth = all >> 24;
      for (int h = 0; h < heads; ++h) {
        const std::int16_t* const n = numbers + h * stride;
        total[h][v] += first * n[0] + second * n[1] + third * n[2] + fourth * n[3];
      }
    }
  }
  std::memcpy(sums, total, sizeof total);
}
inline constexpr QuadKernels kPortable{{&sum_portable<1>, &sum_portable<2>, &sum_portable<3>, &sum_portable<4>}};

#if DUET_X86
template <int heads>
DUET_AVX2 void sum_avx2(const std::int8_t* quads, Index count, const std::int16_t* numbers, Index stride, std::int32_t* sums) noexcept {
  __m256i low[heads], high[heads];
  DUET_UNROLL for (int h = 0; h < heads; ++h) low[h] = high[h] = _mm256_setzero_si256();
  for (Index g = 0; g < count; ++g, quads += kQuadBytes, numbers += kQuad) {
    __builtin_prefetch(quads + kAhead);
    const __m256i left = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(quads));
    const __m256i right = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(quads + 32));
    const __m256i left_first = _mm256_srai_epi16(_mm256_slli_epi16(left, 8), 8), left_last = _mm256_srai_epi16(left, 8);
    const __m256i right_first = _mm256_srai_epi16(_mm256_slli_epi16(right, 8), 8), right_last = _mm256_srai_epi16(right, 8);
    DUET_UNROLL for (int h = 0; h < heads; ++h) {
      const __m256i first = _mm256_set1_epi32(pair_at(numbers + h * stride));
      const __m256i last = _mm256_set1_epi32(pair_at(numbers + h * stride + 2));
      low[h] = _mm256_add_epi32(low[h], _mm256_madd_epi16(left_first, first));
      high[h] = _mm256_add_epi32(high[h], _mm256_madd_epi16(right_first, first));
      low[h] = _mm256_add_epi32(low[h], _mm256_madd_epi16(left_last, last));
      high[h] = _mm256_add_epi32(high[h], _mm256_madd_epi16(right_last, last));
    }
  }
  DUET_UNROLL for (int h = 0; h < heads; ++h) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums + h * kQuadLanes), low[h]);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums + h * kQuadLanes + 8), high[h]);
  }
}
inline constexpr QuadKernels kAvx2{{&sum_avx2<1>, &sum_avx2<2>, &sum_avx2<3>, &sum_avx2<4>}};

template <int heads>
DUET_AVX512 void sum_avx512(const std::int8_t* quads, Index count, const std::int16_t* numbers, Index stride, std::int32_t* sums) noexcept {
  __m512i total[heads];
  DUET_UNROLL for (int h = 0; h < heads; ++h) total[h] = _mm512_setzero_si512();
  for (Index g = 0; g < count; ++g, quads += kQuadBytes, numbers += kQuad) {
    __builtin_prefetch(quads + kAhead);
    const __m512i all = _mm512_loadu_si512(quads);
    const __m512i first = _mm512_srai_epi16(_mm512_slli_epi16(all, 8), 8), last = _mm512_srai_epi16(all, 8);
    DUET_UNROLL for (int h = 0; h < heads; ++h) {
      total[h] = _mm512_add_epi32(total[h], _mm512_madd_epi16(first, _mm512_set1_epi32(pair_at(numbers + h * stride))));
      total[h] = _mm512_add_epi32(total[h], _mm512_madd_epi16(last, _mm512_set1_epi32(pair_at(numbers + h * stride + 2))));
    }
  }
  DUET_UNROLL for (int h = 0; h < heads; ++h) _mm512_storeu_si512(sums + h * kQuadLanes, total[h]);
}
inline constexpr QuadKernels kAvx512{{&sum_avx512<1>, &sum_avx512<2>, &sum_avx512<3>, &sum_avx512<4>}};

/// VNNI adds what it multiplies; first and last pairs have sums of their own, for it takes long to answer.
template <int heads>
DUET_AVX512VNNI void sum_vnni(const std::int8_t* quads, Index count, const std::int16_t* numbers, Index stride, std::int32_t* sums) noexcept {
  __m512i firsts[heads], lasts[heads];
  DUET_UNROLL for (int h = 0; h < heads; ++h) firsts[h] = lasts[h] = _mm512_setzero_si512();
  for (Index g = 0; g < count; ++g, quads += kQuadBytes, numbers += kQuad) {
    __builtin_prefetch(quads + kAhead);
    const __m512i all = _mm512_loadu_si512(quads);
    const __m512i first = _mm512_srai_epi16(_mm512_slli_epi16(all, 8), 8), last = _mm512_srai_epi16(all, 8);
    DUET_UNROLL for (int h = 0; h < heads; ++h) {
      // In place: g++ 12 would copy every sum on its way round the loop.
      const __m512i two = _mm512_set1_epi32(pair_at(numbers + h * stride)), more = _mm512_set1_epi32(pair_at(numbers + h * stride + 2));
      __asm__("vpdpwssd %2, %1, %0" : "+v"(firsts[h]) : "v"(first), "v"(two));
      __asm__("vpdpwssd %2, %1, %0" : "+v"(lasts[h]) : "v"(last), "v"(more));
    }
  }
  DUET_UNROLL for (int h = 0; h < heads; ++h) _mm512_storeu_si512(sums + h * kQuadLanes, _mm512_add_epi32(firsts[h], lasts[h]));
}
inline constexpr QuadKernels kVnni{{&sum_vnni<1>, &sum_vnni<2>, &sum_vnni<3>, &sum_vnni<4>}};
#endif  // DUET_X86

#if DUET_NEON
template <int heads>
void sum_neon(const std::int8_t* quads, Index count, const std::int16_t* numbers, Index stride, std::int32_t* sums) noexcept {
  int32x4_t total[heads][4];
  DUET_UNROLL for (int h = 0; h < heads; ++h) {
    DUET_UNROLL for (int v = 0; v < 4; ++v) total[h][v] = vdupq_n_s32(0);
  }
  for (Index g = 0; g < count; ++g, quads += kQuadBytes, numbers += kQuad) {
    __builtin_prefetch(quads + kAhead);
    const int8x16x4_t bytes = vld4q_s8(quads);  // 0 2 1 3
    int16x4_t n[heads];
    DUET_UNROLL for (int h = 0; h < heads; ++h) n[h] = vld1_s16(numbers + h * stride);
    const auto add = [&](int8x16_t lanes, auto which) {
      const int16x8_t low = vmovl_s8(vget_low_s8(lanes)), high = vmovl_high_s8(lanes);
      DUET_UNROLL for (int h = 0; h < heads; ++h) {
        total[h][0] = vmlal_lane_s16(total[h][0], vget_low_s16(low), n[h], which());
        total[h][1] = vmlal_high_lane_s16(total[h][1], low, n[h], which());
        total[h][2] = vmlal_lane_s16(total[h][2], vget_low_s16(high), n[h], which());
        total[h][3] = vmlal_high_lane_s16(total[h][3], high, n[h], which());
      }
    };
    add(bytes.val[0], std::integral_constant<int, 0>{});
    add(bytes.val[1], std::integral_constant<int, 2>{});
    add(bytes.val[2], std::integral_constant<int, 1>{});
    add(bytes.val[3], std::integral_constant<int, 3>{});
  }
  DUET_UNROLL for (int h = 0; h < heads; ++h) {
    DUET_UNROLL for (int v = 0; v < 4; ++v) vst1q_s32(sums + h * kQuadLanes + v * 4, total[h][v]);
  }
}
inline constexpr QuadKernels kNeon{{&sum_neon<1>, &sum_neon<2>, &sum_neon<3>, &sum_neon<4>}};
#endif  // DUET_NEON

}  // namespace quads
}  // namespace DUET_ISA_NAMESPACE
}  // namespace duet::kernels
