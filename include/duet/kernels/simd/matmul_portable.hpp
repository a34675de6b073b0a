#pragma once

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <utility>

#include "duet/core/dtype.hpp"
#include "duet/kernels/isa_namespace.hpp"
#include "duet/kernels/matmul_types.hpp"
#include "duet/kernels/simd/attributes.hpp"

namespace duet::kernels {
inline namespace DUET_ISA_NAMESPACE {
namespace portable {

/// Four floats: what every 64-bit processor has, and what compilers turn into its vectors.
struct V {
  float lane[4];
};

struct Ops {
  using Vector = V;
  static constexpr Index kWidth = 4;
  static constexpr int kRows = 4;
  static constexpr int kDecodeRows = 4;

  template <class F>
  static V each(F&& f) noexcept {
    V result;
    for (int i = 0; i < 4; ++i) result.lane[i] = f(i);
    return result;
  }
  static V zero() noexcept { return broadcast(0.0f); }
  static V load(const float* at) noexcept {
    V result;
    std::memcpy(result.lane, at, sizeof result.lane);
    return result;
  }
  static std::uint16_t half(const std::byte* at, int i) noexcept {
    std::uint16_t bits;
    std::memcpy(&bits, at + 2 * i, sizeof bits);
    return bits;
  }
  static V load_f16(const std::byte* at) noexcept {
    return each([&](int i) { return duet::to_float(F16{half(at, i)}); });
  }
  static V load_bf16(const std::byte* at) noexcept {
    return each([&](int i) { return duet::to_float(Bf16{half(at, i)}); });
  }
  static void store(float* at, V value) noexcept { std::memcpy(at, value.lane, sizeof value.lane); }
  static V broadcast(float value) noexcept {
    return each([&](int) { return value; });
  }
  static V add(V a, V b) noexcept {
    return each([&](int i) { return a.lane[i] + b.lane[i]; });
  }
  static V mul(V a, V b) noexcept {
    return each([&](int i) { return a.lane[i] * b.lane[i]; });
  }
  static V fma(V a, V b, V c) noexcept {
    return each([&](int i) { return a.lane[i] * b.lane[i] + c.lane[i]; });
  }
  static float fma(float a, float b, float c) noexcept { return a * b + c; }
  /// The sum of each vector's lanes.
  static void store_sums(V a, V b, V c, V d, float* sums) noexcept {
    const V rows[4] = {a, b, c, d};
    for (int i = 0; i < 4; ++i) sums[i] = (rows[i].lane[0] + rows[i].lane[2]) + (rows[i].lane[1] + rows[i].lane[3]);
  }
  static void transpose(V* rows) noexcept {
    for (int i = 0; i < 4; ++i) {
      for (int j = 0; j < i; ++j) std::swap(rows[i].lane[j], rows[j].lane[i]);
    }
  }
};

#include "duet/kernels/simd/matmul_body.inl"

}  // namespace portable
}  // namespace DUET_ISA_NAMESPACE
}  // namespace duet::kernels
