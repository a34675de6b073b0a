#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "duet/core/dtype.hpp"
#include "duet/core/matrix.hpp"
#include "duet/kernels/simd/attributes.hpp"

namespace duet::kernels {
inline namespace DUET_ISA_NAMESPACE {

/// Four floats in the compiler's own vector type: SSE, NEON or plain code, whatever the baseline has.
///
/// Every vector type has the same operations. max(a, b) and min(a, b) give b when either is NaN.
class Vec4 {
  using Floats = float __attribute__((vector_size(16)));
  using Bits = std::int32_t __attribute__((vector_size(16)));
  using Halves = std::uint16_t __attribute__((vector_size(8)));

 public:
  static constexpr Index kWidth = 4;
  /// Shape of the register block of small products: so many broadcasts times so many vectors of sums, which fill the
  /// registers together with the vectors they are made of. To decode, heads whose sums over a block of keys do.
  static constexpr int kBlockRows = 4, kBlockVectors = 3, kDecodeHeads = 1;

  struct Mask {
    Bits bits;
    DUET_INLINE explicit Mask(Bits b) noexcept : bits(b) {}
    DUET_INLINE friend Mask operator&(const Mask& a, const Mask& b) noexcept { return Mask(a.bits & b.bits); }
  };

  /// The first n lanes.
  DUET_INLINE static Mask first(Index n) noexcept { return Mask(Bits{0, 1, 2, 3} < static_cast<std::int32_t>(n)); }

  DUET_INLINE Vec4() noexcept {}  // uninitialised, like a float
  DUET_INLINE Vec4(float x) noexcept : v_{x, x, x, x} {}

  DUET_INLINE static Vec4 load(const float* p) noexcept {
    Vec4 x;
    std::memcpy(&x.v_, p, sizeof x.v_);
    return x;
  }
  DUET_INLINE void store(float* p) const noexcept { std::memcpy(p, &v_, sizeof v_); }

  /// Stored numbers as floats: exactly.
  DUET_INLINE static Vec4 load(const Bf16* p) noexcept { return Vec4(floats(load_halves(p) << 16)); }
  DUET_INLINE static Vec4 load(const F16* p) noexcept {
    const Bits half = load_halves(p), magnitude = (half & 0x7fff) << 13;
    const Floats scaled = floats(magnitude) * 0x1p112f;  // the exponents' biases differ by 112
    const Bits special = (magnitude >= 0x0f800000) & 0x7f800000;  // inf, NaN
    return Vec4(floats(bits(scaled) | special | (half & 0x8000) << 16));
  }
  DUET_INLINE static Vec4 load(const std::int32_t* p) noexcept {  // rounded, beyond 24 bits
    Bits x;
    std::memcpy(&x, p, sizeof x);
    return Vec4(__builtin_convertvector(x, Floats));
  }
  /// Lanes of four bytes, in the order 0 2 1 3.
  DUET_INLINE static void load_quads(const std::int8_t* p, Vec4 (&to)[4]) noexcept {
    Bits x;
    std::memcpy(&x, p, sizeof x);
    const auto floats_of = [](Bits whole) { return Vec4(__builtin_convertvector(whole, Floats)); };
    to[0] = floats_of(x << 24 >> 24);
    to[1] = floats_of(x << 8 >> 24);
    to[2] = floats_of(x << 16 >> 24);
    to[3] = floats_of(x >> 24);
  }
  /// One stored number in every lane.
  DUET_INLINE static Vec4 broadcast(const F16* p) noexcept { return Vec4(to_float(*p)); }
  /// Rounds to nearest, ties to even, as to_bf16 and to_f16 do.
  DUET_INLINE void store(Bf16* p) const noexcept {
    for (int i = 0; i < 4; ++i) p[i] = to_bf16(v_[i]);
  }
  DUET_INLINE void store(F16* p) const noexcept {
    for (int i = 0; i < 4; ++i) p[i] = to_f16(v_[i]);
  }
  /// Rounds to nearest, ties to even. Requires lanes within [-128, 127]
  DUET_INLINE void store(std::int8_t* p) const noexcept {
    for (int i = 0; i < 4; ++i) p[i] = static_cast<std::int8_t>(std::lrint(v_[i]));
  }
  /// Likewise. Requires lanes within [-32768, 32767]; of what is no number, any
  DUET_INLINE void store(std::int16_t* p) const noexcept {
    for (int i = 0; i < 4; ++i) p[i] = static_cast<std::int16_t>(std::lrint(v_[i]));
  }

  /// The first n floats, 0 <= n <= 4; the other lanes are 0, and their memory is not touched.
  [[gnu::noinline]] static Vec4 load_first(const float* p, Index n) noexcept {
    float lanes[4] = {};
    for (Index i = 0; i < n; ++i) lanes[i] = p[i];
    return load(lanes);
  }
  [[gnu::noinline]] void store_first(float* p, Index n) const noexcept {
    for (Index i = 0; i < n; ++i) p[i] = v_[i];
  }

  DUET_INLINE friend Vec4 operator+(const Vec4& a, const Vec4& b) noexcept { return Vec4(a.v_ + b.v_); }
  DUET_INLINE friend Vec4 operator-(const Vec4& a, const Vec4& b) noexcept { return Vec4(a.v_ - b.v_); }
  DUET_INLINE friend Vec4 operator*(const Vec4& a, const Vec4& b) noexcept { return Vec4(a.v_ * b.v_); }
  DUET_INLINE friend Vec4 operator/(const Vec4& a, const Vec4& b) noexcept { return Vec4(a.v_ / b.v_); }
  DUET_INLINE friend Vec4 operator-(const Vec4& a) noexcept { return Vec4(-a.v_); }
  /// a · b + c.
  DUET_INLINE friend Vec4 fma(const Vec4& a, const Vec4& b, const Vec4& c) noexcept { return Vec4(a.v_ * b.v_ + c.v_); }
  DUET_INLINE friend Vec4 max(const Vec4& a, const Vec4& b) noexcept { return select(b < a, a, b); }
  DUET_INLINE friend Vec4 min(const Vec4& a, const Vec4& b) noexcept { return select(a < b, a, b); }
  DUET_INLINE friend Vec4 abs(const Vec4& a) noexcept { return Vec4(floats(bits(a.v_) & 0x7fffffff)); }
  DUET_INLINE friend Vec4 copysign(const Vec4& a, const Vec4& sign) noexcept {
    return Vec4(floats((bits(a.v_) & 0x7fffffff) | (bits(sign.v_) & ~0x7fffffff)));
  }
  DUET_INLINE friend Vec4 sqrt(const Vec4& a) noexcept {
    return Vec4(Floats{std::sqrt(a.v_[0]), std::sqrt(a.v_[1]), std::sqrt(a.v_[2]), std::sqrt(a.v_[3])});
  }
  DUET_INLINE friend Mask operator<(const Vec4& a, const Vec4& b) noexcept { return Mask(a.v_ < b.v_); }
  DUET_INLINE friend Mask operator<=(const Vec4& a, const Vec4& b) noexcept { return Mask(a.v_ <= b.v_); }
  DUET_INLINE friend Vec4 select(const Mask& mask, const Vec4& yes, const Vec4& no) noexcept {
    return Vec4(floats((bits(yes.v_) & mask.bits) | (bits(no.v_) & ~mask.bits)));
  }
  /// x · 2^n for whole n in [-252, 254]: in two steps, so that it may underflow gradually.
  DUET_INLINE friend Vec4 ldexp(const Vec4& x, const Vec4& n) noexcept {
    const Bits whole = __builtin_convertvector(n.v_, Bits), half = whole >> 1;
    return Vec4(x.v_ * floats((half + 127) << 23) * floats((whole - half + 127) << 23));
  }
  /// x · 2^n for whole n in [-126, 127].
  DUET_INLINE friend Vec4 ldexp_normal(const Vec4& x, const Vec4& n) noexcept {
    return Vec4(x.v_ * floats((__builtin_convertvector(n.v_, Bits) + 127) << 23));
  }
  /// 2^n of n + 1.5 · 2^23 + 127, whose last bits are the exponent. Requires whole n in [-126, 127]
  DUET_INLINE friend Vec4 power_of_two(const Vec4& biased) noexcept { return Vec4(floats(bits(biased.v_) << 23)); }
  /// Lanes added in one fixed order.
  DUET_INLINE friend float sum(const Vec4& x) noexcept { return (x.v_[0] + x.v_[2]) + (x.v_[1] + x.v_[3]); }
  DUET_INLINE friend float largest(const Vec4& x) noexcept {
    const float a = x.v_[0] > x.v_[2] ? x.v_[0] : x.v_[2], b = x.v_[1] > x.v_[3] ? x.v_[1] : x.v_[3];
    return a > b ? a : b;
  }

  /// Policy::apply(x).
  template <class Policy>
  DUET_INLINE static Vec4 apply(const Vec4& x) noexcept {
    return Policy::apply(x);
  }

 private:
  DUET_INLINE explicit Vec4(Floats v) noexcept : v_(v) {}
  DUET_INLINE static Bits bits(Floats v) noexcept { return std::bit_cast<Bits>(v); }
  DUET_INLINE static Floats floats(Bits b) noexcept { return std::bit_cast<Floats>(b); }
  template <class Half>
  DUET_INLINE static Bits load_halves(const Half* p) noexcept {
    Halves x;
    std::memcpy(&x, p, sizeof x);
    return __builtin_convertvector(x, Bits);
  }
  Floats v_;
};

}  // namespace DUET_ISA_NAMESPACE
}  // namespace duet::kernels
