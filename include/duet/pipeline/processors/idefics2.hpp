#pragma once

#include <utility>

#include "duet/io/checkpoint_folder.hpp"
#include "duet/pipeline/processors/arguments.hpp"

namespace duet {

/// Idefics 2: a picture keeps its aspect and is one crop of its own size, or five where pictures are split.
class Idefics2Processor : public Processor {
 public:
  Idefics2Processor(PromptRules rules, const CheckpointFolder&) : Processor(std::move(rules)) {}

  /// Every crop comes back as a picture of its own: the arguments do not say which belong together.
  [[nodiscard]] VisualInput from_arguments(const FindArgument& find) const override {
    return detail::masked_pictures(find, [this](PictureSize size) {
      return PicturePlan{.original = size, .resized = size, .num_tokens = rules().tokens_per_image};
    });
  }
};

}  // namespace duet
