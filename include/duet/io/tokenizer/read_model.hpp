#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "duet/core/error.hpp"
#include "duet/io/json.hpp"
#include "duet/io/tokenizer/bpe.hpp"
#include "duet/io/tokenizer/merge_table.hpp"
#include "duet/io/tokenizer/tokenizer_file.hpp"
#include "duet/io/tokenizer/unigram.hpp"
#include "duet/io/tokenizer/wordpiece.hpp"

namespace duet::tokenization {

/// What turns pieces into ids. A new kind is a class with vocabulary(), unk_token() and encode(pieces, ids) here, and a branch
/// in read_model().
using Model = std::variant<Bpe, WordPiece, Unigram>;

namespace detail {

/// Errors  kMalformedFile for a merge of tokens, or into one, that the vocabulary lacks
inline MergeTable resolve_merges(const MergeList& merges, const Vocabulary& vocabulary, std::string_view prefix) {
  MergeTable table;
  table.reserve(merges.size());
  std::size_t index = 0;
  std::string joined;
  const auto id_of = [&](std::string_view token) {
    if (const auto id = vocabulary.find(token)) return *id;
    throw Error(ErrorKind::kMalformedFile, concat("tokenizer.json: model.merges[", index, "]"), concat('"', token, '"'), "tokens of the vocabulary");
  };
  merges.for_each([&](std::string_view left, std::string_view right) {
    const TokenId left_id = id_of(left);
    const TokenId right_id = id_of(right);
    if (prefix.empty()) {
      table.add(left_id, right_id, id_of({left.data(), left.size() + right.size()}));  // neighbours in the list
    } else {
      if (right.size() < prefix.size()) {
        throw Error(ErrorKind::kMalformedFile, concat("tokenizer.json: model.merges[", index, "]"), concat('"', right, '"'),
                    "a continuing_subword_prefix");
      }
      joined.assign(left).append(right.substr(prefix.size()));
      table.add(left_id, right_id, id_of(joined));
    }
    ++index;
  });
  return table;
}

/// Checks that the vocabulary was an object, which would be in `file`.
inline void require_vocabulary(const JsonView& model) {
  if (!model.contains("vocab")) return;
  throw Error(ErrorKind::kMalformedFile, model.at("vocab").where(), model.at("vocab").json().type_name(), "an object of tokens and ids");
}

inline WordPiece read_wordpiece(const JsonView& model, TokenizerFile& file) {
  require_vocabulary(model);
  WordPieceOptions options;
  options.unk_token = model.get_or<std::string>("unk_token", options.unk_token);
  options.continuing_subword_prefix = model.get_or<std::string>("continuing_subword_prefix", options.continuing_subword_prefix);
  options.max_input_chars_per_word = model.get_or<std::size_t>("max_input_chars_per_word", options.max_input_chars_per_word);
  constexpr std::size_t kMost = 10'000;  // the search is quadratic in it
  if (options.max_input_chars_per_word > kMost) {
    throw Error(ErrorKind::kMalformedFile, model.at("max_input_chars_per_word").where(), concat(options.max_input_chars_per_word), concat("at most ", kMost));
  }
  return {std::move(file.vocabulary), std::move(options)};
}

/// "vocab" is a list of tokens and their log-probabilities: [["<unk>", 0.0], ["a", -3.2]]; a token's place is its id.
inline Unigram read_unigram(const JsonView& model, const TokenizerFile& file) {
  Vocabulary vocabulary;
  std::vector<double> scores;
  if (file.vocabulary.size() > 0) throw Error(ErrorKind::kMalformedFile, concat(model.prefix(), "vocab"), "an object", "a list of tokens and log-probabilities");
  const JsonView list = model.at("vocab");
  if (!list.json().is_array()) throw Error(ErrorKind::kMalformedFile, list.where(), list.json().type_name(), "a list of tokens and log-probabilities");
  vocabulary.reserve(list.json().size());
  for (const nlohmann::json& entry : list.json()) {
    const std::string where = concat(list.where(), '[', scores.size(), ']');
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number()) {
      throw Error(ErrorKind::kMalformedFile, where, JsonView(entry, where).shown(), "a token and its log-probability");
    }
    vocabulary.add(entry[0].get_ref<const std::string&>(), static_cast<std::int64_t>(scores.size()), where);
    scores.push_back(entry[1].get<double>());
  }
  std::optional<TokenId> unk_id;
  if (model.contains("unk_id")) unk_id = model.get<TokenId>("unk_id");
  if (unk_id && !vocabulary.token(*unk_id)) {
    throw Error(ErrorKind::kMalformedFile, model.at("unk_id").where(), concat(*unk_id), concat("the id of a token, below ", scores.size()));
  }
  const auto unknown = model.get_or("byte_fallback", false) ? Unigram::Unknown::kBytes : Unigram::Unknown::kToken;
  return {std::move(vocabulary), std::move(scores), unk_id, unknown};
}

inline Bpe read_bpe(const JsonView& model, TokenizerFile& file) {
  require_vocabulary(model);
  if (model.contains("merges")) {
    throw Error(ErrorKind::kMalformedFile, model.at("merges").where(), model.at("merges").json().type_name(), "a list of merges");
  }
  if (model.get_or("dropout", 0.0) != 0.0) {
    throw Error(ErrorKind::kUnsupportedModel, model.at("dropout").where(), model.at("dropout").shown(), "none: dropout is for training");
  }
  BpeOptions options;
  if (model.contains("unk_token")) options.unk_token = model.get<std::string>("unk_token");
  options.continuing_subword_prefix = model.get_or<std::string>("continuing_subword_prefix", "");
  options.end_of_word_suffix = model.get_or<std::string>("end_of_word_suffix", "");
  options.fuse_unk = model.get_or("fuse_unk", false);
  options.byte_fallback = model.get_or("byte_fallback", false);
  options.ignore_merges = model.get_or("ignore_merges", false);
  MergeTable merges = resolve_merges(file.merges, file.vocabulary, options.continuing_subword_prefix);
  return Bpe(std::move(file.vocabulary), std::move(merges), std::move(options));
}

}  // namespace detail

/// The "model" of tokenizer.json; uses up `file`'s vocabulary.
/// Errors  kUnsupportedModel for another kind; kMalformedFile, kInvalidArgument
[[nodiscard]] inline Model read_model(TokenizerFile& file) {
  const JsonView model = JsonView(file.rest, "tokenizer.json").at("model");
  const bool merges = file.merges.size() > 0;
  const auto type = model.get_or<std::string>("type", merges ? "BPE" : "nothing");  // the oldest files do not say
  if (type == "BPE") return detail::read_bpe(model, file);
  if (type == "WordPiece") return detail::read_wordpiece(model, file);
  if (type == "Unigram") return detail::read_unigram(model, file);
  throw Error(ErrorKind::kUnsupportedModel, "tokenizer.json: model.type", type, "BPE, WordPiece or Unigram");
}

}  // namespace duet::tokenization
