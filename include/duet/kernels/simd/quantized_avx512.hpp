#pragma once

#include "duet/kernels/simd/matmul_avx512.hpp"
#include "duet/kernels/simd/quantized_avx2.hpp"

#if DUET_X86

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"  // g++ 12 warns of its own intrinsics' undefined values
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")
#endif

namespace duet::kernels {
inline namespace DUET_ISA_NAMESPACE {
namespace avx512 {

/// VNNI multiplies four unsigned bytes by four signed ones a lane. To prefill, x has 128 added to it, which every block's sum
/// takes back from the start; to decode, as with AVX2.
struct Bytes : avx2::BlockOps {
  using Integers = __m512i;
  static constexpr Index kGroup = 4;
  static constexpr int kRows = 12;
  static constexpr int kDecodeRows = 4;
  static constexpr Index kAhead = 8192;  ///< bytes that decoding fetches ahead; 0: it reads four long runs

  static __m512i load(const std::int32_t* at) noexcept { return _mm512_loadu_si512(at); }
  static __m512i broadcast(std::int32_t word) noexcept { return _mm512_set1_epi32(word); }
  static __m512i add_products(__m512i sum, __m512i x, __m512i weights) noexcept {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(weights));
    return sum;
  }
  static V to_float(__m512i sum) noexcept { return _mm512_maskz_cvtepi32_ps(0xffff, sum); }  // the other form has g++ 12 warn

  static void store_products(std::int32_t* at, __m512i sum) noexcept { _mm512_storeu_si512(at, sum); }

  static void widen_x(const std::int8_t* bytes, std::int32_t* words) noexcept {
    store(words, _mm256_xor_si256(BlockOps::load(bytes), _mm256_set1_epi8(-128)));
  }
  template <DType dtype>
  static void widen_weights(const std::byte* packed, std::int32_t* words) noexcept {
    store(words, integers<dtype>(packed));
  }
  static void start(const std::int32_t* words, Index step, Index count, std::int32_t* starts) noexcept {
    __m512i sum = _mm512_setzero_si512();
    const __m512i offset = _mm512_set1_epi8(-128);
    for (Index i = 0; i < count; ++i) sum = _mm512_dpbusd_epi32(sum, offset, load(words + i * step));
    _mm512_storeu_si512(starts, _mm512_sub_epi32(_mm512_setzero_si512(), sum));
  }

  template <DType dtype>
  struct Dot;
};

/// As with AVX2, but for the products.
template <>
struct Bytes::Dot<DType::kQ8_0> : avx2::Bytes::Dot<DType::kQ8_0> {
  using Rest = Dot;
  using avx2::Bytes::Dot<DType::kQ8_0>::Dot;
  static __m256 add(__m256 sum, const Weights& weights, const X& x) noexcept {
    const __m256i products = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_abs_epi8(weights.bytes),
                                                 _mm256_sign_epi8(x.bytes, weights.bytes));
    return Lanes::fma(_mm256_cvtepi32_ps(products), Lanes::mul(weights.scale, x.scale), sum);
  }
};

/// Four blocks at a time, each with a quarter of the lanes: low nibbles by the first 16 of x, then high ones by the last.
struct NibbleFours {
  using Lanes = Ops;
  static constexpr Index kBlocks = 4;
  struct X {
    __m512i first, last, minus_sums;
    __m128 scales;
  };
  struct Weights {
    __m512i low, high;
    __m128 scales;
  };
  static __m512i quarters(__m128i four) noexcept {
    return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3), _mm512_castsi128_si512(four));
  }
  /// Bytes of two blocks each; sums and scales of four. A nibble stands for eight less than it says: two of each lane's four sums.
  static X place(__m512i left, __m512i right, __m128i minus_sums, __m128 scales) noexcept {
    return {_mm512_shuffle_i32x4(left, right, 0x88), _mm512_shuffle_i32x4(left, right, 0xdd),
            quarters(_mm_add_epi32(minus_sums, minus_sums)), scales};
  }
  /// 64 bytes from the start of the blocks, and the last 16.
  static Weights place(__m512i stored, __m128i end) noexcept {
    const __m512i of_nibbles = _mm512_set_epi16(39, 38, 37, 36, 35, 34, 33, 32, 26, 25, 24, 23, 22, 21, 20, 19,  //
                                                17, 16, 15, 14, 13, 12, 11, 10, 8, 7, 6, 5, 4, 3, 2, 1);
    const __m512i of_scales = _mm512_castsi128_si512(_mm_set_epi16(0, 0, 0, 0, 27, 18, 9, 0));
    const __m512i nibbles = _mm512_permutex2var_epi16(stored, of_nibbles, _mm512_castsi128_si512(end));
    const __m512i mask = _mm512_set1_epi8(0x0f);
    return {_mm512_and_si512(nibbles, mask), _mm512_and_si512(_mm512_srli_epi16(nibbles, 4), mask),
            _mm_cvtph_ps(_mm512_castsi512_si128(_mm512_permutexvar_epi16(of_scales, stored)))};
  }
  static V add(V sum, const Weights& weights, const X& x) noexcept {
    const __m512i low = Bytes::add_products(x.minus_sums, weights.low, x.first);
    const __m512i products = Bytes::add_products(low, weights.high, x.last);
    const __m512i scales = quarters(_mm_castps_si128(_mm_mul_ps(weights.scales, x.scales)));
    return Ops::fma(_mm512_cvtepi32_ps(products), _mm512_castsi512_ps(scales), sum);
  }
};

template <>
struct Bytes::Dot<DType::kQ4_0> : NibbleFours {
  [[nodiscard]] X read(const RoundedRows& x, Index at) const noexcept {
    const std::int8_t* bytes = x.bytes + at * static_cast<Index>(kBlockSize);
    return place(_mm512_loadu_si512(bytes), _mm512_loadu_si512(bytes + 64), _mm_loadu_si128(reinterpret_cast<const __m128i*>(x.minus_sums + at)),
                 _mm_loadu_ps(x.scales + at));
  }
  [[nodiscard]] Weights read(const std::byte* block) const noexcept {
    return place(_mm512_loadu_si512(block), _mm_loadu_si128(reinterpret_cast<const __m128i*>(block + 56)));
  }

  /// The last one, two or three blocks, and nothing beyond.
  struct Rest : NibbleFours {
    __mmask32 words;
    __mmask8 blocks;
    __mmask16 left, right;
    explicit Rest(Index count) noexcept
        : words((1u << 9 * count) - 1), blocks(static_cast<__mmask8>((1u << count) - 1)), left(count > 1 ? 0xffff : 0xff),
          right(count > 2 ? 0xff : 0) {}
    [[nodiscard]] X read(const RoundedRows& x, Index at) const noexcept {
      const std::int8_t* bytes = x.bytes + at * static_cast<Index>(kBlockSize);
      return place(_mm512_maskz_loadu_epi32(left, bytes), _mm512_maskz_loadu_epi32(right, bytes + 64),
                   _mm_maskz_loadu_epi32(blocks, x.minus_sums + at), _mm_maskz_loadu_ps(blocks, x.scales + at));
    }
    [[nodiscard]] Weights read(const std::byte* block) const noexcept {
      return place(_mm512_maskz_loadu_epi16(words, block), _mm_setzero_si128());
    }
  };
};

#include "duet/kernels/simd/quantized_body.inl"

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
