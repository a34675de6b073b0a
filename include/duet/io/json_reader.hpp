#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>

#include "duet/core/error.hpp"
#include "duet/io/utf8.hpp"

namespace duet {

/// What hears of each value in a JSON text, in order. A string or key is gone after the call.
class JsonEvents {
 public:
  virtual ~JsonEvents() = default;
  virtual void null() = 0;
  virtual void boolean(bool x) = 0;
  virtual void number_integer(std::int64_t x) = 0;  ///< one with a minus
  virtual void number_unsigned(std::uint64_t x) = 0;
  virtual void number_float(double x, std::string_view text) = 0;  ///< also an integer of more than 64 bits
  virtual void string(std::string_view x) = 0;
  virtual void key(std::string_view x) = 0;
  virtual void start_object() = 0;
  virtual void end_object() = 0;
  virtual void start_array() = 0;
  virtual void end_array() = 0;
  /// What to throw for a text that is no JSON.
  [[nodiscard]] virtual Error parse_error(std::string_view problem) const = 0;
};

namespace detail {

/// Reads a JSON text from its beginning to its end, without recursion: how deep it may nest is its listener's business. A string
/// without escapes is a view of the text itself.
class JsonReader {
 public:
  JsonReader(std::string_view text, JsonEvents& events) : text_(text), events_(events) {}

  void read() {
    constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
    if (text_.starts_with(kByteOrderMark)) at_ = kByteOrderMark.size();
    std::string closing;  // what the containers around this place end with
    for (;;) {
      switch (next()) {
        case '{':
          ++at_;
          closing += '}';
          events_.start_object();
          if (next() == '}') break;
          read_key();
          continue;
        case '[':
          ++at_;
          closing += ']';
          events_.start_array();
          if (next() == ']') break;
          continue;
        case '"': events_.string(read_string()); break;
        case 't':
          read_word("true");
          events_.boolean(true);
          break;
        case 'f':
          read_word("false");
          events_.boolean(false);
          break;
        case 'n':
          read_word("null");
          events_.null();
          break;
        default: read_number();
      }
      while (!closing.empty() && next() == closing.back()) {
        ++at_;
        closing.back() == '}' ? events_.end_object() : events_.end_array();
        closing.pop_back();
      }
      if (closing.empty()) break;
      if (next() != ',') throw_expected(concat("',' or '", closing.back(), '\''));
      ++at_;
      if (closing.back() == '}') read_key();
    }
    static_cast<void>(next());
    if (at_ < text_.size()) throw_expected("the end");
  }

 private:
  /// The character at this place; 0 at the end.
  [[nodiscard]] char here() const noexcept { return at_ < text_.size() ? text_[at_] : '\0'; }
  /// Skips blanks.
  [[nodiscard]] char next() noexcept {
    while (here() == ' ' || here() == '\n' || here() == '\r' || here() == '\t') ++at_;
    return here();
  }

  void read_key() {
    if (next() != '"') throw_expected("a key");
    events_.key(read_string());
    if (next() != ':') throw_expected("':'");
    ++at_;
  }
  void read_word(std::string_view word) {
    if (!text_.substr(at_).starts_with(word)) throw_expected("a value");
    at_ += word.size();
  }

