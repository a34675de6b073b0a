#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "duet/core/error.hpp"
#include "duet/io/template/characters.hpp"

namespace duet::jinja {

/// A piece of a template: text between tags, or a word inside one.
struct Token {
  enum class Kind : unsigned char { kData, kVariableBegin, kVariableEnd, kBlockBegin, kBlockEnd, kName, kString, kInteger, kFloat, kOperator, kEnd };
  Kind kind;
  std::string text;  ///< a string's is unescaped
  int line;
  std::int64_t integer = 0;
  double number = 0;
};

/// Cuts a template into tokens, with trim_blocks and lstrip_blocks: the line break after a block goes, and so does whitespace
/// between the start of a line and a block; `-` at a tag's edge removes all whitespace there, `+` keeps it.
///
/// Errors  kMalformedFile, with the line
/// Source  Jinja 3.1, "Template Designer Documentation", whitespace control
class Lexer {
 public:
  /// `where` names the template in errors.
  [[nodiscard]] static std::vector<Token> tokenize(std::string_view source, const std::string& where) {
    Lexer lexer(source, where);
    lexer.read();
    return std::move(lexer.tokens_);
  }

 private:
  using Kind = Token::Kind;

  Lexer(std::string_view source, const std::string& where) : source_(with_newlines(source)), where_(where) {
    if (source_.ends_with('\n')) source_.pop_back();
  }

