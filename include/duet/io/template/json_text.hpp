#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/io/template/characters.hpp"
#include "duet/io/template/printing.hpp"
#include "duet/io/template/value.hpp"

namespace duet::jinja {

/// How Python's json.dumps() is asked to write, by the names of its arguments.
struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  std::optional<std::string> indent;  ///< one level's; absent: all in one line
  std::string item_separator = ", ", key_separator = ": ";
};

/// Writes values as Python's json.dumps() does.
class JsonWriter {
 public:
  JsonWriter(Run& run, const JsonStyle& style) : run_(run), style_(style) {}

  /// Errors  kInvalidArgument for what JSON has no form for: an undefined value, a function
  [[nodiscard]] std::string write(const Value& value) {
    append(value, 0);
    return std::move(result_);
  }

 private:
  void append(const Value& value, std::size_t level) {
    const Run::Level deeper(run_);
    run_.step();
    if (value.is_text()) {
      append_string(value.text());
    } else if (const Sequence* s = value.sequence(); s != nullptr && (s->kind == Sequence::Kind::kList || s->kind == Sequence::Kind::kTuple)) {
      append_block('[', ']', s->items.size(), level, [&](std::size_t i) { append(s->items[i], level + 1); });
    } else if (const Dict* d = value.dict()) {
      append_dict(*d, level);
    } else if (value.is_none() || value.is_bool() || value.is_integer() || value.is_float()) {
      result_ += scalar(value);
    } else {
      throw run_.error(concat("a value of type ", value.type_name()), "one that JSON has a form for");
    }
  }

  /// Items between brackets, each on a line of its own where there is an indent.
  template <class AppendItem>
  void append_block(char open, char close, std::size_t size, std::size_t level, const AppendItem& append_item) {
    result_ += open;
    for (std::size_t i = 0; i < size; ++i) {
      if (i > 0) result_ += style_.item_separator;
      new_line(level + 1);
      append_item(i);
    }
    if (size > 0) new_line(level);
    result_ += close;
  }
  void new_line(std::size_t level) {
    if (!style_.indent) return;
    run_.make_text(1 + level * style_.indent->size());
    result_ += '\n';
    for (std::size_t i = 0; i < level; ++i) result_ += *style_.indent;
  }

  void append_dict(const Dict& dict, std::size_t level) {
    std::vector<std::pair<std::string, const Value*>> items;
    for (const auto& [key, value] : dict.items) {
      if (!(key.is_text() || key.is_none() || key.is_number())) {
        throw run_.error(concat("a key of type ", key.type_name()), "strings, numbers, booleans or none as keys");
      }
      items.emplace_back(key.is_text() ? key.text() : scalar(key), &value);
    }
    if (style_.sort_keys) std::ranges::stable_sort(items, {}, [](const auto& item) -> const std::string& { return item.first; });
    append_block('{', '}', items.size(), level, [&](std::size_t i) {
      append_string(items[i].first);
      result_ += style_.key_separator;
      append(*items[i].second, level + 1);
    });
  }

  static std::string scalar(const Value& value) {
    if (value.is_none()) return "null";
    if (value.is_bool()) return *value.integer() != 0 ? "true" : "false";
    if (value.is_integer()) return integer_text(*value.integer());
    const double x = value.number();
    if (std::isnan(x)) return "NaN";
    if (std::isinf(x)) return x > 0 ? "Infinity" : "-Infinity";
    return float_text(x);
  }

  void append_string(std::string_view text) {
    run_.make_text(text.size());
    result_ += '"';
    for_each_character(text, [&](char32_t c, std::string_view bytes) {
      constexpr std::string_view kEscaped = "\"\\\n\r\t\f\b", kLetters = "\"\\nrtfb";
      if (const auto known = c < 0x80 ? kEscaped.find(static_cast<char>(c)) : std::string_view::npos; known != std::string_view::npos) {
        result_ += '\\';
        result_ += kLetters[known];
      } else if (c < 0x20 || (style_.ensure_ascii && c > 0x7E && c < 0x10000)) {
        append_unit(c);
      } else if (style_.ensure_ascii && c >= 0x10000) {
        append_unit(0xD800 + ((c - 0x10000) >> 10));
        append_unit(0xDC00 + ((c - 0x10000) & 0x3FF));
      } else {
        result_ += bytes;
      }
    });
    result_ += '"';
  }
  void append_unit(char32_t unit) {
    result_ += "\\u";
    detail::append_hex(result_, unit, 4);
  }

  Run& run_;
  const JsonStyle& style_;
  std::string result_;
};

}  // namespace duet::jinja
