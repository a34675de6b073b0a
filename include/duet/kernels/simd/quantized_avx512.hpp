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

  static __m512i load(const std::int32_t* at) noexcept { return _mm512_loadu_si512(at); }
  static __m512i broadcast(std::int32_t word) noexcept { return _mm512_set1_epi32(word); }
  static __m512i add_products(__m512i sum, __m512i x, __m512i weights) noexcept {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(weights));
    return sum;
  }
  static V to_float(__m512i sum) noexcept { return _mm512_cvtepi32_ps(sum); }

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

/// A block at a time: magnitudes of weights by x with their signs.
template <>
struct Bytes::Dot<DType::kQ8_0> {
  using Lanes = avx2::Ops;
  using Rest = Dot;
  static constexpr Index kBlocks = 1, kReads = 1;
  struct X {
    __m256i bytes;
    __m256 scale;
  };
  struct Weights {
    __m256i bytes;
    __m256 scale;
  };
  explicit Dot(Index = 1) noexcept {}
  [[nodiscard]] X read(const RoundedRows& x, Index at) const noexcept {
    return {BlockOps::load(x.bytes + at * static_cast<Index>(kBlockSize)), Lanes::broadcast(x.scales[at])};
  }
  [[nodiscard]] Weights read(const std::byte* block) const noexcept {
    std::uint16_t bits;
    std::memcpy(&bits, block, sizeof bits);
    return {BlockOps::load(block + kScaleBytes), _mm256_cvtph_ps(_mm_set1_epi16(static_cast<short>(bits)))};
  }
  static __m256 add(__m256 sum, const Weights& weights, const X& x) noexcept {
    const __m256i products = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_abs_epi8(weights.bytes),
                                                 _mm256_sign_epi8(x.bytes, weights.bytes));
    return Lanes::fma(_mm256_cvtepi32_ps(products), Lanes::mul(weights.scale, x.scale), sum);
  }
};

/// Two blocks at a time, which one load and one permutation of words bring into place. High nibbles are not shifted down: in
/// their lanes products are 16 times too large, and so the scale of x is a sixteenth.
struct NibblePairs {
  using Lanes = Ops;
  static constexpr Index kBlocks = 2, kReads = 4;  ///< blocks that a load of 64 bytes reaches into
  static constexpr __mmask16 kHigh = 0xf0f0;       ///< lanes of high nibbles
  struct X {
    __m512i bytes, minus_sums;
    V scales;
  };
  struct Weights {
    __m512i nibbles;
    V scales;
  };
  /// What was read, each half for one block: bytes of x, sums and scales in the first two lanes.
  static X spread(__m512i bytes, __m512i two_sums, V two_scales) noexcept {
    const __m512i halves = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    const __m512i sums = _mm512_permutexvar_epi32(halves, two_sums);
    const V scales = _mm512_permutexvar_ps(halves, two_scales);
    return {bytes, _mm512_mask_slli_epi32(sums, kHigh, sums, 4), _mm512_mask_mul_ps(scales, kHigh, scales, _mm512_set1_ps(0x1p-4f))};
  }
  /// Words as stored: a scale, 8 of nibbles, a scale, 8 of nibbles. Each 8 are wanted twice, for low nibbles and for high ones.
  static Weights place(__m512i stored) noexcept {
    const __m512i twice = _mm512_set_epi16(17, 16, 15, 14, 13, 12, 11, 10, 17, 16, 15, 14, 13, 12, 11, 10,  //
                                           8, 7, 6, 5, 4, 3, 2, 1, 8, 7, 6, 5, 4, 3, 2, 1);
    const __m512i nibbles = _mm512_mask_set1_epi32(_mm512_set1_epi8(0x0f), kHigh, static_cast<int>(0xf0f0f0f0u));
    const __m256i scales = _mm256_set_epi16(9, 9, 9, 9, 9, 9, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0);
    return {_mm512_and_si512(_mm512_permutexvar_epi16(twice, stored), nibbles),
            _mm512_cvtph_ps(_mm256_permutexvar_epi16(scales, _mm512_castsi512_si256(stored)))};
  }
  static V add(V sum, const Weights& weights, const X& x) noexcept {
    const __m512i products = Bytes::add_products(x.minus_sums, weights.nibbles, x.bytes);
    return Ops::fma(_mm512_cvtepi32_ps(products), Ops::mul(weights.scales, x.scales), sum);
  }
};

template <>
struct Bytes::Dot<DType::kQ4_0> : NibblePairs {
  [[nodiscard]] X read(const RoundedRows& x, Index at) const noexcept {
    const auto two = [](const auto* from) { return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)); };
    return spread(_mm512_loadu_si512(x.bytes + at * static_cast<Index>(kBlockSize)), _mm512_castsi128_si512(two(x.minus_sums + at)),
                  _mm512_castps128_ps512(_mm_castsi128_ps(two(x.scales + at))));
  }
  [[nodiscard]] Weights read(const std::byte* block) const noexcept { return place(_mm512_loadu_si512(block)); }

  /// The last ones: one or two blocks, and nothing beyond.
  struct Rest : NibblePairs {
    __mmask32 words;
    __mmask16 blocks, dwords;
    explicit Rest(Index left) noexcept
        : words(left > 1 ? 0x3ffff : 0x1ff), blocks(left > 1 ? 3 : 1), dwords(left > 1 ? 0xffff : 0xff) {}
    [[nodiscard]] X read(const RoundedRows& x, Index at) const noexcept {
      return spread(_mm512_maskz_loadu_epi32(dwords, x.bytes + at * static_cast<Index>(kBlockSize)),
                    _mm512_maskz_loadu_epi32(blocks, x.minus_sums + at), _mm512_maskz_loadu_ps(blocks, x.scales + at));
    }
    [[nodiscard]] Weights read(const std::byte* block) const noexcept { return place(_mm512_maskz_loadu_epi16(words, block)); }
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
