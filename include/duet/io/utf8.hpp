#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace duet {

/// What stands in place of bytes that are no UTF-8: U+FFFD.
inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

/// One step through UTF-8 text.
struct Utf8Step {
  enum class Status : std::uint8_t {
    kValid,      ///< `code_point` in `length` bytes
    kInvalid,    ///< `length` bytes that no continuation could make valid (a maximal subpart)
    kTruncated,  ///< the text ends inside a character of which `length` bytes are there
  };
  char32_t code_point;
  std::size_t length;
  Status status;
};

namespace detail {

/// decode_utf8 of a character that is not ASCII.
[[nodiscard]] inline Utf8Step decode_long_utf8(std::string_view text, std::size_t position) noexcept {
  using Status = Utf8Step::Status;
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[position + i]); };
  const std::uint8_t lead = byte(0);
  if (lead < 0xC2 || lead > 0xF4) return {0, 1, Status::kInvalid};
  const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  std::uint8_t low = 0x80;  // bounds of the second byte
  std::uint8_t high = 0xBF;
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  auto value = static_cast<char32_t>(lead & (0x7F >> length));
  for (std::size_t i = 1; i < length; ++i) {
    if (position + i >= text.size()) return {0, i, Status::kTruncated};
    if (byte(i) < low || byte(i) > high) return {0, i, Status::kInvalid};
    value = (value << 6) | (byte(i) & 0x3FU);
    low = 0x80;
    high = 0xBF;
  }
  return {value, length, Status::kValid};
}

inline void append_long_utf8(std::string& text, char32_t code_point) {
  const auto put = [&](char32_t bits) { text += static_cast<char>(bits); };
  if (code_point < 0x800) {
    put(0xC0 | (code_point >> 6));
  } else if (code_point < 0x10000) {
    put(0xE0 | (code_point >> 12));
    put(0x80 | ((code_point >> 6) & 0x3F));
  } else {
    put(0xF0 | (code_point >> 18));
    put(0x80 | ((code_point >> 12) & 0x3F));
    put(0x80 | ((code_point >> 6) & 0x3F));
  }
  put(0x80 | (code_point & 0x3F));
}

}  // namespace detail

/// Decodes the character that begins at `position`. Overlong forms, surrogates and values above U+10FFFF are invalid.
///
/// Requires position < text.size()
/// Source   Unicode 15, table 3-7 and section 3.9 (replacement of maximal subparts, as Rust and Python do it)
[[nodiscard]] inline Utf8Step decode_utf8(std::string_view text, std::size_t position) noexcept {
  const auto lead = static_cast<std::uint8_t>(text[position]);
  if (lead < 0x80) return {lead, 1, Utf8Step::Status::kValid};
  return detail::decode_long_utf8(text, position);
}

/// How many bytes at the start of `text` are ASCII.
[[nodiscard]] inline std::size_t ascii_prefix(std::string_view text) noexcept {
  std::size_t i = 0;
  while (i < text.size() && static_cast<std::uint8_t>(text[i]) < 0x80) ++i;
  return i;
}

[[nodiscard]] inline bool is_valid_utf8(std::string_view text) noexcept {
  for (std::size_t i = ascii_prefix(text); i < text.size();) {
    const Utf8Step step = decode_utf8(text, i);
    if (step.status != Utf8Step::Status::kValid) return false;
    i += step.length;
  }
  return true;
}

/// Appends `code_point` as UTF-8.
/// Requires a Unicode scalar value
inline void append_utf8(std::string& text, char32_t code_point) {
  if (code_point < 0x80) {
    text += static_cast<char>(code_point);
  } else {
    detail::append_long_utf8(text, code_point);
  }
}

/// Turns bytes that arrive in pieces into text: whole characters as soon as they are whole, U+FFFD for each maximal subpart
/// of what is none. All pieces together are what one piece would have given.
class Utf8Assembler {
 public:
  /// Appends to `text` what is certain.
  void push(std::string_view bytes, std::string& text) {
    pending_ += bytes;
    std::size_t i = 0;
    while (i < pending_.size()) {
      const Utf8Step step = decode_utf8(pending_, i);
      if (step.status == Utf8Step::Status::kTruncated) break;
      text += step.status == Utf8Step::Status::kValid ? std::string_view(pending_).substr(i, step.length) : kReplacementCharacter;
      i += step.length;
    }
    pending_.erase(0, i);
  }
  /// Appends what stands for an unfinished character.
  void flush(std::string& text) {
    if (!pending_.empty()) text += kReplacementCharacter;
    pending_.clear();
  }

 private:
  std::string pending_;
};

/// `text` with U+FFFD in place of what is no UTF-8.
[[nodiscard]] inline std::string replace_invalid_utf8(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  Utf8Assembler assembler;
  assembler.push(text, result);
  assembler.flush(result);
  return result;
}

}  // namespace duet
