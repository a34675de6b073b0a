#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace duet {

/// Element types of stored tensors, named as safetensors spells them; behind those, weights of a few bits, named and laid out
/// as GGUF has them. Each row of those is cut into blocks of 32, the last one filled up with zeros:
///
///     Q8_0   f16 scale, 32 signed bytes:  value = scale · byte
///     Q4_0   f16 scale, 32 nibbles (the low ones of 16 bytes, then the high ones):  value = scale · (nibble − 8)
enum class DType : std::uint8_t { kF32, kF16, kBF16, kF64, kI64, kI32, kI16, kI8, kU8, kBool, kQ8_0, kQ4_0 };

/// Whether elements are stored in blocks with a scale.
[[nodiscard]] constexpr bool is_quantized(DType dtype) noexcept { return dtype == DType::kQ8_0 || dtype == DType::kQ4_0; }

/// Elements that are stored together.
[[nodiscard]] constexpr std::size_t block_size(DType dtype) noexcept { return is_quantized(dtype) ? 32 : 1; }

/// Bytes of one block: of one element, where there are no blocks.
[[nodiscard]] constexpr std::size_t size_of(DType dtype) noexcept {
  switch (dtype) {
    case DType::kQ8_0: return 34;
    case DType::kQ4_0: return 18;
    case DType::kF64:
    case DType::kI64: return 8;
    case DType::kF32:
    case DType::kI32: return 4;
    case DType::kF16:
    case DType::kBF16:
    case DType::kI16: return 2;
    case DType::kI8:
    case DType::kU8:
    case DType::kBool: return 1;
  }
  return 0;
}

/// Blocks in a row of `count` elements.
[[nodiscard]] constexpr std::size_t num_blocks(DType dtype, std::size_t count) noexcept {
  return count / block_size(dtype) + (count % block_size(dtype) != 0 ? 1 : 0);
}
/// Bytes of a row of `count` elements.
[[nodiscard]] constexpr std::size_t row_bytes(DType dtype, std::size_t count) noexcept {
  return num_blocks(dtype, count) * size_of(dtype);
}

[[nodiscard]] constexpr std::string_view name_of(DType dtype) noexcept {
  constexpr std::string_view names[] = {"F32", "F16", "BF16", "F64", "I64", "I32", "I16", "I8", "U8", "BOOL", "Q8_0", "Q4_0"};
  return names[static_cast<std::size_t>(dtype)];
}

/// bfloat16: the upper half of a float (storage only).
struct Bf16 {
  std::uint16_t bits;
};

/// IEEE 754 binary16 (storage only).
struct F16 {
  std::uint16_t bits;
};

[[nodiscard]] inline float to_float(float value) noexcept { return value; }

[[nodiscard]] inline float to_float(Bf16 value) noexcept {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
}

[[nodiscard]] inline float to_float(F16 value) noexcept {
  const std::uint32_t sign = static_cast<std::uint32_t>(value.bits & 0x8000u) << 16;
  const std::uint32_t exponent = (value.bits >> 10) & 0x1fu;
  const std::uint32_t fraction = value.bits & 0x3ffu;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | (fraction << 13));  // inf, NaN
  if (exponent == 0) {  // zero and subnormals: fraction · 2^-24 is exact in float
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(magnitude) | sign);
  }
  return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (fraction << 13));
}

/// Rounds to nearest, ties to even; NaN stays NaN.
[[nodiscard]] inline Bf16 to_bf16(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<std::uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

/// Rounds to nearest, ties to even; overflow becomes infinity, NaN stays NaN.
[[nodiscard]] inline F16 to_f16(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {static_cast<std::uint16_t>(sign | 0x7e00u)};
  if (magnitude >= 0x47800000u) return {static_cast<std::uint16_t>(sign | 0x7c00u)};
  if (magnitude < 0x38800000u) {  // below the least normal: the float adder rounds for us
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return {static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3f000000u))};
  }
  const std::uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return {static_cast<std::uint16_t>(sign | ((rounded - 0x38000000u) >> 13))};
}

}  // namespace duet
