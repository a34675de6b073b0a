#pragma once

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/io/template/access.hpp"
#include "duet/io/template/arithmetic.hpp"
#include "duet/io/template/operators.hpp"
#include "duet/io/template/parameters.hpp"
#include "duet/io/template/value.hpp"

namespace duet::jinja::filters {

using Filter = Entry<const Value&>;

/// What lies at "a.0.b" of a value. Where a step leads nowhere, `fallback` takes its place, if that is not none.
inline Value at_path(Run& run, Value value, const Value& path, const Value& fallback = None{}) {
  const auto step_to = [&](const Value& key) {
    value = get_item(run, value, key);
    if (value.is_undefined() && !fallback.is_none()) value = fallback;
  };
  if (path.is_none()) return value;
  if (!path.is_text()) {
    step_to(path);
    return value;
  }
  std::string_view rest = path.text();
  for (bool more = true; more;) {
    const std::size_t dot = rest.find('.');
    const std::string_view part = rest.substr(0, dot);
    std::int64_t index = 0;
    const bool digits = !part.empty() && part.find_first_not_of("0123456789") == std::string_view::npos;
    const bool number = digits && std::from_chars(part.data(), part.data() + part.size(), index).ec == std::errc();
    step_to(number ? Value(index) : make_text(run, part));
    more = dot != std::string_view::npos;
    rest.remove_prefix(more ? dot + 1 : rest.size());
  }
  return value;
}

enum class CaseRule : unsigned char { kIgnore, kHeed };

/// What sorting compares of a value.
inline Value sort_key(Run& run, const Value& value, CaseRule rule) {
  return rule == CaseRule::kIgnore && value.is_text() ? make_text(run, in_case(value.text(), Case::kLower)) : value;
}

enum class Direction : unsigned char { kUp, kDown };

/// `items` in the order of their keys; equal ones keep theirs.
inline std::vector<Value> sorted(Run& run, std::vector<std::pair<Value, Value>> items, Direction direction) {
  std::stable_sort(items.begin(), items.end(), [&](const auto& a, const auto& b) {
    return direction == Direction::kUp ? order(run, a.first, b.first) < 0 : order(run, b.first, a.first) < 0;
  });
  std::vector<Value> result;
  for (auto& [key, value] : items) result.push_back(std::move(value));
  return result;
}

inline Value sort(Run& run, const Value& value, const Parameters& p) {
  const CaseRule rule = p.flag(1) ? CaseRule::kHeed : CaseRule::kIgnore;
  std::vector<std::pair<Value, Value>> items;
  for (Value& item : items_of(run, value)) {
    Value key = item;
    if (p.given(2) && p.at(2).is_text() && p.text(2).find(',') != std::string::npos) {
      std::vector<Value> keys;
      for (const std::string_view part : strings::cut_by(run, p.text(2), ",", -1, Ends::kLeft)) keys.push_back(sort_key(run, at_path(run, item, make_text(run, part)), rule));
      key = make_list(run, std::move(keys));
    } else if (p.given(2)) {
      key = at_path(run, item, p.at(2));
    }
    items.emplace_back(sort_key(run, key, rule), std::move(item));
  }
  return make_list(run, sorted(run, std::move(items), p.flag(0) ? Direction::kDown : Direction::kUp));
}

inline Value dictsort(Run& run, const Value& value, const Parameters& p) {
  if (value.is_undefined()) throw undefined_error(run, value);
  if (value.dict() == nullptr) throw run.error(concat("a ", value.type_name(), " for dictsort"), "a dictionary");
  const CaseRule rule = p.flag(0) ? CaseRule::kHeed : CaseRule::kIgnore;
  const std::string by = p.printed_or(1, "key");
  if (by != "key" && by != "value") throw run.error(concat("dictsort by ", by), "key or value");
  std::vector<std::pair<Value, Value>> items;
  for (const auto& [key, item] : value.dict()->items) items.emplace_back(sort_key(run, by == "key" ? key : item, rule), make_tuple(run, {key, item}));
  return make_list(run, sorted(run, std::move(items), p.flag(2) ? Direction::kDown : Direction::kUp));
}

inline Value extreme(Run& run, const Value& value, const Parameters& p, Direction direction) {
  const CaseRule rule = p.flag(0) ? CaseRule::kHeed : CaseRule::kIgnore;
  std::vector<Value> items = items_of(run, value);
  if (items.empty()) return make_undefined(run, "an extreme of nothing");
  const auto key_of = [&](const Value& item) { return sort_key(run, p.given(1) ? at_path(run, item, p.at(1)) : item, rule); };
  Value best = items.front(), best_key = key_of(best);
  for (std::size_t i = 1; i < items.size(); ++i) {
    Value key = key_of(items[i]);
    if (!(direction == Direction::kUp ? order(run, key, best_key) > 0 : order(run, key, best_key) < 0)) continue;
    best = items[i];
    best_key = std::move(key);
  }
  return best;
}

inline Value unique(Run& run, const Value& value, const Parameters& p) {
  const CaseRule rule = p.flag(0) ? CaseRule::kHeed : CaseRule::kIgnore;
  std::vector<Value> seen, result;
  for (Value& item : items_of(run, value)) {
    Value key = sort_key(run, p.given(1) ? at_path(run, item, p.at(1)) : item, rule);
    if (std::ranges::any_of(seen, [&](const Value& other) { return equal(run, key, other); })) continue;
    seen.push_back(std::move(key));
    result.push_back(std::move(item));
  }
  return make_generator(run, std::move(result));
}

inline Value reversed(Run& run, const Value& value) {
  if (value.is_text()) return get_slice(run, value, None{}, None{}, std::int64_t{-1});
  std::vector<Value> items = items_of(run, value);
  std::ranges::reverse(items);
  return value.object() != nullptr ? make_list(run, std::move(items)) : make_generator(run, std::move(items));
}

inline Value first(Run& run, const Value& value) {
  if (auto* generator = value.object_as<Generator>()) {
    auto item = generator->next();
    return item ? std::move(*item) : make_undefined(run, "the first of nothing");
  }
  if (value.sequence() != nullptr && !value.sequence()->items.empty()) return value.sequence()->items.front();
  const std::vector<Value> items = items_of(run, value);
  return items.empty() ? make_undefined(run, "the first of nothing") : items.front();
}
inline Value last(Run& run, const Value& value) {
  if (value.is_undefined()) throw undefined_error(run, value);
  if (value.object() != nullptr) throw run.error(concat("the last of a ", value.type_name()), "a string, list or dictionary", "| list makes a list");
  const std::vector<Value> items = items_of(run, value);
  return items.empty() ? make_undefined(run, "the last of nothing") : items.back();
}

inline Value join(Run& run, const Value& value, const Parameters& p) {
  std::vector<Value> items = items_of(run, value);
  for (Value& item : items) {
    if (p.given(1)) item = at_path(run, item, p.at(1));
    if (!item.is_text()) item = make_text(run, to_text(run, item));
  }
  return strings::joined(run, p.printed_or(0, ""), items);
}

inline Value sum(Run& run, const Value& value, const Parameters& p) {
  Value result = p.has(1) ? p.at(1) : Value(std::int64_t{0});
  if (result.is_text()) throw run.error("a sum that starts with a string", "a number", "join puts strings together");
  for (const Value& item : items_of(run, value)) result = apply(run, BinaryOperator::kAdd, result, p.given(0) ? at_path(run, item, p.at(0)) : item);
  return result;
}

inline Value items(Run& run, const Value& value) {
  if (value.is_undefined()) return make_generator(run, {});
  if (value.dict() == nullptr) throw run.error(concat("the items of a ", value.type_name()), "a dictionary");
  return make_generator(run, detail::pairs_of(run, *value.dict()).sequence()->items);
}

inline constexpr Filter kSequenceFilters[] = {
    {"attr", "name", [](Run& r, const Value& v, const Parameters& p) {
       if (v.is_undefined()) throw undefined_error(r, v);
       auto found = detail::attribute(r, v, p.text(0));
       return found ? std::move(*found) : detail::missing(r, v, p.text(0), "attribute");
     }},
    {"default", "default_value boolean", [](Run& r, const Value& v, const Parameters& p) {
       if (!v.is_undefined() && !(p.flag(1) && !truth(v))) return v;
       return p.has(0) ? p.at(0) : make_text(r, "");
     }},
    {"dictsort", "case_sensitive by reverse", dictsort},
    {"first", "", [](Run& r, const Value& v, const Parameters&) { return first(r, v); }},
    {"items", "", [](Run& r, const Value& v, const Parameters&) { return items(r, v); }},
    {"join", "d attribute", join},
    {"last", "", [](Run& r, const Value& v, const Parameters&) { return last(r, v); }},
    {"length", "", [](Run& r, const Value& v, const Parameters&) { return Value(length(r, v)); }},
    {"list", "", [](Run& r, const Value& v, const Parameters&) { return make_list(r, items_of(r, v)); }},
    {"max", "case_sensitive attribute", [](Run& r, const Value& v, const Parameters& p) { return extreme(r, v, p, Direction::kUp); }},
    {"min", "case_sensitive attribute", [](Run& r, const Value& v, const Parameters& p) { return extreme(r, v, p, Direction::kDown); }},
    {"reverse", "", [](Run& r, const Value& v, const Parameters&) { return reversed(r, v); }},
    {"sort", "reverse case_sensitive attribute", sort},
    {"sum", "attribute start", sum},
    {"unique", "case_sensitive attribute", unique},
};

}  // namespace duet::jinja::filters
