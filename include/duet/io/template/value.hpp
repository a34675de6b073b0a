#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/io/template/run.hpp"

namespace duet::jinja {

class Value;

/// A name, attribute or element that is not there. Printing it gives nothing; using it is an error that says `what`.
struct Undefined {
  std::shared_ptr<const std::string> what;
};
struct None {};

/// A string, in UTF-8. `safe` marks one from the filter of that name: adding to it escapes the other side.
struct Text {
  std::string utf8;
  bool safe = false;
};

/// Values in order. The kinds differ in how they print, compare and add up.
struct Sequence {
  enum class Kind : unsigned char { kList, kTuple, kRange, kKeys, kValues, kItems };
  Kind kind = Kind::kList;
  std::vector<Value> items;
  int depth = 1;
};

/// A mapping in the order of insertion.
struct Dict {
  std::vector<std::pair<Value, Value>> items;
  int depth = 1;
};

/// What a call is given.
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

/// A value with an identity: a function, a macro, a namespace, a loop, a generator.
class Object {
 public:
  Object() = default;
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  virtual ~Object() = default;
  [[nodiscard]] virtual std::string_view type_name() const = 0;
  [[nodiscard]] virtual std::optional<Value> attribute(Run& run, std::string_view name) const;
  [[nodiscard]] virtual bool callable() const { return false; }
  [[nodiscard]] virtual int depth() const { return 0; }  ///< of the values that it holds for good
  virtual Value call(Run& run, Arguments arguments);
};

/// A value of a template: one of Python's. Lists and dictionaries never change, so copies share them.
class Value {
 public:
  using TextPtr = std::shared_ptr<const Text>;
  using SequencePtr = std::shared_ptr<const Sequence>;
  using DictPtr = std::shared_ptr<const Dict>;
  using ObjectPtr = std::shared_ptr<Object>;
  enum class Kind : unsigned char { kUndefined, kNone, kBool, kInteger, kFloat, kText, kSequence, kDict, kObject };

  // Never inlined: there are hundreds of places that copy and drop values, and none of them is fast.
  [[gnu::noinline]] Value() noexcept {}  ///< undefined
  [[gnu::noinline]] Value(const Value& other) = default;
  [[gnu::noinline]] Value(Value&& other) noexcept = default;
  [[gnu::noinline]] Value& operator=(const Value& other) = default;
  [[gnu::noinline]] Value& operator=(Value&& other) noexcept = default;
  [[gnu::noinline]] ~Value() {}
  Value(Undefined x) : shared_(std::move(x.what)) {}
  Value(None) : kind_(Kind::kNone) {}
  Value(bool x) : kind_(Kind::kBool), integer_(x ? 1 : 0) {}
  Value(std::int64_t x) : kind_(Kind::kInteger), integer_(x) {}
  Value(double x) : kind_(Kind::kFloat), float_(x) {}
  Value(TextPtr x) : kind_(Kind::kText), shared_(std::move(x)) {}
  Value(SequencePtr x) : kind_(Kind::kSequence), shared_(std::move(x)) {}
  Value(DictPtr x) : kind_(Kind::kDict), shared_(std::move(x)) {}
  Value(ObjectPtr x) : kind_(Kind::kObject), shared_(std::move(x)) {}
  Value(const void*) = delete;  // it would become true

  [[nodiscard]] Kind kind() const noexcept { return kind_; }
  [[nodiscard]] bool is_undefined() const noexcept { return kind_ == Kind::kUndefined; }
  [[nodiscard]] bool is_none() const noexcept { return kind_ == Kind::kNone; }
  [[nodiscard]] bool is_bool() const noexcept { return kind_ == Kind::kBool; }
  [[nodiscard]] bool is_integer() const noexcept { return kind_ == Kind::kInteger; }
  [[nodiscard]] bool is_float() const noexcept { return kind_ == Kind::kFloat; }
  [[nodiscard]] bool is_text() const noexcept { return kind_ == Kind::kText; }
  [[nodiscard]] bool is_number() const noexcept { return is_bool() || is_integer() || is_float(); }

  /// The string's bytes.
  /// Requires is_text()
  [[nodiscard]] const std::string& text() const { return static_cast<const Text*>(shared_.get())->utf8; }
  [[nodiscard]] bool is_safe() const noexcept { return is_text() && static_cast<const Text*>(shared_.get())->safe; }
  [[nodiscard]] const Sequence* sequence() const noexcept { return pointee<const Sequence>(Kind::kSequence); }
  [[nodiscard]] const Dict* dict() const noexcept { return pointee<const Dict>(Kind::kDict); }
  [[nodiscard]] Object* object() const noexcept { return pointee<Object>(Kind::kObject); }
  template <class T>
  [[nodiscard]] T* object_as() const noexcept {
    return dynamic_cast<T*>(object());
  }
  /// What is not there, where an undefined value knows it.
  [[nodiscard]] const std::string* what() const noexcept { return pointee<const std::string>(Kind::kUndefined); }

