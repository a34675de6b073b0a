#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/io/template/characters.hpp"
#include "duet/io/template/methods.hpp"
#include "duet/io/template/operators.hpp"
#include "duet/io/template/value.hpp"

namespace duet::jinja {

namespace detail {

/// value[key] as Python means it; nothing where it would fail.
inline std::optional<Value> subscript(Run& run, const Value& value, const Value& key) {
  if (const Dict* d = value.dict()) return find_in(run, *d, key);
  const auto index = key.integer();
  if (!index) return std::nullopt;
  if (value.is_text()) {
    const auto size = static_cast<std::int64_t>(count_characters(value.text()));
    run.step(1 + value.text().size() / 64);
    const std::int64_t i = *index < 0 ? *index + size : *index;
    if (i < 0 || i >= size) return std::nullopt;
    const std::size_t begin = byte_of_character(value.text(), static_cast<std::size_t>(i));
    return make_text(run, std::string_view(value.text()).substr(begin, decode_utf8(value.text(), begin).length));
  }
  const Sequence* s = value.sequence();
  if (s == nullptr || s->kind > Sequence::Kind::kRange) return std::nullopt;  // views of a dictionary have no places
  const auto size = static_cast<std::int64_t>(s->items.size());
  const std::int64_t i = *index < 0 ? *index + size : *index;
  if (i < 0 || i >= size) return std::nullopt;
  return s->items[static_cast<std::size_t>(i)];
}

/// The attribute `name` that Python's type of the value has: a method, or what an object offers. The sandbox hides what
/// begins with _.
inline std::optional<Value> attribute(Run& run, const Value& value, std::string_view name) {
  if (name.starts_with('_')) return std::nullopt;
  if (Object* object = value.object()) return object->attribute(run, name);
  return find_method(run, value, name);
}

inline Value missing(Run& run, const Value& value, std::string_view name, std::string_view what) {
  return make_undefined(run, concat(value.type_name(), " without the ", what, ' ', name));
}

}  // namespace detail

/// value.name: an attribute, else the value at that key. Undefined where there is neither.
/// Errors  kInvalidArgument for an undefined value
[[nodiscard]] inline Value get_attribute(Run& run, const Value& value, std::string_view name) {
  run.step();
  if (value.is_undefined()) throw undefined_error(run, value);
  if (auto found = detail::attribute(run, value, name)) return std::move(*found);
  if (const Dict* d = value.dict()) {
    if (auto found = find_key(run, *d, name)) return std::move(*found);
  }
  return detail::missing(run, value, name, "attribute");
}

/// value[key]: the value at that key, else an attribute. Undefined where there is neither.
/// Errors  kInvalidArgument for an undefined value
[[nodiscard]] inline Value get_item(Run& run, const Value& value, const Value& key) {
  run.step();
  if (value.is_undefined()) throw undefined_error(run, value);
  if (auto found = detail::subscript(run, value, key)) return std::move(*found);
  if (key.is_text()) {
    if (auto found = detail::attribute(run, value, key.text())) return std::move(*found);
  }
  return detail::missing(run, value, to_text(run, key), "element");
}

/// value[start:stop:step]; none stands for an absent bound.
/// Errors  kInvalidArgument for a step of 0 and bounds that are no integers
[[nodiscard]] inline Value get_slice(Run& run, const Value& value, const Value& start, const Value& stop, const Value& step) {
  if (value.is_undefined()) throw undefined_error(run, value);
  const Sequence* s = value.sequence();
  if (!value.is_text() && (s == nullptr || s->kind > Sequence::Kind::kRange)) return detail::missing(run, value, "[:]", "slice");
  const auto bound = [&](const Value& x) -> std::optional<std::int64_t> {
    if (x.is_none()) return std::nullopt;
    if (const auto i = x.integer()) return i;
    throw run.error(concat("a ", x.type_name(), " as bound of a slice"), "an integer or none");
  };
  const std::int64_t stride = bound(step).value_or(1);
  if (stride == 0) throw run.error("a slice with step 0", "another step");
  const std::int64_t size = length(run, value);
  const auto clamped = [&](const Value& x, std::int64_t fallback) {
    auto i = bound(x);
    if (!i) return fallback;
    if (*i < 0) *i += size;
    return stride > 0 ? std::clamp<std::int64_t>(*i, 0, size) : std::clamp<std::int64_t>(*i, -1, size - 1);
  };
  const std::int64_t first = clamped(start, stride > 0 ? 0 : size - 1), last = clamped(stop, stride > 0 ? size : -1);
  const auto go = [&](const auto& visit) {
    for (std::int64_t i = first; stride > 0 ? i < last : i > last;) {
      visit(static_cast<std::size_t>(i));
      if (__builtin_add_overflow(i, stride, &i)) break;
    }
  };
  if (s != nullptr) {
    std::vector<Value> items;
    go([&](std::size_t i) { items.push_back(s->items[i]); });
    return make_sequence(run, s->kind, std::move(items));
  }
  const std::string& text = value.text();
  if (stride == 1) {
    const std::size_t begin = byte_of_character(text, static_cast<std::size_t>(first));
    const std::size_t end = byte_of_character(text, static_cast<std::size_t>(std::max(first, last)));
    return make_text_like(run, value, text.substr(begin, end - begin));
  }
  run.make(text.size() * sizeof(std::string_view));
  std::vector<std::string_view> characters;
  for_each_character(text, [&](char32_t, std::string_view bytes) { characters.push_back(bytes); });
  std::string result;
  go([&](std::size_t i) { result += characters[i]; });
  return make_text_like(run, value, std::move(result));
}

}  // namespace duet::jinja
