#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
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
  using Any = std::variant<Undefined, None, bool, std::int64_t, double, TextPtr, SequencePtr, DictPtr, ObjectPtr>;

  // Never inlined: there are hundreds of places that copy and drop values, and none of them is fast.
  [[gnu::noinline]] Value() noexcept {}  ///< undefined
  [[gnu::noinline]] Value(const Value& other) : any_(other.any_) {}
  [[gnu::noinline]] Value(Value&& other) noexcept : any_(std::move(other.any_)) {}
  [[gnu::noinline]] Value& operator=(const Value& other) {
    any_ = other.any_;
    return *this;
  }
  [[gnu::noinline]] Value& operator=(Value&& other) noexcept {
    any_ = std::move(other.any_);
    return *this;
  }
  [[gnu::noinline]] ~Value() {}
  Value(Undefined x) : any_(std::move(x)) {}
  Value(None) : any_(None{}) {}
  Value(bool x) : any_(x) {}
  Value(std::int64_t x) : any_(x) {}
  Value(double x) : any_(x) {}
  Value(TextPtr x) : any_(std::move(x)) {}
  Value(SequencePtr x) : any_(std::move(x)) {}
  Value(DictPtr x) : any_(std::move(x)) {}
  Value(ObjectPtr x) : any_(std::move(x)) {}
  Value(const void*) = delete;  // it would become true

  template <class T>
  [[nodiscard]] bool is() const noexcept {
    return std::holds_alternative<T>(any_);
  }
  [[nodiscard]] bool is_undefined() const noexcept { return is<Undefined>(); }
  [[nodiscard]] bool is_none() const noexcept { return is<None>(); }
  [[nodiscard]] bool is_text() const noexcept { return is<TextPtr>(); }
  [[nodiscard]] bool is_number() const noexcept { return is<bool>() || is<std::int64_t>() || is<double>(); }

  /// The string's bytes.
  /// Requires is_text()
  [[nodiscard]] const std::string& text() const { return std::get<TextPtr>(any_)->utf8; }
  [[nodiscard]] const Sequence* sequence() const noexcept { return pointee<SequencePtr>(); }
  [[nodiscard]] const Dict* dict() const noexcept { return pointee<DictPtr>(); }
  [[nodiscard]] Object* object() const noexcept { return pointee<ObjectPtr>(); }
  template <class T>
  [[nodiscard]] T* object_as() const noexcept {
    return dynamic_cast<T*>(object());
  }
  [[nodiscard]] const Any& any() const noexcept { return any_; }

  /// An integer, or a bool as Python counts with it.
  [[nodiscard]] std::optional<std::int64_t> integer() const noexcept {
    if (const auto* x = std::get_if<std::int64_t>(&any_)) return *x;
    if (const auto* x = std::get_if<bool>(&any_)) return *x ? 1 : 0;
    return std::nullopt;
  }
  /// Requires is_number()
  [[nodiscard]] double number() const noexcept {
    const auto* x = std::get_if<double>(&any_);
    return x != nullptr ? *x : static_cast<double>(*integer());
  }
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
    return kNames[any_.index()];
  }

 private:
  template <class Pointer>
  [[nodiscard]] typename Pointer::element_type* pointee() const noexcept {
    const auto* pointer = std::get_if<Pointer>(&any_);
    return pointer != nullptr ? pointer->get() : nullptr;
  }

  Any any_;
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
inline bool is_safe(const Value& value) { return value.is_text() && std::get<Value::TextPtr>(value.any())->safe; }

/// A text that is as safe as the one it was made from.
inline Value make_text_like(Run& run, const Value& original, std::string utf8) {
  return is_safe(original) ? make_safe_text(run, std::move(utf8)) : make_text(run, std::move(utf8));
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
  const auto& what = std::get<Undefined>(value.any()).what;
  return run.error(what ? *what : std::string("an undefined value"), "a value");
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
