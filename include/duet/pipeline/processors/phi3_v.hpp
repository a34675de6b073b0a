#pragma once

#include <utility>

#include "duet/io/checkpoint_folder.hpp"
#include "duet/pipeline/processors/arguments.hpp"

namespace duet {

/// Phi-3-vision and Phi-3.5-vision: a picture is cut into square tiles, and the whole of it, as small as a tile, comes first.
class Phi3VProcessor : public Processor {
 public:
  Phi3VProcessor(PromptRules rules, const CheckpointFolder&) : Processor(std::move(rules)) {}

  /// pixel_values [pictures, crops, channels, tile, tile] are padded to the most crops; image_sizes are those of the grids of tiles.
  [[nodiscard]] VisualInput from_arguments(const FindArgument& find) const override {
    VisualInput input;
    const auto pixels = detail::find_argument(find, "pixel_values", 5, "[pictures, crops, channels, height, width]");
    if (!pixels) return input;
    const PictureSize tile = detail::stored_size(*pixels);
    const Index most = pixels->shape[1];
    const std::vector<PictureSize> sizes = detail::sizes_argument(find, "image_sizes", pixels->shape[0], most * std::max(tile.height, tile.width));
    for (Index i = 0; i < pixels->shape[0]; ++i) {
      const PictureSize size = sizes[static_cast<std::size_t>(i)];
      const PicturePlan planned = plan_of(size, size.height / tile.height, size.width / tile.width, tile);
      if (planned.resized != size || planned.num_crops > most) {
        throw Error(ErrorKind::kShapeMismatch, concat("inputs.image_sizes[", i, "]"), concat(size.height, " x ", size.width),
                    concat("at most ", most - 1, " tiles of ", tile.height, " x ", tile.width));
      }
      input.add_picture(planned);
      for (Index k = 0; k < planned.num_crops; ++k) detail::add_stored_crop(input, *pixels, i * most + k, tile);
    }
    return input;
  }

 private:
  /// Every row of tokens ends in a separator, and one stands between tiles and the whole.
  [[nodiscard]] static PicturePlan plan_of(PictureSize original, Index rows, Index cols, PictureSize tile) {
    constexpr Index kTileEdge = 12;  // tokens
    return {.original = original,
            .resized = {rows * tile.height, cols * tile.width},
            .num_crops = rows * cols + 1,
            .tile_rows = rows,
            .tile_cols = cols,
            .num_tokens = (rows * cols + 1) * kTileEdge * kTileEdge + 1 + (rows + 1) * kTileEdge};
  }
};

}  // namespace duet
