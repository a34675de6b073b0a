#pragma once

#include <cmath>
#include <compare>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/io/template/printing.hpp"
#include "duet/io/template/value.hpp"

namespace duet::jinja {

/// Python's bool().
[[nodiscard]] inline bool truth(const Value& value) {
  if (value.is_undefined() || value.is_none()) return false;
  if (value.is_number()) return value.number() != 0;
  if (value.is_text()) return !value.text().empty();
  if (const Sequence* s = value.sequence()) return !s->items.empty();
  if (const Dict* d = value.dict()) return !d->items.empty();
  return true;
}

/// Python's ==, which never fails.
[[nodiscard]] inline bool equal(Run& run, const Value& a, const Value& b) {
  run.step();
  if (a.is_number() && b.is_number()) {
    const auto x = a.integer(), y = b.integer();
    return x && y ? *x == *y : a.number() == b.number();
  }
  if (a.is_text() && b.is_text()) return a.text() == b.text();
  if (const Sequence *s = a.sequence(), *t = b.sequence(); s != nullptr && t != nullptr) {
    if (s->kind != t->kind || s->items.size() != t->items.size()) return false;
    for (std::size_t i = 0; i < s->items.size(); ++i) {
      if (!equal(run, s->items[i], t->items[i])) return false;
    }
    return true;
  }
  if (const Dict *d = a.dict(), *e = b.dict(); d != nullptr && e != nullptr) {
    if (d->items.size() != e->items.size()) return false;
    for (const auto& [key, value] : d->items) {
      bool found = false;
      for (const auto& [other, there] : e->items) {
        if (!equal(run, key, other)) continue;
        found = equal(run, value, there);
        break;
      }
      if (!found) return false;
    }
    return true;
  }
  if (a.object() != nullptr || b.object() != nullptr) return a.object() == b.object();
  return a.kind() == b.kind() && (a.is_undefined() || a.is_none());
}

/// Python's < and its like.
/// Errors  kInvalidArgument for values without an order
[[nodiscard]] inline std::partial_ordering order(Run& run, const Value& a, const Value& b) {
  run.step();
  if (a.is_number() && b.is_number()) {
    const auto x = a.integer(), y = b.integer();
    return x && y ? std::partial_ordering(*x <=> *y) : a.number() <=> b.number();
  }
  if (a.is_text() && b.is_text()) return a.text().compare(b.text()) <=> 0;  // UTF-8 keeps the order of characters
  const Sequence *s = a.sequence(), *t = b.sequence();
  const auto ordered = [](const Sequence* x) { return x != nullptr && x->kind <= Sequence::Kind::kTuple; };
  if (ordered(s) && ordered(t) && s->kind == t->kind) {
    for (std::size_t i = 0; i < std::min(s->items.size(), t->items.size()); ++i) {
      if (!equal(run, s->items[i], t->items[i])) return order(run, s->items[i], t->items[i]);
    }
    return s->items.size() <=> t->items.size();
  }
  if (a.is_undefined()) throw undefined_error(run, a);
  if (b.is_undefined()) throw undefined_error(run, b);
  throw run.error(concat("a ", a.type_name(), " compared with a ", b.type_name()), "values that have an order");
}

/// The value at `key`.
[[nodiscard]] inline std::optional<Value> find_in(Run& run, const Dict& dict, const Value& key) {
  for (const auto& [there, value] : dict.items) {
    if (equal(run, there, key)) return value;
  }
  return std::nullopt;
}
[[nodiscard]] inline std::optional<Value> find_key(Run& run, const Dict& dict, std::string_view key) {
  run.step(1 + dict.items.size() / 8);
  for (const auto& [there, value] : dict.items) {
    if (there.is_text() && there.text() == key) return value;
  }
  return std::nullopt;
}

/// Checks that Python would take `key` for a dictionary's.
inline void require_key(Run& run, const Value& key) {
  const Sequence* s = key.sequence();
  if (key.dict() != nullptr || (s != nullptr && s->kind == Sequence::Kind::kList)) {
    throw run.error(concat("a ", key.type_name(), " as key of a dictionary"), "a value that does not change: a string, a number, a tuple");
  }
  if (s == nullptr) return;
  for (const Value& item : s->items) require_key(run, item);
}

/// Everything that iterating over a value gives; a generator is used up.
/// Errors  kInvalidArgument for what is not iterable
[[nodiscard]] inline std::vector<Value> items_of(Run& run, const Value& value) {
  std::vector<Value> items;
  const auto add = [&](Value item) {
    run.step();
    run.make(sizeof(Value));
    items.push_back(std::move(item));
  };
  if (const Sequence* s = value.sequence()) {
    for (const Value& item : s->items) add(item);
  } else if (const Dict* d = value.dict()) {
    for (const auto& [key, ignored] : d->items) add(key);
  } else if (value.is_text()) {
    for_each_character(value.text(), [&](char32_t, std::string_view bytes) { add(make_text(run, bytes)); });
  } else if (auto* generator = value.object_as<Generator>()) {
    while (auto item = generator->next()) add(std::move(*item));
  } else if (!value.is_undefined()) {
    throw run.error(concat("iteration over a ", value.type_name()), "something iterable");
  }
  return items;
}

/// Python's `item in container`.
[[nodiscard]] inline bool contains(Run& run, const Value& container, const Value& item) {
  if (container.is_text()) {
    if (!item.is_text()) throw run.error(concat("a ", item.type_name(), " looked for in a string"), "a string");
    run.step(container.text().size() / 16);
    return container.text().find(item.text()) != std::string::npos;
  }
  if (const Dict* d = container.dict()) {
    require_key(run, item);
    return find_in(run, *d, item).has_value();
  }
  if (const Sequence* s = container.sequence()) {
    for (const Value& there : s->items) {
      if (equal(run, there, item)) return true;
    }
    return false;
  }
  if (auto* generator = container.object_as<Generator>()) {
    while (const auto there = generator->next()) {
      if (equal(run, *there, item)) return true;
    }
    return false;
  }
  if (container.is_undefined()) return false;
  throw run.error(concat("a look into a ", container.type_name()), "a string, list or dictionary");
}

/// Python's len().
[[nodiscard]] inline std::int64_t length(Run& run, const Value& value) {
  const auto size = [](std::size_t n) { return static_cast<std::int64_t>(n); };
  if (value.is_undefined()) return 0;
  if (value.is_text()) {
    run.step(value.text().size() / 64);
    return size(count_characters(value.text()));
  }
  if (const Sequence* s = value.sequence()) return size(s->items.size());
  if (const Dict* d = value.dict()) return size(d->items.size());
  throw run.error(concat("the length of a ", value.type_name()), "a string, list or dictionary");
}

/// `&`, `<`, `>` and quotes as HTML writes them.
[[nodiscard]] inline std::string html_escaped(std::string_view text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&': result += "&amp;"; break;
      case '<': result += "&lt;"; break;
      case '>': result += "&gt;"; break;
      case '\'': result += "&#39;"; break;
      case '"': result += "&#34;"; break;
      default: result += c;
    }
  }
  return result;
}

}  // namespace duet::jinja
