#pragma once

#include <charconv>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/io/template/characters.hpp"
#include "duet/io/template/value.hpp"

namespace duet::jinja {

/// Python's repr() of a float: the fewest digits that give it back, with an exponent below 1e-4 and from 1e16 on.
[[nodiscard]] inline std::string float_text(double x) {
  if (std::isnan(x)) return "nan";
  if (std::isinf(x)) return x > 0 ? "inf" : "-inf";
  char digits[64];
  char* end = std::to_chars(digits, digits + sizeof digits, x, std::chars_format::scientific).ptr;
  const std::string_view shortest(digits, static_cast<std::size_t>(end - digits));
  int exponent = 0;
  const std::string_view written = shortest.substr(shortest.find('e') + 1);
  std::from_chars(written.data() + (written.front() == '+' ? 1 : 0), written.data() + written.size(), exponent);
  if (exponent < -4 || exponent >= 16) return std::string(shortest);
  char fixed[64];
  end = std::to_chars(fixed, fixed + sizeof fixed, x, std::chars_format::fixed).ptr;
  std::string text(fixed, end);
  if (text.find('.') == std::string::npos) text += ".0";
  return text;
}

[[nodiscard]] inline std::string integer_text(std::int64_t x) { return concat(x); }

namespace detail {

inline void append_hex(std::string& result, std::uint32_t value, int digits) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  for (int i = digits - 1; i >= 0; --i) result += kDigits[(value >> (4 * i)) & 15];
}

}  // namespace detail

/// Python's repr() of a string.
[[nodiscard]] inline std::string string_repr(std::string_view text) {
  const bool doubled = text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos;
  const char quote = doubled ? '"' : '\'';
  std::string result(1, quote);
  for_each_character(text, [&](char32_t c, std::string_view bytes) {
    if (c == '\n') {
      result += "\\n";
    } else if (c == '\r') {
      result += "\\r";
    } else if (c == '\t') {
      result += "\\t";
    } else if (c == '\\' || c == static_cast<char32_t>(quote)) {
      result += '\\';
      result += bytes;
    } else if (is_printable(c)) {
      result += bytes;
    } else {
      const int digits = c < 0x100 ? 2 : c < 0x10000 ? 4 : 8;
      result += digits == 2 ? "\\x" : digits == 4 ? "\\u" : "\\U";
      detail::append_hex(result, c, digits);
    }
  });
  return result += quote;
}

/// Appends Python's repr() of a value.
inline void append_repr(Run& run, std::string& result, const Value& value) {
  const Run::Level level(run);
  run.step();
  const std::size_t before = result.size();
  const auto append_all = [&](const std::vector<Value>& items) {
    bool first = true;
    for (const Value& item : items) {
      if (!std::exchange(first, false)) result += ", ";
      append_repr(run, result, item);
    }
  };
  if (value.is_text()) {
    result += string_repr(value.text());
    run.make_text(result.size() - before);
  } else if (const Sequence* s = value.sequence()) {
    using Kind = Sequence::Kind;
    switch (s->kind) {
      case Kind::kRange: throw run.unknown("a range printed");
      case Kind::kTuple:
        result += '(';
        append_all(s->items);
        result += s->items.size() == 1 ? ",)" : ")";
        break;
      case Kind::kList:
        result += '[';
        append_all(s->items);
        result += ']';
        break;
      default:
        result += concat(value.type_name(), "([");
        append_all(s->items);
        result += "])";
    }
  } else if (const Dict* d = value.dict()) {
    result += '{';
    bool first = true;
    for (const auto& [key, item] : d->items) {
      if (!std::exchange(first, false)) result += ", ";
      append_repr(run, result, key);
      result += ": ";
      append_repr(run, result, item);
    }
    result += '}';
  } else if (value.is_bool()) {
    result += *value.integer() != 0 ? "True" : "False";
  } else if (value.is_integer()) {
    result += integer_text(*value.integer());
  } else if (value.is_float()) {
    result += float_text(value.number());
  } else if (value.is_none()) {
    result += "None";
  } else if (value.is_undefined()) {
    result += "Undefined";
  } else {
    throw run.unknown(concat("a ", value.type_name(), " printed"));
  }
}

/// Python's str() of a value: what printing it gives. Nothing for an undefined one.
[[nodiscard]] inline std::string to_text(Run& run, const Value& value) {
  if (value.is_text()) return value.text();
  if (value.is_undefined()) return {};
  std::string result;
  append_repr(run, result, value);
  return result;
}

}  // namespace duet::jinja
