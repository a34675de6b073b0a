#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/core/weights.hpp"
#include "duet/io/json.hpp"
#include "duet/io/mapped_file.hpp"

namespace duet {

/// The tensors of one safetensors file, in place.
///
/// The header is not trusted: every length is checked against the file's real size before it is used, tensors must fill
/// the data without holes or overlap, and names must be unique.
///
/// Errors  kMalformedFile, naming file and tensor
/// Source  the format's own description: 8-byte little-endian header length, JSON header, data
class SafetensorsFile {
 public:
  /// `where` names the file in errors. The bytes must outlive this object.
  SafetensorsFile(std::span<const std::byte> bytes, std::string where) : where_(std::move(where)) { parse(bytes); }

  [[nodiscard]] const std::string& where() const noexcept { return where_; }
  /// Names in the order of their data.
  [[nodiscard]] const std::vector<std::string>& names() const noexcept { return names_; }
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const noexcept { return metadata_; }
  [[nodiscard]] const TensorView* find(std::string_view name) const noexcept {
    const auto it = tensors_.find(name);
    return it == tensors_.end() ? nullptr : &it->second;
  }
  /// Bytes of all tensors.
  [[nodiscard]] std::uint64_t data_bytes() const noexcept { return data_bytes_; }

 private:
  struct Entry {
    std::string name;
    std::uint64_t begin = 0, end = 0;
  };

  void parse(std::span<const std::byte> bytes) {
    constexpr std::uint64_t kMaxHeader = 100'000'000;
    reject_lfs_pointer({reinterpret_cast<const char*>(bytes.data()), std::min<std::size_t>(bytes.size(), 200)}, where_);
    if (bytes.size() < 8) throw malformed(concat(bytes.size(), " bytes"), "at least the 8 of a header length");
    std::uint64_t header_size = 0;
    for (std::size_t i = 8; i-- > 0;) header_size = header_size << 8 | std::to_integer<std::uint64_t>(bytes[i]);
    if (header_size > kMaxHeader) {
      throw malformed(concat("a header of ", header_size, " bytes"), concat("at most ", kMaxHeader), "is this a safetensors file?");
    }
    if (header_size > bytes.size() - 8) {
      throw malformed(concat("a header of ", header_size, " bytes in a file of ", bytes.size()), "a header that fits",
                      "is the download complete?");
    }
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + 8, static_cast<std::size_t>(header_size));
    const nlohmann::json header = parse_header(text);
    const std::span<const std::byte> data = bytes.subspan(8 + static_cast<std::size_t>(header_size));
    std::vector<Entry> entries;
    for (const auto& [name, info] : header.items()) {
      if (name == "__metadata__") {
        read_metadata(info);
      } else {
        entries.push_back(read_tensor(name, info, data));
      }
    }
    std::ranges::sort(entries, [](const Entry& a, const Entry& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
    for (const Entry& entry : entries) {
      if (entry.begin != data_bytes_) {
        throw bad_tensor(entry.name, concat("data from ", entry.begin), concat("from ", data_bytes_, ", where the tensor before it ends"));
      }
      data_bytes_ = entry.end;
      names_.push_back(entry.name);
    }
    if (data_bytes_ != data.size()) {
      throw malformed(concat(data.size(), " bytes of data"), concat(data_bytes_, ", as the header says"), "is the download complete?");
    }
  }

  /// The library's parser keeps the last of duplicate keys; a file that says two things about one tensor is refused.
  [[nodiscard]] nlohmann::json parse_header(std::string_view text) const {
    std::vector<std::set<std::string>> keys;
    const auto watch = [&](int, nlohmann::json::parse_event_t event, nlohmann::json& parsed) {
      if (event == nlohmann::json::parse_event_t::object_start) keys.emplace_back();
      if (event == nlohmann::json::parse_event_t::object_end) keys.pop_back();
      if (event == nlohmann::json::parse_event_t::key && !keys.back().insert(parsed.get<std::string>()).second) {
        throw bad_tensor("header", concat("the key \"", parsed.get<std::string>(), "\" twice"), "unique keys");
      }
      return true;
    };
    if (detail::nests_deeper_than(text, 16)) throw malformed("a header nested deeper than 16", "a flat one");
    nlohmann::json header;
    try {
      header = nlohmann::json::parse(text, watch);
    } catch (const nlohmann::json::exception& e) {
      throw malformed(concat("a header that is no JSON (", e.what(), ")"), "a JSON object", "is this a safetensors file?");
    }
    if (!header.is_object()) throw malformed(concat("a header that is ", header.type_name()), "a JSON object");
    return header;
  }

  void read_metadata(const nlohmann::json& info) {
    if (!info.is_object()) throw bad_tensor("__metadata__", info.type_name(), "an object of strings");
    for (const auto& [key, value] : info.items()) {
      if (!value.is_string()) throw bad_tensor("__metadata__", concat(key, " of type ", value.type_name()), "a string");
      metadata_[key] = value.get<std::string>();
    }
  }

  [[nodiscard]] Entry read_tensor(const std::string& name, const nlohmann::json& info, std::span<const std::byte> data) {
    if (!info.is_object()) throw bad_tensor(name, info.type_name(), "an object");
    const auto field = [&](const char* key) -> const nlohmann::json& {
      const auto it = info.find(key);
      if (it == info.end()) throw bad_tensor(name, concat("no ", key), "dtype, shape and data_offsets");
      return *it;
    };
    const auto [dtype, known] = read_dtype(name, field("dtype"));
    TensorView view;
    view.dtype = dtype;
    std::uint64_t count = 1;
    const nlohmann::json& shape = field("shape");
    if (!shape.is_array()) throw bad_tensor(name, concat("a shape that is ", shape.type_name()), "a list");
    for (const nlohmann::json& extent : shape) {
      if (!extent.is_number_unsigned()) throw bad_tensor(name, "shape " + shape.dump(), "whole numbers");
      const auto n = extent.get<std::uint64_t>();
      if (n > static_cast<std::uint64_t>(std::numeric_limits<Index>::max()) || __builtin_mul_overflow(count, n, &count)) {
        throw bad_tensor(name, "shape " + shape.dump(), "a size that fits 64 bits");
      }
      view.shape.push_back(static_cast<Index>(n));
    }
    const nlohmann::json& offsets = field("data_offsets");
    if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() || !offsets[1].is_number_unsigned()) {
      throw bad_tensor(name, "data_offsets " + offsets.dump(), "[begin, end]");
    }
    const auto begin = offsets[0].get<std::uint64_t>(), end = offsets[1].get<std::uint64_t>();
    if (begin > end || end > data.size()) {
      throw bad_tensor(name, "data_offsets " + offsets.dump(), concat("within the ", data.size(), " bytes of data"),
                      "is the download complete?");
    }
    if (known) {
      std::uint64_t expected = 0;
      if (__builtin_mul_overflow(count, static_cast<std::uint64_t>(size_of(dtype)), &expected) || expected != end - begin) {
        throw bad_tensor(name, concat(end - begin, " bytes"), concat(name_of(dtype), " ", shape_text(view.shape)));
      }
      view.data = data.data() + begin;
      tensors_.emplace(name, std::move(view));
    } else {
      unsupported_.emplace(name, field("dtype").get<std::string>());
    }
    return {name, begin, end};
  }

