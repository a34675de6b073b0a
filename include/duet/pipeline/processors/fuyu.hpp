#pragma once

#include <utility>

#include "duet/io/checkpoint_folder.hpp"
#include "duet/pipeline/processors/arguments.hpp"

namespace duet {

/// Fuyu: a picture, scaled down where it is too large and padded to whole patches, is read patch by patch; a token ends every row.
class FuyuProcessor : public Processor {
 public:
  FuyuProcessor(PromptRules rules, const CheckpointFolder& folder) : Processor(std::move(rules)) {
    patch_size_ = folder.config().get_or<Index>("patch_size", 30);
    if (patch_size_ < 1) throw Error(ErrorKind::kInvalidArgument, "config.json: patch_size", concat(patch_size_), "at least 1");
  }

  /// image_patches: for each picture "image_patches.I" [patches, height · width · channels]; where the rows of patches end is what
  /// image_patches_indices [batch, length] say: -1 stands between them.
  [[nodiscard]] VisualInput from_arguments(const FindArgument& find) const override {
    VisualInput input;
    const Index area = patch_size_ * patch_size_;
    for (Index i = 0;; ++i) {
      const std::string name = concat("image_patches.", i);
      const auto patches = detail::find_argument(find, name, 2, "[patches, values of a patch]");
      if (!patches) return input;
      const Index count = patches->shape[0];
      if (count == 0 || patches->shape[1] == 0 || patches->shape[1] % area != 0) {
        throw detail::wrong_argument(name, *patches, concat("[patches, channels · ", patch_size_, "²]"));
      }
      const Index cols = row_length(detail::get_argument(find, "image_patches_indices", 2, "[batch, length]"), i);
      if (cols == 0 || count % cols != 0) throw detail::wrong_argument(name, *patches, concat("rows of ", cols, " patches, as image_patches_indices say"));
      input.num_channels = patches->shape[1] / area;
      const PictureSize size{count / cols * patch_size_, cols * patch_size_};
      input.add_picture(plan_of(size, size));
      const std::span<float> out = input.add_crop(size);  // [channels, height, width]
      for (Index k = 0; k < count; ++k) {
        const double* from = patches->values.data() + k * patches->shape[1];  // [patch_size, patch_size, channels]
        for (Index at = 0; at < area; ++at) {
          const Index y = k / cols * patch_size_ + at / patch_size_, x = k % cols * patch_size_ + at % patch_size_;
          for (Index c = 0; c < input.num_channels; ++c) {
            out[static_cast<std::size_t>((c * size.height + y) * size.width + x)] = static_cast<float>(from[at * input.num_channels + c]);
          }
        }
      }
    }
  }

 private:
  /// Patches in the first row of batch entry b.
  [[nodiscard]] static Index row_length(const Argument& indices, Index b) {
    if (b >= indices.shape[0]) return 0;
    const auto row = indices.values.begin() + b * indices.shape[1], end = row + indices.shape[1];
    const auto first = std::find_if(row, end, [](double index) { return index >= 0.0; });
    return std::find_if(first, end, [](double index) { return index < 0.0; }) - first;
  }
  [[nodiscard]] PicturePlan plan_of(PictureSize original, PictureSize padded) const {
    return {.original = original, .resized = padded, .num_tokens = padded.height / patch_size_ * (padded.width / patch_size_)};
  }

  Index patch_size_ = 0;
};

}  // namespace duet
