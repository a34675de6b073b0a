#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/core/error.hpp"
#include "duet/core/token.hpp"
#include "duet/io/tokenizer/bpe_merge.hpp"
#include "duet/io/tokenizer/merge_table.hpp"
#include "duet/io/tokenizer/pieces.hpp"
#include "duet/io/tokenizer/vocabulary.hpp"
#include "duet/io/utf8.hpp"

namespace duet::tokenization {

/// What a BPE model does beyond merging; fields named as in tokenizer.json.
struct BpeOptions {
  std::optional<std::string> unk_token;
  std::string continuing_subword_prefix;
  std::string end_of_word_suffix;
  bool fuse_unk = false;
  bool byte_fallback = false;
  bool ignore_merges = false;
};

/// Byte-pair encoding: a piece becomes its characters, of which neighbours merge. Byte-level and sentencepiece-style
/// models differ only in what they do before.
///
/// Cost    linear in the text for models that split it into words; n log n for those that do not
/// Source  huggingface/tokenizers, src/models/bpe
class Bpe {
 public:
  Bpe(Vocabulary vocabulary, MergeTable merges, BpeOptions options)
      : vocabulary_(std::move(vocabulary)), merges_(std::move(merges)), options_(std::move(options)) {
    if (options_.unk_token) unk_id_ = vocabulary_.find(*options_.unk_token).value_or(kNone);
    if (options_.byte_fallback) {
      constexpr std::string_view kDigits = "0123456789ABCDEF";
      for (std::size_t b = 0; b < 256; ++b) {
        byte_ids_[b] = vocabulary_.find(concat("<0x", kDigits[b / 16], kDigits[b % 16], '>')).value_or(kNone);
      }
    }
    for (char32_t c = 0; c < kDirect; ++c) {
      std::string character;
      append_utf8(character, c);
      character_ids_[c] = vocabulary_.find(character).value_or(kNone);
    }
  }

  [[nodiscard]] const Vocabulary& vocabulary() const noexcept { return vocabulary_; }
  [[nodiscard]] std::optional<std::string_view> unk_token() const { return options_.unk_token; }

  /// Appends the tokens of all pieces to `ids`.
  /// Errors  kMalformedFile for a character without a token when unk_token is none either
  void encode(const Pieces& pieces, std::vector<TokenId>& ids) const {
    BpeMerger merger;
    std::vector<TokenId> word;
    RepeatedWords repeated(pieces.pieces.size() >= 64 ? 4096 : 0);
    for (const Pieces::Piece& piece : pieces.pieces) {
      const std::string_view text = pieces.view(piece);
      if (options_.ignore_merges) {
        if (const std::optional<TokenId> id = vocabulary_.find(text)) {
          ids.push_back(*id);
          continue;
        }
      }
      if (repeated.append(text, ids)) continue;
      word.clear();
      split_into_characters(text, word);
      merger.merge(word, merges_);
      repeated.remember(text, ids.size(), word.size());
      ids.insert(ids.end(), word.begin(), word.end());
    }
  }

 private:
  static constexpr TokenId kNone = -1;
  static constexpr std::size_t kDirect = 0x800;  // characters of one or two bytes

  /// Words of one call that came before, by where their ids lie in the call's result. Forgets when places are taken.
  class RepeatedWords {
   public:
    explicit RepeatedWords(std::size_t size) : words_(size) {}
    /// Appends the ids of `text`, if it is known.
    bool append(std::string_view text, std::vector<TokenId>& ids) const {
      if (words_.empty()) return false;
      const Word& word = words_[place(text)];
      if (word.text != text) return false;
      for (std::size_t i = 0; i < word.count; ++i) ids.push_back(TokenId{ids[word.begin + i]});
      return true;
    }
    void remember(std::string_view text, std::size_t begin, std::size_t count) {
      if (!words_.empty()) words_[place(text)] = {text, begin, count};
    }

   private:
    struct Word {
      std::string_view text;  // none is empty, so this is no word
      std::size_t begin = 0;
      std::size_t count = 0;
    };
    [[nodiscard]] std::size_t place(std::string_view text) const { return std::hash<std::string_view>{}(text) & (words_.size() - 1); }
    std::vector<Word> words_;
  };

  void split_into_characters(std::string_view text, std::vector<TokenId>& word) const {
    const bool plain = options_.continuing_subword_prefix.empty() && options_.end_of_word_suffix.empty();
    std::optional<TokenId> unknown;  // held back, because the next may be fused with it
    std::string affixed;
    for (std::size_t i = 0; i < text.size();) {
      const Utf8Step c = decode_utf8(text, i);
      std::string_view symbol = text.substr(i, c.length);
      if (!plain) {
        affixed.assign(i > 0 ? options_.continuing_subword_prefix : std::string());
        affixed += symbol;
        if (i + c.length == text.size()) affixed += options_.end_of_word_suffix;
        symbol = affixed;
      }
      i += c.length;
      const TokenId id = plain && c.code_point < kDirect ? character_ids_[c.code_point] : vocabulary_.find(symbol).value_or(kNone);
      if (id != kNone) {
        if (unknown) word.push_back(*unknown);
        unknown.reset();
        word.push_back(id);
      } else if (!append_bytes(symbol, word) && options_.unk_token) {
        if (unk_id_ == kNone) {
          throw Error(ErrorKind::kMalformedFile, "tokenizer.json: model.unk_token", concat('"', *options_.unk_token, '"'),
                      "a token of the vocabulary");
        }
        if (unknown && !options_.fuse_unk) word.push_back(*unknown);
        unknown = unk_id_;
      }
    }
    if (unknown) word.push_back(*unknown);
  }

  /// Appends one token for each byte, if there are such tokens for all of them.
  bool append_bytes(std::string_view symbol, std::vector<TokenId>& word) const {
    if (!options_.byte_fallback) return false;
    for (const char b : symbol) {
      if (byte_ids_[static_cast<std::uint8_t>(b)] == kNone) return false;
    }
    for (const char b : symbol) word.push_back(byte_ids_[static_cast<std::uint8_t>(b)]);
    return true;
  }

  Vocabulary vocabulary_;
  MergeTable merges_;
  BpeOptions options_;
  TokenId unk_id_ = kNone;
  std::array<TokenId, 256> byte_ids_{};
  std::array<TokenId, kDirect> character_ids_{};
};

}  // namespace duet::tokenization
