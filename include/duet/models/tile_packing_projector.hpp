#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "duet/core/weights.hpp"
#include "duet/kernels/interpolate.hpp"
#include "duet/models/any_resolution.hpp"
#include "duet/models/image_rows.hpp"
#include "duet/models/stages.hpp"
#include "duet/models/visual_input.hpp"

namespace duet {

/// A picture that was seen as a whole and in tiles becomes one sequence: the rows of the whole first, then those of the tiles as
/// if they had been one large crop, row by row, without the padding around the picture, with a learned vector at each row's end.
/// Where that is much more than `max_tiles` tiles' worth, it is shrunk first.
///
/// Shapes   features → [Σ num_tokens of the plans, output_size]; weight "image_newline" [output_size]
/// Source   LLaVA-NeXT (Liu et al. 2024); Li et al. 2024, 2408.03326 (LLaVA-OneVision), section 3.2
template <class RowProjection>
class TilePackingProjector {
 public:
  /// `max_tiles` 0: however many tiles there are.
  TilePackingProjector(RowProjection projection, Index max_tiles, const Weights& weights)
      : projection_(std::move(projection)), max_tiles_(max_tiles), newline_(weights.vector("image_newline", projection_.output_size())) {}

  [[nodiscard]] Index input_size() const noexcept { return projection_.input_size(); }
  [[nodiscard]] Index output_size() const noexcept { return projection_.output_size(); }

  /// Errors  kShapeMismatch when a picture's crops are not those that its plan says
  template <class Observer = NoObserver>
  [[nodiscard]] ImageRows project(const Features& features, const VisualInput& input, Workspace& workspace, Observer&& observe = {}) const {
    const auto frame = workspace.frame();
    const MatrixView rows = workspace.matrix(features.rows.rows(), output_size());
    projection_.project(features.rows, rows, workspace);
    observe(Stage::kProjected, 0, ConstMatrixView(rows));
    std::vector<Picture> pictures;
    ImageRows result;
    Index total = 0;
    for (std::size_t first = 0; first < features.crops.size(); first += pictures.back().crops.size()) {
      pictures.push_back(layout(features, input, first));
      result.spans.push_back({total, pictures.back().num_rows()});
      total += pictures.back().num_rows();
    }
    result.rows = Matrix(total, output_size());
    for (std::size_t i = 0; i < pictures.size(); ++i) {
      pack(pictures[i], rows, result.rows.view().rows(result.spans[i].begin, result.spans[i].count), workspace);
    }
    return result;
  }
  /// Calls visit(weight) for every matrix.
  template <class Visit>
  void for_each_weight(Visit&& visit) const {
    projection_.for_each_weight(visit);
  }

 private:
  using GridSize = kernels::GridSize;

  struct Picture {
    std::span<const Features::Crop> crops;  ///< the whole, then the tiles row by row
    Index tile_cols = 0;
    UnpaddedGrid kept;  ///< of all tiles' patches
    GridSize size;      ///< of `kept`, or smaller

    [[nodiscard]] Index num_rows() const noexcept {
      return crops[0].count + (crops.size() == 1 ? 1 : size.rows * (size.cols + 1));
    }
  };

  /// The picture whose crops begin at `first`.
  [[nodiscard]] Picture layout(const Features& features, const VisualInput& input, std::size_t first) const {
    const Features::Crop& whole = features.crops[first];
    const PicturePlan& plan = input.pictures[static_cast<std::size_t>(whole.picture)];
    std::size_t count = 1;
    while (first + count < features.crops.size() && features.crops[first + count].picture == whole.picture) ++count;
    Picture picture{std::span(features.crops).subspan(first, count), plan.tile_cols, {}, {}};
    if (count == 1) return picture;
    const auto same = [&](const Features::Crop& crop) { return crop.grid_rows == whole.grid_rows && crop.grid_cols == whole.grid_cols; };
    if (static_cast<Index>(count) != plan.tile_rows * plan.tile_cols + 1 || !std::ranges::all_of(picture.crops, same)) {
      throw Error(ErrorKind::kShapeMismatch, "pixel_values", concat(count, " crops"),
                  concat("a picture's ", plan.tile_rows, " x ", plan.tile_cols, " tiles of one size, after the whole of it"));
    }
    picture.kept = unpadded(plan.original, plan.tile_rows * whole.grid_rows, plan.tile_cols * whole.grid_cols);
    const PictureSize size = limited_grid(picture.kept.rows, picture.kept.cols, max_tiles_, whole.grid_rows * whole.grid_cols);
    picture.size = {size.height, size.width};
    return picture;
  }

  void pack(const Picture& picture, ConstMatrixView rows, MatrixView out, Workspace& workspace) const {
    const Features::Crop& whole = picture.crops[0];
    copy(rows.rows(whole.begin, whole.count), out.rows(0, whole.count));
    const MatrixView rest = out.rows(whole.count, out.rows() - whole.count);
    if (picture.crops.size() == 1) {
      std::ranges::copy(newline_, rest.row(0).begin());
      return;
    }
    const auto frame = workspace.frame();
    const UnpaddedGrid& kept = picture.kept;
    MatrixView grid = workspace.matrix(kept.rows * kept.cols, rows.cols());
    for (Index i = 0; i < grid.rows(); ++i) {
      const Index y = kept.top + i / kept.cols, x = kept.left + i % kept.cols;
      const Index tile = y / whole.grid_rows * picture.tile_cols + x / whole.grid_cols;
      const Features::Crop& crop = picture.crops[static_cast<std::size_t>(1 + tile)];
      const Index patches = crop.begin + crop.count - crop.grid_rows * crop.grid_cols;
      copy(rows.rows(patches + y % whole.grid_rows * whole.grid_cols + x % whole.grid_cols, 1), grid.rows(i, 1));
    }
    const GridSize size = picture.size;
    if (size != GridSize{kept.rows, kept.cols}) {
      const MatrixView smaller = workspace.matrix(size.size(), rows.cols());
      kernels::interpolate(grid, {kept.rows, kept.cols}, smaller, size, kernels::Interpolation::kBilinear, workspace);
      grid = smaller;
    }
    for (Index y = 0; y < size.rows; ++y) {
      copy(grid.rows(y * size.cols, size.cols), rest.rows(y * (size.cols + 1), size.cols));
      std::ranges::copy(newline_, rest.row(y * (size.cols + 1) + size.cols).begin());
    }
  }

  RowProjection projection_;
  Index max_tiles_;
  std::vector<float> newline_;  // [output_size]
};

}  // namespace duet
