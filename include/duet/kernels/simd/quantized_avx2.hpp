#pragma once

#include "duet/kernels/simd/matmul_avx2.hpp"

#if DUET_X86

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif

namespace duet::kernels {
inline namespace DUET_ISA_NAMESPACE {
namespace avx2 {

/// Rounding and unpacking of blocks, which wider instruction sets share.
struct BlockOps {
  static std::uint16_t half_bits(const std::byte* at) noexcept {
    std::uint16_t bits;
    std::memcpy(&bits, at, sizeof bits);
    return bits;
  }
  static float half(const std::byte* at) noexcept { return _cvtsh_ss(half_bits(at)); }
  static __m256i load(const void* at) noexcept { return _mm256_loadu_si256(static_cast<const __m256i*>(at)); }
  static void store(void* at, __m256i value) noexcept { _mm256_storeu_si256(static_cast<__m256i*>(at), value); }

  /// 32 floats as whole numbers up to 127, and what one of them stands for: not a number if a float is none, or infinite.
  static float round(const float* x, std::int8_t* bytes) noexcept {
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    const V a = Ops::load(x), b = Ops::load(x + 8), c = Ops::load(x + 16), d = Ops::load(x + 24);
    // As whole numbers, magnitudes are in order, with infinity and then NaN above all others.
    const auto bits = [&](V v) { return _mm256_and_si256(_mm256_castps_si256(v), magnitude); };
    const __m256i all = _mm256_max_epi32(_mm256_max_epi32(bits(a), bits(b)), _mm256_max_epi32(bits(c), bits(d)));
    __m128i four = _mm_max_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
    four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0xb1));
    const float most = _mm_cvtss_f32(_mm_castsi128_ps(four));
    if (!(most < std::numeric_limits<float>::infinity())) {
      std::memset(bytes, 1, kBlockSize);
      return std::numeric_limits<float>::quiet_NaN();
    }
    constexpr float kLeast = 1e-30f;  // below it, the factor would be infinite
    const V factor = Ops::broadcast(most > kLeast ? 127.0f / most : 0.0f);
    const auto whole = [&](V v) { return _mm256_cvtps_epi32(_mm256_mul_ps(v, factor)); };
    const __m256i packed = _mm256_packs_epi16(_mm256_packs_epi32(whole(a), whole(b)), _mm256_packs_epi32(whole(c), whole(d)));
    store(bytes, _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
    return most > kLeast ? most / 127.0f : 0.0f;
  }
  /// The sum of 32 bytes.
  static std::int32_t sum(const std::int8_t* bytes) noexcept {
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), load(bytes));
    const __m256i eight = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1));
    return _mm_cvtsi128_si32(four);
  }
  /// 32 nibbles, in order, as they are stored: 0 to 15.
  static __m256i nibbles(const std::byte* packed) noexcept {
    const __m256i twice = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(packed)));
    const __m256i shifted = _mm256_srlv_epi32(twice, _mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4));
    return _mm256_and_si256(shifted, _mm256_set1_epi8(0xf));
  }
  /// A block's 32 integers.
  template <DType dtype>
  static __m256i integers(const std::byte* packed) noexcept {
    if constexpr (dtype == DType::kQ8_0) {
      return load(packed);
    } else {
      return _mm256_sub_epi8(nibbles(packed), _mm256_set1_epi8(8));
    }
  }
};

/// Prefill multiplies pairs of 16 bits, because sums of pairs of bytes would not fit into 16, but nibbles by bytes; decode, whose
/// weights are read once, multiplies bytes: magnitudes of weights by x with their signs, or nibbles as they are stored.
struct Bytes : BlockOps {
  using Integers = __m256i;
  static constexpr Index kGroup = 2;
  static constexpr int kRows = 6;
  static constexpr int kDecodeRows = 2;
  static constexpr Index kAhead = 0;  ///< bytes that decoding fetches ahead; 0: it reads four long runs

