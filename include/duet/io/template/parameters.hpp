#pragma once

#include <array>
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

/// The arguments of a function by its parameters' names, whether they were given by position or by name.
class Parameters {
 public:
  /// `names` are separated by spaces.
  /// Errors  kInvalidArgument for more arguments than names, an unknown name, or a parameter given twice
  Parameters(Run& run, std::string_view function, std::string_view names, Arguments arguments) : run_(run), function_(function) {
    std::size_t count = 0;
    std::array<std::string_view, kMost> spelled;
    while (!names.empty()) {
      const std::size_t end = std::min(names.find(' '), names.size());
      spelled.at(count++) = names.substr(0, end);
      names.remove_prefix(std::min(end + 1, names.size()));
    }
    if (arguments.positional.size() > count) {
      throw run.error(concat(arguments.positional.size(), " arguments of ", function), concat("at most ", count));
    }
    for (std::size_t i = 0; i < arguments.positional.size(); ++i) values_[i] = std::move(arguments.positional[i]);
    for (auto& [name, value] : arguments.named) {
      std::size_t i = 0;
      while (i < count && spelled[i] != name) ++i;
      if (i == count) throw run.error(concat("the argument ", name, " of ", function), "an argument that it has");
      if (values_[i]) throw run.error(concat("the argument ", name, " of ", function, " twice"), "it once");
      values_[i] = std::move(value);
    }
  }

  [[nodiscard]] bool has(std::size_t i) const { return values_[i].has_value(); }
  /// Whether it was given, and not as none.
  [[nodiscard]] bool given(std::size_t i) const { return has(i) && !values_[i]->is_none(); }
  [[nodiscard]] const Value& at(std::size_t i) const {
    if (!has(i)) throw run_.error(concat("too few arguments of ", function_), concat("at least ", i + 1));
    return *values_[i];
  }
  [[nodiscard]] const std::string& text(std::size_t i) const {
    if (!at(i).is_text()) throw wrong(i, "a string");
    return at(i).text();
  }
  [[nodiscard]] std::int64_t integer(std::size_t i) const {
    if (const auto x = at(i).integer()) return *x;
    throw wrong(i, "an integer");
  }
  [[nodiscard]] std::int64_t integer_or(std::size_t i, std::int64_t fallback) const { return has(i) ? integer(i) : fallback; }
  [[nodiscard]] bool flag(std::size_t i, bool fallback = false) const { return has(i) ? truth(*values_[i]) : fallback; }
  /// What printing it gives.
  [[nodiscard]] std::string printed_or(std::size_t i, std::string_view fallback) const {
    return has(i) ? to_text(run_, *values_[i]) : std::string(fallback);
  }

 private:
  static constexpr std::size_t kMost = 6;

  [[nodiscard]] Error wrong(std::size_t i, std::string_view expected) const {
    return run_.error(concat("a ", at(i).type_name(), " as argument ", i + 1, " of ", function_), expected);
  }

  Run& run_;
  std::string_view function_;
  std::array<std::optional<Value>, kMost> values_;
};

/// A function of a table: `names` are its parameters.
template <class Self>
struct Entry {
  std::string_view name, names;
  Value (*call)(Run& run, Self self, const Parameters& p);
};

template <class Self, std::size_t kSize>
[[nodiscard]] const Entry<Self>* find_entry(const Entry<Self> (&table)[kSize], std::string_view name) {
  for (const Entry<Self>& entry : table) {
    if (entry.name == name) return &entry;
  }
  return nullptr;
}

}  // namespace duet::jinja
