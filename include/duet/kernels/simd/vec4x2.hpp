#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "duet/core/dtype.hpp"
#include "duet/core/matrix.hpp"
#include "duet/kernels/simd/attributes.hpp"

#if DUET_NEON

namespace duet::kernels {
inline namespace DUET_ISA_NAMESPACE {

/// Eight floats in two of the 32 NEON registers. Operations as in Vec4.
class Vec4x2 {
 public:
  static constexpr Index kWidth = 8;
  static constexpr int kBlockRows = 4, kBlockVectors = 2, kDecodeHeads = 3;

  struct Mask {
    uint32x4_t low, high;
    DUET_INLINE friend Mask operator&(const Mask& a, const Mask& b) noexcept {
      return {vandq_u32(a.low, b.low), vandq_u32(a.high, b.high)};
    }
  };

  DUET_INLINE static Mask first(Index n) noexcept {
    const int32x4_t four = {0, 1, 2, 3}, count = vdupq_n_s32(static_cast<std::int32_t>(n));
    return {vcltq_s32(four, count), vcltq_s32(vaddq_s32(four, vdupq_n_s32(4)), count)};
  }

  DUET_INLINE Vec4x2() noexcept {}  // uninitialised, like a float
  DUET_INLINE Vec4x2(float x) noexcept : low_(vdupq_n_f32(x)), high_(low_) {}

  DUET_INLINE static Vec4x2 load(const float* p) noexcept { return {read<float32x4_t>(p), read<float32x4_t>(p + 4)}; }
  DUET_INLINE void store(float* p) const noexcept {
    write(p, low_);
    write(p + 4, high_);
  }
  [[gnu::noinline]] static Vec4x2 load_first(const float* p, Index n) noexcept {
    float lanes[kWidth] = {};
    std::copy_n(p, n, lanes);
    return load(lanes);
  }
  [[gnu::noinline]] void store_first(float* p, Index n) const noexcept {
    float lanes[kWidth];
    store(lanes);
    std::copy_n(lanes, n, p);
  }

  DUET_INLINE static Vec4x2 load(const Bf16* p) noexcept {
    const auto x = read<uint16x8_t>(p);
    return {vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(x), 16)), vreinterpretq_f32_u32(vshll_high_n_u16(x, 16))};
  }
  DUET_INLINE static Vec4x2 load(const F16* p) noexcept {
    const auto x = read<float16x8_t>(p);
    return {vcvt_f32_f16(vget_low_f16(x)), vcvt_high_f32_f16(x)};
  }
  DUET_INLINE static Vec4x2 load(const std::int32_t* p) noexcept {
    return {vcvtq_f32_s32(read<int32x4_t>(p)), vcvtq_f32_s32(read<int32x4_t>(p + 4))};
  }
  DUET_INLINE static void load_quads(const std::int8_t* p, Vec4x2 (&to)[4]) noexcept {
    const auto low = read<int32x4_t>(p), high = read<int32x4_t>(p + 16);
    const auto floats_of = [](int32x4_t x) { return vcvtq_f32_s32(vshrq_n_s32(x, 24)); };
    to[0] = {floats_of(vshlq_n_s32(low, 24)), floats_of(vshlq_n_s32(high, 24))};
    to[1] = {floats_of(vshlq_n_s32(low, 8)), floats_of(vshlq_n_s32(high, 8))};
    to[2] = {floats_of(vshlq_n_s32(low, 16)), floats_of(vshlq_n_s32(high, 16))};
    to[3] = {floats_of(low), floats_of(high)};
  }
  DUET_INLINE static Vec4x2 broadcast(const F16* p) noexcept {
    const float32x4_t x = vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(p->bits)));
    return {x, x};
  }
  DUET_INLINE void store(Bf16* p) const noexcept {
    const auto rounded = [](float32x4_t v) {
      const uint32x4_t bits = vreinterpretq_u32_f32(v), odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
      const uint32x4_t near = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
      const uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
      return vbslq_u32(vceqq_f32(v, v), near, quiet);
    };
    write(p, vshrn_high_n_u32(vshrn_n_u32(rounded(low_), 16), rounded(high_), 16));
  }
  DUET_INLINE void store(F16* p) const noexcept { write(p, vcvt_high_f16_f32(vcvt_f16_f32(low_), high_)); }
  DUET_INLINE void store(std::int8_t* p) const noexcept {
    const int16x4_t low = vqmovn_s32(vcvtnq_s32_f32(low_));
    write(p, vqmovn_s16(vqmovn_high_s32(low, vcvtnq_s32_f32(high_))));
  }
  DUET_INLINE void store(std::int16_t* p) const noexcept {
    write(p, vqmovn_high_s32(vqmovn_s32(vcvtnq_s32_f32(low_)), vcvtnq_s32_f32(high_)));
  }

  DUET_INLINE friend Vec4x2 operator+(const Vec4x2& a, const Vec4x2& b) noexcept {
    return {vaddq_f32(a.low_, b.low_), vaddq_f32(a.high_, b.high_)};
  }
  DUET_INLINE friend Vec4x2 operator-(const Vec4x2& a, const Vec4x2& b) noexcept {
    return {vsubq_f32(a.low_, b.low_), vsubq_f32(a.high_, b.high_)};
  }
  DUET_INLINE friend Vec4x2 operator*(const Vec4x2& a, const Vec4x2& b) noexcept {
    return {vmulq_f32(a.low_, b.low_), vmulq_f32(a.high_, b.high_)};
  }
  DUET_INLINE friend Vec4x2 operator/(const Vec4x2& a, const Vec4x2& b) noexcept {
    return {vdivq_f32(a.low_, b.low_), vdivq_f32(a.high_, b.high_)};
  }
  DUET_INLINE friend Vec4x2 operator-(const Vec4x2& a) noexcept { return {vnegq_f32(a.low_), vnegq_f32(a.high_)}; }
  DUET_INLINE friend Vec4x2 fma(const Vec4x2& a, const Vec4x2& b, const Vec4x2& c) noexcept {
    return {vfmaq_f32(c.low_, a.low_, b.low_), vfmaq_f32(c.high_, a.high_, b.high_)};
  }
  // NEON's own maximum is NaN when either is.
  DUET_INLINE friend Vec4x2 max(const Vec4x2& a, const Vec4x2& b) noexcept { return select(b < a, a, b); }
  DUET_INLINE friend Vec4x2 min(const Vec4x2& a, const Vec4x2& b) noexcept { return select(a < b, a, b); }
  DUET_INLINE friend Vec4x2 abs(const Vec4x2& a) noexcept { return {vabsq_f32(a.low_), vabsq_f32(a.high_)}; }
  DUET_INLINE friend Vec4x2 copysign(const Vec4x2& a, const Vec4x2& sign) noexcept {
    const uint32x4_t sign_bit = vdupq_n_u32(0x80000000u);
    return select(Mask{sign_bit, sign_bit}, sign, a);
  }
  DUET_INLINE friend Vec4x2 sqrt(const Vec4x2& a) noexcept { return {vsqrtq_f32(a.low_), vsqrtq_f32(a.high_)}; }
  DUET_INLINE friend Mask operator<(const Vec4x2& a, const Vec4x2& b) noexcept {
    return {vcltq_f32(a.low_, b.low_), vcltq_f32(a.high_, b.high_)};
  }
  DUET_INLINE friend Mask operator<=(const Vec4x2& a, const Vec4x2& b) noexcept {
    return {vcleq_f32(a.low_, b.low_), vcleq_f32(a.high_, b.high_)};
  }
  DUET_INLINE friend Vec4x2 select(const Mask& mask, const Vec4x2& yes, const Vec4x2& no) noexcept {
    return {vbslq_f32(mask.low, yes.low_, no.low_), vbslq_f32(mask.high, yes.high_, no.high_)};
  }
  DUET_INLINE friend Vec4x2 ldexp(const Vec4x2& x, const Vec4x2& n) noexcept {
    const auto scaled = [](float32x4_t v, float32x4_t exponents) {
      const int32x4_t whole = vcvtq_s32_f32(exponents), half = vshrq_n_s32(whole, 1);
      return vmulq_f32(vmulq_f32(v, power_of_two(half)), power_of_two(vsubq_s32(whole, half)));
    };
    return {scaled(x.low_, n.low_), scaled(x.high_, n.high_)};
  }
  DUET_INLINE friend Vec4x2 ldexp_normal(const Vec4x2& x, const Vec4x2& n) noexcept {
    return {vmulq_f32(x.low_, power_of_two(vcvtq_s32_f32(n.low_))),
            vmulq_f32(x.high_, power_of_two(vcvtq_s32_f32(n.high_)))};
  }
  DUET_INLINE friend Vec4x2 power_of_two(const Vec4x2& biased) noexcept {
    const auto shifted = [](float32x4_t v) { return vreinterpretq_f32_s32(vshlq_n_s32(vreinterpretq_s32_f32(v), 23)); };
    return {shifted(biased.low_), shifted(biased.high_)};
  }
  DUET_INLINE friend float sum(const Vec4x2& x) noexcept { return vaddvq_f32(vaddq_f32(x.low_, x.high_)); }
  DUET_INLINE friend float largest(const Vec4x2& x) noexcept { return vmaxvq_f32(vmaxq_f32(x.low_, x.high_)); }

  /// Policy::apply(x).
  template <class Policy>
  DUET_INLINE static Vec4x2 apply(const Vec4x2& x) noexcept {
    return Policy::apply(x);
  }

 private:
  DUET_INLINE Vec4x2(float32x4_t low, float32x4_t high) noexcept : low_(low), high_(high) {}
  template <class Register>
  DUET_INLINE static Register read(const void* p) noexcept {
    Register x;
    std::memcpy(&x, p, sizeof x);
    return x;
  }
  template <class Register>
  DUET_INLINE static void write(void* p, Register x) noexcept {
    std::memcpy(p, &x, sizeof x);
  }
  DUET_INLINE static float32x4_t power_of_two(int32x4_t n) noexcept {
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23));
  }
  float32x4_t low_, high_;
};

}  // namespace DUET_ISA_NAMESPACE
}  // namespace duet::kernels

#endif
