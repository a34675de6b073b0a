#pragma once

#include <vector>

#include "duet/core/matrix.hpp"

namespace duet {

/// Image tokens: what encoder and projector made of the pictures, and which rows belong to which.
struct ImageRows {
  struct Span {
    Index begin = 0, count = 0;
  };
  Matrix rows;                        ///< [num_image_tokens, hidden_size of the text]
  std::vector<Span> spans = {};       ///< one per picture, in order
  std::vector<Span> thumbnails = {};  ///< rows that a hybrid reads among the text; it memorises the others

  [[nodiscard]] bool empty() const noexcept { return rows.rows() == 0; }
  /// Of the thumbnails.
  [[nodiscard]] Index num_thumbnail_rows() const noexcept {
    Index count = 0;
    for (const Span& span : thumbnails) count += span.count;
    return count;
  }
};

}  // namespace duet
