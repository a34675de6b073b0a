#pragma once

#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "duet/io/template/arithmetic.hpp"
#include "duet/io/template/json_text.hpp"
#include "duet/io/template/methods.hpp"
#include "duet/io/template/operators.hpp"
#include "duet/io/template/parameters.hpp"
#include "duet/io/template/string_methods.hpp"
#include "duet/io/template/value.hpp"

namespace duet::jinja::filters {

using Filter = Entry<const Value&>;

/// The filter "tojson" as transformers defines it: json.dumps() with characters as they are.
inline Value to_json(Run& run, const Value& value, const Parameters& p) {
  JsonStyle style;
  style.ensure_ascii = p.flag(0);
  if (p.given(1)) {
    style.indent = p.at(1).is_text() ? p.text(1) : std::string(static_cast<std::size_t>(std::clamp<std::int64_t>(p.integer(1), 0, 1000)), ' ');
    style.item_separator = ",";
  }
  if (p.given(2)) {
    const std::vector<Value> separators = items_of(run, p.at(2));
    if (separators.size() != 2) throw run.error(concat(separators.size(), " separators"), "two, between items and behind keys");
    style.item_separator = to_text(run, separators[0]);
    style.key_separator = to_text(run, separators[1]);
  }
  style.sort_keys = p.flag(3);
  return make_text(run, JsonWriter(run, style).write(value));
}

/// Lines behind the first are indented, empty ones only where `blank`.
inline Value indented(Run& run, const Value& value, const Parameters& p) {
  const std::string indent = !p.has(0) ? std::string(4, ' ')
                             : p.at(0).is_text() ? p.text(0)
                                                 : std::string(static_cast<std::size_t>(std::clamp<std::int64_t>(p.integer(0), 0, 1000)), ' ');
  const bool first = p.flag(1), blank = p.flag(2);
  const std::string text = value.is_text() ? value.text() + '\n' : throw run.error(concat("a ", value.type_name(), " to indent"), "a string");
  const auto lines = strings::lines_of(text, false);
  std::string result = first ? indent : std::string();
  for (std::size_t i = 0; i < lines.size(); ++i) {
    run.grow_text(result.size(), lines[i].size() + indent.size() + 1);
    if (i > 0) result += '\n';
    if (i > 0 && (blank || !lines[i].empty())) result += indent;
    result += lines[i];
  }
  return make_text(run, std::move(result));
}

/// Jinja's own title case: words begin behind whitespace, - ( { [ and <.
inline std::string title(std::string_view text) {
  std::string result;
  bool begins = true;
  for_each_character(text, [&](char32_t c, std::string_view bytes) {
    if (is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<') {
      result += bytes;
      begins = true;
      return;
    }
    append_in_case(result, c, begins ? Case::kUpper : Case::kLower);
    begins = false;
  });
  return result;
}

/// Python's float() of a string.
[[nodiscard]] inline std::optional<double> parse_float(std::string_view text) {
  text = strip(text, Ends::kBoth);
  std::string digits;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto digit = [&](std::size_t j) { return j < text.size() && text[j] >= '0' && text[j] <= '9'; };
    if (text[i] == '_' && i > 0 && digit(i - 1) && digit(i + 1)) continue;
    digits += text[i];
  }
  std::string_view rest = digits;
  const bool negative = rest.starts_with('-');
  if (negative || rest.starts_with('+')) rest.remove_prefix(1);
  if (rest.empty() || rest.front() == '-' || rest.find('(') != std::string_view::npos) return std::nullopt;
  double result = 0;
  const auto [end, problem] = std::from_chars(rest.data(), rest.data() + rest.size(), result);
  if (end != rest.data() + rest.size() || problem == std::errc::invalid_argument) return std::nullopt;
  if (problem == std::errc::result_out_of_range) {
    const auto exponent = rest.find_first_of("eE");
    const bool tiny = exponent != std::string_view::npos ? rest.substr(exponent + 1).starts_with('-') : rest.starts_with("0.") || rest.starts_with('.');
    result = tiny ? 0.0 : std::numeric_limits<double>::infinity();
  }
  return negative ? -result : result;
}

/// Python's int() of a string in a base; 0 stands for the one that its prefix says.
[[nodiscard]] inline std::optional<std::int64_t> parse_integer(Run& run, std::string_view text, std::int64_t base) {
  text = strip(text, Ends::kBoth);
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  if (base != 0 && (base < 2 || base > 36)) return std::nullopt;
  for (const auto& [prefix, of] : {std::pair("0x", 16), std::pair("0o", 8), std::pair("0b", 2)}) {
    if (text.size() < 2 || text[0] != '0' || (text[1] | 0x20) != prefix[1] || (base != 0 && base != of)) continue;
    base = of;
    text.remove_prefix(2);
    if (text.starts_with('_')) text.remove_prefix(1);
    break;
  }
  if (base == 0 && text.size() > 1 && text[0] == '0' && text.find_first_not_of("0_") != std::string_view::npos) return std::nullopt;
  if (text.empty() || text.front() == '_' || text.back() == '_' || text.find("__") != std::string_view::npos) return std::nullopt;
  std::string digits = negative ? "-" : "";
  for (const char c : text) {
    if (c == '-') return std::nullopt;
    if (c != '_') digits += c;
  }
  std::int64_t result = 0;
  const auto [end, problem] = std::from_chars(digits.data(), digits.data() + digits.size(), result, base == 0 ? 10 : static_cast<int>(base));
  if (end != digits.data() + digits.size() || problem == std::errc::invalid_argument) return std::nullopt;
  if (problem == std::errc::result_out_of_range) throw detail::beyond_integers(run);
  return result;
}

