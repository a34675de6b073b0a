#pragma once

#include <cmath>
#include <limits>

#include "duet/kernels/simd/matmul_portable.hpp"

namespace duet::kernels {
inline namespace DUET_ISA_NAMESPACE {
namespace portable {

struct Bytes {
  using Integers = std::int32_t __attribute__((vector_size(16)));
  static constexpr Index kGroup = 1;
  static constexpr int kRows = 4;
  static constexpr int kDecodeRows = 1;
  static constexpr Index kAhead = 0;  ///< bytes that decoding fetches ahead; 0: it reads four long runs

  static float half(const std::byte* at) noexcept { return block_scale(at); }

  static float round(const float* x, std::int8_t* bytes) noexcept {
    float most = 0.0f, finite = 0.0f;
    for (Index i = 0; i < static_cast<Index>(kBlockSize); ++i) {
      most = std::max(most, std::abs(x[i]));
      finite += x[i] * 0.0f;
    }
    if (finite != 0.0f) {
      std::memset(bytes, 1, kBlockSize);
      return std::numeric_limits<float>::quiet_NaN();
    }
    constexpr float kLeast = 1e-30f;  // below it, the factor would be infinite
    const float factor = most > kLeast ? 127.0f / most : 0.0f;
    for (Index i = 0; i < static_cast<Index>(kBlockSize); ++i) bytes[i] = static_cast<std::int8_t>(std::nearbyint(x[i] * factor));
    return most > kLeast ? most / 127.0f : 0.0f;
  }
  static std::int32_t sum(const std::int8_t* bytes) noexcept {
    std::int32_t total = 0;
    for (Index i = 0; i < static_cast<Index>(kBlockSize); ++i) total += bytes[i];
    return total;
  }

  static Integers load(const std::int32_t* at) noexcept {
    Integers result;
    std::memcpy(&result, at, sizeof result);
    return result;
  }
  static Integers broadcast(std::int32_t word) noexcept { return Integers{word, word, word, word}; }
  static Integers add_products(Integers sum, Integers x, Integers weights) noexcept { return sum + x * weights; }
  static V to_float(Integers sum) noexcept {
    float lanes[4];
    for (int i = 0; i < 4; ++i) lanes[i] = static_cast<float>(sum[i]);
    return V::load(lanes);
  }

  static void store_products(std::int32_t* at, Integers sum) noexcept { std::memcpy(at, &sum, sizeof sum); }

  static void widen_x(const std::int8_t* bytes, std::int32_t* words) noexcept { std::copy_n(bytes, kBlockSize, words); }
  template <DType dtype>
  static void widen_weights(const std::byte* packed, std::int32_t* words) noexcept {
    std::int8_t integers[kBlockSize];
    unpack_block(dtype, packed - kScaleBytes, integers);
    std::copy_n(integers, kBlockSize, words);
  }
  static void start(const std::int32_t*, Index, Index, std::int32_t* starts) noexcept { std::fill_n(starts, 4, 0); }

  /// A block at a time.
  template <DType dtype>
  struct Dot {
    using Lanes = Ops;
    using Rest = Dot;
    static constexpr Index kBlocks = 1;
    struct X {
      const std::int8_t* bytes;
      float scale;
    };
    struct Weights {
      std::int8_t integers[kBlockSize];
      float scale;
    };
    explicit Dot(Index = 1) noexcept {}
    [[nodiscard]] X read(const RoundedRows& x, Index at) const noexcept {
      return {x.bytes + at * static_cast<Index>(kBlockSize), x.scales[at]};
    }
    [[nodiscard]] Weights read(const std::byte* block) const noexcept {
      Weights result;
      unpack_block(dtype, block, result.integers);
      result.scale = block_scale(block);
      return result;
    }
    static V add(V sum, const Weights& weights, const X& x) noexcept {
      std::int32_t products[4] = {};
      for (Index i = 0; i < static_cast<Index>(kBlockSize); ++i) products[i % 4] += weights.integers[i] * x.bytes[i];
      return Ops::fma(to_float(load(products)), Ops::broadcast(weights.scale * x.scale), sum);
    }
  };
};

#include "duet/kernels/simd/quantized_body.inl"

}  // namespace portable
}  // namespace DUET_ISA_NAMESPACE
}  // namespace duet::kernels
