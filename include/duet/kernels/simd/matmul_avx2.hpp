#pragma once

#include <algorithm>
#include <cstring>
#include <limits>
#include <type_traits>

#include "duet/core/dtype.hpp"
#include "duet/kernels/isa_namespace.hpp"
#include "duet/kernels/matmul_types.hpp"
#include "duet/kernels/simd/attributes.hpp"

#if DUET_X86

// Everything between these pragmas may use AVX2, whatever the unit's flags: it runs only after a look at the processor.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif

namespace duet::kernels {
inline namespace DUET_ISA_NAMESPACE {
namespace avx2 {

using V = __m256;

/// Eight floats a vector, sixteen registers: a tile of 6 rows by two vectors keeps 12 sums and leaves room to work.
struct Ops {
  using Vector = V;
  static constexpr Index kWidth = 8;
  static constexpr int kRows = 6;
  static constexpr int kDecodeRows = 4;

  static V zero() noexcept { return _mm256_setzero_ps(); }
  static V load(const float* at) noexcept { return _mm256_loadu_ps(at); }
  static V load_f16(const std::byte* at) noexcept {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
  }
  static V load_bf16(const std::byte* at) noexcept {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
  static void store(float* at, V value) noexcept { _mm256_storeu_ps(at, value); }
  static V broadcast(float value) noexcept { return _mm256_set1_ps(value); }
  static V add(V a, V b) noexcept { return _mm256_add_ps(a, b); }
  static V mul(V a, V b) noexcept { return _mm256_mul_ps(a, b); }
  static V fma(V a, V b, V c) noexcept { return _mm256_fmadd_ps(a, b, c); }
  static float fma(float a, float b, float c) noexcept { return __builtin_fmaf(a, b, c); }
  /// The sum of each vector's lanes.
  static void store_sums(V a, V b, V c, V d, float* sums) noexcept {
    const V all = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    _mm_storeu_ps(sums, _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1)));
  }

  /// rows[i][j] becomes rows[j][i].
  static void transpose(V* rows) noexcept {
    V a[8], b[8];
    DUET_UNROLL for (int i = 0; i < 8; i += 2) {
      a[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
      a[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
    }
    DUET_UNROLL for (int i = 0; i < 8; i += 4) {
      b[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
      b[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xee);
      b[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
      b[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xee);
    }
    DUET_UNROLL for (int i = 0; i < 4; ++i) {
      rows[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
      rows[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
    }
  }
};

#include "duet/kernels/simd/matmul_body.inl"

}  // namespace avx2
}  // namespace DUET_ISA_NAMESPACE
}  // namespace duet::kernels

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif  // DUET_X86
