#pragma once

#include <cmath>
#include <string>
#include <utility>

#include "duet/io/checkpoint_folder.hpp"
#include "duet/pipeline/preprocessor_config.hpp"
#include "duet/pipeline/processors/arguments.hpp"
#include "duet/pipeline/processors/layout.hpp"

namespace duet {

/// Pixtral (Agrawal et al. 2024, 2410.07073) and Mistral 3: a picture keeps its aspect, in a size whose edges are whole patches, or
/// whole groups of them where they are merged; a token ends every row.
class PixtralProcessor : public Processor {
 public:
  PixtralProcessor(PromptRules rules, const CheckpointFolder& folder) : Processor(std::move(rules)) {
    const JsonView file = folder.preprocessor_config(), wording = folder.processor_config();
    const auto patch_size = read_between(folder.vision_config(), "patch_size", 16, 1, 1024);
    const Index merged = read_between(folder.config(), "spatial_merge_size", wording.get_or<Index>("spatial_merge_size", 1), 1, 64);
    patch_size_ = patch_size * merged;
    do_resize_ = file.get_or("do_resize", true);
    size_ = read_size(file, "size", {{}, {}, {}, 1024});
    filter_ = read_filter(file, Filter::kBicubic);
    scale_ = PixelScale(file, kClipMean, kClipStd);
    row_end_ = wording.get_or<std::string>("image_break_token", row_end_);
    picture_end_ = wording.get_or<std::string>("image_end_token", picture_end_);
  }

  [[nodiscard]] Alpha alpha() const noexcept override { return Alpha::kCompositeWhite; }

  /// Errors  kInvalidArgument for a picture that is not in whole patches where none are resized
  [[nodiscard]] PicturePlan plan(PictureSize size) const override {
    if (!do_resize_) {
      if (size.height % patch_size_ == 0 && size.width % patch_size_ == 0) return plan_of(size, size);
      throw wrong_picture(size, concat("edges in multiples of ", patch_size_), "resize it");
    }
    const Index longest = size_.longest_edge.value_or(1024);
    const auto most_height = static_cast<double>(size_.height.value_or(longest));
    const auto most_width = static_cast<double>(size_.width.value_or(longest));
    const double ratio = std::max(static_cast<double>(size.height) / most_height, static_cast<double>(size.width) / most_width);
    const auto up = [&](Index edge) {
      if (ratio > 1.0) edge = static_cast<Index>(std::floor(static_cast<double>(edge) / ratio));
      return std::max<Index>(1, (edge + patch_size_ - 1) / patch_size_) * patch_size_;
    };
    return plan_of(size, {up(size.height), up(size.width)});
  }
  void process(const Image& picture, VisualInput& input) const override {
    const Image image = seen(picture);
    input.add_picture(plan({picture.height(), picture.width()}));
    scale_.write(image, input.add_crop({image.height(), image.width()}));
  }
  [[nodiscard]] Image seen(const Image& picture) const override {
    const PicturePlan planned = plan({picture.height(), picture.width()});
    return planned.resized == planned.original ? picture : resize(picture, planned.resized.width, planned.resized.height, filter_);
  }

  [[nodiscard]] std::string expand(std::string_view text, std::span<const PicturePlan> pictures) const override {
    return replace(text, pictures, [this](const PicturePlan& picture, std::size_t) {
      const Index rows = picture.resized.height / patch_size_, cols = picture.resized.width / patch_size_;
      std::string tokens;
      for (Index row = 0; row < rows; ++row) {
        for (Index col = 0; col < cols; ++col) tokens += rules().image_token;
        tokens += row + 1 < rows ? row_end_ : picture_end_;
      }
      return tokens;
    });
  }

  [[nodiscard]] std::vector<NamedTensor> tensors(const VisualInput& input) const override {
    const PictureSize most = detail::largest_crop(input);
    return {NamedTensor::floats("pixel_values", {input.num_crops(), input.num_channels, most.height, most.width}, detail::padded_crops(input)),
            detail::sizes_tensor("image_sizes", input, [](const PicturePlan& picture) { return picture.resized; })};
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

  Index patch_size_ = 0;  ///< pixels along the edge of what becomes one token
  bool do_resize_ = true;
  TargetSize size_;
  Filter filter_ = Filter::kBicubic;
  PixelScale scale_;
  std::string row_end_ = "[IMG_BREAK]", picture_end_ = "[IMG_END]";
};

}  // namespace duet
