#include "duet/core/dtype.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>

namespace duet {
namespace core_dtype {

TEST(DType, NamesAndSizesAreThoseOfSafetensors) {
  const struct {
    DType dtype;
    const char* name;
    std::size_t size;
  } kAll[] = {{DType::kF32, "F32", 4}, {DType::kF16, "F16", 2}, {DType::kBF16, "BF16", 2}, {DType::kF64, "F64", 8},
              {DType::kI64, "I64", 8}, {DType::kI32, "I32", 4}, {DType::kI16, "I16", 2},   {DType::kI8, "I8", 1},
              {DType::kU8, "U8", 1},   {DType::kBool, "BOOL", 1}};
  for (const auto& [dtype, name, size] : kAll) {
    EXPECT_EQ(name_of(dtype), name);
    EXPECT_EQ(size_of(dtype), size) << name;
  }
}

/// What the bits of a format with `fraction_bits` of fraction mean, by the definition in IEEE 754.
double value_of(std::uint16_t bits, int exponent_bits, int fraction_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = bits >> fraction_bits & ((1 << exponent_bits) - 1);
  const double fraction = std::ldexp(bits & ((1 << fraction_bits) - 1), -fraction_bits);
  const double sign = bits >> 15 != 0 ? -1.0 : 1.0;
  if (exponent == (1 << exponent_bits) - 1) {
    return fraction == 0 ? sign * std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  }
  return sign * (exponent == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1 + fraction, exponent - bias));
}

/// The nearest value of the format by search through all of them, ties to the even one: independent of any bit tricks.
/// Magnitudes of at least the largest plus half a step become infinite.
std::uint16_t nearest_by_search(float value, int exponent_bits, int fraction_bits) {
  const double magnitude = std::fabs(static_cast<double>(value));
  const auto infinity = static_cast<std::uint16_t>(((1 << exponent_bits) - 1) << fraction_bits);
  std::uint16_t below = 0, above = infinity;  // positive patterns are in the order of their values
  while (above - below > 1) {
    const auto middle = static_cast<std::uint16_t>((below + above) / 2);
    (value_of(middle, exponent_bits, fraction_bits) <= magnitude ? below : above) = middle;
  }
  const double step_end = above == infinity ? std::ldexp(1.0, 1 << (exponent_bits - 1)) : value_of(above, exponent_bits, fraction_bits);
  const double to_below = magnitude - value_of(below, exponent_bits, fraction_bits), to_above = step_end - magnitude;
  const bool up = to_above < to_below || (to_above == to_below && below % 2 == 1);
  return static_cast<std::uint16_t>((up ? above : below) | (std::signbit(value) ? 0x8000 : 0));
}

constexpr int kF16Exponent = 5, kF16Fraction = 10, kBf16Exponent = 8, kBf16Fraction = 7;

TEST(F16, EveryPatternMeansWhatIeee754SaysAndComesBack) {
  for (std::uint32_t i = 0; i < 0x10000; ++i) {
    const F16 half{static_cast<std::uint16_t>(i)};
    const double expected = value_of(half.bits, kF16Exponent, kF16Fraction);
    const float value = to_float(half);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(value)) << i;
      ASSERT_TRUE(std::isnan(to_float(to_f16(value)))) << i;
      ASSERT_EQ(to_f16(value).bits >> 15, i >> 15) << i;
    } else {
      ASSERT_EQ(static_cast<double>(value), expected) << i;
      ASSERT_EQ(std::signbit(value), i >> 15 != 0) << i;
      ASSERT_EQ(to_f16(value).bits, i) << i;
    }
  }
}

TEST(Bf16, EveryPatternMeansWhatIeee754SaysAndComesBack) {
  for (std::uint32_t i = 0; i < 0x10000; ++i) {
    const Bf16 brain{static_cast<std::uint16_t>(i)};
    const double expected = value_of(brain.bits, kBf16Exponent, kBf16Fraction);
    const float value = to_float(brain);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(value)) << i;
      ASSERT_TRUE(std::isnan(to_float(to_bf16(value)))) << i;
    } else {
      ASSERT_EQ(static_cast<double>(value), expected) << i;
      ASSERT_EQ(to_bf16(value).bits, i) << i;
    }
  }
}

