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

  bool null() override { return put(None{}); }
  bool boolean(bool x) override { return put(x); }
  bool number_integer(std::int64_t x) override { return put(x); }
  bool number_unsigned(std::uint64_t x) override {
    if (x > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) throw too_large(concat(x));
    return put(static_cast<std::int64_t>(x));
  }
  bool number_float(double x, const std::string& text) override {
    if (text.find_first_of(".eE") == std::string::npos) throw too_large(text);
    return put(x);
  }
  bool string(std::string& x) override { return put(make_text(run_, std::move(x))); }
  bool binary(nlohmann::json::binary_t&) override { return false; }
  bool key(std::string& x) override {
    open_.back().key = std::move(x);
    return true;
  }
  bool start_object(std::size_t) override { return open(Open::Kind::kObject); }
  bool start_array(std::size_t) override { return open(Open::Kind::kArray); }
  bool end_object() override {
    auto members = std::move(open_.back().members);
    open_.pop_back();
    return put(make_dict(run_, std::move(members)));
  }
  bool end_array() override {
    auto items = std::move(open_.back().items);
    open_.pop_back();
    return put(make_list(run_, std::move(items)));
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception& e) override {
    throw Error(ErrorKind::kMalformedFile, where_, concat("no JSON (", duet::detail::json_problem(e), ")"), "a JSON document");
  }

  bool open(Open::Kind kind) {
    static_cast<void>(run_.nested(static_cast<int>(open_.size()) + 1));
    open_.push_back({kind, {}, {}, {}});
    return true;
  }
  bool put(Value value) {
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (Open& inner = open_.back(); inner.kind == Open::Kind::kArray) {
      inner.items.push_back(std::move(value));
    } else {
      put_member(inner, std::move(value));
    }
    return true;
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
