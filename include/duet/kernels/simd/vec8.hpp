#pragma once

#include "duet/core/dtype.hpp"
#include "duet/core/matrix.hpp"
#include "duet/kernels/simd/attributes.hpp"

#if DUET_X86

namespace duet::kernels {
inline namespace DUET_ISA_NAMESPACE {

/// Eight floats in an AVX2 register. Operations as in Vec4; why each carries a target and V is copied by hand stands in
/// simd/attributes.hpp.
class Vec8 {
 public:
  static constexpr Index kWidth = 8;
  static constexpr int kBlockRows = 4, kBlockVectors = 3, kDecodeHeads = 3;

  struct Mask {
    __m256 bits;
    DUET_AVX2 explicit Mask(__m256 b) noexcept : bits(b) {}
    DUET_AVX2 Mask(const Mask& other) noexcept : bits(other.bits) {}
    Mask& operator=(const Mask&) = delete;
    DUET_AVX2 friend Mask operator&(const Mask& a, const Mask& b) noexcept { return Mask(_mm256_and_ps(a.bits, b.bits)); }
  };

  DUET_AVX2 static Mask first(Index n) noexcept { return Mask(_mm256_castsi256_ps(first_bits(n))); }

  DUET_AVX2 Vec8() noexcept {}  // uninitialised, like a float
  DUET_AVX2 Vec8(float x) noexcept : v_(_mm256_set1_ps(x)) {}
  DUET_AVX2 Vec8(const Vec8& other) noexcept : v_(other.v_) {}
  DUET_AVX2 Vec8& operator=(const Vec8& other) noexcept {
    v_ = other.v_;
    return *this;
  }

  DUET_AVX2 static Vec8 load(const float* p) noexcept { return Vec8(_mm256_loadu_ps(p)); }
  DUET_AVX2 void store(float* p) const noexcept { _mm256_storeu_ps(p, v_); }
  DUET_AVX2 static Vec8 load_first(const float* p, Index n) noexcept { return Vec8(_mm256_maskload_ps(p, first_bits(n))); }
  DUET_AVX2 void store_first(float* p, Index n) const noexcept { _mm256_maskstore_ps(p, first_bits(n), v_); }

  DUET_AVX2 static Vec8 load(const Bf16* p) noexcept {
    return Vec8(_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_halves(p)), 16)));
  }
  DUET_AVX2 static Vec8 load(const F16* p) noexcept { return Vec8(_mm256_cvtph_ps(load_halves(p))); }
  DUET_AVX2 static Vec8 load(const std::int32_t* p) noexcept {
    return Vec8(_mm256_cvtepi32_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))));
  }
  DUET_AVX2 static void load_quads(const std::int8_t* p, Vec8 (&to)[4]) noexcept {
    const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    to[0] = Vec8(_mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(x, 24), 24)));
    to[1] = Vec8(_mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(x, 8), 24)));
    to[2] = Vec8(_mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(x, 16), 24)));
    to[3] = Vec8(_mm256_cvtepi32_ps(_mm256_srai_epi32(x, 24)));
  }
  DUET_AVX2 static Vec8 broadcast(const F16* p) noexcept {
    return Vec8(_mm256_cvtph_ps(_mm_set1_epi16(static_cast<short>(p->bits))));
  }
  DUET_AVX2 void store(Bf16* p) const noexcept {
    const __m256i bits = _mm256_castps_si256(v_), odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v_, v_, _CMP_UNORD_Q));
    const __m256i halves = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm_packus_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1)));
  }
  DUET_AVX2 void store(F16* p) const noexcept {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v_, _MM_FROUND_TO_NEAREST_INT));
  }
  DUET_AVX2 void store(std::int8_t* p) const noexcept {
    const __m256i whole = _mm256_cvtps_epi32(v_);
    const __m128i halves = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(halves, halves));
  }
  DUET_AVX2 void store(std::int16_t* p) const noexcept {
    const __m256i whole = _mm256_cvtps_epi32(v_);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1)));
  }

  DUET_AVX2 friend Vec8 operator+(const Vec8& a, const Vec8& b) noexcept { return Vec8(_mm256_add_ps(a.v_, b.v_)); }
  DUET_AVX2 friend Vec8 operator-(const Vec8& a, const Vec8& b) noexcept { return Vec8(_mm256_sub_ps(a.v_, b.v_)); }
  DUET_AVX2 friend Vec8 operator*(const Vec8& a, const Vec8& b) noexcept { return Vec8(_mm256_mul_ps(a.v_, b.v_)); }
  DUET_AVX2 friend Vec8 operator/(const Vec8& a, const Vec8& b) noexcept { return Vec8(_mm256_div_ps(a.v_, b.v_)); }
  DUET_AVX2 friend Vec8 operator-(const Vec8& a) noexcept { return Vec8(_mm256_xor_ps(a.v_, sign_bit())); }
  DUET_AVX2 friend Vec8 fma(const Vec8& a, const Vec8& b, const Vec8& c) noexcept {
    return Vec8(_mm256_fmadd_ps(a.v_, b.v_, c.v_));
  }
  DUET_AVX2 friend Vec8 max(const Vec8& a, const Vec8& b) noexcept { return Vec8(_mm256_max_ps(a.v_, b.v_)); }
  DUET_AVX2 friend Vec8 min(const Vec8& a, const Vec8& b) noexcept { return Vec8(_mm256_min_ps(a.v_, b.v_)); }
  DUET_AVX2 friend Vec8 abs(const Vec8& a) noexcept { return Vec8(_mm256_andnot_ps(sign_bit(), a.v_)); }
  DUET_AVX2 friend Vec8 copysign(const Vec8& a, const Vec8& sign) noexcept {
    return Vec8(_mm256_or_ps(_mm256_andnot_ps(sign_bit(), a.v_), _mm256_and_ps(sign_bit(), sign.v_)));
  }
  DUET_AVX2 friend Vec8 sqrt(const Vec8& a) noexcept { return Vec8(_mm256_sqrt_ps(a.v_)); }
  DUET_AVX2 friend Mask operator<(const Vec8& a, const Vec8& b) noexcept {
    return Mask(_mm256_cmp_ps(a.v_, b.v_, _CMP_LT_OQ));
  }
  DUET_AVX2 friend Mask operator<=(const Vec8& a, const Vec8& b) noexcept {
    return Mask(_mm256_cmp_ps(a.v_, b.v_, _CMP_LE_OQ));
  }
  DUET_AVX2 friend Vec8 select(const Mask& mask, const Vec8& yes, const Vec8& no) noexcept {
    return Vec8(_mm256_blendv_ps(no.v_, yes.v_, mask.bits));
  }
  DUET_AVX2 friend Vec8 ldexp(const Vec8& x, const Vec8& n) noexcept {
    const __m256i whole = _mm256_cvtps_epi32(n.v_), half = _mm256_srai_epi32(whole, 1), bias = _mm256_set1_epi32(127);
    const __m256i one = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
    const __m256i two = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(whole, half), bias), 23);
    return Vec8(_mm256_mul_ps(_mm256_mul_ps(x.v_, _mm256_castsi256_ps(one)), _mm256_castsi256_ps(two)));
  }
  DUET_AVX2 friend Vec8 ldexp_normal(const Vec8& x, const Vec8& n) noexcept {
    const __m256i power = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n.v_), _mm256_set1_epi32(127)), 23);
    return Vec8(_mm256_mul_ps(x.v_, _mm256_castsi256_ps(power)));
  }
  DUET_AVX2 friend Vec8 power_of_two(const Vec8& biased) noexcept {
    return Vec8(_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(biased.v_), 23)));
  }
  DUET_AVX2 friend float sum(const Vec8& x) noexcept {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(x.v_), _mm256_extractf128_ps(x.v_, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  DUET_AVX2 friend float largest(const Vec8& x) noexcept {
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(x.v_), _mm256_extractf128_ps(x.v_, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }

  /// Policy::apply(x). A function of its own because clang flattens only what a flattened function calls itself.
  template <class Policy>
  DUET_AVX2 DUET_FLATTEN static Vec8 apply(const Vec8& x) noexcept {
    return Policy::apply(x);
  }

 private:
  DUET_AVX2 explicit Vec8(__m256 v) noexcept : v_(v) {}
  DUET_AVX2 static __m128i load_halves(const void* p) noexcept { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
  DUET_AVX2 static __m256 sign_bit() noexcept { return _mm256_set1_ps(-0.0f); }
  DUET_AVX2 static __m256i first_bits(Index n) noexcept {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  __m256 v_;
};

}  // namespace DUET_ISA_NAMESPACE
}  // namespace duet::kernels

#endif