  /// An integer, or a bool as Python counts with it.
  [[nodiscard]] std::optional<std::int64_t> integer() const noexcept {
    return is_integer() || is_bool() ? std::optional(integer_) : std::nullopt;
  }
  /// Requires is_number()
  [[nodiscard]] double number() const noexcept { return is_float() ? float_ : static_cast<double>(integer_); }
  /// How deep it reaches.
  [[nodiscard]] int depth() const noexcept {
    if (const Sequence* s = sequence()) return s->depth;
    if (const Dict* d = dict()) return d->depth;
    if (const Object* o = object()) return o->depth();
    return 0;
  }
  /// Python's name of its type.
  [[nodiscard]] std::string_view type_name() const noexcept {
    static constexpr std::string_view kNames[] = {"Undefined", "NoneType", "bool", "int", "float", "str", "", "dict"};
    static constexpr std::string_view kSequences[] = {"list", "tuple", "range", "dict_keys", "dict_values", "dict_items"};
    if (const Sequence* s = sequence()) return kSequences[static_cast<std::size_t>(s->kind)];
    if (const Object* o = object()) return o->type_name();
    return kNames[static_cast<std::size_t>(kind_)];
  }

 private:
  template <class T>
  [[nodiscard]] T* pointee(Kind kind) const noexcept {
    return kind_ == kind ? static_cast<T*>(const_cast<void*>(shared_.get())) : nullptr;
  }

  Kind kind_ = Kind::kUndefined;
  union {
    std::int64_t integer_ = 0;
    double float_;
  };
  std::shared_ptr<const void> shared_;  ///< a Text, Sequence, Dict or name of what is not there, or an Object, which may change
};

inline std::optional<Value> Object::attribute(Run&, std::string_view) const { return std::nullopt; }
inline Value Object::call(Run& run, Arguments) { throw run.error(concat("a call of a ", type_name()), "something callable"); }

inline Value make_text(Run& run, std::string utf8) {
  run.make_text(utf8.size());
  return std::make_shared<const Text>(Text{std::move(utf8), false});
}
inline Value make_text(Run& run, std::string_view utf8) { return make_text(run, std::string(utf8)); }
inline Value make_text(Run& run, const char* utf8) { return make_text(run, std::string(utf8)); }
inline Value make_safe_text(Run& run, std::string utf8) {
  run.make_text(utf8.size());
  return std::make_shared<const Text>(Text{std::move(utf8), true});
}

/// A text that is as safe as the one it was made from.
inline Value make_text_like(Run& run, const Value& original, std::string utf8) {
  return original.is_safe() ? make_safe_text(run, std::move(utf8)) : make_text(run, std::move(utf8));
}

/// The depth of what holds `items`.
inline int depth_around(Run& run, const std::vector<Value>& items) {
  int depth = 0;
  for (const Value& item : items) depth = std::max(depth, item.depth());
  return run.nested(depth + 1);
}

inline Value make_sequence(Run& run, Sequence::Kind kind, std::vector<Value> items) {
  run.make(sizeof(Sequence) + items.size() * sizeof(Value));
  run.step(items.size());
  const int depth = depth_around(run, items);
  return std::make_shared<const Sequence>(Sequence{kind, std::move(items), depth});
}
inline Value make_list(Run& run, std::vector<Value> items) { return make_sequence(run, Sequence::Kind::kList, std::move(items)); }
inline Value make_tuple(Run& run, std::vector<Value> items) { return make_sequence(run, Sequence::Kind::kTuple, std::move(items)); }

/// Requires keys that differ
inline Value make_dict(Run& run, std::vector<std::pair<Value, Value>> items) {
  run.make(sizeof(Dict) + items.size() * 2 * sizeof(Value));
  run.step(items.size());
  int depth = 0;
  for (const auto& [key, value] : items) depth = std::max({depth, key.depth(), value.depth()});
  return std::make_shared<const Dict>(Dict{std::move(items), run.nested(depth + 1)});
}

inline Value make_undefined(Run& run, std::string what) {
  run.make(what.size());
  return Undefined{std::make_shared<const std::string>(std::move(what))};
}
/// The error that using an undefined value is.
/// Requires value.is_undefined()
inline Error undefined_error(Run& run, const Value& value) {
  return run.error(value.what() != nullptr ? *value.what() : std::string("an undefined value"), "a value");
}

/// A sequence that can be gone through once, as filters like `map` and `selectattr` give it.
class Generator final : public Object {
 public:
  Generator(std::vector<Value> items, int depth) : items_(std::move(items)), depth_(depth) {}
  [[nodiscard]] std::string_view type_name() const override { return "generator"; }
  [[nodiscard]] std::optional<Value> next() {
    if (next_ == items_.size()) return std::nullopt;
    return items_[next_++];
  }
  [[nodiscard]] int depth() const override { return depth_; }

 private:
  std::vector<Value> items_;
  std::size_t next_ = 0;
  int depth_;
};
inline Value make_generator(Run& run, std::vector<Value> items) {
  run.make(sizeof(Generator) + items.size() * sizeof(Value));
  const int depth = depth_around(run, items);
  return Value::ObjectPtr(std::make_shared<Generator>(std::move(items), depth));
}

}  // namespace duet::jinja
