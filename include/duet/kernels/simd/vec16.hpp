#pragma once

#include "duet/core/dtype.hpp"
#include "duet/core/matrix.hpp"
#include "duet/kernels/simd/attributes.hpp"

#if DUET_X86

namespace duet::kernels {
inline namespace DUET_ISA_NAMESPACE {

/// Sixteen floats in an AVX-512 register. Operations as in Vec4; why each carries a target and V is copied by hand stands
/// in simd/attributes.hpp.
class Vec16 {
 public:
  static constexpr Index kWidth = 16;
  static constexpr int kBlockRows = 8, kBlockVectors = 3, kDecodeHeads = 4;

  struct Mask {
    __mmask16 bits;
    DUET_AVX512 friend Mask operator&(const Mask& a, const Mask& b) noexcept { return {_kand_mask16(a.bits, b.bits)}; }
  };

  DUET_AVX512 static Mask first(Index n) noexcept { return {first_bits(n)}; }

  DUET_AVX512 Vec16() noexcept {}  // uninitialised, like a float
  DUET_AVX512 Vec16(float x) noexcept : v_(_mm512_set1_ps(x)) {}
  DUET_AVX512 Vec16(const Vec16& other) noexcept : v_(other.v_) {}
  DUET_AVX512 Vec16& operator=(const Vec16& other) noexcept {
    v_ = other.v_;
    return *this;
  }

  DUET_AVX512 static Vec16 load(const float* p) noexcept { return Vec16(_mm512_loadu_ps(p)); }
  DUET_AVX512 void store(float* p) const noexcept { _mm512_storeu_ps(p, v_); }
  DUET_AVX512 static Vec16 load_first(const float* p, Index n) noexcept { return Vec16(_mm512_maskz_loadu_ps(first_bits(n), p)); }
  DUET_AVX512 void store_first(float* p, Index n) const noexcept { _mm512_mask_storeu_ps(p, first_bits(n), v_); }

  DUET_AVX512 static Vec16 load(const Bf16* p) noexcept {
    return Vec16(_mm512_castsi512_ps(_mm512_maskz_slli_epi32(kAll, _mm512_maskz_cvtepu16_epi32(kAll, load_halves(p)), 16)));
  }
  DUET_AVX512 static Vec16 load(const F16* p) noexcept { return Vec16(_mm512_maskz_cvtph_ps(kAll, load_halves(p))); }
  DUET_AVX512 static Vec16 load(const std::int32_t* p) noexcept { return floats_of(_mm512_loadu_si512(p)); }
  DUET_AVX512 static void load_quads(const std::int8_t* p, Vec16 (&to)[4]) noexcept {
    const __m512i x = _mm512_loadu_si512(p);
    to[0] = floats_of(_mm512_maskz_srai_epi32(kAll, _mm512_maskz_slli_epi32(kAll, x, 24), 24));
    to[1] = floats_of(_mm512_maskz_srai_epi32(kAll, _mm512_maskz_slli_epi32(kAll, x, 8), 24));
    to[2] = floats_of(_mm512_maskz_srai_epi32(kAll, _mm512_maskz_slli_epi32(kAll, x, 16), 24));
    to[3] = floats_of(_mm512_maskz_srai_epi32(kAll, x, 24));
  }
  DUET_AVX512 static Vec16 broadcast(const F16* p) noexcept {
    return Vec16(_mm512_maskz_cvtph_ps(kAll, _mm256_set1_epi16(static_cast<short>(p->bits))));
  }
  DUET_AVX512 void store(Bf16* p) const noexcept {
    const __m512i bits = _mm512_castps_si512(v_);
    const __m512i odd = _mm512_and_si512(_mm512_maskz_srli_epi32(kAll, bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    const __m512i chosen = _mm512_mask_blend_epi32(_mm512_cmp_ps_mask(v_, v_, _CMP_UNORD_Q), rounded, quiet);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_maskz_cvtepi32_epi16(kAll, _mm512_maskz_srli_epi32(kAll, chosen, 16)));
  }
  DUET_AVX512 void store(F16* p) const noexcept {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_maskz_cvtps_ph(kAll, v_, _MM_FROUND_TO_NEAREST_INT));
  }
  DUET_AVX512 void store(std::int8_t* p) const noexcept {
    const __m512i whole = _mm512_maskz_cvtps_epi32(kAll, v_);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_maskz_cvtsepi32_epi8(kAll, whole));
  }
  DUET_AVX512 void store(std::int16_t* p) const noexcept {
    const __m512i whole = _mm512_maskz_cvtps_epi32(kAll, v_);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_maskz_cvtsepi32_epi16(kAll, whole));
  }

