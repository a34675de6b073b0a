#pragma once

#include <algorithm>
#include <string>
#include <utility>

#include "duet/models/image_rows.hpp"
#include "duet/models/projectors.hpp"
#include "duet/models/visual_input.hpp"

namespace duet {

/// The order in which a crop's squares become image tokens.
enum class SquareOrder : unsigned char { kRowByRow, kColumnByColumn };

/// Fewer, wider rows: the s × s patches of a square, one beside another row by row, become one row, which a projector of rows
/// brings to the text's width.
///
///     image token (i, j) = projection([feature (s·i + y, s·j + x) for y, x in 0 … s − 1])
///
/// Shapes   features of crops of [m, n] patches → [m / s · n / s, output_size] each
/// Errors   kShapeMismatch for a crop whose patches do not make whole squares
/// Source   Shi et al. 2016, 1609.05158 (backwards); Laurençon et al. 2024, 2408.12637 (Idefics3), section 3.1
template <class RowProjection>
class PixelShuffleProjector {
 public:
  /// `scale` is s: the projection takes rows of s² · input_size.
  PixelShuffleProjector(RowProjection projection, Index scale, SquareOrder order = SquareOrder::kRowByRow)
      : scale_(scale), order_(order), projection_(std::move(projection)) {
    DUET_ASSERT(projection_.input_size() % (scale * scale) == 0, "a row of the projection is a square of features");
  }

  [[nodiscard]] Index input_size() const noexcept { return projection_.input_size() / (scale_ * scale_); }
  [[nodiscard]] Index output_size() const noexcept { return projection_.output_size(); }

  /// Image tokens of a crop with so many patches.
  [[nodiscard]] Index num_tokens(Index patches) const noexcept { return patches / (scale_ * scale_); }

  [[nodiscard]] ImageRows project(const Features& features, const VisualInput& input, Workspace& workspace) const {
    ImageRows result;
    result.spans.resize(static_cast<std::size_t>(input.num_pictures()));
    Index total = 0;
    for (const Features::Crop& crop : features.crops) {
      if (crop.grid_rows % scale_ != 0 || crop.grid_cols % scale_ != 0) {
        throw Error(ErrorKind::kShapeMismatch, "image", concat(crop.grid_rows, " x ", crop.grid_cols, " patches"),
                    concat("multiples of the edge of a square, ", scale_), "does preprocessor_config.json belong to this checkpoint?");
      }
      const Index count = crop.grid_rows / scale_ * (crop.grid_cols / scale_);
      ImageRows::Span& span = result.spans[static_cast<std::size_t>(crop.picture)];
      if (span.count == 0) span.begin = total;
      span.count += count;
      total += count;
    }
    const auto frame = workspace.frame();
    const MatrixView squares = workspace.matrix(total, projection_.input_size());  // [image tokens, s² · input_size]
    Index row = 0;
    for (const Features::Crop& crop : features.crops) {
      const Index patches = crop.begin + crop.count - crop.grid_rows * crop.grid_cols;
      const bool by_rows = order_ == SquareOrder::kRowByRow;
      const Index slow = (by_rows ? crop.grid_rows : crop.grid_cols) / scale_;
      const Index fast = (by_rows ? crop.grid_cols : crop.grid_rows) / scale_;
      for (Index i = 0; i < slow; ++i) {
        for (Index j = 0; j < fast; ++j) {
          const Index y = scale_ * (by_rows ? i : j), x = scale_ * (by_rows ? j : i);
          gather(features.rows, patches + y * crop.grid_cols + x, crop.grid_cols, squares.row(row++));
        }
      }
    }
    result.rows = Matrix(total, output_size());
    projection_.project(squares, result.rows, workspace);
    return result;
  }
  /// Calls visit(weight) for every matrix.
  template <class Visit>
  void for_each_weight(Visit&& visit) const {
    projection_.for_each_weight(visit);
  }

 private:
  /// The square of patches whose first one is row `first`.
  void gather(ConstMatrixView rows, Index first, Index grid_cols, std::span<float> out) const {
    auto to = out.begin();
    for (Index y = 0; y < scale_; ++y) {
      for (Index x = 0; x < scale_; ++x) to = std::ranges::copy(rows.row(first + y * grid_cols + x), to).out;
    }
  }

  Index scale_;
  SquareOrder order_;
  RowProjection projection_;
};

}  // namespace duet
