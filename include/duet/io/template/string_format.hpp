#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "duet/io/template/operators.hpp"
#include "duet/io/template/percent_format.hpp"
#include "duet/io/template/printing.hpp"
#include "duet/io/template/value.hpp"

namespace duet::jinja {

/// Python's str.format(): fields {}, {0} and {name}, with !r and !s and the format specifications of numbers and strings
/// that printf has too.
class StringFormat {
 public:
  StringFormat(Run& run, std::string_view format, Arguments arguments) : run_(run), rest_(format), arguments_(std::move(arguments)) {}

  /// Errors  kInvalidArgument for a field without an argument; kUnsupportedModel for other fields
  [[nodiscard]] std::string apply() {
    std::string result;
    while (!rest_.empty()) {
      const char c = rest_.front();
      if ((c == '{' || c == '}') && rest_.substr(1).starts_with(c)) {
        result += c;
        rest_.remove_prefix(2);
      } else if (c == '{') {
        result += field();
        run_.make_text(result.size());
      } else if (c == '}') {
        throw run_.error("a single }", "}} or the end of a field");
      } else {
        result += c;
        rest_.remove_prefix(1);
      }
    }
    return result;
  }

 private:
  enum class Numbering : unsigned char { kNone, kGiven, kCounted };

  std::string field() {
    const std::size_t end = rest_.find('}');
    if (end == std::string_view::npos) throw run_.error("a { without }", "a field");
    std::string_view inside = rest_.substr(1, end - 1);
    rest_.remove_prefix(end + 1);
    const std::size_t colon = std::min(inside.find(':'), inside.size());
    const std::string_view specification = inside.substr(std::min(colon + 1, inside.size()));
    inside = inside.substr(0, colon);
    bool as_repr = false;
    if (inside.ends_with("!r") || inside.ends_with("!s")) {
      as_repr = inside.back() == 'r';
      inside.remove_suffix(2);
    }
    if (inside.find_first_of(".[{!") != std::string_view::npos) throw run_.unknown(concat("the format field {", inside, '}'));
    Value value = argument(inside);
    if (as_repr) {
      std::string text;
      append_repr(run_, text, value);
      value = make_text(run_, std::move(text));
    }
    return specification.empty() ? to_text(run_, value) : written(value, specification);
  }

  Value argument(std::string_view name) {
    std::size_t index = 0;
    const auto [end, problem] = std::from_chars(name.data(), name.data() + name.size(), index);
    const bool number = !name.empty() && problem == std::errc() && end == name.data() + name.size();
    if (name.empty() || number) {
      const Numbering numbering = number ? Numbering::kGiven : Numbering::kCounted;
      if (numbering_ != Numbering::kNone && numbering_ != numbering) throw run_.error("fields with and without numbers in one format", "all of one kind");
      numbering_ = numbering;
      if (!number) index = next_++;
      if (index < arguments_.positional.size()) return arguments_.positional[index];
      throw run_.error(concat("the format field {", index, '}'), concat("one of ", arguments_.positional.size(), " arguments"));
    }
    for (const auto& [there, value] : arguments_.named) {
      if (there == name) return value;
    }
    throw run_.error(concat("the format field {", name, '}'), "an argument of that name");
  }

  /// [<>][0][width][.precision][type] by printf's means.
  std::string written(const Value& value, std::string_view specification) {
    std::string format = "%";
    const bool numeric = value.is_number();
    if (specification.front() == '<' || specification.front() == '>') {
      if (specification.front() == '<') format += '-';
      specification.remove_prefix(1);
    } else if (!numeric) {
      format += '-';  // strings stand left, numbers right
    }
    format += specification;
    const bool typed = !specification.empty() && specification.back() >= 'a' && specification.back() <= 'z';
    if (!typed) {
      if (value.is_float() || (numeric && specification.find('.') != std::string_view::npos)) throw run_.unknown(concat("the format :", specification));
      format += value.integer() && !value.is_bool() ? 'd' : 's';
    }
    if (specification.find_first_not_of("0123456789.sdfexogi") != std::string_view::npos || value.is_bool()) {
      throw run_.unknown(concat("the format :", specification));
    }
    return PercentFormat(run_, format, make_tuple(run_, {value})).apply();
  }

  Run& run_;
  std::string_view rest_;
  Arguments arguments_;
  std::size_t next_ = 0;
  Numbering numbering_ = Numbering::kNone;
};

}  // namespace duet::jinja
