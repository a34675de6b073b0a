#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "duet/io/utf8.hpp"

namespace duet::tokenization {

/// Byte-level tokenizers spell each byte as a printable character: itself where it is one in Latin-1, else U+0100 and up.
///
/// Source  GPT-2's bytes_to_unicode (openai/gpt-2, src/encoder.py)
struct ByteAlphabet {
  std::array<char16_t, 256> character{};
  std::array<std::int16_t, 0x180> byte{};  ///< by character; -1 for none

  constexpr ByteAlphabet() {
    byte.fill(-1);
    char16_t next = 0x100;
    for (std::size_t b = 0; b < 256; ++b) {
      const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      character[b] = printable ? static_cast<char16_t>(b) : next++;
      byte[character[b]] = static_cast<std::int16_t>(b);
    }
  }
};
inline constexpr ByteAlphabet kByteAlphabet;

/// Every byte of `text` as its character.
[[nodiscard]] inline std::string bytes_as_characters(std::string_view text) {
  std::string result;
  result.reserve(text.size() + text.size() / 2);
  for (const char c : text) append_utf8(result, kByteAlphabet.character[static_cast<std::uint8_t>(c)]);
  return result;
}

/// The bytes that the characters of `token` spell, or nothing if one of them spells none.
[[nodiscard]] inline std::optional<std::string> characters_as_bytes(std::string_view token) {
  std::string result;
  for (std::size_t i = 0; i < token.size();) {
    const Utf8Step c = decode_utf8(token, i);
    if (c.code_point >= kByteAlphabet.byte.size() || kByteAlphabet.byte[c.code_point] < 0) return std::nullopt;
    result += static_cast<char>(kByteAlphabet.byte[c.code_point]);
    i += c.length;
  }
  return result;
}

}  // namespace duet::tokenization