  [[nodiscard]] std::string_view read_string() {
    std::size_t begin = ++at_;
    skip_plain();
    if (here() == '"') return text_.substr(begin, at_++ - begin);
    unescaped_.assign(text_, begin, at_ - begin);
    while (here() == '\\') {
      read_escape();
      begin = at_;
      skip_plain();
      unescaped_.append(text_, begin, at_ - begin);
    }
    ++at_;
    return unescaped_;
  }
  /// Goes on to a string's next backslash or its end.
  void skip_plain() {
    for (;; ++at_) {
      const auto byte = static_cast<std::uint8_t>(here());
      if (byte == '"' || byte == '\\') return;
      if (byte < 0x20) throw_expected("a character or the end of the string");
      if (byte < 0x80) continue;
      const Utf8Step step = decode_utf8(text_, at_);
      if (step.status != Utf8Step::Status::kValid) throw_expected("UTF-8");
      at_ += step.length - 1;
    }
  }
  void read_escape() {
    constexpr std::string_view kLetters = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";
    ++at_;
    if (const std::size_t known = kLetters.find(here()); known != std::string_view::npos) {
      unescaped_ += kMeanings[known];
      ++at_;
      return;
    }
    char32_t c = read_code_unit();
    const auto is_half = [&](char32_t first) { return c >= first && c < first + 0x400; };
    if (is_half(0xD800) && text_.substr(at_).starts_with("\\u")) {
      const char32_t high = c;
      ++at_;
      c = read_code_unit();
      if (!is_half(0xDC00)) throw_expected("the other half of a surrogate pair before it");
      c += 0x10000 + ((high - 0xD800) << 10) - 0xDC00;
    }
    if (is_half(0xD800) || is_half(0xDC00)) throw_expected("both halves of a surrogate pair before it");
    append_utf8(unescaped_, c);
  }
  /// "uXXXX" of an escape.
  [[nodiscard]] char32_t read_code_unit() {
    constexpr std::size_t kDigits = 4;
    if (here() != 'u') throw_expected("an escape");
    ++at_;
    const std::string_view digits = text_.substr(at_, kDigits);
    std::uint16_t unit = 0;
    const char* const end = std::from_chars(digits.data(), digits.data() + digits.size(), unit, 16).ptr;
    if (digits.size() < kDigits || end != digits.data() + kDigits) throw_expected("four hexadecimal digits");
    at_ += kDigits;
    return unit;
  }

  void read_number() {
    const std::size_t begin = at_;
    const bool negative = skip('-');
    if (!skip('0')) skip_digits("a value");
    const std::size_t whole = at_;
    if (skip('.')) skip_digits("a digit");
    if (skip('e') || skip('E')) {
      if (!skip('+')) skip('-');
      skip_digits("a digit");
    }
    const std::string_view number = text_.substr(begin, at_ - begin);
    const auto reads_as = [&](auto& x) {
      return std::from_chars(number.data(), number.data() + number.size(), x).ec == std::errc();
    };
    std::int64_t integer = 0;
    std::uint64_t natural = 0;
    double real = 0;
    if (at_ == whole && negative && reads_as(integer)) return events_.number_integer(integer);
    if (at_ == whole && !negative && reads_as(natural)) return events_.number_unsigned(natural);
    if (reads_as(real)) return events_.number_float(real, number);
    at_ = begin;
    throw_expected("a number in the range of double");
  }
  bool skip(char c) {
    const bool there = here() == c;
    at_ += there;
    return there;
  }
  void skip_digits(std::string_view expected) {
    const std::size_t begin = at_;
    while (here() >= '0' && here() <= '9') ++at_;
    if (at_ == begin) throw_expected(expected);
  }

  [[noreturn, gnu::cold, gnu::noinline]] void throw_expected(std::string_view expected) {
    const std::string_view before = text_.substr(0, at_);
    std::size_t line = 1;
    for (const char c : before) line += c == '\n';
    const std::size_t column = at_ - (before.rfind('\n') + 1) + 1;  // npos + 1 is 0
    std::string got = "the end";
    if (at_ < text_.size()) {
      const bool printable = here() >= ' ' && here() <= '~';
      got = printable ? concat('\'', here(), '\'') : concat("byte ", static_cast<std::uint8_t>(here()));
    }
    throw events_.parse_error(concat("parse error at line ", line, ", column ", column, ": ", got, " instead of ", expected));
  }

  std::string_view text_;
  JsonEvents& events_;
  std::size_t at_ = 0;
  std::string unescaped_;  // the last string with escapes
};

}  // namespace detail

/// Tells `events` of every value in a JSON text (RFC 8259; a byte order mark before it is skipped).
/// Errors  events.parse_error, also for numbers beyond the range of double, and what the events themselves throw
/// Cost    linear
inline void read_json(std::string_view text, JsonEvents& events) { detail::JsonReader(text, events).read(); }

}  // namespace duet
