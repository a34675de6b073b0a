#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "duet/core/error.hpp"

namespace duet {

/// How keys and values are stored. Arithmetic is float, but for kQ8 when it decodes: there, queries and weights are rounded to
/// sixteen bits, which adds a 256th to the error of the stored bytes.
enum class KeyValueFormat : std::uint8_t {
  kF32,   ///< as they were computed
  kBF16,  ///< 8 bits of precision
  kF16,   ///< 11 bits, up to 65504
  kQ8,    ///< signed bytes with an F16 scale for each 32 channels of a position, as GGUF's Q8_0
};

inline constexpr std::array<std::string_view, 4> kKeyValueFormatNames = {"f32", "bf16", "f16", "q8"};

[[nodiscard]] constexpr std::string_view name_of(KeyValueFormat format) noexcept {
  return kKeyValueFormatNames[static_cast<std::size_t>(format)];
}

/// Errors  kInvalidArgument for a name that is none of kKeyValueFormatNames
[[nodiscard]] inline KeyValueFormat key_value_format_named(std::string_view name, std::string_view where) {
  for (std::size_t i = 0; i < kKeyValueFormatNames.size(); ++i) {
    if (name == kKeyValueFormatNames[i]) return static_cast<KeyValueFormat>(i);
  }
  throw Error(ErrorKind::kInvalidArgument, std::string(where), concat('"', name, '"'), "f32, bf16, f16 or q8");
}

}  // namespace duet
