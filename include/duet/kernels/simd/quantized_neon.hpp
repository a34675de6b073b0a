#pragma once

#include <bit>

#include "duet/kernels/simd/matmul_neon.hpp"

#if DUET_NEON

namespace duet::kernels {
inline namespace DUET_ISA_NAMESPACE {
namespace neon {

/// A decode kernel's sums: a block's products come to four lanes.
struct FourLanes {
  using Vector = float32x4_t;
  static Vector zero() noexcept { return vdupq_n_f32(0.0f); }
  static void store_sums(Vector a, Vector b, Vector c, Vector d, float* sums) noexcept {
    const Vector all = vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d));
    std::memcpy(sums, &all, sizeof all);
  }
};

/// Rounding and unpacking of blocks, and what else does not depend on how bytes are multiplied. A lane's word holds four
/// inputs.
struct BlockOps {
  /// Eight words: of sums, of weights, or x as the products want it.
  struct Integers {
    int32x4_t low, high;
  };
  /// A block's 32 bytes.
  struct Block {
    int8x16_t low, high;
  };
  static constexpr Index kGroup = 4;

  static float half(const std::byte* at) noexcept { return static_cast<float>(read_as<float16_t>(at)); }
  /// 32 floats as whole numbers up to 127, and what one of them stands for: not a number if a float is none, or infinite.
  static float round(const float* x, std::int8_t* bytes) noexcept {
    const V a = Ops::load(x), b = Ops::load(x + 8), c = Ops::load(x + 16), d = Ops::load(x + 24);
    // As whole numbers, magnitudes are in order, with infinity and then NaN above all others.
    const auto bits = [](V v) {
      return vmaxq_u32(vreinterpretq_u32_f32(vabsq_f32(v.low)), vreinterpretq_u32_f32(vabsq_f32(v.high)));
    };
    const uint32x4_t four = vmaxq_u32(vmaxq_u32(bits(a), bits(b)), vmaxq_u32(bits(c), bits(d)));
    const auto most = std::bit_cast<float>(vmaxvq_u32(four));
    if (!(most < std::numeric_limits<float>::infinity())) {
      std::memset(bytes, 1, kBlockSize);
      return std::numeric_limits<float>::quiet_NaN();
    }
    constexpr float kLeast = 1e-30f;  // below it, the factor would be infinite
    const float factor = most > kLeast ? 127.0f / most : 0.0f;
    const auto whole = [&](V v) {
      const auto nearest = [&](float32x4_t lanes) { return vcvtnq_s32_f32(vmulq_n_f32(lanes, factor)); };
      return vqmovn_high_s32(vqmovn_s32(nearest(v.low)), nearest(v.high));
    };
    const Block rounded{vqmovn_high_s16(vqmovn_s16(whole(a)), whole(b)), vqmovn_high_s16(vqmovn_s16(whole(c)), whole(d))};
    std::memcpy(bytes, &rounded, sizeof rounded);
    return most > kLeast ? most / 127.0f : 0.0f;
  }
  /// The sum of 32 bytes.
  static std::int32_t sum(const std::int8_t* bytes) noexcept {
    const Block all = block(bytes);
    return vaddlvq_s16(vaddq_s16(vpaddlq_s8(all.low), vpaddlq_s8(all.high)));
  }
  /// 32 nibbles, in order, as they are stored: 0 to 15.
  static Block nibbles(const std::byte* packed) noexcept {
    const auto two = read_as<uint8x16_t>(packed);
    return {vreinterpretq_s8_u8(vandq_u8(two, vdupq_n_u8(0xf))), vreinterpretq_s8_u8(vshrq_n_u8(two, 4))};
  }

  static Block block(const void* at) noexcept {
    const auto* bytes = static_cast<const std::byte*>(at);
    return {read_as<int8x16_t>(bytes), read_as<int8x16_t>(bytes + 16)};
  }
  static Integers load(const std::int32_t* at) noexcept { return {read_as<int32x4_t>(at), read_as<int32x4_t>(at + 4)}; }
  static void store_products(std::int32_t* at, Integers sum) noexcept {
    std::memcpy(at, &sum.low, sizeof sum.low);
    std::memcpy(at + 4, &sum.high, sizeof sum.high);
  }
  static V to_float(Integers sum) noexcept { return {vcvtq_f32_s32(sum.low), vcvtq_f32_s32(sum.high)}; }
  static void widen_x(const std::int8_t* bytes, std::int32_t* words) noexcept { std::memcpy(words, bytes, kBlockSize); }
  template <DType dtype>
  static void widen_weights(const std::byte* packed, std::int32_t* words) noexcept {
    if constexpr (dtype == DType::kQ8_0) {
      std::memcpy(words, packed, kBlockSize);
    } else {
      const Block stored = nibbles(packed);
      const int8x16_t eight = vdupq_n_s8(8);
      const Block integers{vsubq_s8(stored.low, eight), vsubq_s8(stored.high, eight)};
      std::memcpy(words, &integers, sizeof integers);
    }
  }
  static void start(const std::int32_t*, Index, Index, std::int32_t* starts) noexcept {
    std::fill_n(starts, Ops::kWidth, 0);
  }

