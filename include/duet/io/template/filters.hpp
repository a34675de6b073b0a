#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/io/template/sequence_filters.hpp"
#include "duet/io/template/tests.hpp"
#include "duet/io/template/text_filters.hpp"
#include "duet/io/template/value.hpp"

namespace duet::jinja {

[[nodiscard]] Value apply_filter(Run& run, std::string_view name, const Value& value, Arguments arguments);

namespace filters {

/// The first of the positional arguments, taken from them.
inline Value take_first(Run& run, Arguments& arguments, std::string_view filter) {
  if (arguments.positional.empty()) throw run.error(concat(filter, " without an argument"), "one");
  Value result = std::move(arguments.positional.front());
  arguments.positional.erase(arguments.positional.begin());
  return result;
}
inline std::string take_name(Run& run, Arguments& arguments, std::string_view filter) {
  const Value name = take_first(run, arguments, filter);
  if (!name.is_text()) throw run.error(concat("a ", name.type_name(), " as argument of ", filter), "a name");
  return name.text();
}

/// map(attribute=..., default=...), or map(filter, its arguments).
inline Value map(Run& run, const Value& value, Arguments arguments) {
  std::vector<Value> result;
  if (arguments.positional.empty() && !arguments.named.empty()) {
    const Parameters p(run, "map", "attribute default", std::move(arguments));
    const Value fallback = p.has(1) ? p.at(1) : Value(None{});
    for (const Value& item : items_of(run, value)) result.push_back(at_path(run, item, p.at(0), fallback));
  } else if (truth(value)) {
    const std::string filter = take_name(run, arguments, "map");
    for (const Value& item : items_of(run, value)) result.push_back(apply_filter(run, filter, item, arguments));
  }
  return make_generator(run, std::move(result));
}

enum class Keep : unsigned char { kTrue, kFalse };
enum class Of : unsigned char { kItem, kAttribute };

/// select, reject, selectattr, rejectattr: the items of which, or of whose attribute, a test (or its truth) is as wanted.
inline Value select(Run& run, const Value& value, Arguments arguments, Keep keep, Of of) {
  std::vector<Value> result;
  if (truth(value)) {
    Value path = None{};
    if (of == Of::kAttribute) path = take_first(run, arguments, "selectattr");
    std::string test;
    if (!arguments.positional.empty()) test = take_name(run, arguments, "select");
    for (Value& item : items_of(run, value)) {
      const Value subject = at_path(run, item, path);
      const bool holds = test.empty() ? truth(subject) : apply_test(run, test, subject, arguments);
      if (holds == (keep == Keep::kTrue)) result.push_back(std::move(item));
    }
  }
  return make_generator(run, std::move(result));
}

/// format(...): `%` with the arguments.
inline Value format(Run& run, const Value& value, Arguments arguments) {
  Value values;
  if (arguments.named.empty()) {
    values = make_tuple(run, std::move(arguments.positional));
  } else if (!arguments.positional.empty()) {
    throw run.error("arguments of format by position and by name", "all by one");
  } else {
    std::vector<std::pair<Value, Value>> named;
    for (auto& [name, item] : arguments.named) named.emplace_back(make_text(run, name), std::move(item));
    values = make_dict(run, std::move(named));
  }
  const std::string text = to_text(run, value);
  return make_text(run, PercentFormat(run, text, values).apply());
}

}  // namespace filters

/// value | name(arguments).
/// Errors  kUnsupportedModel for a filter that is not known here
[[nodiscard]] inline Value apply_filter(Run& run, std::string_view name, const Value& value, Arguments arguments) {
  using filters::Keep, filters::Of;
  const Run::Level level(run);
  run.step();
  if (name == "map") return filters::map(run, value, std::move(arguments));
  if (name == "select") return filters::select(run, value, std::move(arguments), Keep::kTrue, Of::kItem);
  if (name == "reject") return filters::select(run, value, std::move(arguments), Keep::kFalse, Of::kItem);
  if (name == "selectattr") return filters::select(run, value, std::move(arguments), Keep::kTrue, Of::kAttribute);
  if (name == "rejectattr") return filters::select(run, value, std::move(arguments), Keep::kFalse, Of::kAttribute);
  if (name == "format") return filters::format(run, value, std::move(arguments));
  if (name == "d") name = "default";
  if (name == "e") name = "escape";
  if (name == "count") name = "length";
  const filters::Filter* filter = find_entry(filters::kTextFilters, name);
  if (filter == nullptr) filter = find_entry(filters::kSequenceFilters, name);
  if (filter == nullptr) throw run.unknown(concat("the filter ", name));
  return filter->call(run, value, Parameters(run, filter->name, filter->names, std::move(arguments)));
}

}  // namespace duet::jinja
