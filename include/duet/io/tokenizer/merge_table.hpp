#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "duet/core/token.hpp"

namespace duet::tokenization {

/// Which pairs of neighbouring tokens merge, how soon, and into what. Open-addressed, keyed by the two ids.
class MergeTable {
 public:
  using Rank = std::uint32_t;
  static constexpr Rank kNoMerge = ~Rank{0};

  void reserve(std::size_t count) {
    slots_.assign(std::bit_ceil(count * 2 + 1), Slot{});
    results_.reserve(count);
  }
  /// The next rank merges (left, right) into `result`. A pair that comes twice has its later rank.
  /// Requires  no more calls than reserve() announced
  void add(TokenId left, TokenId right, TokenId result) {
    const std::uint64_t key = key_of(left, right);
    Slot& slot = slots_[find_slot(key)];
    slot.key = key;
    slot.rank = static_cast<Rank>(results_.size());
    results_.push_back(result);
  }

  /// When (left, right) merge: the lower the sooner; kNoMerge if never.
  [[nodiscard]] Rank rank(TokenId left, TokenId right) const noexcept {
    const std::uint64_t key = key_of(left, right);
    const Slot& slot = slots_[find_slot(key)];
    return slot.key == key ? slot.rank : kNoMerge;
  }
  /// What the merge of that rank makes.
  [[nodiscard]] TokenId result(Rank rank) const noexcept { return results_[rank]; }

 private:
  static constexpr std::uint64_t kFree = ~std::uint64_t{0};
  struct Slot {
    std::uint64_t key = kFree;
    Rank rank = 0;
  };

  static std::uint64_t key_of(TokenId left, TokenId right) noexcept {
    return (std::uint64_t{static_cast<std::uint32_t>(left)} << 32) | static_cast<std::uint32_t>(right);
  }
  [[nodiscard]] std::size_t find_slot(std::uint64_t key) const noexcept {
    const std::size_t mask = slots_.size() - 1;
    std::uint64_t hash = key * 0x9E3779B97F4A7C15U;
    hash ^= hash >> 32;
    std::size_t i = static_cast<std::size_t>(hash) & mask;
    while (slots_[i].key != key && slots_[i].key != kFree) i = (i + 1) & mask;
    return i;
  }

  std::vector<Slot> slots_ = std::vector<Slot>(1);
  std::vector<TokenId> results_;  ///< by rank
};

}  // namespace duet::tokenization
