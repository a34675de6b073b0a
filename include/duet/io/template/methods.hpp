#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/io/template/operators.hpp"
#include "duet/io/template/parameters.hpp"
#include "duet/io/template/string_format.hpp"
#include "duet/io/template/string_methods.hpp"
#include "duet/io/template/value.hpp"

namespace duet::jinja {

namespace detail {

using Method = Entry<const Value&>;

inline std::string_view words(const Value& self) { return self.text(); }
inline std::string_view fill_of(const Parameters& p) { return p.has(1) ? std::string_view(p.text(1)) : " "; }

inline constexpr Method kStringMethods[] = {
    {"capitalize", "", [](Run& r, const Value& s, const Parameters&) { return make_text(r, capitalized(words(s))); }},
    {"center", "width fill", [](Run& r, const Value& s, const Parameters& p) { return make_text_like(r, s, strings::padded(r, words(s), p.integer(0), fill_of(p), Ends::kBoth)); }},
    {"count", "sub start end", [](Run& r, const Value& s, const Parameters& p) { return Value(strings::count(r, words(s), p)); }},
    {"endswith", "suffix start end", [](Run& r, const Value& s, const Parameters& p) { return Value(strings::begins_or_ends(r, words(s), p, Ends::kRight)); }},
    {"find", "sub start end", [](Run& r, const Value& s, const Parameters& p) { return Value(strings::found(r, words(s), p, Ends::kLeft)); }},
    {"index", "sub start end", [](Run& r, const Value& s, const Parameters& p) { return strings::found_or_error(r, words(s), p, Ends::kLeft); }},
    {"isalnum", "", [](Run&, const Value& s, const Parameters&) { return Value(strings::all(words(s), [](char32_t c) { return is_alphabetic(c) || unicode::is_numeric(c); })); }},
    {"isalpha", "", [](Run&, const Value& s, const Parameters&) { return Value(strings::all(words(s), is_alphabetic)); }},
    {"isascii", "", [](Run&, const Value& s, const Parameters&) { return Value(ascii_prefix(words(s)) == words(s).size()); }},
    {"isdecimal", "", [](Run&, const Value& s, const Parameters&) { return Value(strings::all(words(s), is_decimal)); }},
    {"isdigit", "", [](Run&, const Value& s, const Parameters&) { return Value(strings::all(words(s), is_decimal)); }},
    {"islower", "", [](Run&, const Value& s, const Parameters&) { return Value(strings::all_cased(words(s), is_lower)); }},
    {"isnumeric", "", [](Run&, const Value& s, const Parameters&) { return Value(strings::all(words(s), unicode::is_numeric)); }},
    {"isspace", "", [](Run&, const Value& s, const Parameters&) { return Value(strings::all(words(s), is_space)); }},
    {"isupper", "", [](Run&, const Value& s, const Parameters&) { return Value(strings::all_cased(words(s), is_upper)); }},
    {"join", "iterable", [](Run& r, const Value& s, const Parameters& p) { return strings::joined(r, words(s), items_of(r, p.at(0))); }},
    {"ljust", "width fill", [](Run& r, const Value& s, const Parameters& p) { return make_text_like(r, s, strings::padded(r, words(s), p.integer(0), fill_of(p), Ends::kRight)); }},
    {"lower", "", [](Run& r, const Value& s, const Parameters&) { return make_text(r, in_case(words(s), Case::kLower)); }},
    {"lstrip", "chars", [](Run& r, const Value& s, const Parameters& p) { return make_text_like(r, s, strings::stripped(r, words(s), p, Ends::kLeft)); }},
    {"partition", "sep", [](Run& r, const Value& s, const Parameters& p) { return strings::partition(r, words(s), p.text(0), Ends::kLeft); }},
    {"removeprefix", "prefix", [](Run& r, const Value& s, const Parameters& p) { return make_text(r, words(s).substr(words(s).starts_with(p.text(0)) ? p.text(0).size() : 0)); }},
    {"removesuffix", "suffix", [](Run& r, const Value& s, const Parameters& p) { return make_text(r, words(s).substr(0, words(s).size() - (words(s).ends_with(p.text(0)) ? p.text(0).size() : 0))); }},
    {"replace", "old new count", [](Run& r, const Value& s, const Parameters& p) { return make_text(r, strings::replaced(r, words(s), p.text(0), p.text(1), p.integer_or(2, -1))); }},
    {"rfind", "sub start end", [](Run& r, const Value& s, const Parameters& p) { return Value(strings::found(r, words(s), p, Ends::kRight)); }},
    {"rindex", "sub start end", [](Run& r, const Value& s, const Parameters& p) { return strings::found_or_error(r, words(s), p, Ends::kRight); }},
    {"rjust", "width fill", [](Run& r, const Value& s, const Parameters& p) { return make_text_like(r, s, strings::padded(r, words(s), p.integer(0), fill_of(p), Ends::kLeft)); }},
    {"rpartition", "sep", [](Run& r, const Value& s, const Parameters& p) { return strings::partition(r, words(s), p.text(0), Ends::kRight); }},
    {"rsplit", "sep maxsplit", [](Run& r, const Value& s, const Parameters& p) { return strings::split(r, words(s), p, Ends::kRight); }},
    {"rstrip", "chars", [](Run& r, const Value& s, const Parameters& p) { return make_text_like(r, s, strings::stripped(r, words(s), p, Ends::kRight)); }},
    {"split", "sep maxsplit", [](Run& r, const Value& s, const Parameters& p) { return strings::split(r, words(s), p, Ends::kLeft); }},
    {"splitlines", "keepends", [](Run& r, const Value& s, const Parameters& p) { return strings::list_of(r, strings::lines_of(words(s), p.flag(0))); }},
    {"startswith", "prefix start end", [](Run& r, const Value& s, const Parameters& p) { return Value(strings::begins_or_ends(r, words(s), p, Ends::kLeft)); }},
    {"strip", "chars", [](Run& r, const Value& s, const Parameters& p) { return make_text_like(r, s, strings::stripped(r, words(s), p, Ends::kBoth)); }},
    {"title", "", [](Run& r, const Value& s, const Parameters&) { return make_text(r, strings::titled(words(s))); }},
    {"upper", "", [](Run& r, const Value& s, const Parameters&) { return make_text(r, in_case(words(s), Case::kUpper)); }},
    {"zfill", "width", [](Run& r, const Value& s, const Parameters& p) {
       const bool sign = words(s).starts_with('-') || words(s).starts_with('+');
       const std::string filled = strings::padded(r, words(s).substr(sign ? 1 : 0), p.integer(0) - (sign ? 1 : 0), "0", Ends::kLeft);
       return make_text(r, sign ? concat(words(s).substr(0, 1), filled) : filled);
     }},
};

inline Value pairs_of(Run& run, const Dict& dict) {
  std::vector<Value> items;
  for (const auto& [key, value] : dict.items) items.push_back(make_tuple(run, {key, value}));
  return make_sequence(run, Sequence::Kind::kItems, std::move(items));
}

inline constexpr Method kDictMethods[] = {
    {"copy", "", [](Run&, const Value& d, const Parameters&) { return d; }},
    {"get", "key default", [](Run& r, const Value& d, const Parameters& p) {
       require_key(r, p.at(0));
       return find_in(r, *d.dict(), p.at(0)).value_or(p.has(1) ? p.at(1) : Value(None{}));
     }},
    {"items", "", [](Run& r, const Value& d, const Parameters&) { return pairs_of(r, *d.dict()); }},
    {"keys", "", [](Run& r, const Value& d, const Parameters&) { return make_sequence(r, Sequence::Kind::kKeys, items_of(r, d)); }},
    {"values", "", [](Run& r, const Value& d, const Parameters&) {
       std::vector<Value> values;
       for (const auto& [key, value] : d.dict()->items) values.push_back(value);
       return make_sequence(r, Sequence::Kind::kValues, std::move(values));
     }},
};

inline constexpr Method kListMethods[] = {
    {"copy", "", [](Run&, const Value& l, const Parameters&) { return l; }},
    {"count", "value", [](Run& r, const Value& l, const Parameters& p) {
       return Value(static_cast<std::int64_t>(std::ranges::count_if(l.sequence()->items, [&](const Value& item) { return equal(r, item, p.at(0)); })));
     }},
    {"index", "value", [](Run& r, const Value& l, const Parameters& p) {
       const auto& items = l.sequence()->items;
       const auto it = std::ranges::find_if(items, [&](const Value& item) { return equal(r, item, p.at(0)); });
       if (it == items.end()) throw r.error("a list without the value", "one that has it");
       return Value(static_cast<std::int64_t>(it - items.begin()));
     }},
};

/// What Python knows beyond these. Such a name is a method too: a dictionary's key of that name needs [''].
inline constexpr std::string_view kOtherStringMethods = " casefold encode expandtabs format_map isidentifier isprintable istitle maketrans swapcase translate ";
inline constexpr std::string_view kOtherDictMethods = " clear fromkeys pop popitem setdefault update ";
inline constexpr std::string_view kOtherListMethods = " append clear extend insert pop remove reverse sort ";

}  // namespace detail

/// A method together with the value that it was taken from.
class BoundMethod final : public Object {
 public:
  BoundMethod(Value self, const detail::Method* method) : self_(std::move(self)), method_(method) {}
  [[nodiscard]] std::string_view type_name() const override { return "builtin_function_or_method"; }
  [[nodiscard]] bool callable() const override { return true; }
  [[nodiscard]] int depth() const override { return self_.depth() + 1; }
  Value call(Run& run, Arguments arguments) override {
    if (method_ == nullptr) return make_text(run, StringFormat(run, self_.text(), std::move(arguments)).apply());
    return method_->call(run, self_, Parameters(run, method_->name, method_->names, std::move(arguments)));
  }

