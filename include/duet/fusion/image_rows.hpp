#pragma once

#include <span>
#include <vector>

#include "duet/core/matrix.hpp"
#include "duet/core/token.hpp"
#include "duet/kernels/attention.hpp"
#include "duet/models/image_rows.hpp"

namespace duet {

/// A prompt as the decoder reads it: every vector has one entry per row.
struct Prompt {
  std::vector<TokenId> ids;                       ///< image placeholders included, one per image row (method A)
  std::vector<Index> image_rows;                  ///< prompt rows that image tokens replace, in order (method A)
  std::vector<Index> positions;                   ///< position ids
  std::vector<kernels::KeyRange> visible;         ///< cache slots each row may see: causal plus bidirectional ranges
  std::vector<kernels::KeyRange> visible_images;  ///< image rows each row may see (method B)

  [[nodiscard]] Index size() const noexcept { return static_cast<Index>(ids.size()); }

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
};

}  // namespace duet
