#pragma once

#include <utf8proc.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "duet/io/unicode_class.hpp"
#include "duet/io/utf8.hpp"

namespace duet::jinja {

/// Python's strings are sequences of characters, not of bytes: what it says of them, on UTF-8.

/// str.isspace(), what strip() removes.
[[nodiscard]] inline bool is_space(char32_t c) noexcept { return unicode::is_white_space(c) || (c >= 0x1C && c <= 0x1F); }

/// Calls visit(character, its bytes) for each character.
template <class Visit>
void for_each_character(std::string_view text, const Visit& visit) {
  for (std::size_t i = 0; i < text.size();) {
    const Utf8Step step = decode_utf8(text, i);
    visit(step.code_point, text.substr(i, step.length));
    i += step.length;
  }
}

[[nodiscard]] inline std::size_t count_characters(std::string_view text) noexcept {
  std::size_t count = 0;
  for (const char c : text) count += (static_cast<unsigned char>(c) & 0xC0) != 0x80 ? 1 : 0;
  return count;
}

/// Where the character number `index` begins; the end of the text for one beyond it.
[[nodiscard]] inline std::size_t byte_of_character(std::string_view text, std::size_t index) noexcept {
  std::size_t i = 0;
  for (; index > 0 && i < text.size(); --index) i += decode_utf8(text, i).length;
  return i;
}

enum class Ends : unsigned char { kLeft = 1, kRight = 2, kBoth = 3 };

/// `text` without the characters at its ends that `drop` is true of.
template <class Drop>
[[nodiscard]] std::string_view strip_if(std::string_view text, Ends ends, const Drop& drop) {
  const auto has = [&](Ends end) { return (static_cast<unsigned>(ends) & static_cast<unsigned>(end)) != 0; };
  while (has(Ends::kLeft) && !text.empty()) {
    const Utf8Step step = decode_utf8(text, 0);
    if (!drop(step.code_point)) break;
    text.remove_prefix(step.length);
  }
  while (has(Ends::kRight) && !text.empty()) {
    std::size_t begin = text.size() - 1;
    while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
    if (!drop(decode_utf8(text, begin).code_point)) break;
    text.remove_suffix(text.size() - begin);
  }
  return text;
}
[[nodiscard]] inline std::string_view strip(std::string_view text, Ends ends) { return strip_if(text, ends, is_space); }
[[nodiscard]] inline std::string_view strip(std::string_view text, Ends ends, std::string_view characters) {
  return strip_if(text, ends, [&](char32_t c) {
    std::string one;
    append_utf8(one, c);
    return characters.find(one) != std::string_view::npos;
  });
}

/// Characters in another case, one for one but for the German sharp s.
enum class Case : unsigned char { kLower, kUpper, kTitle };
inline void append_in_case(std::string& result, char32_t c, Case wanted) {
  const auto code = static_cast<utf8proc_int32_t>(c);
  if (c == 0xDF && wanted != Case::kLower) {
    result += wanted == Case::kUpper ? "SS" : "Ss";
    return;
  }
  append_utf8(result, static_cast<char32_t>(wanted == Case::kLower ? utf8proc_tolower(code) : wanted == Case::kUpper ? utf8proc_toupper(code) : utf8proc_totitle(code)));
}
[[nodiscard]] inline std::string in_case(std::string_view text, Case wanted) {
  std::string result;
  for_each_character(text, [&](char32_t c, std::string_view) { append_in_case(result, c, wanted); });
  return result;
}
/// str.capitalize(): the first character in title case, the others small.
[[nodiscard]] inline std::string capitalized(std::string_view text) {
  std::string result;
  for_each_character(text, [&](char32_t c, std::string_view) { append_in_case(result, c, result.empty() ? Case::kTitle : Case::kLower); });
  return result;
}

[[nodiscard]] inline bool is_upper(char32_t c) noexcept { return utf8proc_isupper(static_cast<utf8proc_int32_t>(c)) != 0; }
[[nodiscard]] inline bool is_lower(char32_t c) noexcept { return utf8proc_islower(static_cast<utf8proc_int32_t>(c)) != 0; }
[[nodiscard]] inline bool is_title(char32_t c) noexcept { return unicode::category(c) == UTF8PROC_CATEGORY_LT; }
[[nodiscard]] inline bool is_cased(char32_t c) noexcept { return is_upper(c) || is_lower(c) || is_title(c); }
[[nodiscard]] inline bool is_alphabetic(char32_t c) noexcept {
  const auto kind = unicode::category(c);
  return kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_LO;
}
[[nodiscard]] inline bool is_decimal(char32_t c) noexcept { return unicode::category(c) == UTF8PROC_CATEGORY_ND; }
/// str.isprintable(), which decides what repr() escapes.
[[nodiscard]] inline bool is_printable(char32_t c) noexcept {
  const auto kind = unicode::category(c);
  return c == ' ' || !(kind == UTF8PROC_CATEGORY_CN || (kind >= UTF8PROC_CATEGORY_ZS && kind <= UTF8PROC_CATEGORY_CO));
}

}  // namespace duet::jinja
