#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include "duet/core/error.hpp"
#include "duet/core/token.hpp"
#include "duet/io/tokenizer/merge_table.hpp"

namespace duet::tokenization {

/// Merges neighbours, lowest rank first and leftmost first among equals, until none merge. Keeps its memory between calls.
///
/// Errors  kInvalidArgument for more than 2³² - 2 tokens
/// Cost    n² for up to 32 tokens (faster there), n log n beyond
/// Source  Sennrich et al. 2016, arXiv:1508.07909
class BpeMerger {
 public:
  /// `ids` in place.
  void merge(std::vector<TokenId>& ids, const MergeTable& table) {
    if (ids.size() <= 32) {
      merge_short(ids, table);
    } else {
      merge_long(ids, table);
    }
  }

 private:
  using Rank = MergeTable::Rank;
  static constexpr Rank kNoMerge = MergeTable::kNoMerge;

  /// Looks through all pairs for each merge.
  void merge_short(std::vector<TokenId>& ids, const MergeTable& table) {
    ranks_.clear();  // ranks_[i]: of (i, i + 1)
    for (std::size_t i = 0; i + 1 < ids.size(); ++i) ranks_.push_back(table.rank(ids[i], ids[i + 1]));
    while (!ranks_.empty()) {
      const auto best = std::min_element(ranks_.begin(), ranks_.end());
      if (*best == kNoMerge) return;
      const auto at = static_cast<std::size_t>(best - ranks_.begin());
      ids[at] = table.result(*best);
      ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(at) + 1);
      ranks_.erase(best);
      if (at > 0) ranks_[at - 1] = table.rank(ids[at - 1], ids[at]);
      if (at < ranks_.size()) ranks_[at] = table.rank(ids[at], ids[at + 1]);
    }
  }

  /// A heap of merges over a linked list of tokens. An entry is out of date when its rank is not its pair's any more.
  void merge_long(std::vector<TokenId>& ids, const MergeTable& table) {
    constexpr std::uint32_t kEnd = std::numeric_limits<std::uint32_t>::max();
    if (ids.size() >= kEnd) throw Error(ErrorKind::kInvalidArgument, "text", concat(ids.size(), " characters"), concat("fewer than ", kEnd));
    const auto count = static_cast<std::uint32_t>(ids.size());
    symbols_.clear();
    heap_.clear();
    for (std::uint32_t i = 0; i < count; ++i) {
      const bool last = i + 1 == count;
      const Rank rank = last ? kNoMerge : table.rank(ids[i], ids[i + 1]);
      symbols_.push_back({ids[i], rank, i == 0 ? kEnd : i - 1, last ? kEnd : i + 1});
      if (rank != kNoMerge) heap_.push_back(entry(rank, i));
    }
    std::make_heap(heap_.begin(), heap_.end(), std::greater<>{});
    const auto update = [&](std::uint32_t at) {
      Symbol& symbol = symbols_[at];
      symbol.rank = symbol.next == kEnd ? kNoMerge : table.rank(symbol.id, symbols_[symbol.next].id);
      if (symbol.rank == kNoMerge) return;
      heap_.push_back(entry(symbol.rank, at));
      std::push_heap(heap_.begin(), heap_.end(), std::greater<>{});
    };
    while (!heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end(), std::greater<>{});
      const std::uint64_t top = heap_.back();
      heap_.pop_back();
      const auto at = static_cast<std::uint32_t>(top);
      Symbol& symbol = symbols_[at];
      if (symbol.rank != static_cast<Rank>(top >> 32)) continue;
      symbol.id = table.result(symbol.rank);
      symbols_[symbol.next].rank = kNoMerge;  // gone
      symbol.next = symbols_[symbol.next].next;
      if (symbol.next != kEnd) symbols_[symbol.next].previous = at;
      update(at);
      if (symbol.previous != kEnd) update(symbol.previous);
    }
    ids.clear();
    for (std::uint32_t i = 0; i != kEnd; i = symbols_[i].next) ids.push_back(symbols_[i].id);
  }

  struct Symbol {
    TokenId id;
    Rank rank;  ///< of the pair with the next one; kNoMerge once merged away
    std::uint32_t previous;
    std::uint32_t next;
  };
  static std::uint64_t entry(Rank rank, std::uint32_t at) noexcept { return (std::uint64_t{rank} << 32) | at; }

  std::vector<Rank> ranks_;
  std::vector<Symbol> symbols_;
  std::vector<std::uint64_t> heap_;
};

}  // namespace duet::tokenization
