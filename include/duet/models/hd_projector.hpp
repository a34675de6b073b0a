#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "duet/models/image_rows.hpp"
#include "duet/models/projectors.hpp"
#include "duet/models/visual_input.hpp"

namespace duet {

/// Which of a picture's parts comes first.
enum class HdOrder : unsigned char {
  kTilesFirst,  ///< "sub_glb"
  kWholeFirst,  ///< "glb_sub"
};

/// Packs a picture's tiles and the small view of its whole, and projects the rows by an MLP. Four patches that meet, side by side, are
/// one row; tiles lie as they lie in the picture; every line of rows ends in one learned row, and another stands between the two parts:
///
///     image tokens = mlp([tiles, line by line, each with sub_GN] + [glb_GN] + [the whole, likewise])
///
/// Shapes   features [crops * patches, input_size], the whole before the tiles → of a picture
///          (tiles + 1) · patches / 4 + (lines of the tiles + lines of the whole) + 1 rows [.., output_size];
///          weights sub_GN, glb_GN [4 * input_size], linear_1 [output_size, 4 * input_size], linear_2
/// Source   Abdin et al. 2024, 2404.14219 (Phi-3-vision); Dong et al. 2024, 2404.06512
class HdProjector {
 public:
  HdProjector(const ProjectorConfig& config, HdOrder order, const Weights& weights)
      : order_(order),
        line_end_(weights.vector("sub_GN", kMerged * config.input_size)),
        between_(weights.vector("glb_GN", kMerged * config.input_size)),
        mlp_(merged(config), weights) {}

  [[nodiscard]] Index input_size() const noexcept { return mlp_.input_size() / kMerged; }
  [[nodiscard]] Index output_size() const noexcept { return mlp_.output_size(); }

  /// Errors  kShapeMismatch for crops that are not a whole and a grid of tiles, of one even number of patches along each edge
  [[nodiscard]] ImageRows project(const Features& features, const VisualInput& input, Workspace& workspace) const {
    const std::vector<Picture> pictures = find_pictures(features, input);
    ImageRows result;
    Index total = 0;
    for (const Picture& picture : pictures) {
      result.spans.push_back({total, picture.num_rows()});
      total += picture.num_rows();
    }
    const auto frame = workspace.frame();
    const MatrixView packed = workspace.matrix(total, mlp_.input_size());
    for (std::size_t i = 0; i < pictures.size(); ++i) {
      pack(features, pictures[i], packed.rows(result.spans[i].begin, result.spans[i].count));
    }
    result.rows = Matrix(total, output_size());
    mlp_.project(packed, result.rows, workspace);
    return result;
  }
  /// Calls visit(weight) for every matrix.
  template <class Visit>
  void for_each_weight(Visit&& visit) const {
    mlp_.for_each_weight(visit);
  }

 private:
  static constexpr Index kEdge = 2, kMerged = kEdge * kEdge;  // patches that become one row

  struct Picture {
    std::size_t whole = 0;                ///< its crop; the tiles' follow
    Index tile_rows = 0, tile_cols = 0;  ///< of the grid of tiles
    Index rows = 0, cols = 0;            ///< of a crop, merged
    [[nodiscard]] Index num_rows() const noexcept {
      return tile_rows * rows * (tile_cols * cols + 1) + 1 + rows * (cols + 1);
    }
  };

  static ProjectorConfig merged(ProjectorConfig config) {
    config.input_size *= kMerged;
    return config;
  }

  static std::vector<Picture> find_pictures(const Features& features, const VisualInput& input) {
    std::vector<Picture> result;
    std::size_t crop = 0;
    for (std::size_t i = 0; i < input.pictures.size(); ++i) {
      const PicturePlan& plan = input.pictures[i];
      const auto is_mine = [&](const Features::Crop& c) { return c.picture == static_cast<Index>(i); };
      const auto end = static_cast<std::size_t>(
          std::find_if_not(features.crops.begin() + static_cast<std::ptrdiff_t>(crop), features.crops.end(), is_mine) - features.crops.begin());
      const auto count = static_cast<Index>(end - crop);
      if (plan.tile_rows < 1 || plan.tile_cols < 1 || count != 1 + plan.tile_rows * plan.tile_cols) {
        throw Error(ErrorKind::kShapeMismatch, concat("picture ", i), concat(count, " crops"),
                    concat("a view of the whole, and ", plan.tile_rows, " x ", plan.tile_cols, " tiles"));
      }
      const Features::Crop& first = features.crops[crop];
      for (std::size_t k = crop; k < end; ++k) {
        const Features::Crop& c = features.crops[k];
        const bool is_grid = c.count == c.grid_rows * c.grid_cols && c.grid_rows % kEdge == 0 && c.grid_cols % kEdge == 0;
        if (is_grid && c.grid_rows == first.grid_rows && c.grid_cols == first.grid_cols) continue;
        throw Error(ErrorKind::kShapeMismatch, concat("picture ", i), concat(c.count, " rows of ", c.grid_rows, " x ", c.grid_cols, " patches"),
                    concat(first.grid_rows, " x ", first.grid_cols, " patches, even numbers, in every crop"));
      }
      result.push_back({crop, plan.tile_rows, plan.tile_cols, first.grid_rows / kEdge, first.grid_cols / kEdge});
      crop = end;
    }
    return result;
  }

  void pack(const Features& features, const Picture& picture, MatrixView out) const {
    Index next = 0;
    const auto add = [&](const std::vector<float>& row) { std::ranges::copy(row, out.row(next++).data()); };
    const auto add_merged = [&](const Features::Crop& crop, Index row, Index col) {
      float* to = out.row(next++).data();
      for (Index i = 0; i < kMerged; ++i) {
        const Index patch = (row * kEdge + i / kEdge) * crop.grid_cols + col * kEdge + i % kEdge;
        to = std::ranges::copy(features.rows.row(crop.begin + patch), to).out;
      }
    };
    const auto add_grid = [&](std::size_t first, Index tile_rows, Index tile_cols) {
      for (Index row = 0; row < tile_rows * picture.rows; ++row) {
        for (Index col = 0; col < tile_cols * picture.cols; ++col) {
          const auto tile = static_cast<std::size_t>(row / picture.rows * tile_cols + col / picture.cols);
          add_merged(features.crops[first + tile], row % picture.rows, col % picture.cols);
        }
        add(line_end_);
      }
    };
    const auto add_tiles = [&] { add_grid(picture.whole + 1, picture.tile_rows, picture.tile_cols); };
    const auto add_whole = [&] { add_grid(picture.whole, 1, 1); };
    order_ == HdOrder::kTilesFirst ? add_tiles() : add_whole();
    add(between_);
    order_ == HdOrder::kTilesFirst ? add_whole() : add_tiles();
  }

  HdOrder order_;
  std::vector<float> line_end_, between_;  // [4 * input_size]
  MlpProjector<ConfiguredActivation> mlp_;
};

}  // namespace duet
