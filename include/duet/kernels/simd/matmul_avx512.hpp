#pragma once

#include <algorithm>
#include <cstring>
#include <limits>
#include <type_traits>

#include "duet/core/dtype.hpp"
#include "duet/kernels/isa_namespace.hpp"
#include "duet/kernels/matmul_types.hpp"

#if DUET_X86

// Everything between these pragmas may use AVX-512, whatever the unit's flags: it runs only after a look at the processor.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"  // g++ 12 warns of its own intrinsics' undefined values
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")
#endif

namespace duet::kernels {
inline namespace DUET_ISA_NAMESPACE {
namespace avx512 {

using V = __m512;

/// Sixteen floats a vector, thirty-two registers: a tile of 12 rows by two vectors keeps 24 sums.
struct Ops {
  using Vector = V;
  static constexpr Index kWidth = 16;
  static constexpr int kRows = 12;
  static constexpr int kDecodeRows = 4;

  static V zero() noexcept { return _mm512_setzero_ps(); }
  static V load(const float* at) noexcept { return _mm512_loadu_ps(at); }
  static V load_f16(const std::byte* at) noexcept {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
  }
  static V load_bf16(const std::byte* at) noexcept {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
  static void store(float* at, V value) noexcept { _mm512_storeu_ps(at, value); }
  static V broadcast(float value) noexcept { return _mm512_set1_ps(value); }
  static V add(V a, V b) noexcept { return _mm512_add_ps(a, b); }
  static V mul(V a, V b) noexcept { return _mm512_mul_ps(a, b); }
  static V fma(V a, V b, V c) noexcept { return _mm512_fmadd_ps(a, b, c); }
  static float fma(float a, float b, float c) noexcept { return __builtin_fmaf(a, b, c); }
  /// The sum of each vector's lanes.
  static void store_sums(V a, V b, V c, V d, float* sums) noexcept {
    const __m256 ab = _mm256_hadd_ps(halves(a), halves(b)), cd = _mm256_hadd_ps(halves(c), halves(d));
    const __m256 all = _mm256_hadd_ps(ab, cd);
    _mm_storeu_ps(sums, _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1)));
  }
  static __m256 halves(V v) noexcept { return _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1)); }

  /// rows[i][j] becomes rows[j][i].
  static void transpose(V* rows) noexcept {
    V a[16];
    DUET_UNROLL for (int i = 0; i < 16; i += 2) {
      a[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
      a[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
    }
    V b[16];
    DUET_UNROLL for (int i = 0; i < 16; i += 4) {
      b[i] = _mm512_shuffle_ps(a[i], a[i + 2], 0x44);
      b[i + 1] = _mm512_shuffle_ps(a[i], a[i + 2], 0xee);
      b[i + 2] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0x44);
      b[i + 3] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0xee);
    }
    DUET_UNROLL for (int i = 0; i < 4; ++i) {
      const V even_low = _mm512_shuffle_f32x4(b[i], b[i + 4], 0x88), odd_low = _mm512_shuffle_f32x4(b[i], b[i + 4], 0xdd);
      const V even_high = _mm512_shuffle_f32x4(b[i + 8], b[i + 12], 0x88), odd_high = _mm512_shuffle_f32x4(b[i + 8], b[i + 12], 0xdd);
      rows[i] = _mm512_shuffle_f32x4(even_low, even_high, 0x88);
      rows[i + 4] = _mm512_shuffle_f32x4(odd_low, odd_high, 0x88);
      rows[i + 8] = _mm512_shuffle_f32x4(even_low, even_high, 0xdd);
      rows[i + 12] = _mm512_shuffle_f32x4(odd_low, odd_high, 0xdd);
    }
  }
};

#include "duet/kernels/simd/matmul_body.inl"

}  // namespace avx512
}  // namespace DUET_ISA_NAMESPACE
}  // namespace duet::kernels

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC diagnostic pop
#pragma GCC pop_options
#endif

#endif  // DUET_X86
