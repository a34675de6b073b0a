#pragma once

#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/io/template/operators.hpp"
#include "duet/io/template/printing.hpp"
#include "duet/io/template/value.hpp"

namespace duet::jinja {

/// Python's `format % value`: %s %r %d %i %x %o %e %f %g %c with flags, width and precision, by order or by %(name).
class PercentFormat {
 public:
  PercentFormat(Run& run, std::string_view format, const Value& value) : run_(run), rest_(format) {
    const Sequence* s = value.sequence();
    if (s != nullptr && s->kind == Sequence::Kind::kTuple) {
      values_ = s->items;
    } else {
      values_ = {value};
      all_may_be_left_ = value.dict() != nullptr;
    }
  }

  /// Errors  kInvalidArgument for values too many, too few, or of the wrong type
  [[nodiscard]] std::string apply() {
    std::string result;
    while (!rest_.empty()) {
      const std::size_t percent = std::min(rest_.find('%'), rest_.size());
      result += rest_.substr(0, percent);
      rest_.remove_prefix(percent);
      if (!rest_.empty()) result += field();
      run_.make_text(result.size());
    }
    if (next_ < values_.size() && !all_may_be_left_) throw run_.error("more values than % fields", "one for each");
    return result;
  }

 private:
  struct Field {
    bool left = false, zero = false, sign = false, space = false;
    std::size_t width = 0;
    std::optional<int> precision;
  };

  char take() {
    if (rest_.empty()) throw run_.error("an incomplete % field", "a letter that ends it");
    const char c = rest_.front();
    rest_.remove_prefix(1);
    return c;
  }
  std::size_t number() {
    std::size_t result = 0;
    while (!rest_.empty() && rest_.front() >= '0' && rest_.front() <= '9') {
      result = result * 10 + static_cast<std::size_t>(take() - '0');
      if (result > 1000) throw run_.error("a width or precision above 1000", "less");
    }
    return result;
  }
  Value next_value() {
    if (next_ == values_.size()) throw run_.error("fewer values than % fields", "one for each");
    return values_[next_++];
  }

  std::string field() {
    take();
    std::optional<Value> named;
    if (rest_.starts_with('(')) {
      const std::size_t end = rest_.find(')');
      const Dict* dict = values_.size() == 1 ? values_.front().dict() : nullptr;
      if (end == std::string_view::npos || dict == nullptr) throw run_.error("a % field with a name", "a dictionary that has it");
      named = find_key(run_, *dict, rest_.substr(1, end - 1));
      if (!named) throw run_.error(concat("the name \"", rest_.substr(1, end - 1), '"'), "one of the dictionary's");
      rest_.remove_prefix(end + 1);
    }
    Field f;
    for (bool flag = true; flag && !rest_.empty();) {
      switch (rest_.front()) {
        case '-': f.left = true; break;
        case '0': f.zero = true; break;
        case '+': f.sign = true; break;
        case ' ': f.space = true; break;
        default: flag = false;
      }
      if (flag) take();
    }
    f.width = number();
    if (rest_.starts_with('.')) {
      take();
      f.precision = static_cast<int>(number());
    }
    const char type = take();
    if (type == '%') return "%";
    return padded(f, type, written(f, type, named ? *named : next_value()));
  }

  std::string written(const Field& f, char type, const Value& value) {
    switch (type) {
      case 's':
      case 'r': {
        std::string text;
        if (type == 's') {
          text = to_text(run_, value);
        } else {
          append_repr(run_, text, value);
        }
        return f.precision ? text.substr(0, byte_of_character(text, static_cast<std::size_t>(*f.precision))) : text;
      }
      case 'd':
      case 'i':
      case 'x':
      case 'X':
      case 'o':
      case 'e':
      case 'f':
      case 'F':
      case 'g': return written_number(f, type, value);
      case 'c':
        if (value.is_text() && count_characters(value.text()) == 1) return value.text();
        throw run_.error(concat("a ", value.type_name(), " for %c"), "a character");
      default: throw run_.unknown(concat("the format %", type));
    }
  }

  std::string written_number(const Field& f, char type, const Value& value) {
    if (!value.is_number()) throw run_.error(concat("a ", value.type_name(), " for %", type), "a number");
    const bool integral = type == 'd' || type == 'i' || type == 'x' || type == 'X' || type == 'o';
    char digits[1600];
    char* end = digits;
    const bool negative = std::signbit(value.number());  // of -0.0 too
    if (integral) {
      const double whole = std::trunc(value.number());
      if (!value.integer() && ((type != 'd' && type != 'i') || !(std::abs(whole) < 9e18))) {
        throw run_.error(concat("a float for %", type), "an integer");
      }
      const std::int64_t x = value.integer() ? *value.integer() : static_cast<std::int64_t>(whole);
      const std::uint64_t magnitude = x < 0 ? 0 - static_cast<std::uint64_t>(x) : static_cast<std::uint64_t>(x);
      end = std::to_chars(digits, digits + sizeof digits, magnitude, type == 'o' ? 8 : type == 'x' || type == 'X' ? 16 : 10).ptr;
    } else {
      const double x = std::abs(value.number());
      if (!std::isfinite(x)) return concat(negative ? "-" : f.sign ? "+" : "", float_text(x));
      const auto form = type == 'e' ? std::chars_format::scientific : type == 'g' ? std::chars_format::general : std::chars_format::fixed;
      end = std::to_chars(digits, digits + sizeof digits, x, form, f.precision.value_or(6)).ptr;
    }
    std::string text(digits, end);
    if (type == 'X') text = in_case(text, Case::kUpper);
    return concat(negative ? "-" : f.sign ? "+" : f.space ? " " : "", text);
  }

  std::string padded(const Field& f, char type, std::string text) {
    const std::size_t size = count_characters(text);
    if (size >= f.width) return text;
    const std::size_t missing = f.width - size;
    if (f.left) return text + std::string(missing, ' ');
    const bool numeric = type != 's' && type != 'r' && type != 'c';
    if (!f.zero || !numeric) return std::string(missing, ' ') + text;
    const std::size_t sign = !text.empty() && (text[0] == '-' || text[0] == '+' || text[0] == ' ') ? 1 : 0;
    return text.insert(sign, missing, '0');
  }

  Run& run_;
  std::string_view rest_;
  std::vector<Value> values_;
  std::size_t next_ = 0;
  bool all_may_be_left_ = false;
};

}  // namespace duet::jinja
