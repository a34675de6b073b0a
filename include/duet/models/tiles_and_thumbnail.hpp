#pragma once

#include <utility>

#include "duet/core/workspace.hpp"
#include "duet/models/image_rows.hpp"
#include "duet/models/visual_input.hpp"

namespace duet {

/// A row-wise projector for pictures that are cut into tiles with a view of the whole behind them: that thumbnail is marked, so
/// that a hybrid reads it among the text. A picture that is one crop is its own thumbnail.
///
/// Shapes   features [n, input_size] → [n, output_size], a span for each picture and one for each thumbnail
/// Source   Dai et al. 2024, 2409.11402 (NVLM), section 2.2
template <class RowProjection>
class TilesAndThumbnail {
 public:
  explicit TilesAndThumbnail(RowProjection projection) : projection_(std::move(projection)) {}

  [[nodiscard]] Index input_size() const noexcept { return projection_.input_size(); }
  [[nodiscard]] Index output_size() const noexcept { return projection_.output_size(); }
  [[nodiscard]] ImageRows project(const Features& features, const VisualInput& input, Workspace& workspace) const {
    ImageRows result;
    result.rows = Matrix(features.rows.rows(), output_size());
    projection_.project(features.rows, result.rows, workspace);
    result.spans.resize(static_cast<std::size_t>(input.num_pictures()));
    result.thumbnails.resize(result.spans.size());
    for (const Features::Crop& crop : features.crops) {
      const auto picture = static_cast<std::size_t>(crop.picture);
      ImageRows::Span& span = result.spans[picture];
      if (span.count == 0) span.begin = crop.begin;
      span.count += crop.count;
      result.thumbnails[picture] = {crop.begin, crop.count};  // the last one stays
    }
    return result;
  }
  /// Calls visit(weight) for every matrix.
  template <class Visit>
  void for_each_weight(Visit&& visit) const {
    projection_.for_each_weight(visit);
  }

 private:
  RowProjection projection_;
};

}  // namespace duet
