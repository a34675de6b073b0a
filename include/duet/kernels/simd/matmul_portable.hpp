#pragma once

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "duet/core/dtype.hpp"
#include "duet/kernels/isa_namespace.hpp"
#include "duet/kernels/matmul_types.hpp"
#include "duet/kernels/simd/vec4.hpp"

namespace duet::kernels {
inline namespace DUET_ISA_NAMESPACE {
namespace portable {

using V = Vec4;

struct Ops {
  using Vector = V;
  static constexpr Index kWidth = 4;
  static constexpr int kRows = 4;
  static constexpr int kDecodeRows = 4;

  static V zero() noexcept { return V(0.0f); }
  static V load(const float* at) noexcept { return V::load(at); }
  static V load_f16(const std::byte* at) noexcept { return V::load(reinterpret_cast<const F16*>(at)); }
  static V load_bf16(const std::byte* at) noexcept { return V::load(reinterpret_cast<const Bf16*>(at)); }
  static void store(float* at, V value) noexcept { value.store(at); }
  static V broadcast(float value) noexcept { return V(value); }
  static V add(V a, V b) noexcept { return a + b; }
  static V mul(V a, V b) noexcept { return a * b; }
  static V fma(V a, V b, V c) noexcept { return a * b + c; }
  static float fma(float a, float b, float c) noexcept { return a * b + c; }
  /// The sum of each vector's lanes.
  static void store_sums(V a, V b, V c, V d, float* sums) noexcept {
    sums[0] = sum(a);
    sums[1] = sum(b);
    sums[2] = sum(c);
    sums[3] = sum(d);
  }
  static void transpose(V* rows) noexcept {
    float lanes[4][4];
    for (int i = 0; i < 4; ++i) rows[i].store(lanes[i]);
    for (int i = 0; i < 4; ++i) {
      const float column[] = {lanes[0][i], lanes[1][i], lanes[2][i], lanes[3][i]};
      rows[i] = V::load(column);
    }
  }
};

#include "duet/kernels/simd/matmul_body.inl"

}  // namespace portable
}  // namespace DUET_ISA_NAMESPACE
}  // namespace duet::kernels
