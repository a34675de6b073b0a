#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/core/error.hpp"
#include "duet/io/json.hpp"
#include "duet/io/tokenizer/vocabulary.hpp"

namespace duet::tokenization {

/// Merges as the file spells them, in the order of their ranks: two strings each, all in one.
class MergeList {
 public:
  void add(std::string_view left, std::string_view right) {
    sizes_.push_back({static_cast<std::uint32_t>(left.size()), static_cast<std::uint32_t>(right.size())});
    text_ += left;
    text_ += right;
  }
  [[nodiscard]] std::size_t size() const noexcept { return sizes_.size(); }

  /// Calls visit(left, right) for each; the two lie next to each other in memory.
  template <class Visit>
  void for_each(const Visit& visit) const {
    std::string_view rest = text_;
    for (const auto& [left, right] : sizes_) {
      visit(rest.substr(0, left), rest.substr(left, right));
      rest.remove_prefix(std::size_t{left} + right);
    }
  }

 private:
  struct Sizes {
    std::uint32_t left, right;
  };
  std::string text_;
  std::vector<Sizes> sizes_;
};

/// tokenizer.json, taken apart: the two large parts as what they become, the small rest as JSON.
struct TokenizerFile {
  nlohmann::json rest = nlohmann::json::object();  ///< without model.vocab and model.merges
  Vocabulary vocabulary;
  MergeList merges;
};

/// Builds a TokenizerFile while nlohmann/json reads (its SAX interface): a tree of 10⁶ nodes for vocabulary and merges
/// would take most of the loading time.
class TokenizerFileReader final : private JsonTreeReader {
 public:
  /// Errors  kMalformedFile for what is no JSON or no vocabulary; `where` names the file
  [[nodiscard]] static TokenizerFile read(std::string_view text, const std::string& where) {
    reject_lfs_pointer(text, where);
    TokenizerFileReader reader(where);
    read_json(text, reader);
    reader.file_.rest = std::move(reader).take();
    return std::move(reader.file_);
  }

 private:
  enum class Part : unsigned char { kRest, kVocab, kMerges, kMergePair };

  explicit TokenizerFileReader(const std::string& where) : JsonTreeReader(where) {}

  // What nlohmann/json calls.
  bool null() override { return value(nullptr); }
  bool boolean(bool x) override { return value(x); }
  bool number_integer(std::int64_t x) override { return part_ == Part::kVocab ? token(x) : value(x); }
  bool number_unsigned(std::uint64_t x) override {
    return part_ == Part::kVocab ? token(static_cast<std::int64_t>(std::min<std::uint64_t>(x, std::uint64_t{1} << 40))) : value(x);
  }
  bool number_float(double x, const std::string&) override { return value(x); }
  bool string(std::string& x) override {
    if (part_ == Part::kMerges) return merge(x);
    if (part_ == Part::kMergePair) {
      pair_.push_back(std::move(x));
      return true;
    }
    return value(std::move(x));
  }
  bool start_object(std::size_t) override {
    enter();
    if (part_ == Part::kRest && in_model() && key_ == "vocab") {
      part_ = Part::kVocab;
      return true;
    }
    return open(nlohmann::json::object());
  }
  bool end_object() override {
    --depth_;
    if (part_ == Part::kVocab) {
      part_ = Part::kRest;
      return true;
    }
    return close();
  }
  bool start_array(std::size_t) override {
    enter();
    if (part_ == Part::kRest && in_model() && key_ == "merges") {
      part_ = Part::kMerges;
      return true;
    }
    if (part_ == Part::kMerges) {
      part_ = Part::kMergePair;
      pair_.clear();
      return true;
    }
    return open(nlohmann::json::array());
  }
  bool end_array() override {
    --depth_;
    if (part_ == Part::kMergePair) {
      if (pair_.size() != 2) throw bad_merge(concat("a list of ", pair_.size()));
      file_.merges.add(pair_[0], pair_[1]);
      part_ = Part::kMerges;
      return true;
    }
    if (part_ == Part::kMerges) {
      part_ = Part::kRest;
      return true;
    }
    return close();
  }
  void enter() {
    constexpr int kMaxDepth = 64;
    if (++depth_ > kMaxDepth) throw Error(ErrorKind::kMalformedFile, where_, concat("JSON nested deeper than ", kMaxDepth), "a flatter document");
  }
  /// Whether the container about to open is a member of "model".
  [[nodiscard]] bool in_model() const { return open_.size() == 2 && open_[1] == model_; }

  bool token(std::int64_t id) {
    file_.vocabulary.add(key_, id, where_);
    return true;
  }
  bool merge(std::string_view line) {
    if (line.starts_with("#version")) return true;
    const std::size_t space = line.find(' ');
    if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) throw bad_merge(concat('"', line, '"'));
    file_.merges.add(line.substr(0, space), line.substr(space + 1));
    return true;
  }
  [[nodiscard]] Error bad_merge(std::string_view got) const {
    return {ErrorKind::kMalformedFile, concat(where_, ": model.merges[", file_.merges.size(), "]"), got, "two tokens"};
  }

  bool value(nlohmann::json x) {
    if (part_ == Part::kVocab) throw Error(ErrorKind::kMalformedFile, concat(where_, ": model.vocab.", key_), x.type_name(), "an id");
    if (part_ != Part::kRest) throw bad_merge(x.type_name());
    return JsonTreeReader::value(std::move(x));
  }
  bool open(nlohmann::json container) {
    if (part_ == Part::kVocab) throw Error(ErrorKind::kMalformedFile, concat(where_, ": model.vocab.", key_), container.type_name(), "an id");
    if (part_ != Part::kRest) throw bad_merge(container.type_name());
    JsonTreeReader::open(std::move(container));
    if (open_.size() == 2 && key_ == "model") model_ = open_[1];
    return true;
  }

  TokenizerFile file_;
  Part part_ = Part::kRest;
  int depth_ = 0;
  const nlohmann::json* model_ = nullptr;
  std::vector<std::string> pair_;
};

}  // namespace duet::tokenization