  [[nodiscard]] std::pair<DType, bool> read_dtype(const std::string& name, const nlohmann::json& value) const {
    const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
    for (int i = 0; i <= static_cast<int>(DType::kBool); ++i) {
      if (text == name_of(static_cast<DType>(i))) return {static_cast<DType>(i), true};
    }
    for (const std::string_view listed : {"F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "F6_E2M3", "F6_E3M2", "U16", "U32", "U64", "C64"}) {
      if (text == listed) return {DType::kU8, false};  // of the format, but of no use to Duet
    }
    throw bad_tensor(name, "dtype " + text, "one of the format's");
  }

  [[nodiscard]] Error malformed(std::string got, std::string expected, std::string hint = {}) const {
    return {ErrorKind::kMalformedFile, where_, std::move(got), std::move(expected), std::move(hint)};
  }
  [[nodiscard]] Error bad_tensor(const std::string& name, std::string got, std::string expected, std::string hint = {}) const {
    return {ErrorKind::kMalformedFile, concat(where_, ": ", name), std::move(got), std::move(expected), std::move(hint)};
  }

  std::string where_;
  std::map<std::string, TensorView, std::less<>> tensors_;
  std::map<std::string, std::string> unsupported_;  // name → dtype
  std::vector<std::string> names_;
  std::map<std::string, std::string> metadata_;
  std::uint64_t data_bytes_ = 0;
};

}  // namespace duet
