#pragma once

#include <utility>

#include "duet/io/checkpoint_folder.hpp"
#include "duet/pipeline/processors/arguments.hpp"

namespace duet {

/// Idefics 3, SmolVLM and SmolVLM 2: a picture is cut into square tiles, and the whole of it, as small as a tile, comes last.
class Idefics3Processor : public Processor {
 public:
  Idefics3Processor(PromptRules rules, const CheckpointFolder&) : Processor(std::move(rules)) {}

  /// Every tile comes back as a picture of its own: the arguments do not say which belong together.
  [[nodiscard]] VisualInput from_arguments(const FindArgument& find) const override {
    return detail::masked_pictures(find, [this](PictureSize size) {
      return PicturePlan{.original = size, .resized = size, .num_tokens = rules().tokens_per_image};
    });
  }
};

}  // namespace duet
