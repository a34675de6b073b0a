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
  std::vector<MergeTable::Merge> resolved;
  resolved.reserve(merges.size());
  std::size_t index = 0;
  std::string joined;
  TokenId made = 0;  // by the merge before
  const auto id_of = [&](std::string_view token) {
    if (const auto id = vocabulary.find(token)) return *id;
    throw Error(ErrorKind::kMalformedFile, concat("tokenizer.json: model.merges[", index, "]"), concat('"', token, '"'), "tokens of the vocabulary");
  };
  // Most files list merges in the order of what they make: by the ids.
  const auto made_id = [&](std::string_view token) {
    for (const TokenId guess : {made, made + 1}) {
      if (vocabulary.token(guess) == token) return made = guess;
    }
    return made = id_of(token);
  };
  merges.for_each([&](std::string_view left, std::string_view right) {
    const TokenId left_id = id_of(left);
    const TokenId right_id = id_of(right);
    if (prefix.empty()) {
      resolved.push_back({left_id, right_id, made_id({left.data(), left.size() + right.size()})});  // neighbours in the list
    } else {
      if (right.size() < prefix.size()) {
        throw Error(ErrorKind::kMalformedFile, concat("tokenizer.json: model.merges[", index, "]"), concat('"', right, '"'),
                    "a continuing_subword_prefix");
      }
      joined.assign(left).append(right.substr(prefix.size()));
      resolved.push_back({left_id, right_id, made_id(joined)});
    }
    ++index;
  });
  return MergeTable(std::move(resolved));
}

/// Checks that the vocabulary was an object, which would be in `file`.
inline void require_vocabulary(const JsonView& model, const TokenizerFile& file) {
  if (!model.contains("vocab") && !file.scores) return;
  throw Error(ErrorKind::kMalformedFile, concat(model.prefix(), "vocab"), file.scores ? "array" : model.at("vocab").json().type_name(),
              "an object of tokens and ids");
}

inline WordPiece read_wordpiece(const JsonView& model, TokenizerFile& file) {
  require_vocabulary(model, file);
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

inline Unigram read_unigram(const JsonView& model, TokenizerFile& file) {
  if (!file.scores || file.scores->size() != file.vocabulary.size()) {
    const std::string_view got = file.vocabulary.size() > 0 ? "object" : model.contains("vocab") ? model.at("vocab").json().type_name() : "nothing";
    throw Error(ErrorKind::kMalformedFile, concat(model.prefix(), "vocab"), got, "a list of tokens and log-probabilities");
  }
  std::optional<TokenId> unk_id;
  if (model.contains("unk_id")) unk_id = model.get<TokenId>("unk_id");
  if (unk_id && !file.vocabulary.token(*unk_id)) {
    throw Error(ErrorKind::kMalformedFile, model.at("unk_id").where(), concat(*unk_id), concat("the id of a token, below ", file.scores->size()));
  }
  const auto unknown = model.get_or("byte_fallback", false) ? Unigram::Unknown::kBytes : Unigram::Unknown::kToken;
  return {std::move(file.vocabulary), std::move(*file.scores), unk_id, unknown};
}

inline Bpe read_bpe(const JsonView& model, TokenizerFile& file) {
  require_vocabulary(model, file);
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
