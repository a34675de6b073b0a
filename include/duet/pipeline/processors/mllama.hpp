#pragma once

#include <utility>
#include <vector>

#include "duet/io/checkpoint_folder.hpp"
#include "duet/pipeline/processors/arguments.hpp"

namespace duet {

/// Llama 3.2 Vision: a picture is laid on a canvas of a few tiles. Every picture has the crops of the largest canvas; num_crops of them
/// show it, the others are zeros.
class MllamaProcessor : public Processor {
 public:
  MllamaProcessor(PromptRules rules, const CheckpointFolder& folder) : Processor(std::move(rules)) {
    const JsonView file = folder.preprocessor_config(), vision = folder.config().object_or_empty("vision_config");
    max_tiles_ = file.get_or<Index>("max_image_tiles", vision.get_or<Index>("max_num_tiles", 4));
    if (max_tiles_ < 1 || max_tiles_ > kMostTiles) {
      throw Error(ErrorKind::kInvalidArgument, concat(file.where(), ": max_image_tiles"), concat(max_tiles_), concat("between 1 and ", kMostTiles));
    }
    for (Index rows = 1; rows <= max_tiles_; ++rows) {
      for (Index cols = 1; rows * cols <= max_tiles_; ++cols) grids_.push_back({rows, cols});
    }
  }

  /// pixel_values [batch, pictures, tiles, channels, height, width]; a picture whose aspect_ratio_id is 0 is padding of a batch.
  [[nodiscard]] VisualInput from_arguments(const FindArgument& find) const override {
    VisualInput input;
    const auto pixels = detail::find_argument(find, "pixel_values", 6, "[batch, pictures, tiles, channels, height, width]");
    if (!pixels) return input;
    const Argument ids = detail::get_argument(find, "aspect_ratio_ids", 2, "[batch, pictures]");
    if (ids.shape[0] != pixels->shape[0] || ids.shape[1] != pixels->shape[1]) {
      throw detail::wrong_argument("aspect_ratio_ids", ids, concat("[", pixels->shape[0], ", ", pixels->shape[1], "]"));
    }
    if (pixels->shape[2] != max_tiles_) throw detail::wrong_argument("pixel_values", *pixels, concat(max_tiles_, " tiles a picture"));
    for (std::size_t i = 0; i < ids.values.size(); ++i) {
      const double id = ids.values[i];
      if (id == 0.0) continue;
      if (!(id >= 1.0 && id <= static_cast<double>(grids_.size()) && id == std::floor(id))) {
        throw Error(ErrorKind::kInvalidArgument, concat("inputs.aspect_ratio_ids[", i, "]"), concat(id), concat("between 0 and ", grids_.size()));
      }
      const Grid grid = grids_[static_cast<std::size_t>(id) - 1];
      const PictureSize tile = detail::stored_size(*pixels);
      const PictureSize size{grid.rows * tile.height, grid.cols * tile.width};
      input.add_picture(plan_of(size, grid, tile));
      for (Index k = 0; k < max_tiles_; ++k) detail::add_stored_crop(input, *pixels, static_cast<Index>(i) * max_tiles_ + k, tile);
    }
    return input;
  }

 private:
  static constexpr Index kMostTiles = 64;
  /// A canvas in tiles; the aspect_ratio_id is one more than its index.
  struct Grid {
    Index rows, cols;
  };
  [[nodiscard]] PicturePlan plan_of(PictureSize original, Grid grid, PictureSize tile) const {
    return {.original = original,
            .resized = {grid.rows * tile.height, grid.cols * tile.width},
            .num_crops = grid.rows * grid.cols,
            .tile_rows = grid.rows,
            .tile_cols = grid.cols,
            .num_tokens = rules().tokens_per_image};
  }

  Index max_tiles_ = 0;
  std::vector<Grid> grids_;
};

}  // namespace duet
