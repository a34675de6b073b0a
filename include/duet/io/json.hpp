#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "duet/core/error.hpp"
#include "duet/core/matrix.hpp"
#include "duet/io/json_reader.hpp"
#include "duet/io/mapped_file.hpp"

namespace duet {

namespace detail {

/// Appends a value as JSON to an error message, until it is long enough. (json::dump would add a printer of its own for every
/// kind of number and string.)
inline void append_json(std::string& text, const nlohmann::json& value) {
  constexpr std::size_t kEnough = 100;
  if (text.size() > kEnough) return;
  if (value.is_object()) {
    const char* separator = "{";
    for (const auto& [key, member] : value.get_ref<const nlohmann::json::object_t&>()) {
      text += concat(separator, '"', shown(key), "\":");
      append_json(text, member);
      separator = ",";
    }
    text += value.empty() ? "{}" : "}";
  } else if (value.is_array()) {
    const char* separator = "[";
    for (const nlohmann::json& element : value.get_ref<const nlohmann::json::array_t&>()) {
      text += separator;
      append_json(text, element);
      separator = ",";
    }
    text += value.empty() ? "[]" : "]";
  } else if (value.is_string()) {
    text += concat('"', shown(value.get_ref<const std::string&>()), '"');
  } else if (value.is_number_unsigned()) {
    text += concat(value.get<std::uint64_t>());
  } else if (value.is_number_integer()) {
    text += concat(value.get<std::int64_t>());
  } else if (value.is_number()) {
    text += concat(value.get<double>());
  } else {
    text += value.is_null() ? "null" : value.get<bool>() ? "true" : "false";
  }
}

}  // namespace detail

/// UTF-8 text as a JSON string, quotes included.
inline std::string json_string(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    constexpr std::string_view kEscaped = "\"\\\n\r\t\f\b", kLetters = "\"\\nrtfb", kHex = "0123456789abcdef";
    if (const std::size_t known = kEscaped.find(c); known != std::string_view::npos) {
      result += concat('\\', kLetters[known]);
    } else if (const auto byte = static_cast<unsigned char>(c); byte < 0x20) {
      result += concat("\\u00", kHex[byte >> 4], kHex[byte & 15]);
    } else {
      result += c;
    }
  }
  return result + '"';
}

/// The first line of a file that Git LFS put in place of the real one.
inline constexpr std::string_view kLfsPointer = "version https://git-lfs.github.com/spec/";

/// Throws Error{kMalformedFile} if `text`, the start of the file `where`, is a Git LFS pointer.
inline void reject_lfs_pointer(std::string_view text, const std::string& where) {
  if (text.starts_with(kLfsPointer)) {
    throw Error(ErrorKind::kMalformedFile, where, "a Git LFS pointer", "the file itself", "run: git lfs pull");
  }
}

/// A whole file as bytes in a string.
/// Errors  kFileNotReadable; kMalformedFile beyond `limit` bytes
inline std::string read_text_file(const std::filesystem::path& path, std::uint64_t limit = std::uint64_t{1} << 28) {
  const MappedFile file(path);
  const std::span<const std::byte> bytes = file.bytes();
  if (bytes.size() > limit) {
    throw Error(ErrorKind::kMalformedFile, path.string(), concat(bytes.size(), " bytes"), concat("at most ", limit));
  }
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Builds the tree of a JSON text. Of a key given twice the last value counts.
/// Errors  kMalformedFile, with the position, and for one nested too deep
class JsonTreeReader : public JsonEvents {
 public:
  /// `where` names the text in errors; it must outlive the reader.
  explicit JsonTreeReader(const std::string& where) : where_(where) {}

  [[nodiscard]] nlohmann::json take() && { return std::move(root_); }

  void null() override { value(nullptr); }
  void boolean(bool x) override { value(x); }
  void number_integer(std::int64_t x) override { value(x); }
  void number_unsigned(std::uint64_t x) override { value(x); }
  void number_float(double x, std::string_view) override { value(x); }
  void string(std::string_view x) override { value(std::string(x)); }
  void key(std::string_view x) override { key_ = x; }
  void start_object() override { open(nlohmann::json::object()); }
  void start_array() override { open(nlohmann::json::array()); }
  void end_object() override { close(); }
  void end_array() override { close(); }
  [[nodiscard]] Error parse_error(std::string_view problem) const override {
    return {ErrorKind::kMalformedFile, where_, concat("no JSON (", problem, ")"), "a JSON document", "is the download complete?"};
  }

 protected:
  void value(nlohmann::json x) { place(std::move(x)); }
  void open(nlohmann::json container) {
    constexpr std::size_t kMaxDepth = 128;
    if (open_.size() == kMaxDepth) {
      throw Error(ErrorKind::kMalformedFile, where_, concat("JSON nested deeper than ", kMaxDepth), "a flatter document");
    }
    open_.push_back(&place(std::move(container)));
  }
  void close() { open_.pop_back(); }

  const std::string& where_;
  std::string key_;                    ///< the last one read
  std::vector<nlohmann::json*> open_;  ///< containers around the next value; stays valid: only the innermost grows

 private:
  /// Puts a value where it belongs and returns its place.
  nlohmann::json& place(nlohmann::json x) {
    if (open_.empty()) return root_ = std::move(x);
    nlohmann::json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(x));
      return parent.back();
    }
    return parent[key_] = std::move(x);
  }

  nlohmann::json root_;
};

