#pragma once

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/core/error.hpp"

namespace duet {

/// Says a pattern of Oniguruma's dialect, which tokenizer files are written in, in PCRE2's. Most of it is the same;
/// different are: what \s, \w, \b, \h and \p{a script} mean, `{n,m}+` (repeats the repetition, is not possessive), and what
/// `[` and `&&` mean inside a character class (nesting and intersection, which PCRE2 does not have).
///
/// Errors  kUnsupportedModel for nested and intersected classes, and \W in one; kMalformedFile for patterns beyond 64 KiB
/// Source  Oniguruma doc/RE and doc/SYNTAX.md; PCRE2 pcre2pattern
class RegexDialect {
 public:
  struct Translation {
    std::string pattern;
    std::vector<std::size_t> source;  ///< for each byte of `pattern`, the offset it stems from

    [[nodiscard]] std::size_t source_offset(std::size_t offset) const {
      if (offset < source.size()) return source[offset];
      return source.empty() ? 0 : source.back() + 1;
    }
  };

  /// `is_script` tells names of scripts from other properties: PCRE2's \p{Han} means Script_Extensions, \p{sc:Han} the script.
  RegexDialect(std::string_view pattern, const std::string& where, bool (*is_script)(std::string_view name))
      : in_(pattern), where_(where), is_script_(is_script) {
    constexpr std::size_t kLimit = std::size_t{1} << 16;
    if (in_.size() > kLimit) {
      throw Error(ErrorKind::kMalformedFile, where_, concat("a pattern of ", in_.size(), " bytes"), concat("at most ", kLimit));
    }
  }

  [[nodiscard]] Translation translate() && {
    while (at_ < in_.size()) {
      const char c = in_[at_];
      if (c == '\\') {
        atom([&] { escape(Place::kOutside); });
      } else if (c == '[') {
        atom([&] { character_class(); });
      } else if (c == '(') {
        group_begins_.push_back(out_.pattern.size());
        copy(1);
      } else if (c == ')') {
        if (!group_begins_.empty()) {
          atom_begin_ = group_begins_.back();
          group_begins_.pop_back();
        }
        copy(1);
      } else if (const std::size_t length = interval_length(); length > 0) {
        copy(1);
        if (in_[at_] == ',') put("0");  // {,m}
        copy(length - 1);
        if (at_ < in_.size() && in_[at_] == '+') wrap_atom();
      } else if (c == '*' || c == '+' || c == '?' || c == '|' || (static_cast<unsigned char>(c) & 0xC0) == 0x80) {
        copy(1);  // no atom begins here: an operator, or a later byte of a character
      } else {
        atom([&] { copy(1); });
      }
    }
    return std::move(out_);
  }

 private:
  enum class Place : unsigned char { kOutside, kClass };

  static constexpr std::string_view kWhiteSpace =
      R"(\x09-\x0d\x20\x85\xa0\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
  // Alphabetic, marks, decimal digits, connectors.
  static constexpr std::string_view kWord =
      R"(\p{L}\p{M}\p{Nl}\p{Nd}\p{Pc}\x{24b6}-\x{24e9}\x{1f130}-\x{1f149}\x{1f150}-\x{1f169}\x{1f170}-\x{1f189})";
  // Outside classes, Oniguruma asks its table for Latin-1, which adds superscripts and fractions.
  static constexpr std::string_view kLatin1Word = R"(\xb2\xb3\xb9\xbc-\xbe)";
  static constexpr std::string_view kHexDigit = "0-9A-Fa-f";
  // Their complements, for places inside a class.
  static constexpr std::string_view kNoWhiteSpace =
      R"(\x00-\x08\x0e-\x1f\x21-\x84\x86-\x9f\xa1-\x{167f}\x{1681}-\x{1fff}\x{200b}-\x{2027}\x{202a}-\x{202e}\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{10ffff})";
  static constexpr std::string_view kNoHexDigit = R"(\x00-\x2f\x3a-\x40\x47-\x60\x67-\x{10ffff})";

  void put(std::string_view text) {
    out_.pattern += text;
    out_.source.resize(out_.pattern.size(), at_);
  }
  void copy(std::size_t count) {
    for (; count > 0 && at_ < in_.size(); --count, ++at_) put(in_.substr(at_, 1));
  }
  template <class Body>
  void atom(const Body& body) {
    atom_begin_ = out_.pattern.size();
    body();
  }

