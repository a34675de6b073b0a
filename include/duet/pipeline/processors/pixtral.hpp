#pragma once

#include <utility>

#include "duet/io/checkpoint_folder.hpp"
#include "duet/pipeline/processors/arguments.hpp"

namespace duet {

/// Pixtral: a picture keeps its aspect, in a size whose edges are whole patches; a token ends every row of patches.
class PixtralProcessor : public Processor {
 public:
  PixtralProcessor(PromptRules rules, const CheckpointFolder& folder) : Processor(std::move(rules)) {
    patch_size_ = folder.config().object_or_empty("vision_config").get_or<Index>("patch_size", 16);
    if (patch_size_ < 1) throw Error(ErrorKind::kInvalidArgument, "config.json: vision_config.patch_size", concat(patch_size_), "at least 1");
  }

  /// pixel_values are padded to the largest picture; image_sizes say how large each is.
  [[nodiscard]] VisualInput from_arguments(const FindArgument& find) const override {
    VisualInput input;
    const auto pixels = detail::find_argument(find, "pixel_values", 4, "[pictures, channels, height, width]");
    if (!pixels) return input;
    const PictureSize stored = detail::stored_size(*pixels);
    std::vector<PictureSize> sizes(static_cast<std::size_t>(pixels->shape[0]), stored);
    if (find("image_sizes")) sizes = detail::sizes_argument(find, "image_sizes", pixels->shape[0], std::max(stored.height, stored.width));
    for (Index i = 0; i < pixels->shape[0]; ++i) {
      const PictureSize size = sizes[static_cast<std::size_t>(i)];
      if (size.height > stored.height || size.width > stored.width) {
        throw detail::wrong_argument("pixel_values", *pixels, concat("at least ", size.height, " x ", size.width, ", as image_sizes say"));
      }
      input.add_picture(plan_of(size, size));
      detail::add_stored_crop(input, *pixels, i, size);
    }
    return input;
  }

 private:
  [[nodiscard]] PicturePlan plan_of(PictureSize original, PictureSize resized) const {
    return {.original = original, .resized = resized, .num_tokens = resized.height / patch_size_ * (resized.width / patch_size_)};
  }

  Index patch_size_ = 0;
};

}  // namespace duet