  DUET_AVX512 friend Vec16 operator+(const Vec16& a, const Vec16& b) noexcept { return Vec16(_mm512_add_ps(a.v_, b.v_)); }
  DUET_AVX512 friend Vec16 operator-(const Vec16& a, const Vec16& b) noexcept { return Vec16(_mm512_sub_ps(a.v_, b.v_)); }
  DUET_AVX512 friend Vec16 operator*(const Vec16& a, const Vec16& b) noexcept { return Vec16(_mm512_mul_ps(a.v_, b.v_)); }
  DUET_AVX512 friend Vec16 operator/(const Vec16& a, const Vec16& b) noexcept { return Vec16(_mm512_div_ps(a.v_, b.v_)); }
  DUET_AVX512 friend Vec16 operator-(const Vec16& a) noexcept { return Vec16(_mm512_xor_ps(a.v_, sign_bit())); }
  DUET_AVX512 friend Vec16 fma(const Vec16& a, const Vec16& b, const Vec16& c) noexcept {
    return Vec16(_mm512_fmadd_ps(a.v_, b.v_, c.v_));
  }
  DUET_AVX512 friend Vec16 max(const Vec16& a, const Vec16& b) noexcept { return Vec16(_mm512_maskz_max_ps(kAll, a.v_, b.v_)); }
  DUET_AVX512 friend Vec16 min(const Vec16& a, const Vec16& b) noexcept { return Vec16(_mm512_maskz_min_ps(kAll, a.v_, b.v_)); }
  DUET_AVX512 friend Vec16 abs(const Vec16& a) noexcept { return Vec16(_mm512_andnot_ps(sign_bit(), a.v_)); }
  DUET_AVX512 friend Vec16 copysign(const Vec16& a, const Vec16& sign) noexcept {
    return Vec16(_mm512_or_ps(_mm512_andnot_ps(sign_bit(), a.v_), _mm512_and_ps(sign_bit(), sign.v_)));
  }
  DUET_AVX512 friend Vec16 sqrt(const Vec16& a) noexcept { return Vec16(_mm512_maskz_sqrt_ps(kAll, a.v_)); }
  DUET_AVX512 friend Mask operator<(const Vec16& a, const Vec16& b) noexcept {
    return {_mm512_cmp_ps_mask(a.v_, b.v_, _CMP_LT_OQ)};
  }
  DUET_AVX512 friend Mask operator<=(const Vec16& a, const Vec16& b) noexcept {
    return {_mm512_cmp_ps_mask(a.v_, b.v_, _CMP_LE_OQ)};
  }
  DUET_AVX512 friend Vec16 select(const Mask& mask, const Vec16& yes, const Vec16& no) noexcept {
    return Vec16(_mm512_mask_blend_ps(mask.bits, no.v_, yes.v_));
  }
  DUET_AVX512 friend Vec16 ldexp(const Vec16& x, const Vec16& n) noexcept { return Vec16(_mm512_maskz_scalef_ps(kAll, x.v_, n.v_)); }
  DUET_AVX512 friend Vec16 ldexp_normal(const Vec16& x, const Vec16& n) noexcept { return ldexp(x, n); }
  DUET_AVX512 friend Vec16 power_of_two(const Vec16& biased) noexcept {
    return Vec16(_mm512_castsi512_ps(_mm512_maskz_slli_epi32(kAll, _mm512_castps_si512(biased.v_), 23)));
  }
  DUET_AVX512 friend float sum(const Vec16& x) noexcept {
    const __m256 eight = _mm256_add_ps(half<0>(x), half<1>(x));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  DUET_AVX512 friend float largest(const Vec16& x) noexcept {
    const __m256 eight = _mm256_max_ps(half<0>(x), half<1>(x));
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }

  /// Policy::apply(x). A function of its own because clang flattens only what a flattened function calls itself.
  template <class Policy>
  DUET_AVX512 DUET_FLATTEN static Vec16 apply(const Vec16& x) noexcept {
    return Policy::apply(x);
  }

 private:
  // The forms with a mask that is all ones compile to those without one, which in g++ 12 warn of an uninitialised value.
  static constexpr __mmask16 kAll = 0xffff;
  template <int which>
  DUET_AVX512 static __m256 half(const Vec16& x) noexcept {
    return _mm512_maskz_extractf32x8_ps(0xff, x.v_, which);
  }
  DUET_AVX512 explicit Vec16(__m512 v) noexcept : v_(v) {}
  DUET_AVX512 static Vec16 floats_of(__m512i whole) noexcept { return Vec16(_mm512_maskz_cvtepi32_ps(kAll, whole)); }
  DUET_AVX512 static __m256i load_halves(const void* p) noexcept { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  DUET_AVX512 static __m512 sign_bit() noexcept { return _mm512_set1_ps(-0.0f); }
  DUET_AVX512 static __mmask16 first_bits(Index n) noexcept { return static_cast<__mmask16>((1u << n) - 1u); }
  __m512 v_;
};

}  // namespace DUET_ISA_NAMESPACE
}  // namespace duet::kernels

#endif