  void escape(Place place) {
    const char c = at_ + 1 < in_.size() ? in_[at_ + 1] : '\0';
    std::string_view members;
    switch (c) {
      case 's':
      case 'S': members = kWhiteSpace; break;
      case 'w':
      case 'W': members = kWord; break;
      case 'h':
      case 'H': members = kHexDigit; break;
      case 'b':
      case 'B':
        if (place == Place::kClass) return copy(2);
        put(word_boundary(c == 'b' ? "!=" : "=!"));
        at_ += 2;
        return;
      case 'p':
      case 'P':
        if (at_ + 2 < in_.size() && in_[at_ + 2] == '{') return property();
        [[fallthrough]];
      default: copy(2); return;
    }
    const bool negated = c == 'S' || c == 'W' || c == 'H';
    if (place == Place::kOutside) {
      put(negated ? "[^" : "[");
      put(members);
      if (c == 'w' || c == 'W') put(kLatin1Word);
      put("]");
    } else if (!negated) {
      put(members);
    } else if (c == 'W') {
      throw unsupported("\\W inside a character class");
    } else {
      put(c == 'S' ? kNoWhiteSpace : kNoHexDigit);
    }
    at_ += 2;
  }

  /// Between a word's character and one that is none (`ahead` "!="), or not ("=!").
  static std::string word_boundary(std::string_view ahead) {
    const std::string word = concat('[', kWord, kLatin1Word, ']');
    return concat("(?:(?<=", word, ")(?", ahead[0], word, ")|(?<!", word, ")(?", ahead[1], word, "))");
  }

  void property() {
    const std::size_t end = std::min(in_.find('}', at_), in_.size() - 1);
    std::size_t name = at_ + 3;
    if (name < end && in_[name] == '^') ++name;
    const bool script = name < end && is_script_(in_.substr(name, end - name));
    copy(name - at_);
    if (script) put("sc:");
    copy(end + 1 - at_);
  }

  void character_class() {
    copy(1);
    if (at_ < in_.size() && in_[at_] == '^') copy(1);
    if (at_ < in_.size() && in_[at_] == ']') copy(1);  // a literal one
    while (at_ < in_.size() && in_[at_] != ']') {
      if (in_[at_] == '\\') {
        escape(Place::kClass);
      } else if (in_.substr(at_).starts_with("[:")) {
        const std::size_t end = in_.find(":]", at_);
        if (end == std::string_view::npos) throw unsupported("a character class inside another");
        copy(end + 2 - at_);
      } else if (in_[at_] == '[') {
        throw unsupported("a character class inside another");
      } else if (in_.substr(at_).starts_with("&&")) {
        throw unsupported("an intersection of character classes");
      } else {
        copy(1);
      }
    }
    copy(1);
  }

  /// Length of {n}, {n,}, {,m} or {n,m} here, or 0.
  [[nodiscard]] std::size_t interval_length() const {
    if (in_[at_] != '{') return 0;
    std::size_t i = at_ + 1;
    std::size_t commas = 0;
    std::size_t digits = 0;
    for (; i < in_.size() && in_[i] != '}'; ++i) {
      if (in_[i] == ',') {
        ++commas;
      } else if (std::isdigit(static_cast<unsigned char>(in_[i])) != 0) {
        ++digits;
      } else {
        return 0;
      }
    }
    return i < in_.size() && commas <= 1 && digits > 0 ? i + 1 - at_ : 0;
  }

  /// x{n,m} becomes (?:x{n,m}), which the + that follows repeats.
  void wrap_atom() {
    out_.pattern.insert(atom_begin_, "(?:");
    out_.source.insert(out_.source.begin() + static_cast<std::ptrdiff_t>(atom_begin_), 3, at_);
    put(")");
  }

  [[nodiscard]] Error unsupported(std::string_view what) const {
    return {ErrorKind::kUnsupportedModel, where_, concat(what, " at offset ", at_), "a regular expression that PCRE2 knows"};
  }

  std::string_view in_;
  const std::string& where_;
  bool (*is_script_)(std::string_view);
  std::size_t at_ = 0;
  Translation out_;
  std::size_t atom_begin_ = 0;  ///< in out_.pattern
  std::vector<std::size_t> group_begins_;
};

}  // namespace duet
