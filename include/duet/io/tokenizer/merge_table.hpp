#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "duet/core/token.hpp"

namespace duet::tokenization {

/// Which pairs of neighbouring tokens merge, how soon, and into what. The merges lie in the order of their ranks; an
/// open-addressed table finds a pair's rank.
class MergeTable {
 public:
  using Rank = std::uint32_t;
  static constexpr Rank kNoMerge = ~Rank{0};

  /// (left, right) becomes `result`.
  struct Merge {
    TokenId left, right, result;
  };

  /// Merges in the order of their ranks. A pair that comes twice has its later rank.
  explicit MergeTable(std::vector<Merge> merges)
      : ranks_(std::bit_ceil(merges.size() * 2 + 1), kNoMerge), merges_(std::move(merges)) {
    for (std::size_t i = 0; i < merges_.size(); ++i) {
      ranks_[find_slot(merges_[i].left, merges_[i].right)] = static_cast<Rank>(i);
    }
  }

  /// When (left, right) merge: the lower the sooner; kNoMerge if never.
  [[nodiscard]] Rank rank(TokenId left, TokenId right) const noexcept { return ranks_[find_slot(left, right)]; }
  /// What the merge of that rank makes.
  [[nodiscard]] TokenId result(Rank rank) const noexcept { return merges_[rank].result; }

 private:
  /// The slot with the pair's rank, or the free one where it belongs.
  [[nodiscard]] std::size_t find_slot(TokenId left, TokenId right) const noexcept {
    const std::size_t mask = ranks_.size() - 1;
    const std::uint64_t key = (std::uint64_t{static_cast<std::uint32_t>(left)} << 32) | static_cast<std::uint32_t>(right);
    std::uint64_t hash = key * 0x9E3779B97F4A7C15U;
    hash ^= hash >> 32;
    for (std::size_t i = static_cast<std::size_t>(hash) & mask;; i = (i + 1) & mask) {
      const Rank rank = ranks_[i];
      if (rank == kNoMerge || (merges_[rank].left == left && merges_[rank].right == right)) return i;
    }
  }

  std::vector<Rank> ranks_;  ///< a power of two of them, at most half full
  std::vector<Merge> merges_;
};

}  // namespace duet::tokenization
