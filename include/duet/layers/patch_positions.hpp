#pragma once

#include <concepts>
#include <vector>

#include "duet/core/weights.hpp"
#include "duet/kernels/interpolate.hpp"
#include "duet/kernels/rope.hpp"

namespace duet {

using kernels::GridSize;

struct PatchPositionConfig {
  Index hidden_size = 0;
  Index head_dim = 0;
  Index first_rows = 0;  ///< rows before a crop's patches that have positions: its class token
  GridSize grid;         ///< of patches, for which the encoder was made
};

/// How an encoder knows where a patch lies: by what is added to its row, by how its queries and keys turn, or not at all.
template <class P>
concept PatchPositions = std::constructible_from<P, const PatchPositionConfig&, const Weights&> &&
                         requires(const P& p, GridSize grid, const kernels::RotaryAngles& angles, Workspace& workspace) {
                           /// What is added to a crop's rows [first_rows + patches, hidden_size]; empty: nothing. It may lie in
                           /// the workspace.
                           { p.table(grid, workspace) } -> std::same_as<ConstMatrixView>;
                           /// Rotated pairs of a head, and their angles for a crop's rows [first_rows + patches, num_pairs].
                           { p.num_pairs() } -> std::same_as<Index>;
                           p.angles(grid, angles);
                         };

/// For encoders whose patches' order says nothing, or that rotate.
class NoPatchPositions {
 public:
  NoPatchPositions(const PatchPositionConfig&, const Weights&) {}
  [[nodiscard]] ConstMatrixView table(GridSize, Workspace&) const noexcept { return {}; }
  [[nodiscard]] Index num_pairs() const noexcept { return 0; }
  void angles(GridSize, const kernels::RotaryAngles&) const noexcept {}
};

/// A learned vector per patch of one grid. For another grid the patches' vectors are interpolated, those of the rows before
/// them stay as they are.
///
/// Shapes   weight "position_embedding" [first_rows + grid, hidden_size]
/// Source   Dosovitskiy et al. 2021, 2010.11929, section 3.2; bicubic as in Oquab et al. 2023, 2304.07193 (DINOv2)
template <kernels::Interpolation kInterpolation>
class InterpolatedPatchPositions {
 public:
  InterpolatedPatchPositions(const PatchPositionConfig& config, const Weights& weights)
      : config_(config), table_(weights.vector("position_embedding", (config.first_rows + config.grid.size()) * config.hidden_size)) {}

  [[nodiscard]] ConstMatrixView table(GridSize grid, Workspace& workspace) const {
    const Index first = config_.first_rows;
    const ConstMatrixView learned(table_.data(), first + config_.grid.size(), config_.hidden_size);
    if (grid == config_.grid) return learned;
    const MatrixView result = workspace.matrix(first + grid.size(), config_.hidden_size);
    copy(learned.rows(0, first), result.rows(0, first));
    kernels::interpolate(learned.rows(first, config_.grid.size()), config_.grid, result.rows(first, grid.size()), grid,
                         kInterpolation, workspace);
    return result;
  }
  [[nodiscard]] Index num_pairs() const noexcept { return 0; }
  void angles(GridSize, const kernels::RotaryAngles&) const noexcept {}

 private:
  PatchPositionConfig config_;
  std::vector<float> table_;  // [first_rows + grid, hidden_size]
};
using LearnedPatchPositions = InterpolatedPatchPositions<kernels::Interpolation::kBicubic>;
using SmoothPatchPositions = InterpolatedPatchPositions<kernels::Interpolation::kSmoothBicubic>;

/// A learned vector per cell of one grid, laid over every crop whatever its size: patch (i, j) of an m × n crop has the vector
/// of the cell that holds the fractional coordinates (i / m, j / n).
///
/// Shapes   weight "position_embedding" [grid, hidden_size]
/// Requires no rows before the patches
/// Source   Dehghani et al. 2023, 2307.06304 (NaViT); Laurençon et al. 2024, 2405.02246 (Idefics2)
class BucketedPatchPositions {
 public:
  BucketedPatchPositions(const PatchPositionConfig& config, const Weights& weights)
      : config_(config), table_(weights.vector("position_embedding", config.grid.size() * config.hidden_size)) {}

  [[nodiscard]] ConstMatrixView table(GridSize grid, Workspace& workspace) const {
    const ConstMatrixView learned(table_.data(), config_.grid.size(), config_.hidden_size);
    const std::vector<Index> rows = buckets(grid.rows, config_.grid.rows), cols = buckets(grid.cols, config_.grid.cols);
    const MatrixView result = workspace.matrix(grid.size(), config_.hidden_size);
    for (Index i = 0; i < result.rows(); ++i) {
      const Index cell = rows[static_cast<std::size_t>(i / grid.cols)] * config_.grid.cols + cols[static_cast<std::size_t>(i % grid.cols)];
      copy(learned.rows(cell, 1), result.rows(i, 1));
    }
    return result;
  }
  [[nodiscard]] Index num_pairs() const noexcept { return 0; }
  void angles(GridSize, const kernels::RotaryAngles&) const noexcept {}

  /// For each of `count` patches along an edge the cell, of `cells`, that holds its fraction: about ⌊i · cells / count⌋. Where a
  /// fraction lies on a boundary, rounding decides, and so the fractions are rounded as the reference rounds them.
  [[nodiscard]] static std::vector<Index> buckets(Index count, Index cells) {
    const double cell = 1.0 / static_cast<double>(cells), patch = static_cast<double>(1.0f / static_cast<float>(count));
    const std::vector<float> boundaries = steps(cell, cell, cells - 1), fractions = steps(0.0, patch, count);
    std::vector<Index> result;
    for (const float fraction : fractions) result.push_back(std::ranges::upper_bound(boundaries, fraction) - boundaries.begin());
    return result;
  }

 private:
  /// begin + i · step in floats, as torch.arange has them: of every whole 16, the first of each 8 is rounded before the others
  /// are counted from it.
  static std::vector<float> steps(double begin, double step, Index count) {
    std::vector<float> result;
    for (Index i = 0; i < count; ++i) {
      const Index base = i < count / 16 * 16 ? i / 8 * 8 : i;
      const auto from = static_cast<float>(begin + step * static_cast<double>(base));
      result.push_back(static_cast<float>(static_cast<double>(from) + step * static_cast<double>(i - base)));
    }
    return result;
  }

  PatchPositionConfig config_;
  std::vector<float> table_;  // [grid, hidden_size]
};

}  // namespace duet
