#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "duet/core/error.hpp"
#include "duet/io/json.hpp"
#include "duet/io/tokenizer/bpe.hpp"
#include "duet/io/tokenizer/merge_table.hpp"
#include "duet/io/tokenizer/tokenizer_file.hpp"

namespace duet::tokenization {

/// What turns pieces into ids. A new kind (Unigram, WordPiece) is a class with vocabulary(), unk_token() and
/// encode(pieces, ids) here, and a branch in read_model().
using Model = std::variant<Bpe>;

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

inline Bpe read_bpe(const JsonView& model, TokenizerFile& file) {
  if (model.contains("vocab")) {  // an object would not be here
    throw Error(ErrorKind::kMalformedFile, model.at("vocab").where(), model.at("vocab").json().type_name(), "an object of tokens and ids");
  }
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
/// Errors  kUnsupportedModel for another kind than BPE; kMalformedFile, kInvalidArgument
[[nodiscard]] inline Model read_model(TokenizerFile& file) {
  const JsonView model = JsonView(file.rest, "tokenizer.json").at("model");
  const bool merges = file.merges.size() > 0;
  const auto type = model.get_or<std::string>("type", merges ? "BPE" : "nothing");  // the oldest files do not say
  if (type == "BPE") return detail::read_bpe(model, file);
  throw Error(ErrorKind::kUnsupportedModel, "tokenizer.json: model.type", type, "BPE");
}

}  // namespace duet::tokenization