  /// A block at a time; Products adds those of 32 bytes to four sums.
  template <DType dtype, class Products>
  struct Dot {
    using Lanes = FourLanes;
    using Rest = Dot;
    static constexpr Index kBlocks = 1;
    struct X {
      Block bytes;
      int32x4_t start;
      float scale;
    };
    struct Weights {
      Block bytes;  // or nibbles
      float scale;
    };
    explicit Dot(Index = 1) noexcept {}
    [[nodiscard]] X read(const RoundedRows& x, Index at) const noexcept {
      // Four lanes less twice the sum of x: a nibble stands for eight less than it says.
      const std::int32_t start = dtype == DType::kQ8_0 ? 0 : 2 * x.minus_sums[at];
      return {block(x.bytes + at * static_cast<Index>(kBlockSize)), vdupq_n_s32(start), x.scales[at]};
    }
    [[nodiscard]] Weights read(const std::byte* stored) const noexcept {
      return {dtype == DType::kQ8_0 ? block(stored + kScaleBytes) : nibbles(stored + kScaleBytes), half(stored)};
    }
    static float32x4_t add(float32x4_t sum, const Weights& weights, const X& x) noexcept {
      const int32x4_t products = Products::template of_block<dtype>(x.start, weights.bytes, x.bytes);
      return vfmaq_n_f32(sum, vcvtq_f32_s32(products), weights.scale * x.scale);
    }
  };
};

/// Products of bytes are 16 bits wide, and two of weights of eight bits fit into them: x is at most 127. To prefill, a word's
/// first two inputs are multiplied for eight outputs, then its last two are added, and then neighbours.
struct Bytes : BlockOps {
  static constexpr int kRows = 3;
  static constexpr int kDecodeRows = 2;
  static constexpr Index kAhead = 0;  ///< bytes that decoding fetches ahead; 0: it reads four long runs

  /// Its first two bytes in every lane, and its last two.
  static Integers broadcast(std::int32_t word) noexcept {
    const int16x8_t both = vreinterpretq_s16_s32(vdupq_n_s32(word));
    return {vreinterpretq_s32_s16(vtrn1q_s16(both, both)), vreinterpretq_s32_s16(vtrn2q_s16(both, both))};
  }
  static Integers add_products(Integers sum, Integers x, Integers weights) noexcept {
    const int16x8_t left = vreinterpretq_s16_s32(weights.low), right = vreinterpretq_s16_s32(weights.high);
    const int8x16_t first = vreinterpretq_s8_s16(vuzp1q_s16(left, right)), x_first = vreinterpretq_s8_s32(x.low);
    const int8x16_t last = vreinterpretq_s8_s16(vuzp2q_s16(left, right)), x_last = vreinterpretq_s8_s32(x.high);
    const int16x8_t low = vmull_s8(vget_low_s8(first), vget_low_s8(x_first)), high = vmull_high_s8(first, x_first);
    return {vpadalq_s16(sum.low, vmlal_s8(low, vget_low_s8(last), vget_low_s8(x_last))),
            vpadalq_s16(sum.high, vmlal_high_s8(high, last, x_last))};
  }

  template <DType dtype>
  static int32x4_t of_block(int32x4_t start, Block weights, Block x) noexcept {
    const int16x8_t low = vmlal_high_s8(vmull_s8(vget_low_s8(weights.low), vget_low_s8(x.low)), weights.low, x.low);
    if constexpr (dtype == DType::kQ4_0) {  // four products of nibbles fit, too
      const int16x8_t all = vmlal_s8(low, vget_low_s8(weights.high), vget_low_s8(x.high));
      return vpadalq_s16(start, vmlal_high_s8(all, weights.high, x.high));
    } else {
      const int16x8_t high = vmull_s8(vget_low_s8(weights.high), vget_low_s8(x.high));
      return vpadalq_s16(vpadalq_s16(start, low), vmlal_high_s8(high, weights.high, x.high));
    }
  }
  template <DType dtype>
  using Dot = BlockOps::Dot<dtype, Bytes>;
};

#include "duet/kernels/simd/quantized_body.inl"

/// For processors with ARMv8.2's dot product: four bytes by four bytes a lane.
namespace dotprod {

struct Bytes : BlockOps {
  static constexpr int kRows = 4;
  static constexpr int kDecodeRows = 2;
  static constexpr Index kAhead = 0;  ///< bytes that decoding fetches ahead; 0: it reads four long runs

  /// sdot, for units without its flag as a number: assemblers refuse its name, and a function with a target of its own would
  /// be closed to everything compiled for the unit's processor.
  static int32x4_t dot(int32x4_t sum, int8x16_t a, int8x16_t b) noexcept {
#if defined(__ARM_FEATURE_DOTPROD)
    return vdotq_s32(sum, a, b);
#else
    __asm__(".irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
            ".equ .Lduet_v\\i,\\i\n"  // what number the register of that name has
            ".endr\n"
            ".inst 0x4e809400 | .Lduet_%2 << 16 | .Lduet_%1 << 5 | .Lduet_%0"
            : "+w"(sum)
            : "w"(a), "w"(b));
    return sum;
#endif
  }
  static Integers broadcast(std::int32_t word) noexcept { return {vdupq_n_s32(word), vdupq_n_s32(word)}; }
  static Integers add_products(Integers sum, Integers x, Integers weights) noexcept {
    const int8x16_t bytes = vreinterpretq_s8_s32(x.low);
    return {dot(sum.low, vreinterpretq_s8_s32(weights.low), bytes),
            dot(sum.high, vreinterpretq_s8_s32(weights.high), bytes)};
  }

  template <DType>
  static int32x4_t of_block(int32x4_t start, Block weights, Block x) noexcept {
    return dot(dot(start, weights.low, x.low), weights.high, x.high);
  }
  template <DType dtype>
  using Dot = BlockOps::Dot<dtype, Bytes>;
};

#include "duet/kernels/simd/quantized_body.inl"

}  // namespace dotprod
}  // namespace neon
}  // namespace DUET_ISA_NAMESPACE
}  // namespace duet::kernels

#endif  // DUET_NEON
