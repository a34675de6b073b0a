#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/core/error.hpp"
#include "duet/io/tokenizer/pattern.hpp"

namespace duet::tokenization {

/// Text cut into pieces that a model turns into tokens one by one. No piece is empty.
struct Pieces {
  struct Piece {
    TextRange range;
    enum class Place : unsigned char { kBeginsText, kLater } place;  ///< whether it stands at the start of the whole input
  };
  std::string text;
  std::vector<Piece> pieces;

  [[nodiscard]] std::string_view view(const Piece& piece) const {
    return std::string_view(text).substr(piece.range.begin, piece.range.end - piece.range.begin);
  }
  /// Adds a part of `parent` (in its own bytes), unless it is empty.
  void add_part(const Piece& parent, TextRange part) {
    if (part.begin == part.end) return;
    pieces.push_back({{parent.range.begin + part.begin, parent.range.begin + part.end},
                      part.begin == 0 ? parent.place : Piece::Place::kLater});
  }
};

/// What becomes of the matches when a piece is split.
enum class SplitBehavior : unsigned char { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

/// Errors  kMalformedFile for another word
[[nodiscard]] inline SplitBehavior read_split_behavior(const JsonView& view) {
  const auto name = view.as<std::string>();
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  throw Error(ErrorKind::kMalformedFile, view.where(), concat('"', name, '"'),
              "Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous");
}

/// Adds the parts of `piece` that `sections` (which cover it) make under `behavior`; the list is used up.
/// Source  huggingface/tokenizers, NormalizedString::split
inline void add_split(std::vector<Section>& sections, SplitBehavior behavior, const Pieces::Piece& piece, Pieces& result) {
  using Kind = Section::Kind;
  const auto add_all = [&] {
    for (const Section& section : sections) result.add_part(piece, section.range);
  };
  switch (behavior) {
    case SplitBehavior::kIsolated: add_all(); return;
    case SplitBehavior::kRemoved:
      for (const Section& section : sections) {
        if (section.kind == Kind::kBetween) result.add_part(piece, section.range);
      }
      return;
    case SplitBehavior::kContiguous: {  // neighbours of one kind become one
      std::size_t kept = 0;
      Kind previous = Kind::kBetween;
      for (const Section& section : sections) {
        if (kept > 0 && section.kind == previous) {
          sections[kept - 1].range.end = section.range.end;
        } else {
          sections[kept++].range = section.range;
        }
        previous = section.kind;
      }
      sections.resize(kept, Section{{0, 0}, Kind::kBetween});
      add_all();
      return;
    }
    case SplitBehavior::kMergedWithPrevious: {
      std::size_t kept = 0;
      Kind previous = Kind::kBetween;
      for (const Section& section : sections) {
        if (kept > 0 && section.kind == Kind::kMatch && previous == Kind::kBetween) {
          sections[kept - 1].range.end = section.range.end;
        } else {
          sections[kept++].range = section.range;
        }
        previous = section.kind;
      }
      sections.resize(kept, Section{{0, 0}, Kind::kBetween});
      add_all();
      return;
    }
    case SplitBehavior::kMergedWithNext: {  // the same, from the back
      std::size_t first = sections.size();
      Kind next = Kind::kBetween;
      for (std::size_t i = sections.size(); i-- > 0;) {
        const Section section = sections[i];
        if (first < sections.size() && section.kind == Kind::kMatch && next == Kind::kBetween) {
          sections[first].range.begin = section.range.begin;
        } else {
          sections[--first].range = section.range;
        }
        next = section.kind;
      }
      for (std::size_t i = first; i < sections.size(); ++i) result.add_part(piece, sections[i].range);
      return;
    }
  }
}

}  // namespace duet::tokenization
