#pragma once

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "duet/fusion/image_rows.hpp"

namespace duet {

/// Which pictures a text row sees, of those whose image tokens stand at or before it.
enum class PictureViews : unsigned char {
  kLast,     ///< the last one (Flamingo, Idefics)
  kLastRun,  ///< the last one, and those whose image tokens stand directly before its own (Llama 3.2 Vision)
};

/// Says what the rows of a prompt see of a memory: from each image token on, what `views` says; rows before the first one keep what they
/// see. `seen` are the rows of the memory that each picture has to show, and its image tokens stand at the prompt's rows `tokens`.
///
/// Requires  tokens in order, at most as many as pictures
inline void view_pictures(Prompt& prompt, std::span<const Index> tokens, std::span<const kernels::KeyRange> seen, PictureViews views) {
  if (tokens.empty()) return;
  const auto later = std::ranges::lower_bound(prompt.extra_visible_images, tokens.front(), {}, &ExtraRange::row);
  prompt.extra_visible_images.erase(later, prompt.extra_visible_images.end());
  std::size_t first = 0, count = 0;  // pictures in view
  for (Index row = tokens.front(); row < prompt.size(); ++row) {
    if (first + count < tokens.size() && tokens[first + count] == row) {
      const bool joins = views == PictureViews::kLastRun && count > 0 && tokens[first + count - 1] + 1 == row;
      if (!joins) first += std::exchange(count, 0);
      ++count;
    }
    // Ranges that touch are one.
    kernels::KeyRange range = seen[first];
    std::vector<kernels::KeyRange> ranges;
    for (std::size_t i = first + 1; i < first + count; ++i) {
      if (seen[i].begin == range.end) {
        range.end = seen[i].end;
      } else {
        ranges.push_back(std::exchange(range, seen[i]));
      }
    }
    ranges.push_back(range);
    prompt.visible_images[static_cast<std::size_t>(row)] = ranges.front();
    for (std::size_t i = 1; i < ranges.size(); ++i) prompt.extra_visible_images.push_back({row, ranges[i]});
  }
}

}  // namespace duet
