#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/core/error.hpp"
#include "duet/core/token.hpp"
#include "duet/io/tokenizer/pieces.hpp"
#include "duet/io/tokenizer/vocabulary.hpp"
#include "duet/io/utf8.hpp"

namespace duet::tokenization {

/// Fields named as in tokenizer.json.
struct WordPieceOptions {
  std::string unk_token = "[UNK]";
  std::string continuing_subword_prefix = "##";
  std::size_t max_input_chars_per_word = 100;
};

/// WordPiece (BERT's): a word becomes the longest token that it begins with, then the longest one that goes on, and so forth; a
/// word that cannot be covered is one unk_token.
///
/// Cost    linear in the text, times the longest word squared at worst
/// Source  huggingface/tokenizers, src/models/wordpiece; Devlin et al. 2018 (1810.04805)
class WordPiece {
 public:
  WordPiece(Vocabulary vocabulary, WordPieceOptions options) : vocabulary_(std::move(vocabulary)), options_(std::move(options)) {}

  [[nodiscard]] const Vocabulary& vocabulary() const noexcept { return vocabulary_; }
  [[nodiscard]] std::optional<std::string_view> unk_token() const { return options_.unk_token; }

  /// Appends the tokens of all pieces to `ids`.
  /// Errors  kMalformedFile for a word without tokens when the vocabulary lacks unk_token too
  void encode(const Pieces& pieces, std::vector<TokenId>& ids) const {
    for (const Pieces::Piece& piece : pieces.pieces) {
      const std::size_t before = ids.size();
      if (append_word(pieces.view(piece), ids)) continue;
      ids.resize(before);
      const auto unk = vocabulary_.find(options_.unk_token);
      if (!unk) throw Error(ErrorKind::kMalformedFile, "tokenizer.json: model.unk_token", concat('"', options_.unk_token, '"'), "a token of the vocabulary");
      ids.push_back(*unk);
    }
  }

 private:
  /// Appends the tokens of a word, as far as there are some; whether they cover it.
  bool append_word(std::string_view word, std::vector<TokenId>& ids) const {
    std::vector<std::size_t> ends;  // of characters
    for (std::size_t i = 0; i < word.size();) {
      i += decode_utf8(word, i).length;
      ends.push_back(i);
      if (ends.size() > options_.max_input_chars_per_word) return false;
    }
    std::string token;
    for (std::size_t begin = 0, first = 0; begin < word.size();) {
      std::size_t last = ends.size();
      for (; last > first; --last) {
        token.assign(begin > 0 ? options_.continuing_subword_prefix : std::string()).append(word.substr(begin, ends[last - 1] - begin));
        const auto id = vocabulary_.find(token);
        if (!id) continue;
        ids.push_back(*id);
        break;
      }
      if (last == first) return false;
      begin = ends[last - 1];
      first = last;
    }
    return true;
  }

  Vocabulary vocabulary_;
  WordPieceOptions options_;
};

}  // namespace duet::tokenization
