#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/io/template/operators.hpp"
#include "duet/io/template/parameters.hpp"
#include "duet/io/template/value.hpp"

namespace duet::jinja {

/// A function that C++ provides.
class Function final : public Object {
 public:
  using Body = std::function<Value(Run&, Arguments)>;
  explicit Function(Body body, int depth = 0) : body_(std::move(body)), depth_(depth) {}
  [[nodiscard]] std::string_view type_name() const override { return "function"; }
  [[nodiscard]] bool callable() const override { return true; }
  [[nodiscard]] int depth() const override { return depth_; }
  Value call(Run& run, Arguments arguments) override { return body_(run, std::move(arguments)); }

 private:
  Body body_;
  int depth_;
};
inline Value make_function(Function::Body body, int depth = 0) { return Value::ObjectPtr(std::make_shared<Function>(std::move(body), depth)); }

/// What templates keep state in, as `set` inside a loop is forgotten at the end of its turn.
class Namespace final : public Object {
 public:
  [[nodiscard]] std::string_view type_name() const override { return "Namespace"; }
  [[nodiscard]] std::optional<Value> attribute(Run&, std::string_view name) const override {
    const auto it = attributes_.find(name);
    return it == attributes_.end() ? std::nullopt : std::optional(it->second);
  }
  void set(std::string_view name, Value value) { attributes_.insert_or_assign(std::string(name), std::move(value)); }
  /// Lets go of everything, so that namespaces which hold each other can end.
  void clear() { attributes_.clear(); }

 private:
  std::map<std::string, Value, std::less<>> attributes_;
};

/// Python's range(), of at most 100,000 numbers, as in Jinja's sandbox.
inline Value make_range(Run& run, Arguments arguments) {
  constexpr std::uint64_t kMost = 100'000;
  const Parameters p(run, "range", "start stop step", std::move(arguments));
  const std::int64_t start = p.has(1) ? p.integer(0) : 0, stop = p.has(1) ? p.integer(1) : p.integer(0), step = p.integer_or(2, 1);
  if (step == 0) throw run.error("a range with step 0", "another step");
  std::vector<Value> items;
  for (std::int64_t i = start; step > 0 ? i < stop : i > stop;) {
    if (items.size() == kMost) throw run.error("a range of more than 100000 numbers", "fewer");
    items.push_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return make_sequence(run, Sequence::Kind::kRange, std::move(items));
}

/// dict(mapping, name=value ...).
inline Value make_dict_of(Run& run, Arguments arguments) {
  std::vector<std::pair<Value, Value>> items;
  if (arguments.positional.size() > 1) throw run.error("several arguments of dict", "one dictionary at most");
  if (!arguments.positional.empty()) {
    const Dict* dict = arguments.positional.front().dict();
    if (dict == nullptr) throw run.unknown("dict() of something else than a dictionary");
    items = dict->items;
  }
  for (auto& [name, value] : arguments.named) {
    const auto it = std::ranges::find_if(items, [&, &key = name](const auto& item) { return item.first.is_text() && item.first.text() == key; });
    if (it != items.end()) {
      it->second = std::move(value);
    } else {
      items.emplace_back(make_text(run, name), std::move(value));
    }
  }
  return make_dict(run, std::move(items));
}

/// The variable `loop` of one for.
class Loop final : public Object {
 public:
  /// `recurse` renders the loop's body for other items; absent where the loop is not recursive.
  Loop(std::vector<Value> items, std::int64_t depth0, int nesting, Function::Body recurse)
      : items_(std::move(items)), depth0_(depth0), nesting_(nesting), recurse_(std::move(recurse)) {}

  [[nodiscard]] std::size_t size() const noexcept { return items_.size(); }
  /// Begins turn number `index`, whose item is returned.
  [[nodiscard]] const Value& turn(std::size_t index) {
    index_ = index;
    return items_[index];
  }

  [[nodiscard]] std::string_view type_name() const override { return "LoopContext"; }
  [[nodiscard]] int depth() const override { return nesting_; }
  [[nodiscard]] bool callable() const override { return true; }
  Value call(Run& run, Arguments arguments) override {
    if (!recurse_) throw run.error("a call of loop", "a loop that is marked recursive");
    return recurse_(run, std::move(arguments));
  }
  [[nodiscard]] std::optional<Value> attribute(Run& run, std::string_view name) const override {
    const auto index = static_cast<std::int64_t>(index_), count = static_cast<std::int64_t>(items_.size());
    if (name == "index") return index + 1;
    if (name == "index0") return index;
    if (name == "revindex") return count - index;
    if (name == "revindex0") return count - index - 1;
    if (name == "first") return index == 0;
    if (name == "last") return index + 1 == count;
    if (name == "length") return count;
    if (name == "depth") return depth0_ + 1;
    if (name == "depth0") return depth0_;
    if (name == "previtem") return index > 0 ? items_[index_ - 1] : make_undefined(run, "an item before the first");
    if (name == "nextitem") return index + 1 < count ? items_[index_ + 1] : make_undefined(run, "an item after the last");
    if (name == "cycle") {
      return make_function([index = index_](Run& r, Arguments arguments) {
        if (arguments.positional.empty()) throw r.error("loop.cycle without values", "some");
        return arguments.positional[index % arguments.positional.size()];
      });
    }
    if (name == "changed") throw run.unknown("loop.changed");
    return std::nullopt;
  }

 private:
  std::vector<Value> items_;
  std::int64_t depth0_;
  int nesting_;
  Function::Body recurse_;
  std::size_t index_ = 0;
};

}  // namespace duet::jinja
