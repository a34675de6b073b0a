#pragma once

#include <utility>

#include "duet/io/checkpoint_folder.hpp"
#include "duet/pipeline/processors/arguments.hpp"

namespace duet {

/// Idefics (Laurençon et al. 2023, 2306.16527): every picture is stretched to one square.
class Idefics1Processor : public Processor {
 public:
  Idefics1Processor(PromptRules rules, const CheckpointFolder&) : Processor(std::move(rules)) {}

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