/// Every midpoint between neighbours, and the floats beside it.
template <class Convert>
void expect_nearest_around_ties(int exponent_bits, int fraction_bits, Convert convert) {
  const auto infinity = static_cast<std::uint32_t>(((1 << exponent_bits) - 1) << fraction_bits);
  for (std::uint32_t i = 0; i < infinity; ++i) {
    const double low = value_of(static_cast<std::uint16_t>(i), exponent_bits, fraction_bits);
    const double high = i + 1 == infinity ? std::ldexp(1.0, 1 << (exponent_bits - 1))
                                          : value_of(static_cast<std::uint16_t>(i + 1), exponent_bits, fraction_bits);
    const auto tie = static_cast<float>((low + high) / 2);  // exact: one more bit than the format
    for (const float value : {std::nextafter(tie, 0.0f), tie, std::nextafter(tie, std::numeric_limits<float>::infinity())}) {
      for (const float signed_value : {value, -value}) {
        ASSERT_EQ(convert(signed_value).bits, nearest_by_search(signed_value, exponent_bits, fraction_bits)) << signed_value;
      }
    }
  }
}

TEST(F16, RoundsToNearestTiesToEven) { expect_nearest_around_ties(kF16Exponent, kF16Fraction, to_f16); }
TEST(Bf16, RoundsToNearestTiesToEven) { expect_nearest_around_ties(kBf16Exponent, kBf16Fraction, to_bf16); }

TEST(F16, RandomFloatsRoundToNearest) {
  std::mt19937 random(7);
  for (int i = 0; i < 200'000; ++i) {
    const auto value = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
    if (std::isnan(value)) continue;
    ASSERT_EQ(to_f16(value).bits, nearest_by_search(value, kF16Exponent, kF16Fraction)) << value;
    ASSERT_EQ(to_bf16(value).bits, nearest_by_search(value, kBf16Exponent, kBf16Fraction)) << value;
  }
}

TEST(F16, WhatIsTooLargeBecomesInfinite) {
  EXPECT_EQ(to_f16(65504.0f).bits, 0x7bff);
  EXPECT_EQ(to_f16(65519.996f).bits, 0x7bff);
  EXPECT_EQ(to_f16(65520.0f).bits, 0x7c00);
  EXPECT_EQ(to_f16(-1e30f).bits, 0xfc00);
  EXPECT_EQ(to_f16(std::numeric_limits<float>::infinity()).bits, 0x7c00);
}

TEST(F16, WhatIsTooSmallBecomesSignedZero) {
  EXPECT_EQ(to_f16(0x1p-24f).bits, 1);
  EXPECT_EQ(to_f16(0x1p-25f).bits, 0);  // a tie between 0 and the least subnormal: even wins
  EXPECT_EQ(to_f16(0x1.000002p-25f).bits, 1);
  EXPECT_EQ(to_f16(-0x1p-26f).bits, 0x8000);
  EXPECT_EQ(to_f16(-0.0f).bits, 0x8000);
}

TEST(Bf16, NanWithLowPayloadStaysNan) {
  for (const std::uint32_t bits : {0x7f800001u, 0xff80ffffu, 0x7fffffffu, 0xffffffffu}) {
    const auto value = std::bit_cast<float>(bits);
    EXPECT_TRUE(std::isnan(to_float(to_bf16(value)))) << bits;
    EXPECT_TRUE(std::isnan(to_float(to_f16(value)))) << bits;
  }
}

TEST(Bf16, LargestFloatBecomesInfinite) {
  EXPECT_EQ(to_bf16(std::numeric_limits<float>::max()).bits, 0x7f80);
  EXPECT_EQ(to_bf16(-std::numeric_limits<float>::max()).bits, 0xff80);
}

}  // namespace core_dtype
}  // namespace duet
