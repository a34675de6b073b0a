#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/core/error.hpp"
#include "duet/io/json.hpp"
#include "duet/io/tokenizer/added_tokens.hpp"
#include "duet/io/tokenizer/normalizer.hpp"
#include "duet/io/tokenizer/vocabulary.hpp"

namespace duet::tokenization {

/// The added tokens of a tokenizer beside its model's vocabulary: their ids, where they are in a text, which are special.
///
/// Source  huggingface/tokenizers, src/tokenizer/added_vocabulary.rs
class AddedVocabulary {
 public:
  /// Reads "added_tokens" of tokenizer.json, then from "added_tokens_decoder" of tokenizer_config.json what is missing there.
  ///
  /// Errors  kMalformedFile for a token that comes twice, or whose id is not the one that the reference would give it: the
  ///         model's if it has the token, else the next free one
  AddedVocabulary(const JsonView& file, const JsonView& config, const Vocabulary& model, const Normalizer& normalizer) {
    if (file.contains("added_tokens")) {
      for (const JsonView& entry : file.at("added_tokens").elements()) {
        AddedToken token = read_added_token(entry);
        if (has(token.content)) throw Error(ErrorKind::kMalformedFile, entry.where(), concat('"', token.content, "\" again"), "each token once");
        add(std::move(token), entry.where(), model);
      }
    }
    for (auto& [id, token] : read_from_config(config)) {
      if (!has(token.content)) add(std::move(token), "tokenizer_config.json: added_tokens_decoder", model);
    }
    // Where two normalize to the same text, special ones come first.
    for (const bool special : {true, false}) {
      for (const AddedToken& token : tokens_) {
        if (token.special != special) continue;
        if (token.normalized) {
          normalized_.add(token, normalizer.apply(token.content));
        } else {
          plain_.add(token, token.content);
        }
      }
    }
  }

  /// To be searched for in a text as it is.
  [[nodiscard]] const AddedTokenFinder& plain() const noexcept { return plain_; }
  /// To be searched for in normalized text.
  [[nodiscard]] const AddedTokenFinder& normalized() const noexcept { return normalized_; }

  // Of tokens that the model does not have:
  [[nodiscard]] std::optional<TokenId> find(std::string_view token) const { return extra_.find(token); }
  [[nodiscard]] std::optional<std::string_view> token(TokenId id) const { return extra_.token(id); }
  [[nodiscard]] std::size_t id_end() const noexcept { return extra_.id_end(); }

  [[nodiscard]] bool is_special(TokenId id) const { return std::binary_search(special_ids_.begin(), special_ids_.end(), id); }

 private:
  void add(AddedToken token, const std::string& where, const Vocabulary& model) {
    const std::optional<TokenId> known = model.find(token.content);
    // The reference counts on from the model's number of tokens, whatever the file says.
    const auto next = static_cast<TokenId>(std::max(model.size(), extra_.id_end()));
    const TokenId expected = known.value_or(next);
    if (token.id != expected) {
      throw Error(ErrorKind::kMalformedFile, where, concat("id ", token.id, " for \"", token.content, '"'),
                  concat(expected, known ? ", as in the model's vocabulary" : ", the next free id"));
    }
    if (!known) {
      if (model.token(token.id)) {
        throw Error(ErrorKind::kMalformedFile, where, concat("id ", token.id, ", which \"", *model.token(token.id), "\" has"), "an id of its own");
      }
      extra_.add(token.content, token.id, where);
    }
    names_.add(token.content, static_cast<std::int64_t>(tokens_.size()), where);
    if (token.special) special_ids_.insert(std::upper_bound(special_ids_.begin(), special_ids_.end(), token.id), token.id);
    tokens_.push_back(std::move(token));
  }
  [[nodiscard]] bool has(std::string_view content) const { return names_.find(content).has_value(); }

  static std::multimap<TokenId, AddedToken> read_from_config(const JsonView& config) {
    std::multimap<TokenId, AddedToken> tokens;
    const JsonView decoder = config.object_or_empty("added_tokens_decoder");
    for (const auto& [key, entry] : decoder.json().items()) {
      nlohmann::json with_id = entry;
      const bool number = !key.empty() && key.size() <= 9 && key.find_first_not_of("0123456789") == std::string::npos;
      if (!number || !entry.is_object()) {
        throw Error(ErrorKind::kMalformedFile, concat(decoder.where(), ".", key), entry.type_name(), "a token under its id");
      }
      with_id["id"] = std::stol(key);
      AddedToken token = read_added_token(JsonView(with_id, concat(decoder.where(), ".", key)));
      tokens.emplace(token.id, std::move(token));
    }
    return tokens;
  }

  std::vector<AddedToken> tokens_;
  Vocabulary names_;  ///< from contents to places in tokens_
  Vocabulary extra_;
  std::vector<TokenId> special_ids_;  ///< sorted
  AddedTokenFinder plain_;
  AddedTokenFinder normalized_;
};

}  // namespace duet::tokenization
