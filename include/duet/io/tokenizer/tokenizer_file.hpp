#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
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

/// tokenizer.json, taken apart: the large parts as what they become, the small rest as JSON.
struct TokenizerFile {
  nlohmann::json rest = nlohmann::json::object();  ///< without model.vocab and model.merges
  Vocabulary vocabulary;
  std::optional<std::vector<double>> scores;  ///< by id, where model.vocab is a list: [["<unk>", 0.0], ["a", -3.2]]
  MergeList merges;
};

/// Builds a TokenizerFile while the text is read: a tree of 10⁶ nodes for vocabulary and merges would take most of the loading time.
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
  /// Where the next value stands: in the rest, or within one of the large parts.
  enum class Part : unsigned char { kRest, kVocab, kScores, kScore, kMerges, kMerge };

  explicit TokenizerFileReader(const std::string& where) : JsonTreeReader(where) {}

  // What the JSON reader calls.
  void null() override {
    require_rest("null");
    JsonTreeReader::null();
  }
  void boolean(bool x) override {
    require_rest("boolean");
    JsonTreeReader::boolean(x);
  }
  void number_integer(std::int64_t x) override {
    if (part_ == Part::kVocab) return file_.vocabulary.add(key_, x, where_);
    if (part_ == Part::kScore) return score(static_cast<double>(x));
    require_rest("number");
    JsonTreeReader::number_integer(x);
  }
  void number_unsigned(std::uint64_t x) override {
    if (part_ == Part::kRest) return JsonTreeReader::number_unsigned(x);
    if (part_ == Part::kScore) return score(static_cast<double>(x));
    number_integer(static_cast<std::int64_t>(std::min<std::uint64_t>(x, std::uint64_t{1} << 40)));  // no id is larger
  }
  void number_float(double x, std::string_view text) override {
    if (part_ == Part::kScore) return score(x);
    require_rest("number");
    JsonTreeReader::number_float(x, text);
  }
  void string(std::string_view x) override {
    if (part_ == Part::kMerges) return merge(x);
    if (part_ == Part::kMerge || (part_ == Part::kScore && count_ == 0)) {
      if (count_ < 2) pair_[count_] = x;
      ++count_;
      return;
    }
    require_rest("string");
    JsonTreeReader::string(x);
  }
  void start_object() override {
    if (part_ == Part::kRest && in_model() && key_ == "vocab") {
      part_ = Part::kVocab;
      return;
    }
    require_rest("object");
    JsonTreeReader::start_object();
    if (open_.size() == 2 && key_ == "model") model_ = open_[1];
  }
  void end_object() override {
    if (part_ == Part::kRest) return close();
    part_ = Part::kRest;
  }
  void start_array() override {
    if (part_ == Part::kMerges || part_ == Part::kScores) {
      part_ = part_ == Part::kMerges ? Part::kMerge : Part::kScore;
      count_ = 0;
    } else if (part_ == Part::kRest && in_model() && key_ == "merges") {
      part_ = Part::kMerges;
    } else if (part_ == Part::kRest && in_model() && key_ == "vocab") {
      part_ = Part::kScores;
      file_.scores.emplace();
    } else {
      require_rest("array");
      JsonTreeReader::start_array();
    }
  }
  void end_array() override {
    if (part_ == Part::kRest) return close();
    if ((part_ == Part::kMerge || part_ == Part::kScore) && count_ != 2) throw wrong(concat("a list of ", count_));
    if (part_ == Part::kMerge) {
      file_.merges.add(pair_[0], pair_[1]);
      part_ = Part::kMerges;
    } else if (part_ == Part::kScore) {
      file_.vocabulary.add(pair_[0], static_cast<std::int64_t>(file_.scores->size()), concat(where_, ": model.vocab"));
      file_.scores->push_back(score_);
      part_ = Part::kScores;
    } else {
      part_ = Part::kRest;
    }
  }

  /// Whether the container about to open is a member of "model".
  [[nodiscard]] bool in_model() const { return open_.size() == 2 && open_[1] == model_; }

  void score(double x) {
    if (count_++ != 1) throw wrong("number");
    score_ = x;
  }
  void merge(std::string_view line) {
    if (line.starts_with("#version")) return;
    const std::size_t space = line.find(' ');
    if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) throw wrong(concat('"', line, '"'));
    file_.merges.add(line.substr(0, space), line.substr(space + 1));
  }

  void require_rest(std::string_view got) const {
    if (part_ != Part::kRest) throw wrong(got);
  }
  [[nodiscard]] Error wrong(std::string_view got) const {
    const auto error = [&](std::string_view place, std::string_view expected) {
      return Error(ErrorKind::kMalformedFile, concat(where_, ": model.", place), got, expected);
    };
    if (part_ == Part::kVocab) return error(concat("vocab.", key_), "an id");
    if (part_ == Part::kMerges || part_ == Part::kMerge) return error(concat("merges[", file_.merges.size(), ']'), "two tokens");
    return error(concat("vocab[", file_.scores->size(), ']'), "a token and its log-probability");
  }

  TokenizerFile file_;
  Part part_ = Part::kRest;
  const nlohmann::json* model_ = nullptr;
  // The merge, or the token and its score, that is being read:
  std::array<std::string, 2> pair_;
  double score_ = 0;
  std::size_t count_ = 0;
};

}  // namespace duet::tokenization