  /// Every line break as \n.
  static std::string with_newlines(std::string_view text) {
    std::string result;
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '\r' && text.substr(i + 1).starts_with('\n')) continue;
      result += text[i] == '\r' ? '\n' : text[i];
    }
    return result;
  }

  [[nodiscard]] Error wrong(std::string_view got, std::string_view expected) const {
    return {ErrorKind::kMalformedFile, concat(where_, ", line ", line_), got, expected};
  }
  [[nodiscard]] std::string_view rest() const { return std::string_view(source_).substr(at_); }
  void advance(std::size_t count) {
    for (const char c : rest().substr(0, count)) line_ += c == '\n' ? 1 : 0;
    at_ += count;
  }
  void skip_space() { advance(rest().size() - strip(rest(), Ends::kLeft).size()); }
  void add(Kind kind, std::string text = {}) { tokens_.push_back({kind, std::move(text), line_}); }

  void read() {
    while (at_ < source_.size()) {
      const std::size_t tag = next_tag();
      const std::string_view data = rest().substr(0, tag);
      if (tag == std::string_view::npos) {
        add_data(data);
        break;
      }
      const std::string_view opening = rest().substr(tag);
      const char kind = opening[1], sign = opening.size() > 2 ? opening[2] : ' ';
      add_data(kept(data, kind == '{' ? Tag::kVariable : Tag::kBlock, sign));
      advance(tag + 2 + (sign == '-' || sign == '+' ? 1 : 0));
      if (kind == '#') {
        read_comment();
      } else if (kind == '%' && at_raw()) {
        read_raw();
      } else {
        read_tag(kind == '%' ? Tag::kBlock : Tag::kVariable);
      }
    }
    add(Kind::kEnd);
  }

  enum class Tag : unsigned char { kBlock, kVariable };

  [[nodiscard]] std::size_t next_tag() const {
    for (std::size_t i = at_; i + 1 < source_.size(); ++i) {
      if (source_[i] == '{' && (source_[i + 1] == '{' || source_[i + 1] == '%' || source_[i + 1] == '#')) return i - at_;
    }
    return std::string_view::npos;
  }

  /// What stays of the text before a tag.
  [[nodiscard]] std::string_view kept(std::string_view data, Tag tag, char sign) const {
    if (sign == '-') return strip(data, Ends::kRight);
    if (sign == '+' || tag == Tag::kVariable) return data;
    const std::size_t newline = data.rfind('\n');
    const bool starts_line = newline != std::string_view::npos || at_ == 0 || source_[at_ - 1] == '\n';
    const std::size_t begin = newline == std::string_view::npos ? 0 : newline + 1;
    return starts_line && strip(data.substr(begin), Ends::kLeft).empty() ? data.substr(0, begin) : data;
  }
  void add_data(std::string_view data) {
    if (!data.empty()) add(Kind::kData, std::string(data));
  }

  /// Consumes what stands between a tag's last word and its end: the length of "-%}", "+%}" or "%}", or 0 where there is none.
  [[nodiscard]] std::size_t end_of(std::string_view end) const {
    if (rest().starts_with(end)) return end.size();
    const bool signed_end = (rest().starts_with('-') || (rest().starts_with('+') && end != "}}")) && rest().substr(1).starts_with(end);
    return signed_end ? end.size() + 1 : 0;
  }
  void leave(std::size_t length) {
    const bool strips = rest().front() == '-', keeps = rest().front() == '+', variable = rest().substr(0, length).ends_with("}}");
    advance(length);
    if (strips) {
      skip_space();
    } else if (!keeps && !variable && rest().starts_with('\n')) {
      advance(1);
    }
  }

  void read_comment() {
    while (at_ < source_.size()) {
      if (const std::size_t length = end_of("#}"); length > 0) return leave(length);
      advance(1);
    }
    throw wrong("{# without #}", "the end of the comment");
  }

  /// Whether a block is {% raw %}.
  [[nodiscard]] bool at_raw() const { return word_length("raw") > 0; }
  /// The length of whitespace, `word`, whitespace and the block's end, if they stand here.
  [[nodiscard]] std::size_t word_length(std::string_view word) const {
    std::string_view after = strip(rest(), Ends::kLeft);
    if (!after.starts_with(word)) return 0;
    after = strip(after.substr(word.size()), Ends::kLeft);
    const bool ends = after.starts_with("%}") || after.starts_with("-%}") || (word == "endraw" && after.starts_with("+%}"));
    return ends ? rest().size() - after.size() : 0;
  }
  void read_raw() {
    advance(word_length("raw"));
    const bool strips = rest().front() == '-';
    advance(strips ? 3 : 2);  // the line break after {% raw %} stays
    if (strips) skip_space();
    const std::size_t begin = at_;
    const int line = line_;
    for (; at_ < source_.size(); advance(1)) {
      if (!rest().starts_with("{%")) continue;
      const std::size_t found = at_;
      const char sign = rest().size() > 2 ? rest()[2] : ' ';
      advance(sign == '-' || sign == '+' ? 3 : 2);
      const std::size_t length = word_length("endraw");
      const std::size_t inside = at_;
      at_ = begin;
      const std::string_view data = kept(std::string_view(source_).substr(begin, found - begin), Tag::kBlock, sign);
      at_ = inside;
      if (length == 0) {
        at_ = found;
        continue;
      }
      if (!data.empty()) tokens_.push_back({Kind::kData, std::string(data), line});
      advance(length);
      return leave(end_of("%}"));
    }
    throw wrong("{% raw %} without {% endraw %}", "the end of the raw text");
  }

  void read_tag(Tag tag) {
    const std::string_view end = tag == Tag::kBlock ? "%}" : "}}";
    add(tag == Tag::kBlock ? Kind::kBlockBegin : Kind::kVariableBegin);
    std::string open;  // brackets
    for (skip_space(); at_ < source_.size(); skip_space()) {
      if (const std::size_t length = end_of(end); open.empty() && length > 0) {
        add(tag == Tag::kBlock ? Kind::kBlockEnd : Kind::kVariableEnd);
        return leave(length);
      }
      read_word(open);
    }
    throw wrong("the end of the template inside a tag", end);
  }

  static bool is_digit(char c) { return c >= '0' && c <= '9'; }

  void read_word(std::string& open) {
    const char c = rest().front();
    if (is_digit(c)) return read_number();
    if (c == '\'' || c == '"') return read_string();
    if (const std::size_t length = name_length(); length > 0) {
      add(Kind::kName, std::string(rest().substr(0, length)));
      return advance(length);
    }
    for (const std::string_view sign : {"==", "!=", "<=", ">=", "//", "**"}) {
      if (!rest().starts_with(sign)) continue;
      add(Kind::kOperator, std::string(sign));
      return advance(2);
    }
    if (std::string_view("+-*/%~[](){}<>=.:|,;").find(c) == std::string_view::npos) {
      throw wrong(concat("the character ", rest().substr(0, decode_utf8(source_, at_).length)), "an expression");
    }
    constexpr std::string_view kOpening = "([{", kClosing = ")]}";
    if (kOpening.find(c) != std::string_view::npos) open += c;
    if (const auto bracket = kClosing.find(c); bracket != std::string_view::npos) {
      if (open.empty() || open.back() != kOpening[bracket]) throw wrong(concat("an unexpected ", c), "brackets in pairs");
      open.pop_back();
    }
    add(Kind::kOperator, std::string(1, c));
    advance(1);
  }

  [[nodiscard]] std::size_t name_length() const {
    std::size_t length = 0;
    while (length < rest().size()) {
      const Utf8Step step = decode_utf8(source_, at_ + length);
      if (!unicode::is_word(step.code_point)) break;
      length += step.length;
    }
    return length;
  }

  void read_number() {
    std::string digits;
    std::size_t i = 0;
    const std::string_view text = rest();
    int base = 10;
    if (text.size() > 2 && text[0] == '0') {
      const char letter = static_cast<char>(text[1] | 0x20);
      base = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 10;
      if (base != 10) i = 2;
    }
    const auto take = [&] {
      const auto belongs = [&](char c) { return is_digit(c) || (base == 16 && ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')); };
      for (; i < text.size() && (belongs(text[i]) || (text[i] == '_' && i + 1 < text.size() && belongs(text[i + 1]))); ++i) {
        if (text[i] != '_') digits += text[i];
      }
    };
    take();
    bool real = false;
    if (base == 10) {
      const auto digit_at = [&](std::size_t j) { return j < text.size() && is_digit(text[j]); };
      if (i < text.size() && text[i] == '.' && digit_at(i + 1)) {
        real = true;
        digits += text[i++];
        take();
      }
      if (i < text.size() && (text[i] | 0x20) == 'e') {
        const std::size_t sign = i + 1 < text.size() && (text[i + 1] == '-' || text[i + 1] == '+') ? 1 : 0;
        if (digit_at(i + 1 + sign)) {
          real = true;
          digits += 'e';
          if (sign != 0 && text[i + 1] == '-') digits += '-';
          i += 1 + sign;
          take();
        }
      }
    }
    Token token{real ? Kind::kFloat : Kind::kInteger, digits, line_};
    const char *first = digits.data(), *last = first + digits.size();
    const auto [end, problem] = real ? std::from_chars(first, last, token.number) : std::from_chars(first, last, token.integer, base);
    const bool leading_zero = !real && base == 10 && digits.size() > 1 && digits[0] == '0' && token.integer != 0;
    if (problem != std::errc() || end != last || leading_zero) throw wrong(concat("the number ", text.substr(0, i)), "one of at most 64 bits");
    tokens_.push_back(std::move(token));
    advance(i);
  }

  void read_string() {
    const char quote = rest().front();
    std::size_t end = 1;
    while (end < rest().size() && rest()[end] != quote) end += rest()[end] == '\\' ? 2 : 1;
    if (end >= rest().size()) throw wrong("a string without an end", concat("another ", quote));
    add(Kind::kString, unescaped(rest().substr(1, end - 1)));
    advance(end + 1);
  }

  /// Python's escapes.
  [[nodiscard]] std::string unescaped(std::string_view text) const {
    std::string result;
    while (!text.empty()) {
      const char c = text.front();
      text.remove_prefix(1);
      if (c != '\\') {
        result += c;
        continue;
      }
      const char letter = text.front();
      constexpr std::string_view kLetters = "abfnrtv\\'\"", kMeanings = "\a\b\f\n\r\t\v\\'\"";
      if (const auto known = kLetters.find(letter); known != std::string_view::npos) {
        result += kMeanings[known];
        text.remove_prefix(1);
      } else if (letter == '\n') {
        text.remove_prefix(1);
      } else if (letter >= '0' && letter <= '7') {
        append_code(result, text, 8, std::min<std::size_t>(3, std::min(text.find_first_not_of("01234567"), text.size())));
      } else if (letter == 'x' || letter == 'u' || letter == 'U') {
        text.remove_prefix(1);
        append_code(result, text, 16, letter == 'x' ? 2 : letter == 'u' ? 4 : 8);
      } else if (letter == 'N') {
        throw wrong("\\N{...}", "\\u and the character's number");
      } else {
        result += c;  // an unknown escape stands for itself
      }
    }
    return result;
  }
  void append_code(std::string& result, std::string_view& text, int base, std::size_t length) const {
    std::uint32_t code = 0;
    const std::string_view digits = text.substr(0, length);
    const auto [end, problem] = std::from_chars(digits.data(), digits.data() + digits.size(), code, base);
    if (digits.size() < length || problem != std::errc() || end != digits.data() + length || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) {
      throw wrong(concat("the escape ", digits), "the number of a character");
    }
    append_utf8(result, code);
    text.remove_prefix(length);
  }

  std::string source_;
  const std::string& where_;
  std::size_t at_ = 0;
  int line_ = 1;
  std::vector<Token> tokens_;
};

}  // namespace duet::jinja
