#pragma once

#include <string>
#include <utility>

#include "duet/pipeline/processors/arguments.hpp"
#include "duet/pipeline/single_view_processor.hpp"

namespace duet {

/// Idefics (Laurençon et al. 2023, 2306.16527): every picture is stretched to one square; a text row sees the picture before it.
class Idefics1Processor : public SingleViewProcessor {
 public:
  using SingleViewProcessor::SingleViewProcessor;

  [[nodiscard]] Alpha alpha() const noexcept override { return Alpha::kCompositeWhite; }

  [[nodiscard]] VisualInput from_arguments(const FindArgument& find) const override {
    VisualInput input;
    const auto pixels = detail::find_argument(find, "pixel_values", 5, "[batch, pictures, channels, height, width]");
    for (Index i = 0; pixels && i < detail::stored_crops(*pixels); ++i) {
      const PictureSize size = detail::stored_size(*pixels);
      input.add_picture({.original = size, .resized = size, .num_tokens = rules().tokens_per_image});
      detail::add_stored_crop(input, *pixels, i, size);
    }
    return input;
  }
};

}  // namespace duet
