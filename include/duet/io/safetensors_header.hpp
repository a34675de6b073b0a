#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/core/error.hpp"
#include "duet/io/json.hpp"

namespace duet {

/// What a safetensors header says, as it says it: the numbers are checked by SafetensorsFile.
struct SafetensorsHeader {
  struct Tensor {
    std::string name, dtype;
    std::vector<std::uint64_t> shape, data_offsets;
  };
  std::vector<Tensor> tensors;  ///< in the header's order
  std::map<std::string, std::string> metadata;
};

namespace detail {

/// Listens to the JSON parser and accepts exactly the header's grammar, so that a hostile header is refused at its first
/// wrong token, deep nesting included, and nothing is built that the format does not have:
///
///     {"__metadata__": {string: string …}, name: {"dtype": string, "shape": [n …], "data_offsets": [begin, end]} …}
class SafetensorsHeaderReader final : public JsonEvents {
 public:
  explicit SafetensorsHeaderReader(std::string where) : where_(std::move(where)) {}

  [[nodiscard]] SafetensorsHeader take() && { return std::move(header_); }

  // The parser's events, by nlohmann/json's names.
  bool start_object(std::size_t) override {
    switch (place_) {
      case Place::kOutside: place_ = Place::kHeader; return true;
      case Place::kHeader:
        if (key_ == "__metadata__") {
          place_ = Place::kMetadata;
        } else {
          place_ = Place::kTensor;
          header_.tensors.push_back({key_, {}, {}, {}});
          fields_.clear();
        }
        return true;
      default: throw unexpected("an object");
    }
  }
  bool key(std::string& key) override {
    (place_ == Place::kHeader ? key_ : field_) = key;
    const bool is_new = place_ == Place::kHeader     ? names_.insert(key).second
                        : place_ == Place::kMetadata ? !header_.metadata.contains(key)
                                                     : fields_.insert(key).second;
    if (!is_new) throw malformed(concat("the key \"", shown(key), "\" twice"), "each key once");
    if (place_ == Place::kTensor && key != "dtype" && key != "shape" && key != "data_offsets") {
      throw malformed(concat("the key \"", shown(key), "\""), "dtype, shape and data_offsets");
    }
    return true;
  }
  bool string(std::string& value) override {
    if (place_ == Place::kMetadata) {
      header_.metadata.emplace(field_, std::move(value));
    } else if (place_ == Place::kTensor && field_ == "dtype") {
      header_.tensors.back().dtype = std::move(value);
    } else {
      throw unexpected("a string");
    }
    return true;
  }
  bool start_array(std::size_t) override {
    if (place_ != Place::kTensor || field_ == "dtype") throw unexpected("a list");
    place_ = field_ == "shape" ? Place::kShape : Place::kOffsets;
    return true;
  }
  bool number_unsigned(std::uint64_t value) override {
    if (place_ == Place::kShape) {
      header_.tensors.back().shape.push_back(value);
    } else if (place_ == Place::kOffsets && header_.tensors.back().data_offsets.size() < 2) {
      header_.tensors.back().data_offsets.push_back(value);
    } else {
      throw unexpected(concat("the number ", value));
    }
    return true;
  }
  bool end_array() override {
    if (place_ == Place::kOffsets && header_.tensors.back().data_offsets.size() != 2) throw unexpected("fewer numbers");
    place_ = Place::kTensor;
    return true;
  }
  bool end_object() override {
    if (place_ == Place::kTensor) {
      for (const char* field : {"dtype", "shape", "data_offsets"}) {
        if (!fields_.contains(field)) throw malformed(concat("no ", field), "dtype, shape and data_offsets");
      }
    }
    place_ = place_ == Place::kHeader ? Place::kOutside : Place::kHeader;
    return true;
  }
  bool null() override { throw unexpected("null"); }
  bool boolean(bool) override { throw unexpected("true or false"); }
  bool number_integer(std::int64_t value) override { throw unexpected(concat("the number ", value)); }
  bool number_float(double, const std::string& text) override { throw unexpected(concat("the number ", shown(text))); }
  bool binary(nlohmann::json::binary_t&) override { throw unexpected("bytes"); }
  bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception& error) override {
    throw Error(ErrorKind::kMalformedFile, where_, concat("a header that is not JSON (", json_problem(error), ")"),
                "a JSON object", "is this a safetensors file, and is the download complete?");
  }

 private:
  enum class Place : unsigned char { kOutside, kHeader, kMetadata, kTensor, kShape, kOffsets };

  [[nodiscard]] Error unexpected(std::string_view got) const {
    switch (place_) {
      case Place::kOutside: return malformed(concat("a header that is ", got), "a JSON object");
      case Place::kHeader:
        return malformed(got, key_ == "__metadata__" ? "an object of strings" : "an object with dtype, shape and data_offsets");
      case Place::kMetadata: return malformed(concat(got, " at \"", shown(field_), "\""), "a string");
      case Place::kTensor: return malformed(concat(got, " as ", field_), field_ == "dtype" ? "a string" : "a list of whole numbers");
      case Place::kShape: return malformed(concat(got, " in shape"), "whole numbers");
      case Place::kOffsets: return malformed(concat(got, " in data_offsets"), "[begin, end]");
    }
    return malformed(got, "nothing");
  }
  [[nodiscard]] Error malformed(std::string_view got, std::string_view expected) const {
    std::string where = where_;
    if (place_ == Place::kTensor || place_ == Place::kShape || place_ == Place::kOffsets || (place_ == Place::kHeader && !key_.empty())) {
      where += concat(": tensor ", shown(key_));
    }
    if (place_ == Place::kMetadata) where += ": __metadata__";
    return {ErrorKind::kMalformedFile, where, got, expected};
  }

  std::string where_;
  SafetensorsHeader header_;
  std::set<std::string, std::less<>> names_, fields_;  // keys met so far: of the header, of this tensor
  std::string key_, field_;                            // the last of each
  Place place_ = Place::kOutside;
};

}  // namespace detail

/// Parses a safetensors header. JSON whitespace may stand around the object, as in the reference reader; names must be
/// unique; nothing but the format's own fields may stand in it.
///
/// Errors  kMalformedFile, naming file and tensor
/// Source  safetensors, README "Format"
inline SafetensorsHeader parse_safetensors_header(std::string_view text, const std::string& where) {
  // The JSON library takes a zero byte for the end of its input and skips a byte order mark: not here.
  if (text.find('\0') != std::string_view::npos || text.starts_with("\xef\xbb\xbf")) {
    throw Error(ErrorKind::kMalformedFile, where, "a header that is not JSON", "a JSON object", "is this a safetensors file?");
  }
  detail::SafetensorsHeaderReader reader(where);
  read_json(text, reader);
  return std::move(reader).take();
}

}  // namespace duet
