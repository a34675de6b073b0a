#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/core/error.hpp"
#include "duet/io/json_reader.hpp"

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

/// Listens to the JSON reader and accepts exactly the header's grammar, so that a hostile header is refused at its first
/// wrong token, deep nesting included, and nothing is built that the format does not have:
///
///     {"__metadata__": {string: string …}, name: {"dtype": string, "shape": [n …], "data_offsets": [begin, end]} …}
class SafetensorsHeaderReader final : public JsonEvents {
 public:
  explicit SafetensorsHeaderReader(std::string where) : where_(std::move(where)) {}

  [[nodiscard]] SafetensorsHeader take() && { return std::move(header_); }

  void start_object() override {
    switch (place_) {
      case Place::kOutside: place_ = Place::kHeader; return;
      case Place::kHeader:
        if (key_ == "__metadata__") {
          place_ = Place::kMetadata;
        } else {
          place_ = Place::kTensor;
          header_.tensors.push_back({key_, {}, {}, {}});
          fields_.clear();
        }
        return;
      default: throw unexpected("an object");
    }
  }
  void key(std::string_view key) override {
    (place_ == Place::kHeader ? key_ : field_) = key;
    const bool is_new = place_ == Place::kHeader     ? names_.insert(key_).second
                        : place_ == Place::kMetadata ? !header_.metadata.contains(field_)
                                                     : fields_.insert(field_).second;
    if (!is_new) throw malformed(concat("the key \"", shown(key), "\" twice"), "each key once");
    if (place_ == Place::kTensor && key != "dtype" && key != "shape" && key != "data_offsets") {
      throw malformed(concat("the key \"", shown(key), "\""), "dtype, shape and data_offsets");
    }
  }
  void string(std::string_view value) override {
    if (place_ == Place::kMetadata) {
      header_.metadata.emplace(field_, value);
    } else if (place_ == Place::kTensor && field_ == "dtype") {
      header_.tensors.back().dtype = value;
    } else {
      throw unexpected("a string");
    }
  }
  void start_array() override {
    if (place_ != Place::kTensor || field_ == "dtype") throw unexpected("a list");
    place_ = field_ == "shape" ? Place::kShape : Place::kOffsets;
  }
  void number_unsigned(std::uint64_t value) override {
    if (place_ == Place::kShape) {
      header_.tensors.back().shape.push_back(value);
    } else if (place_ == Place::kOffsets && header_.tensors.back().data_offsets.size() < 2) {
      header_.tensors.back().data_offsets.push_back(value);
    } else {
      throw unexpected(concat("the number ", value));
    }
  }
  void end_array() override {
    if (place_ == Place::kOffsets && header_.tensors.back().data_offsets.size() != 2) throw unexpected("fewer numbers");
    place_ = Place::kTensor;
  }
  void end_object() override {
    if (place_ == Place::kTensor) {
      for (const char* field : {"dtype", "shape", "data_offsets"}) {
        if (!fields_.contains(field)) throw malformed(concat("no ", field), "dtype, shape and data_offsets");
      }
    }
    place_ = place_ == Place::kHeader ? Place::kOutside : Place::kHeader;
  }
  void null() override { throw unexpected("null"); }
  void boolean(bool) override { throw unexpected("true or false"); }
  void number_integer(std::int64_t value) override { throw unexpected(concat("the number ", value)); }
  void number_float(double, std::string_view text) override { throw unexpected(concat("the number ", shown(text))); }
  [[nodiscard]] Error parse_error(std::string_view problem) const override {
    return {ErrorKind::kMalformedFile, where_, concat("a header that is not JSON (", problem, ")"), "a JSON object",
            "is this a safetensors file, and is the download complete?"};
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
  if (text.starts_with("\xef\xbb\xbf")) {  // which other files may begin with
    throw Error(ErrorKind::kMalformedFile, where, "a header that is not JSON", "a JSON object", "is this a safetensors file?");
  }
  detail::SafetensorsHeaderReader reader(where);
  read_json(text, reader);
  return std::move(reader).take();
}

}  // namespace duet
