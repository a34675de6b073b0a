#pragma once

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "duet/core/matrix.hpp"
#include "duet/core/token.hpp"
#include "duet/layers/kv_cache.hpp"
#include "duet/models/image_rows.hpp"

namespace duet {

/// A prompt as the decoder reads it: a vector has one entry per row, unless it says otherwise.
struct Prompt {
  std::vector<TokenId> ids;                       ///< image placeholders included, one per image row (method A)
  std::vector<Index> image_rows;                  ///< prompt rows that image tokens replace, in order (method A)
  std::vector<Index> positions;                   ///< position ids
  std::vector<kernels::KeyRange> visible;         ///< cache slots each row may see: causal plus bidirectional ranges
  std::vector<kernels::KeyRange> visible_images;  ///< image rows each row may see (method B)
  std::vector<kernels::GridOffset> offsets;       ///< places of image rows in their picture (M-RoPE), or empty: all are zero
  std::vector<ExtraRange> extra_visible;          ///< further slots, of rows that see more than one range, in the rows' order
  std::vector<ExtraRange> extra_visible_images;   ///< further image rows, likewise

  [[nodiscard]] Index size() const noexcept { return static_cast<Index>(ids.size()); }

  /// The furthest position of row i on any axis.
  [[nodiscard]] Index furthest(Index i) const noexcept {
    const auto at = static_cast<std::size_t>(i);
    return positions[at] + (offsets.empty() ? 0 : std::max<Index>({0, offsets[at].dy, offsets[at].dx}));
  }

  /// A causal prompt that begins where `length` positions have been read, seeing `num_image_rows` rows of memory.
  [[nodiscard]] static Prompt causal(std::vector<TokenId> ids, Index length = 0, Index num_image_rows = 0) {
    Prompt prompt;
    prompt.ids = std::move(ids);
    for (Index i = 0; i < prompt.size(); ++i) {
      prompt.positions.push_back(length + i);
      prompt.visible.push_back({0, length + i + 1});
      prompt.visible_images.push_back({0, num_image_rows});
    }
    return prompt;
  }

  /// The rows from `first` on, for a session that has read those before.
  [[nodiscard]] Prompt tail(Index first) const {
    Prompt rest = *this;
    const auto cut = [first](auto& values) { values.erase(values.begin(), values.begin() + std::min<Index>(first, std::ssize(values))); };
    cut(rest.ids);
    cut(rest.positions);
    cut(rest.visible);
    cut(rest.visible_images);
    cut(rest.offsets);
    std::erase_if(rest.image_rows, [first](Index row) { return row < first; });
    for (Index& row : rest.image_rows) row -= first;
    for (std::vector<ExtraRange>* extras : {&rest.extra_visible, &rest.extra_visible_images}) {
      std::erase_if(*extras, [first](const ExtraRange& extra) { return extra.row < first; });
      for (ExtraRange& extra : *extras) extra.row -= first;
    }
    return rest;
  }
};

}  // namespace duet
