#pragma once

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/core/error.hpp"
#include "duet/io/utf8.hpp"

namespace duet::tokenization {

/// The four normalization forms of Unicode.
enum class UnicodeForm : unsigned char { kNfc, kNfd, kNfkc, kNfkd };

namespace detail {

/// Normalizes a stretch that begins at a boundary (an ASCII character, or the text's start) and ends before one.
/// utf8proc decomposes and composes; ordering the marks is done here, because utf8proc's is quadratic.
inline void append_normalized(std::string_view stretch, UnicodeForm form, std::vector<utf8proc_int32_t>& scratch, std::string& result) {
  const bool composes = form == UnicodeForm::kNfc || form == UnicodeForm::kNfkc;
  const bool compatibility = form == UnicodeForm::kNfkc || form == UnicodeForm::kNfkd;
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (compatibility ? UTF8PROC_COMPAT : 0));
  scratch.clear();
  for (std::size_t i = 0; i < stretch.size();) {
    const Utf8Step c = decode_utf8(stretch, i);
    i += c.length;
    std::array<utf8proc_int32_t, 32> parts{};  // no character has more than 18
    int boundary = 0;
    const utf8proc_ssize_t count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c.code_point), parts.data(),
                                                           static_cast<utf8proc_ssize_t>(parts.size()), options, &boundary);
    if (count < 0 || count > static_cast<utf8proc_ssize_t>(parts.size())) {
      scratch.push_back(static_cast<utf8proc_int32_t>(c.code_point));
    } else {
      scratch.insert(scratch.end(), parts.begin(), parts.begin() + count);
    }
  }
  const auto combining_class = [](utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; };
  for (auto begin = scratch.begin(); begin != scratch.end();) {
    begin = std::find_if(begin, scratch.end(), [&](auto c) { return combining_class(c) != 0; });
    const auto end = std::find_if(begin, scratch.end(), [&](auto c) { return combining_class(c) == 0; });
    std::stable_sort(begin, end, [&](auto a, auto b) { return combining_class(a) < combining_class(b); });
    begin = end;
  }
  auto size = static_cast<utf8proc_ssize_t>(scratch.size());
  if (composes) {
    const auto compose = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    size = utf8proc_normalize_utf32(scratch.data(), size, compose);
    if (size < 0) throw Error(ErrorKind::kInvalidArgument, "text", utf8proc_errmsg(size), "text that can be normalized");
  }
  for (const utf8proc_int32_t c : std::span(scratch).first(static_cast<std::size_t>(size))) append_utf8(result, static_cast<char32_t>(c));
}

}  // namespace detail

/// `text` in a normalization form.
///
/// Requires valid UTF-8
/// Cost     linear; ASCII is only copied
/// Source   Unicode Standard Annex 15
[[nodiscard]] inline std::string normalize_unicode(std::string text, UnicodeForm form) {
  const auto is_ascii = [&](std::size_t i) { return static_cast<unsigned char>(text[i]) < 0x80; };
  if (ascii_prefix(text) == text.size()) return text;
  std::string result;
  result.reserve(text.size());
  std::vector<utf8proc_int32_t> scratch;
  // No character composes with an ASCII one behind it, so a stretch reaches from the last ASCII character before others to
  // the next ASCII character.
  for (std::size_t i = 0; i < text.size();) {
    std::size_t end = i;
    while (end < text.size() && is_ascii(end)) ++end;
    const std::size_t begin = end > i && end < text.size() ? end - 1 : end;
    result.append(text, i, begin - i);
    while (end < text.size() && !is_ascii(end)) ++end;
    detail::append_normalized(std::string_view(text).substr(begin, end - begin), form, scratch, result);
    i = end;
  }
  return result;
}

}  // namespace duet::tokenization
