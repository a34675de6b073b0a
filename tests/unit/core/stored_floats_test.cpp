#include "duet/core/stored_floats.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <vector>

namespace duet {
namespace core_stored_floats {

/// `values` at an odd address, as a safetensors file may hold them.
template <class T>
std::vector<std::byte> stored_oddly(const std::vector<T>& values) {
  std::vector<std::byte> bytes(1 + values.size() * sizeof(T));
  std::memcpy(bytes.data() + 1, values.data(), values.size() * sizeof(T));
  return bytes;
}

std::vector<float> converted(const std::vector<std::byte>& odd, DType dtype) {
  const auto stored = std::span(odd).subspan(1);
  std::vector<float> out(stored.size() / size_of(dtype));
  read_floats(stored.data(), dtype, 0, out);
  return out;
}

template <class Half>
void expect_every_pattern_converts(DType dtype) {
  std::vector<std::uint16_t> patterns;
  for (std::uint32_t bits = 0; bits <= 0xffff; ++bits) patterns.push_back(static_cast<std::uint16_t>(bits));
  const auto floats = converted(stored_oddly(patterns), dtype);
  ASSERT_EQ(floats.size(), patterns.size());
  for (const std::uint16_t bits : patterns) {
    EXPECT_EQ(std::bit_cast<std::uint32_t>(floats[bits]), std::bit_cast<std::uint32_t>(to_float(Half{bits}))) << bits;
  }
}

TEST(ReadFloats, ConvertsEveryPatternOfTheHalfTypes) {
  expect_every_pattern_converts<F16>(DType::kF16);
  expect_every_pattern_converts<Bf16>(DType::kBF16);
}

TEST(ReadFloats, CopiesFloatsBitForBit) {
  const std::vector<std::uint32_t> patterns = {0, 0x80000000u, 1, 0x7f800000u, 0x7fc12345u, 0x3f800001u};
  const auto floats = converted(stored_oddly(patterns), DType::kF32);
  for (std::size_t i = 0; i < patterns.size(); ++i) EXPECT_EQ(std::bit_cast<std::uint32_t>(floats[i]), patterns[i]);
}

TEST(ReadFloats, NothingToConvert) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0}) read_floats(nullptr, dtype, 0, {});
}

}  // namespace core_stored_floats
}  // namespace duet