  static __m256i broadcast(std::int32_t word) noexcept { return _mm256_set1_epi32(word); }
  static __m256i add_products(__m256i sum, __m256i x, __m256i weights) noexcept {
    const __m256i products = _mm256_madd_epi16(x, weights);
    __asm__("vpaddd %1, %0, %0" : "+x"(sum) : "x"(products));  // in place: g++ 12 would copy every sum on its way round a loop
    return sum;
  }
  static V to_float(__m256i sum) noexcept { return _mm256_cvtepi32_ps(sum); }

  static void store_products(std::int32_t* at, __m256i sum) noexcept { store(at, sum); }

  static void widen(__m256i bytes, std::int32_t* words) noexcept {
    store(words, _mm256_cvtepi8_epi16(_mm256_castsi256_si128(bytes)));
    store(words + 8, _mm256_cvtepi8_epi16(_mm256_extracti128_si256(bytes, 1)));
  }
  static void widen_x(const std::int8_t* bytes, std::int32_t* words) noexcept { widen(load(bytes), words); }
  template <DType dtype>
  static void widen_weights(const std::byte* packed, std::int32_t* words) noexcept {
    widen(integers<dtype>(packed), words);
  }
  static void start(const std::int32_t*, Index, Index, std::int32_t* starts) noexcept { store(starts, _mm256_setzero_si256()); }

  struct Nibbles;
  template <DType dtype>
  struct Dot;
};

/// Nibbles as they are stored, by bytes: all products of a block fit into 16 bits, for two of them come to 2 · 15 · 127, and
/// there are eight such pairs to a lane. A nibble stands for eight less than it says.
struct Bytes::Nibbles {
  static constexpr Index kWords = 8, kXWords = kWords + 1;  ///< of x, the bytes and -8 times their sum
  static void widen_x(const std::int8_t* bytes, std::int32_t* words) noexcept {
    store(words, load(bytes));
    words[kWords] = -8 * sum(bytes);
  }
  template <DType>
  static void widen_weights(const std::byte* packed, std::int32_t* words) noexcept {
    store(words, nibbles(packed));
  }
  static __m256i first(const std::int32_t*) noexcept { return _mm256_setzero_si256(); }
  static __m256i add_products(__m256i sum, __m256i x, __m256i weights) noexcept {
    const __m256i products = _mm256_maddubs_epi16(weights, x);
    __asm__("vpaddw %1, %0, %0" : "+x"(sum) : "x"(products));
    return sum;
  }
  static __m256i total(__m256i sum, const std::int32_t* x) noexcept {
    const __m256i products = _mm256_madd_epi16(sum, _mm256_set1_epi16(1));
    return _mm256_add_epi32(products, _mm256_set1_epi32(x[kWords * kRows]));
  }
};

/// A block at a time: magnitudes of weights by x with their signs.
template <>
struct Bytes::Dot<DType::kQ8_0> {
  using Lanes = Ops;
  using Rest = Dot;
  static constexpr Index kBlocks = 1;
  struct X {
    __m256i bytes;
    V scale;
  };
  struct Weights {
    __m256i bytes;
    V scale;
  };
  explicit Dot(Index = 1) noexcept {}
  [[nodiscard]] X read(const RoundedRows& x, Index at) const noexcept {
    return {BlockOps::load(x.bytes + at * static_cast<Index>(kBlockSize)), Ops::broadcast(x.scales[at])};
  }
  [[nodiscard]] Weights read(const std::byte* block) const noexcept {
    return {BlockOps::load(block + kScaleBytes), _mm256_cvtph_ps(_mm_set1_epi16(static_cast<short>(half_bits(block))))};
  }
  static V add(V sum, const Weights& weights, const X& x) noexcept {
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(weights.bytes), _mm256_sign_epi8(x.bytes, weights.bytes));
    const __m256i products = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    return Ops::fma(_mm256_cvtepi32_ps(products), Ops::mul(weights.scale, x.scale), sum);
  }
};