inline Value to_integer(Run& run, const Value& value, const Parameters& p) {
  const auto fallback = [&] { return p.has(0) ? p.at(0) : Value(std::int64_t{0}); };
  std::optional<double> number;
  if (value.is_text()) {
    if (const auto i = parse_integer(run, value.text(), p.integer_or(1, 10))) return *i;
    number = parse_float(value.text());
  } else if (const auto i = value.integer()) {
    return *i;
  } else if (value.is_float()) {
    number = value.number();
  } else if (value.is_undefined()) {
    throw undefined_error(run, value);
  }
  if (!number || !std::isfinite(*number)) return fallback();
  if (!(std::abs(*number) < 9.2e18)) throw detail::beyond_integers(run);
  return static_cast<std::int64_t>(*number);
}

inline Value to_float(Run& run, const Value& value, const Parameters& p) {
  if (value.is_undefined()) throw undefined_error(run, value);
  if (value.is_number()) return value.number();
  if (value.is_text()) {
    if (const auto x = parse_float(value.text())) return *x;
  }
  return p.has(0) ? p.at(0) : Value(0.0);
}

inline Value rounded(Run& run, const Value& value, const Parameters& p) {
  const std::int64_t precision = p.integer_or(0, 0);
  const std::string method = p.printed_or(1, "common");
  if (value.is_undefined()) throw undefined_error(run, value);
  if (!value.is_number()) throw run.error(concat("a ", value.type_name(), " to round"), "a number");
  if (precision < 0 || precision > 300) throw run.unknown(concat("rounding to ", precision, " digits"));
  const double x = value.number();
  if (method == "common") {
    if (value.integer() || !std::isfinite(x)) return value.integer() ? Value(*value.integer()) : value;
    char digits[800];
    const char* const end = std::to_chars(digits, digits + sizeof digits, x, std::chars_format::fixed, static_cast<int>(precision)).ptr;
    double result = 0;
    std::from_chars(digits, end, result);
    return result;
  }
  if (method != "ceil" && method != "floor") throw run.error(concat("rounding by ", method), "common, ceil or floor");
  const double scale = std::pow(10.0, static_cast<double>(precision));
  return (method == "ceil" ? std::ceil(x * scale) + 0.0 : std::floor(x * scale)) / scale;  // + 0.0: Python's are integers, without -0
}

inline constexpr Filter kTextFilters[] = {
    {"abs", "", [](Run& r, const Value& v, const Parameters&) { return v.is_number() && v.number() < 0 ? negated(r, v) : posited(r, v); }},
    {"capitalize", "", [](Run& r, const Value& v, const Parameters&) { return make_text_like(r, v, capitalized(to_text(r, v))); }},
    {"center", "width", [](Run& r, const Value& v, const Parameters& p) { return make_text_like(r, v, strings::padded(r, to_text(r, v), p.integer_or(0, 80), " ", Ends::kBoth)); }},
    {"escape", "", [](Run& r, const Value& v, const Parameters&) { return v.is_safe() ? v : make_safe_text(r, html_escaped(to_text(r, v))); }},
    {"float", "default", to_float},
    {"forceescape", "", [](Run& r, const Value& v, const Parameters&) { return make_safe_text(r, html_escaped(to_text(r, v))); }},
    {"indent", "width first blank", indented},
    {"int", "default base", to_integer},
    {"lower", "", [](Run& r, const Value& v, const Parameters&) { return make_text_like(r, v, in_case(to_text(r, v), Case::kLower)); }},
    {"replace", "old new count", [](Run& r, const Value& v, const Parameters& p) {
       return make_text(r, strings::replaced(r, to_text(r, v), to_text(r, p.at(0)), to_text(r, p.at(1)), p.given(2) ? p.integer(2) : -1));
     }},
    {"round", "precision method", rounded},
    {"safe", "", [](Run& r, const Value& v, const Parameters&) { return make_safe_text(r, to_text(r, v)); }},
    {"string", "", [](Run& r, const Value& v, const Parameters&) { return v.is_text() ? v : make_text(r, to_text(r, v)); }},
    {"title", "", [](Run& r, const Value& v, const Parameters&) { return make_text(r, title(to_text(r, v))); }},
    {"tojson", "ensure_ascii indent separators sort_keys", to_json},
    {"trim", "chars", [](Run& r, const Value& v, const Parameters& p) { return make_text_like(r, v, strings::stripped(r, to_text(r, v), p, Ends::kBoth)); }},
    {"upper", "", [](Run& r, const Value& v, const Parameters&) { return make_text_like(r, v, in_case(to_text(r, v), Case::kUpper)); }},
};

}  // namespace duet::jinja::filters
