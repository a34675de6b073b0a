#pragma once

#include <optional>
#include <string>
#include <utility>

#include "duet/io/checkpoint_folder.hpp"
#include "duet/pipeline/image_processor.hpp"
#include "duet/pipeline/processor.hpp"

namespace duet {

/// Families that look at a picture as a whole, in one size: every picture becomes the same number of rows.
class SingleViewProcessor : public Processor {
 public:
  /// Reads preprocessor_config.json if there is one; without, pictures are an error.
  SingleViewProcessor(PromptRules rules, const CheckpointFolder& folder) : Processor(std::move(rules)), where_(folder.path().string()) {
    if (folder.has("preprocessor_config.json")) processor_.emplace(folder.preprocessor_config());
  }

  [[nodiscard]] PicturePlan plan(PictureSize size) const override {
    return {.original = size, .resized = processor().output_size(size), .num_tokens = rules().tokens_per_image};
  }
  void process(const Image& picture, VisualInput& input) const override {
    const PicturePlan planned = plan({picture.height(), picture.width()});
    input.add_picture(planned);
    processor().process(picture, input.add_crop(planned.resized));
  }
  [[nodiscard]] Image seen(const Image& picture) const override { return processor().seen(picture); }

 protected:
  /// Errors  kFileNotReadable without preprocessor_config.json
  [[nodiscard]] const ImageProcessor& processor() const {
    if (processor_) return *processor_;
    throw Error(ErrorKind::kFileNotReadable, where_, "no preprocessor_config.json", "one, to prepare images", "is the download complete?");
  }

 private:
  std::string where_;
  std::optional<ImageProcessor> processor_;
};

}  // namespace duet
