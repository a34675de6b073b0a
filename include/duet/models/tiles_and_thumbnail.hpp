#pragma once

#include <utility>

#include "duet/core/workspace.hpp"
#include "duet/models/image_rows.hpp"
#include "duet/models/visual_input.hpp"

namespace duet {

/// A projector for pictures that are cut into tiles with a view of the whole behind them: that thumbnail is marked, so that a
/// hybrid reads it among the text. A picture that is one crop is its own thumbnail. The projector is one of rows, or one that
/// makes num_tokens(patches) of each crop, in the crops' order.
///
/// Shapes   as the projector's, with a span for each picture and one for each thumbnail
/// Source   Dai et al. 2024, 2409.11402 (NVLM), section 2.2
template <class Projection>
class TilesAndThumbnail {
  static constexpr bool kCropByCrop =
      requires(const Projection& p, const Features& f, const VisualInput& i, Workspace& w) { p.project(f, i, w); };

 public:
  explicit TilesAndThumbnail(Projection projection) : projection_(std::move(projection)) {}

  [[nodiscard]] Index input_size() const noexcept { return projection_.input_size(); }
  [[nodiscard]] Index output_size() const noexcept { return projection_.output_size(); }
  /// Image tokens of a crop with so many patches.
  [[nodiscard]] Index num_tokens(Index patches) const noexcept
    requires kCropByCrop
  {
    return projection_.num_tokens(patches);
  }
  [[nodiscard]] ImageRows project(const Features& features, const VisualInput& input, Workspace& workspace) const {
    ImageRows result;
    if constexpr (kCropByCrop) {
      result = projection_.project(features, input, workspace);
    } else {
      result.rows = Matrix(features.rows.rows(), output_size());
      projection_.project(features.rows, result.rows, workspace);
    }
    result.spans.assign(static_cast<std::size_t>(input.num_pictures()), {});
    result.thumbnails.resize(result.spans.size());
    Index begin = 0;
    for (const Features::Crop& crop : features.crops) {
      const auto picture = static_cast<std::size_t>(crop.picture);
      const Index count = tokens_of(crop);
      ImageRows::Span& span = result.spans[picture];
      if (span.count == 0) span.begin = begin;
      span.count += count;
      result.thumbnails[picture] = {begin, count};  // the last one stays
      begin += count;
    }
    return result;
  }
  /// Calls visit(weight) for every matrix.
  template <class Visit>
  void for_each_weight(Visit&& visit) const {
    projection_.for_each_weight(visit);
  }

 private:
  [[nodiscard]] Index tokens_of(const Features::Crop& crop) const noexcept {
    if constexpr (kCropByCrop) return projection_.num_tokens(crop.grid_rows * crop.grid_cols);
    return crop.count;
  }

  Projection projection_;
};

}  // namespace duet