/// Two blocks at a time, each with half of the lanes: low nibbles by the first 16 of x, and high ones by the last.
template <>
struct Bytes::Dot<DType::kQ4_0> {
  using Lanes = Ops;
  static constexpr Index kBlocks = 2;
  struct X {
    __m256i first, last, minus_sums;
    __m128 scales;
  };
  struct Weights {
    __m256i nibbles;
    __m128 scales;
  };
  static __m256i halves(__m128i two) noexcept {
    return _mm256_permutevar8x32_epi32(_mm256_castsi128_si256(two), _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1));
  }
  static __m128i quarter(const void* at) noexcept { return _mm_loadu_si128(static_cast<const __m128i*>(at)); }
  /// A nibble stands for eight less than it says: two of each lane's four sums.
  static X place(__m256i left, __m256i right, __m128i minus_sums, __m128i scales) noexcept {
    return {_mm256_permute2x128_si256(left, right, 0x20), _mm256_permute2x128_si256(left, right, 0x31),
            halves(_mm_add_epi32(minus_sums, minus_sums)), _mm_castsi128_ps(scales)};
  }
  static Weights place(__m256i nibbles, std::uint32_t two_scales) noexcept {
    return {nibbles, _mm_cvtph_ps(_mm_cvtsi32_si128(static_cast<int>(two_scales)))};
  }
  explicit Dot(Index = 2) noexcept {}
  [[nodiscard]] X read(const RoundedRows& x, Index at) const noexcept {
    const std::int8_t* bytes = x.bytes + at * static_cast<Index>(kBlockSize);
    const auto two = [](const auto* from) { return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)); };
    return place(BlockOps::load(bytes), BlockOps::load(bytes + kBlockSize), two(x.minus_sums + at), two(x.scales + at));
  }
  [[nodiscard]] Weights read(const std::byte* block) const noexcept {
    constexpr std::size_t kNext = size_of(DType::kQ4_0);
    const __m256i nibbles = _mm256_inserti128_si256(_mm256_castsi128_si256(quarter(block + kScaleBytes)), quarter(block + kNext + kScaleBytes), 1);
    return place(nibbles, half_bits(block) | std::uint32_t{half_bits(block + kNext)} << 16);
  }
  static V add(V sum, const Weights& weights, const X& x) noexcept {
    const __m256i mask = _mm256_set1_epi8(0x0f);
    const __m256i low = _mm256_maddubs_epi16(_mm256_and_si256(weights.nibbles, mask), x.first);
    const __m256i high = _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(weights.nibbles, 4), mask), x.last);
    const __m256i products = _mm256_madd_epi16(_mm256_add_epi16(low, high), _mm256_set1_epi16(1));  // pairs: up to 4 · 15 · 127
    const __m256i scales = halves(_mm_castps_si128(_mm_mul_ps(weights.scales, x.scales)));
    return Ops::fma(_mm256_cvtepi32_ps(_mm256_add_epi32(products, x.minus_sums)), _mm256_castsi256_ps(scales), sum);
  }

  /// The last block, and nothing beyond.
  struct Rest;
};

struct Bytes::Dot<DType::kQ4_0>::Rest : Bytes::Dot<DType::kQ4_0> {
  using Dot::Dot;
  [[nodiscard]] X read(const RoundedRows& x, Index at) const noexcept {
    std::int32_t scale;
    std::memcpy(&scale, x.scales + at, sizeof scale);
    return place(BlockOps::load(x.bytes + at * static_cast<Index>(kBlockSize)), _mm256_setzero_si256(), _mm_cvtsi32_si128(x.minus_sums[at]),
                 _mm_cvtsi32_si128(scale));
  }
  [[nodiscard]] Weights read(const std::byte* block) const noexcept {
    return place(_mm256_zextsi128_si256(quarter(block + kScaleBytes)), half_bits(block));
  }
};

#include "duet/kernels/simd/quantized_body.inl"

}  // namespace avx2
}  // namespace DUET_ISA_NAMESPACE
}  // namespace duet::kernels

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif  // DUET_X86
