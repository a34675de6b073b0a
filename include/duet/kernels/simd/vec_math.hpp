#pragma once

#include "duet/kernels/simd/attributes.hpp"

namespace duet::kernels {
inline namespace DUET_ISA_NAMESPACE {

// Found by argument-dependent lookup when a policy calls exp(x) on a vector. Largest errors, measured over all floats by
// tests/unit/kernels/activation_test.cpp, stand at each function. Products are summed with fma() only, never `a * b + c`:
// the compiler may contract that in one copy of the code and not in another, and a row's bits would depend on its place.

/// x = n · ln2 + r with n whole and |r| <= ln2 / 2, and e^r.
template <class V>
struct ReducedExp {
  V n, exp_r;
};
template <class V>
DUET_INLINE ReducedExp<V> reduced_exp(const V& x) noexcept {
  constexpr float kRound = 0x1.8p23f;  // adding it leaves whole numbers
  const V n = fma(x, V(1.44269504f), V(kRound)) - V(kRound);
  const V r = fma(n, V(2.12194440e-4f), fma(n, V(-0.693359375f), x));  // ln2 in two parts, n times the first exact
  V p = V(1.9875691500e-4f);
  p = fma(p, r, V(1.3981999507e-3f));
  p = fma(p, r, V(8.3334519073e-3f));
  p = fma(p, r, V(4.1665795894e-2f));
  p = fma(p, r, V(1.6666665459e-1f));
  p = fma(p, r, V(5.0000001201e-1f));
  return {n, fma(p, r * r, r) + V(1.0f)};
}

/// e^x within 1.5 units in the last place; 0 below -103.97, inf above 88.72, NaN for NaN.
template <class V>
  requires requires { V::kWidth; }
DUET_INLINE V exp(const V& x) noexcept {
  const ReducedExp<V> e = reduced_exp<V>(min(V(89.0f), max(V(-104.0f), x)));
  return ldexp(e.exp_r, e.n);
}

/// e^x for x <= 0, with 0 for results below 2^-126: cheaper, for the weights of a softmax.
template <class V>
  requires requires { V::kWidth; }
DUET_INLINE V exp_to_zero(const V& x) noexcept {
  const V least(-87.33654f);
  const ReducedExp<V> e = reduced_exp<V>(max(least, x));
  return select(x < least, V(0.0f), ldexp_normal(e.exp_r, e.n));
}

/// e^max(x, -87.3) for x <= 0, off by (4 + |x|) · 2^-24 of it at most, and 1 for 0: cheaper still.
template <class V>
  requires requires { V::kWidth; }
DUET_INLINE V exp_to_least(const V& x) noexcept {
  constexpr float kRound = 0x1.8p23f + 127.0f;  // adding it leaves whole numbers, and an exponent
  const V least = max(V(-87.3f), x), biased = fma(least, V(1.44269504f), V(kRound));
  const V r = fma(biased - V(kRound), V(-0.693147180f), least);
  V p = fma(V(8.31248122e-3f), r, V(4.18905554e-2f));
  p = fma(p, r, V(1.66671163e-1f));
  p = fma(p, r, V(4.99992288e-1f));
  p = fma(p, r, V(1.0f));
  return fma(p, r, V(1.0f)) * power_of_two(biased);
}

/// 1 / (1 + e^-x).
template <class V>
  requires requires { V::kWidth; }
DUET_INLINE V sigmoid(const V& x) noexcept {
  return V(1.0f) / (V(1.0f) + exp(-x));
}

/// tanh x within 2 units in the last place.
template <class V>
  requires requires { V::kWidth; }
DUET_INLINE V tanh(const V& x) noexcept {
  const V a = abs(x), z = x * x;
  const V far = V(1.0f) - V(2.0f) / (exp(a + a) + V(1.0f));
  V p = V(-5.70498872745e-3f);
  p = fma(p, z, V(2.06390887954e-2f));
  p = fma(p, z, V(-5.37397155531e-2f));
  p = fma(p, z, V(1.33314422036e-1f));
  p = fma(p, z, V(-3.33332819422e-1f));
  return copysign(select(a < V(0.625f), fma(p * z, a, a), far), x);
}

/// erf x within 2 units in the last place.
template <class V>
  requires requires { V::kWidth; }
DUET_INLINE V erf(const V& x) noexcept {
  const V a = abs(x), z = x * x;
  V q = fma(V(-1.72853470e-5f), a, V(3.83197126e-4f));  // log(erfc a) + a, a polynomial of a
  q = fma(q, z, fma(V(-3.88396438e-3f), a, V(2.42546219e-2f)));
  q = fma(q, a, V(-1.06777877e-1f));
  q = fma(q, a, V(-6.34846687e-1f));
  q = fma(q, a, V(-1.28717512e-1f));
  const V far = V(1.0f) - exp(fma(q, a, -a));
  V p = V(-5.96761703e-4f);
  p = fma(p, z, V(4.99119423e-3f));
  p = fma(p, z, V(-2.67681349e-2f));
  p = fma(p, z, V(1.12819925e-1f));
  p = fma(p, z, V(-3.76125336e-1f));
  p = fma(p, z, V(1.28379166e-1f));
  return copysign(select(a < V(0.927734375f), fma(p, a, a), far), x);
}

}  // namespace DUET_ISA_NAMESPACE
}  // namespace duet::kernels
