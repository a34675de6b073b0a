#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "duet/io/template/arithmetic.hpp"
#include "duet/io/template/operators.hpp"
#include "duet/io/template/parameters.hpp"
#include "duet/io/template/string_methods.hpp"
#include "duet/io/template/value.hpp"

namespace duet::jinja {

namespace tests {

using Test = Entry<const Value&>;

inline Value modulo_is(Run& run, const Value& value, const Value& divisor, std::int64_t remainder) {
  return equal(run, apply(run, BinaryOperator::kModulo, value, divisor), remainder);
}

/// Whether Python's iter() takes it.
inline bool iterable(const Value& v) { return v.is_text() || v.sequence() != nullptr || v.dict() != nullptr || v.is_undefined() || v.object_as<Generator>() != nullptr; }

/// Python's `is`: one object, or equal where Python keeps one of each.
inline bool same(Run& run, const Value& a, const Value& b) {
  if (a.type_name() != b.type_name()) return false;
  if (a.sequence() != nullptr) return a.sequence() == b.sequence();
  if (a.dict() != nullptr) return a.dict() == b.dict();
  return equal(run, a, b);
}

inline constexpr Test kTests[] = {
    {"boolean", "", [](Run&, const Value& v, const Parameters&) { return Value(v.is_bool()); }},
    {"callable", "", [](Run&, const Value& v, const Parameters&) { return Value(v.is_undefined() || (v.object() != nullptr && v.object()->callable())); }},
    {"defined", "", [](Run&, const Value& v, const Parameters&) { return Value(!v.is_undefined()); }},
    {"divisibleby", "num", [](Run& r, const Value& v, const Parameters& p) { return modulo_is(r, v, p.at(0), 0); }},
    {"eq", "b", [](Run& r, const Value& v, const Parameters& p) { return Value(equal(r, v, p.at(0))); }},
    {"escaped", "", [](Run&, const Value& v, const Parameters&) { return Value(v.is_safe()); }},
    {"even", "", [](Run& r, const Value& v, const Parameters&) { return modulo_is(r, v, std::int64_t{2}, 0); }},
    {"false", "", [](Run&, const Value& v, const Parameters&) { return Value(v.is_bool() && !truth(v)); }},
    {"float", "", [](Run&, const Value& v, const Parameters&) { return Value(v.is_float()); }},
    {"ge", "b", [](Run& r, const Value& v, const Parameters& p) { return Value(order(r, v, p.at(0)) >= 0); }},
    {"gt", "b", [](Run& r, const Value& v, const Parameters& p) { return Value(order(r, v, p.at(0)) > 0); }},
    {"in", "seq", [](Run& r, const Value& v, const Parameters& p) { return Value(contains(r, p.at(0), v)); }},
    {"integer", "", [](Run&, const Value& v, const Parameters&) { return Value(v.is_integer()); }},
    {"iterable", "", [](Run&, const Value& v, const Parameters&) { return Value(iterable(v)); }},
    {"le", "b", [](Run& r, const Value& v, const Parameters& p) { return Value(order(r, v, p.at(0)) <= 0); }},
    {"lower", "", [](Run& r, const Value& v, const Parameters&) { return Value(strings::all_cased(to_text(r, v), is_lower)); }},
    {"lt", "b", [](Run& r, const Value& v, const Parameters& p) { return Value(order(r, v, p.at(0)) < 0); }},
    {"mapping", "", [](Run&, const Value& v, const Parameters&) { return Value(v.dict() != nullptr); }},
    {"ne", "b", [](Run& r, const Value& v, const Parameters& p) { return Value(!equal(r, v, p.at(0))); }},
    {"none", "", [](Run&, const Value& v, const Parameters&) { return Value(v.is_none()); }},
    {"number", "", [](Run&, const Value& v, const Parameters&) { return Value(v.is_number()); }},
    {"odd", "", [](Run& r, const Value& v, const Parameters&) { return modulo_is(r, v, std::int64_t{2}, 1); }},
    {"sameas", "other", [](Run& r, const Value& v, const Parameters& p) { return Value(same(r, v, p.at(0))); }},
    {"sequence", "", [](Run&, const Value& v, const Parameters&) {
       return Value(v.is_text() || v.is_undefined() || v.dict() != nullptr || (v.sequence() != nullptr && v.sequence()->kind <= Sequence::Kind::kRange));
     }},
    {"string", "", [](Run&, const Value& v, const Parameters&) { return Value(v.is_text()); }},
    {"true", "", [](Run&, const Value& v, const Parameters&) { return Value(v.is_bool() && truth(v)); }},
    {"undefined", "", [](Run&, const Value& v, const Parameters&) { return Value(v.is_undefined()); }},
    {"upper", "", [](Run& r, const Value& v, const Parameters&) { return Value(strings::all_cased(to_text(r, v), is_upper)); }},
};

inline constexpr std::pair<std::string_view, std::string_view> kOtherNames[] = {
    {"==", "eq"}, {"equalto", "eq"}, {"!=", "ne"}, {">", "gt"}, {"greaterthan", "gt"}, {">=", "ge"}, {"<", "lt"}, {"lessthan", "lt"}, {"<=", "le"}};

}  // namespace tests

/// value is name(arguments).
/// Errors  kUnsupportedModel for a test that is not known here
[[nodiscard]] inline bool apply_test(Run& run, std::string_view name, const Value& value, Arguments arguments) {
  run.step();
  for (const auto& [other, known] : tests::kOtherNames) {
    if (name == other) name = known;
  }
  const tests::Test* test = find_entry(tests::kTests, name);
  if (test == nullptr) throw run.unknown(concat("the test ", name));
  return truth(test->call(run, value, Parameters(run, test->name, test->names, std::move(arguments))));
}

}  // namespace duet::jinja
