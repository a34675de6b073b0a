#pragma once

#include <bit>
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

namespace duet::tokenization {

/// Tokens and their ids, both ways. The text of all tokens lies in one string; the table from text to id is open-addressed.
class Vocabulary {
 public:
  /// No vocabulary comes near; a larger id is a mistake, or an attempt to make us reserve memory.
  static constexpr TokenId kIdLimit = TokenId{1} << 22;

  /// Errors  kMalformedFile for an id out of range or taken, a token that is there already, and 2 GiB of them; `where` names the
  ///         file
  void add(std::string_view token, std::int64_t id, std::string_view where) {
    if (id < 0 || id >= kIdLimit) {
      throw Error(ErrorKind::kMalformedFile, concat(where, " \"", token, '"'), concat("id ", id), concat("an id between 0 and ", kIdLimit - 1));
    }
    if (token.size() >= kMostBytes - text_.size()) {
      throw Error(ErrorKind::kMalformedFile, where, "tokens without end", concat("at most ", kMostBytes, " bytes of them"));
    }
    const auto index = static_cast<std::size_t>(id);
    if (index >= entries_.size()) entries_.resize(index + 1);
    if (entries_[index].used()) {
      throw Error(ErrorKind::kMalformedFile, concat(where, " \"", token, '"'),
                  concat("id ", id, ", which \"", text(entries_[index]), "\" has"), "an id of its own");
    }
    if ((size_ + 1) * 2 > slots_.size()) grow_to((size_ + 1) * 4);
    const std::uint32_t hash = hash_of(token);
    Slot& slot = slots_[find_slot(token, hash)];
    if (slot.id >= 0) throw Error(ErrorKind::kMalformedFile, concat(where, " \"", token, '"'), "the token twice", "each token once");
    entries_[index] = {static_cast<std::uint32_t>(text_.size()), static_cast<std::uint32_t>(text_.size() + token.size())};
    text_ += token;
    slot = {hash, static_cast<TokenId>(id)};
    ++size_;
  }

  [[nodiscard]] std::optional<TokenId> find(std::string_view token) const {
    if (slots_.empty()) return std::nullopt;
    const TokenId id = slots_[find_slot(token, hash_of(token))].id;
    return id >= 0 ? std::optional(id) : std::nullopt;
  }
  /// The text of `id`, or nothing.
  [[nodiscard]] std::optional<std::string_view> token(TokenId id) const {
    const auto index = static_cast<std::size_t>(id);
    if (id < 0 || index >= entries_.size() || !entries_[index].used()) return std::nullopt;
    return text(entries_[index]);
  }
  /// How many tokens there are.
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  /// One more than the largest id.
  [[nodiscard]] std::size_t id_end() const noexcept { return entries_.size(); }

 private:
  static constexpr std::uint32_t kMostBytes = std::uint32_t{1} << 31;

  struct Entry {
    std::uint32_t begin = kMostBytes, end = kMostBytes;  // in text_
    [[nodiscard]] bool used() const noexcept { return begin != kMostBytes; }
  };
  struct Slot {
    std::uint32_t hash = 0;
    TokenId id = -1;
  };

  static std::uint32_t hash_of(std::string_view token) noexcept {
    const std::uint64_t hash = std::hash<std::string_view>{}(token);
    return static_cast<std::uint32_t>(hash ^ (hash >> 32));
  }
  [[nodiscard]] std::string_view text(const Entry& entry) const { return std::string_view(text_).substr(entry.begin, entry.end - entry.begin); }

  /// The slot of `token`, or the free one where it belongs.
  [[nodiscard]] std::size_t find_slot(std::string_view token, std::uint32_t hash) const {
    const std::size_t mask = slots_.size() - 1;
    for (std::size_t i = hash & mask;; i = (i + 1) & mask) {
      const Slot& slot = slots_[i];
      if (slot.id < 0 || (slot.hash == hash && text(entries_[static_cast<std::size_t>(slot.id)]) == token)) return i;
    }
  }
  void grow_to(std::size_t count) {
    if (count <= slots_.size()) return;
    const std::vector<Slot> old = std::exchange(slots_, std::vector<Slot>(std::bit_ceil(count)));
    const std::size_t mask = slots_.size() - 1;
    for (const Slot& slot : old) {
      if (slot.id < 0) continue;
      std::size_t i = slot.hash & mask;
      while (slots_[i].id >= 0) i = (i + 1) & mask;
      slots_[i] = slot;
    }
  }

  std::string text_;
  std::vector<Entry> entries_;  ///< by id
  std::vector<Slot> slots_;     ///< a power of two of them, at most half full
  std::size_t size_ = 0;
};

}  // namespace duet::tokenization
