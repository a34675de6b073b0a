#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/io/json.hpp"
#include "duet/io/tokenizer/bert_normalizer.hpp"
#include "duet/io/tokenizer/byte_alphabet.hpp"
#include "duet/io/tokenizer/pattern.hpp"
#include "duet/io/tokenizer/precompiled.hpp"
#include "duet/io/tokenizer/unicode_normalization.hpp"
#include "duet/io/unicode_class.hpp"
#include "duet/io/utf8.hpp"

namespace duet::tokenization {

/// What a tokenizer does to text before it looks for words: the "normalizer" of tokenizer.json.
///
/// Errors  kUnsupportedModel for a kind it does not know, kInvalidArgument or kMalformedFile for wrong fields
/// Cost    linear in the text for each step
/// Source  huggingface/tokenizers, src/normalizers
class Normalizer {
 public:
  Normalizer() = default;

  [[nodiscard]] static Normalizer read(const JsonView& view) {
    Normalizer result;
    if (!view.json().is_null()) result.add(view);
    return result;
  }

  [[nodiscard]] std::string apply(std::string text) const {
    for (const Step& step : steps_) text = step(std::move(text));
    return text;
  }
  [[nodiscard]] bool empty() const noexcept { return steps_.empty(); }

 private:
  using Step = std::function<std::string(std::string)>;

  static std::string strip(std::string_view text, bool left, bool right) {
    std::size_t begin = 0;  // of what stays
    std::size_t end = 0;
    bool inside = !left;
    for (std::size_t i = 0; i < text.size();) {
      const Utf8Step c = decode_utf8(text, i);
      const bool blank = unicode::is_white_space(c.code_point);
      if (!inside && !blank) {
        inside = true;
        begin = i;
      }
      i += c.length;
      if (inside && (!blank || !right)) end = i;
    }
    return end > begin ? std::string(text.substr(begin, end - begin)) : std::string();
  }
  /// Calls change(code_point, result) for each character.
  template <class Change>
  static std::string per_character(std::string_view text, const Change& change) {
    std::string result;
    result.reserve(text.size());
    for (std::size_t i = 0; i < text.size();) {
      const Utf8Step c = decode_utf8(text, i);
      change(c.code_point, result);
      i += c.length;
    }
    return result;
  }
  static std::string lowercase(std::string text) {
    return per_character(text, [](char32_t c, std::string& result) {
      if (c == 0x130) {  // the one letter whose lower case is two characters wherever it stands
        result += "i\xCC\x87";
      } else {
        append_utf8(result, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
      }
    });
  }
  static std::string strip_accents(std::string text) {
    return per_character(text, [](char32_t c, std::string& result) {
      if (!unicode::is_mark(c)) append_utf8(result, c);
    });
  }
  /// Sentencepiece's nmt rules: control characters go, special blanks become spaces.
  static std::string nmt(std::string text) {
    return per_character(text, [](char32_t c, std::string& result) {
      const bool control = (c >= 0x01 && c <= 0x08) || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F;
      if (control) return;
      const bool blank = c == 0x09 || c == 0x0A || c == 0x0C || c == 0x0D || c == 0x1680 || (c >= 0x200B && c <= 0x200F) ||
                         c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xFEFF || c == 0xFFFD;
      append_utf8(result, blank ? U' ' : c);
    });
  }
  void add(const JsonView& view) {
    const auto type = view.get<std::string>("type");
    if (type == "Sequence") {
      for (const JsonView& part : view.at("normalizers").elements()) add(part);
    } else if (type == "NFC") {
      add(UnicodeForm::kNfc);
    } else if (type == "NFD") {
      add(UnicodeForm::kNfd);
    } else if (type == "NFKC") {
      add(UnicodeForm::kNfkc);
    } else if (type == "NFKD") {
      add(UnicodeForm::kNfkd);
    } else if (type == "Prepend") {
      steps_.push_back([prefix = view.get<std::string>("prepend")](std::string text) { return text.empty() ? std::move(text) : prefix + text; });
    } else if (type == "Replace") {
      steps_.push_back([pattern = Pattern::read(view.at("pattern")), content = view.get<std::string>("content")](const std::string& text) {
        return pattern.replace_all(text, content);
      });
    } else if (type == "Strip") {
      steps_.push_back([left = view.get_or("strip_left", true), right = view.get_or("strip_right", true)](const std::string& text) {
        return strip(text, left, right);
      });
    } else if (type == "Lowercase") {
      steps_.push_back(lowercase);
    } else if (type == "StripAccents") {
      steps_.push_back(strip_accents);
    } else if (type == "Nmt") {
      steps_.push_back(nmt);
    } else if (type == "ByteLevel") {
      steps_.push_back([](const std::string& text) { return bytes_as_characters(text); });
    } else if (type == "BertNormalizer") {
      steps_.push_back([bert = BertNormalizer::read(view)](const std::string& text) { return bert.apply(text); });
    } else if (type == "Precompiled") {
      if (!view.contains("precompiled_charsmap")) return;
      steps_.push_back([charsmap = Precompiled::read(view)](const std::string& text) { return charsmap.apply(text); });
    } else {
      throw Error(ErrorKind::kUnsupportedModel, view.where(), concat('"', type, '"'),
                  "Sequence, NFC, NFD, NFKC, NFKD, Prepend, Replace, Strip, Lowercase, StripAccents, Nmt, ByteLevel, BertNormalizer or Precompiled");
    }
  }

  void add(UnicodeForm form) {
    steps_.push_back([form](std::string text) { return normalize_unicode(std::move(text), form); });
  }

  std::vector<Step> steps_;
};

}  // namespace duet::tokenization