 private:
  Value self_;
  const detail::Method* method_;  // none: str.format, which takes any arguments
};

/// The method `name` of a string, list or dictionary.
/// Errors  kInvalidArgument for one that would change it; kUnsupportedModel for one that is not known here
[[nodiscard]] inline std::optional<Value> find_method(Run& run, const Value& self, std::string_view name) {
  const detail::Method* method = nullptr;
  std::string_view others;
  if (self.is_text()) {
    method = find_entry(detail::kStringMethods, name);
    others = detail::kOtherStringMethods;
    if (name == "format") return Value(Value::ObjectPtr(std::make_shared<BoundMethod>(self, nullptr)));
  } else if (self.dict() != nullptr) {
    method = find_entry(detail::kDictMethods, name);
    others = detail::kOtherDictMethods;
  } else if (self.sequence() != nullptr && self.sequence()->kind <= Sequence::Kind::kTuple) {
    const bool tuple = self.sequence()->kind == Sequence::Kind::kTuple;
    if (!tuple || name != "copy") method = find_entry(detail::kListMethods, name);
    if (!tuple) others = detail::kOtherListMethods;
  }
  if (method != nullptr) return Value(Value::ObjectPtr(std::make_shared<BoundMethod>(self, method)));
  if (others.find(concat(' ', name, ' ')) == std::string_view::npos) return std::nullopt;
  if (self.is_text()) throw run.unknown(concat("the string method ", name));
  throw run.error(concat("the method ", name, " of a ", self.type_name()), "one that changes nothing: templates run in a sandbox");
}

}  // namespace duet::jinja
