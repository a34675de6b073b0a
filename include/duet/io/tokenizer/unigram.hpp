#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
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

/// A unigram language model (sentencepiece's): of all ways to cut a piece into tokens, the one whose log-probabilities add up to
/// the most. A character without a token costs 10 more than the rarest one; neighbours of that kind are one unknown token, or,
/// with byte_fallback, the tokens of their bytes.
///
/// Cost    linear in the text, times the longest token at worst
/// Source  huggingface/tokenizers, src/models/unigram; Kudo 2018 (1804.10959)
class Unigram {
 public:
  enum class Unknown : unsigned char { kToken, kBytes };

  /// `scores` are the tokens' log-probabilities, by id.
  /// Requires an unk_id of the vocabulary, and a score for each token
  Unigram(Vocabulary vocabulary, std::vector<double> scores, std::optional<TokenId> unk_id, Unknown unknown)
      : vocabulary_(std::move(vocabulary)), scores_(std::move(scores)), unk_id_(unk_id) {
    for (std::size_t id = 0; id < scores_.size(); ++id) sorted_.push_back(static_cast<TokenId>(id));
    std::ranges::sort(sorted_, {}, [&](TokenId id) { return text(id); });
    const double least = scores_.empty() ? 0.0 : *std::ranges::min_element(scores_);
    constexpr double kPenalty = 10.0;
    unknown_score_ = least - kPenalty;
    byte_ids_.fill(kNone);
    if (unknown == Unknown::kToken) return;
    constexpr std::string_view kDigits = "0123456789ABCDEF";
    for (std::size_t b = 0; b < 256; ++b) {
      byte_ids_[b] = vocabulary_.find(concat("<0x", kDigits[b / 16], kDigits[b % 16], '>')).value_or(kNone);
    }
  }

  [[nodiscard]] const Vocabulary& vocabulary() const noexcept { return vocabulary_; }
  [[nodiscard]] std::optional<std::string_view> unk_token() const { return unk_id_ ? vocabulary_.token(*unk_id_) : std::nullopt; }

  /// Appends the tokens of all pieces to `ids`.
  /// Errors  kMalformedFile for a character without a token when unk_id is none
  void encode(const Pieces& pieces, std::vector<TokenId>& ids) const {
    for (const Pieces::Piece& piece : pieces.pieces) append_best(pieces.view(piece), ids);
  }

 private:
  static constexpr TokenId kNone = -1;

  /// The best way to the end of a prefix of the piece: its score, and the last token, which began at `begin`.
  struct Node {
    double score = 0;
    std::size_t begin = kNowhere;
    TokenId id = kNone;
  };
  static constexpr std::size_t kNowhere = std::numeric_limits<std::size_t>::max();

  [[nodiscard]] std::string_view text(TokenId id) const { return *vocabulary_.token(id); }

  void append_best(std::string_view piece, std::vector<TokenId>& ids) const {
    std::vector<Node> best(piece.size() + 1);
    const auto offer = [&](std::size_t begin, std::size_t end, double score, TokenId id) {
      const double total = best[begin].score + score;
      if (best[end].begin == kNowhere || total > best[end].score) best[end] = {total, begin, id};
    };
    for (std::size_t begin = 0; begin < piece.size();) {
      const std::size_t character = decode_utf8(piece, begin).length;
      bool alone = false;  // whether the character is a token
      for_each_prefix(piece.substr(begin), [&](TokenId id, std::size_t length) {
        offer(begin, begin + length, scores_[static_cast<std::size_t>(id)], id);
        alone = alone || length == character;
      });
      if (!alone) {
        if (!unk_id_) throw Error(ErrorKind::kMalformedFile, "tokenizer.json: model.unk_id", "none", "a token for what the vocabulary lacks");
        offer(begin, begin + character, unknown_score_, *unk_id_);
      }
      begin += character;
    }
    std::vector<std::pair<std::size_t, TokenId>> path;  // where tokens begin, from the last
    for (std::size_t end = piece.size(); end > 0; end = path.back().first) path.emplace_back(best[end].begin, best[end].id);
    std::ranges::reverse(path);
    for (std::size_t i = 0; i < path.size();) {
      std::size_t next = i + 1;
      if (path[i].second != unk_id_) {
        ids.push_back(path[i].second);
      } else {
        while (next < path.size() && path[next].second == unk_id_) ++next;
        const std::size_t end = next < path.size() ? path[next].first : piece.size();
        append_unknown(piece.substr(path[i].first, end - path[i].first), ids);
      }
      i = next;
    }
  }

  void append_unknown(std::string_view unknown, std::vector<TokenId>& ids) const {
    if (const auto id = vocabulary_.find(unknown)) {
      ids.push_back(*id);
    } else if (std::ranges::all_of(unknown, [&](char b) { return byte_ids_[static_cast<std::uint8_t>(b)] != kNone; })) {
      for (const char b : unknown) ids.push_back(byte_ids_[static_cast<std::uint8_t>(b)]);
    } else {
      ids.push_back(*unk_id_);
    }
  }

  /// Calls visit(id, length) for every token that `rest` begins with, the shortest first.
  template <class Visit>
  void for_each_prefix(std::string_view rest, const Visit& visit) const {
    auto first = sorted_.begin(), last = sorted_.end();  // the tokens that agree so far
    for (std::size_t length = 1; length <= rest.size() && first != last; ++length) {
      const auto byte = [&](TokenId id) {  // what a token has at the new place; one that ended before comes first
        const std::string_view token = text(id);
        return token.size() < length ? -1 : int{static_cast<std::uint8_t>(token[length - 1])};
      };
      const int wanted = static_cast<std::uint8_t>(rest[length - 1]);
      first = std::partition_point(first, last, [&](TokenId id) { return byte(id) < wanted; });
      last = std::partition_point(first, last, [&](TokenId id) { return byte(id) == wanted; });
      if (first != last && text(*first).size() == length) visit(*first, length);
    }
  }

  Vocabulary vocabulary_;
  std::vector<double> scores_;
  std::optional<TokenId> unk_id_;
  std::vector<TokenId> sorted_;  ///< ids in the order of their tokens' bytes
  double unknown_score_ = 0;
  std::array<TokenId, 256> byte_ids_{};
};

}  // namespace duet::tokenization