/// Parses JSON from memory; `where` names it in errors.
/// Errors  kMalformedFile, with the position
inline nlohmann::json parse_json(std::string_view text, const std::string& where) {
  reject_lfs_pointer(text, where);
  JsonTreeReader reader(where);
  read_json(text, reader);
  return std::move(reader).take();
}

inline nlohmann::json read_json_file(const std::filesystem::path& path) {
  return parse_json(read_text_file(path), path.filename().string());
}

/// A JSON value that knows where it stands, so that an error names the file and the key. null counts as absent.
///
///     const Index width = config.at("vision_config").get<Index>("hidden_size");   // "config.json: vision_config.hidden_size"
///
/// Errors  kInvalidArgument for a missing key or a value of another type or range
class JsonView {
 public:
  JsonView(const nlohmann::json& value, std::string where) : value_(&value), where_(std::move(where)) {}

  [[nodiscard]] const nlohmann::json& json() const noexcept { return *value_; }
  [[nodiscard]] const std::string& where() const noexcept { return where_; }
  /// What stands before a key of this object in errors: "config.json: " or "config.json: text_config."
  [[nodiscard]] std::string prefix() const { return where_ + (where_.ends_with(".json") ? ": " : "."); }

  /// The value as JSON, for an error message: the beginning of a long one.
  [[nodiscard]] std::string shown() const {
    std::string text;
    detail::append_json(text, *value_);
    return detail::shown(text, 57);
  }

  [[nodiscard]] bool contains(std::string_view key) const {
    if (!value_->is_object()) return false;
    const auto it = value_->find(key);
    return it != value_->end() && !it->is_null();
  }
  /// Whether the value of `key` is null, for the few keys whose absence stands for something else.
  [[nodiscard]] bool is_null(std::string_view key) const {
    if (!value_->is_object()) return false;
    const auto it = value_->find(key);
    return it != value_->end() && it->is_null();
  }
  [[nodiscard]] JsonView at(std::string_view key) const {
    if (!contains(key)) throw wrong(key, "nothing", "a value");
    return {*value_->find(key), path(key)};
  }
  /// The object at `key`, or an empty one.
  [[nodiscard]] JsonView object_or_empty(std::string_view key) const {
    static const nlohmann::json empty = nlohmann::json::object();
    if (!contains(key)) return {empty, path(key)};
    JsonView result = at(key);
    if (!result.json().is_object()) throw wrong(key, result.json().type_name(), "an object");
    return result;
  }

  template <class T>
  [[nodiscard]] T get(std::string_view key) const {
    return at(key).template as<T>();
  }
  template <class T>
  [[nodiscard]] T get_or(std::string_view key, T fallback) const {
    return contains(key) ? get<T>(key) : std::move(fallback);
  }
  /// The first of several spellings that is there.
  template <class T>
  [[nodiscard]] T get_any(std::initializer_list<std::string_view> keys, T fallback) const {
    for (const std::string_view key : keys) {
      if (contains(key)) return get<T>(key);
    }
    return fallback;
  }

  /// The values of a list.
  /// Errors  kInvalidArgument when this is no list
  [[nodiscard]] std::vector<JsonView> elements() const {
    if (!value_->is_array()) throw wrong_here("a list");
    std::vector<JsonView> result;
    result.reserve(value_->size());
    for (std::size_t i = 0; i < value_->size(); ++i) result.emplace_back((*value_)[i], concat(where_, "[", i, "]"));
    return result;
  }

  /// This value as bool, an integer, a float, a string, or a vector of those.
  template <class T>
  [[nodiscard]] T as() const {
    if constexpr (std::is_same_v<T, bool>) {
      if (value_->is_boolean()) return value_->get<bool>();
      throw wrong_here("true or false");
    } else if constexpr (std::is_integral_v<T>) {
      if (value_->is_number_unsigned() && std::in_range<T>(value_->get<std::uint64_t>())) return static_cast<T>(value_->get<std::uint64_t>());
      if (value_->is_number_integer() && !value_->is_number_unsigned() && std::in_range<T>(value_->get<std::int64_t>())) return static_cast<T>(value_->get<std::int64_t>());
      throw wrong_here(concat("an integer between ", +std::numeric_limits<T>::min(), " and ", +std::numeric_limits<T>::max()));
    } else if constexpr (std::is_floating_point_v<T>) {
      constexpr double kMost = std::numeric_limits<T>::max();
      if (value_->is_number() && std::abs(value_->get<double>()) <= kMost) return value_->get<T>();
      throw wrong_here(value_->is_number() ? concat("a number of at most ", kMost) : "a number");
    } else if constexpr (std::is_same_v<T, std::string>) {
      if (value_->is_string()) return value_->get<std::string>();
      throw wrong_here("a string");
    } else {
      T result;
      for (const JsonView& element : elements()) result.push_back(element.template as<typename T::value_type>());
      return result;
    }
  }

 private:
  [[nodiscard]] std::string path(std::string_view key) const {
    return concat(prefix(), key);
  }
  [[nodiscard]] Error wrong(std::string_view key, std::string_view got, std::string_view expected) const {
    return {ErrorKind::kInvalidArgument, path(key), got, expected};
  }
  [[nodiscard]] Error wrong_here(std::string_view expected) const {
    return {ErrorKind::kInvalidArgument, where_, shown(), expected};
  }

  const nlohmann::json* value_;
  std::string where_;
};

}  // namespace duet
