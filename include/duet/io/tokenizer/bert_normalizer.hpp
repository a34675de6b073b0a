#pragma once

#include <optional>
#include <string>
#include <utility>

#include "duet/io/json.hpp"
#include "duet/io/tokenizer/unicode_normalization.hpp"
#include "duet/io/unicode_class.hpp"
#include "duet/io/utf8.hpp"

namespace duet::tokenization {

/// What BERT does to text: control characters go, blanks become spaces, Chinese characters stand alone, accents and capitals go.
/// Fields named as in tokenizer.json.
///
/// Source  huggingface/tokenizers, src/normalizers/bert.rs
struct BertNormalizer {
  bool clean_text = true, handle_chinese_chars = true, strip_accents = true, lowercase = true;

  [[nodiscard]] static BertNormalizer read(const JsonView& view) {
    BertNormalizer result;
    result.clean_text = view.get_or("clean_text", true);
    result.handle_chinese_chars = view.get_or("handle_chinese_chars", true);
    result.lowercase = view.get_or("lowercase", true);
    result.strip_accents = view.get_or("strip_accents", result.lowercase);  // null: as lowercase says
    return result;
  }

  [[nodiscard]] std::string apply(std::string_view text) const {
    std::string result;
    for (std::size_t i = 0; i < text.size();) {
      const Utf8Step step = decode_utf8(text, i);
      const char32_t c = step.code_point;
      i += step.length;
      if (clean_text && is_dropped(c)) continue;
      const bool alone = handle_chinese_chars && is_chinese(c);
      if (alone) result += ' ';
      append_utf8(result, clean_text && unicode::is_white_space(c) ? U' ' : c);
      if (alone) result += ' ';
    }
    if (strip_accents) result = without_accents(normalize_unicode(std::move(result), UnicodeForm::kNfd));
    return lowercase ? in_lower_case(result) : result;
  }

 private:
  static bool is_dropped(char32_t c) {
    if (c == 0 || c == 0xFFFD) return true;
    if (c == '\t' || c == '\n' || c == '\r') return false;
    const auto kind = unicode::category(c);
    return kind == UTF8PROC_CATEGORY_CN || kind >= UTF8PROC_CATEGORY_CC;
  }
  static bool is_chinese(char32_t c) {
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
           (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) || (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
  }
  static std::string without_accents(const std::string& text) {
    std::string result;
    for (std::size_t i = 0; i < text.size();) {
      const Utf8Step step = decode_utf8(text, i);
      i += step.length;
      if (unicode::category(step.code_point) != UTF8PROC_CATEGORY_MN) append_utf8(result, step.code_point);
    }
    return result;
  }
  static std::string in_lower_case(const std::string& text) {
    std::string result;
    for (std::size_t i = 0; i < text.size();) {
      const Utf8Step step = decode_utf8(text, i);
      i += step.length;
      if (step.code_point == 0x130) {  // the one letter whose lower case is two characters wherever it stands
        result += "i\xCC\x87";
      } else {
        append_utf8(result, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(step.code_point))));
      }
    }
    return result;
  }
};

}  // namespace duet::tokenization
