#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/io/json.hpp"
#include "duet/io/template/operators.hpp"
#include "duet/io/template/value.hpp"

namespace duet::jinja {

/// Reads JSON as the values of a template. Objects keep the order of their keys, which nlohmann/json's tree does not.
class JsonValueReader final : public JsonEvents {
 public:
  /// Errors  kMalformedFile for what is no JSON; kInvalidArgument for integers beyond 64 bits; `where` names the text
  [[nodiscard]] static Value read(Run& run, std::string_view text, const std::string& where) {
    JsonValueReader reader(run, where);
    read_json(text, reader);
    return std::move(reader.root_);
  }

 private:
  struct Open {
    enum class Kind : unsigned char { kArray, kObject } kind;
    std::vector<Value> items;
    std::vector<std::pair<Value, Value>> members;
    std::string key;
  };

  JsonValueReader(Run& run, const std::string& where) : run_(run), where_(where) {}

  void null() override { put(None{}); }
  void boolean(bool x) override { put(x); }
  void number_integer(std::int64_t x) override { put(x); }
  void number_unsigned(std::uint64_t x) override {
    if (x > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) throw too_large(concat(x));
    put(static_cast<std::int64_t>(x));
  }
  void number_float(double x, std::string_view text) override {
    if (text.find_first_of(".eE") == std::string_view::npos) throw too_large(text);
    put(x);
  }
  void string(std::string_view x) override { put(make_text(run_, std::string(x))); }
  void key(std::string_view x) override { open_.back().key = x; }
  void start_object() override { open(Open::Kind::kObject); }
  void start_array() override { open(Open::Kind::kArray); }
  void end_object() override {
    auto members = std::move(open_.back().members);
    open_.pop_back();
    put(make_dict(run_, std::move(members)));
  }
  void end_array() override {
    auto items = std::move(open_.back().items);
    open_.pop_back();
    put(make_list(run_, std::move(items)));
  }
  [[nodiscard]] Error parse_error(std::string_view problem) const override {
    return {ErrorKind::kMalformedFile, where_, concat("no JSON (", problem, ")"), "a JSON document"};
  }

  void open(Open::Kind kind) {
    static_cast<void>(run_.nested(static_cast<int>(open_.size()) + 1));
    open_.push_back({kind, {}, {}, {}});
  }
  void put(Value value) {
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (Open& inner = open_.back(); inner.kind == Open::Kind::kArray) {
      inner.items.push_back(std::move(value));
    } else {
      put_member(inner, std::move(value));
    }
  }
  /// Of a key given twice the last value counts, at the first one's place.
  void put_member(Open& object, Value value) {
    run_.step(object.members.size() / 8);
    for (auto& [key, there] : object.members) {
      if (key.text() != object.key) continue;
      there = std::move(value);
      return;
    }
    object.members.emplace_back(make_text(run_, object.key), std::move(value));
  }
  [[nodiscard]] Error too_large(std::string_view number) const {
    return {ErrorKind::kInvalidArgument, where_, concat("the integer ", number), "one of at most 64 bits"};
  }

  Run& run_;
  const std::string& where_;
  std::vector<Open> open_;
  Value root_;
};

}  // namespace duet::jinja
