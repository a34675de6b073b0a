#pragma once

#include <algorithm>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/core/weights.hpp"
#include "duet/fusion/image_rows.hpp"
#include "duet/io/image.hpp"
#include "duet/io/named_tensor.hpp"
#include "duet/models/visual_input.hpp"
#include "duet/pipeline/prompt_rules.hpp"

namespace duet {

/// An argument of the reference's forward(), as numbers.
struct Argument {
  std::vector<Index> shape;
  std::vector<double> values;
};
/// Finds an argument by its name.
using FindArgument = std::function<std::optional<Argument>(std::string_view)>;

/// How a family prepares pictures and writes them into a prompt: what the reference calls a Processor. It is made of a folder's
/// config files and needs no weights. This one is that of models that read text alone.
class Processor {
 public:
  explicit Processor(PromptRules rules) : rules_(std::move(rules)) {}
  Processor(const Processor&) = delete;
  Processor& operator=(const Processor&) = delete;
  virtual ~Processor() = default;

  [[nodiscard]] const PromptRules& rules() const noexcept { return rules_; }
  /// What becomes of transparency when a picture is opened for this family.
  [[nodiscard]] virtual Alpha alpha() const noexcept { return Alpha::kDrop; }

  /// What a picture of this size becomes; looks at no pixel.
  /// Errors  kInvalidArgument for a size that the family does not take; kUnsupportedModel for a model without eyes
  [[nodiscard]] virtual PicturePlan plan(PictureSize) const { throw no_eyes(); }
  /// Adds a picture, prepared, to `input`.
  /// Errors  those of plan
  virtual void process(const Image&, VisualInput&) const { throw no_eyes(); }
  /// A picture as its patches are cut from it, for people: padded, resized and cropped.
  [[nodiscard]] virtual Image seen(const Image&) const { throw no_eyes(); }

  /// `text`, in which every picture has one image token, with what stands for the pictures' rows in their places.
  /// Errors  kInvalidArgument when it has more or fewer image tokens than there are pictures
  [[nodiscard]] virtual std::string expand(std::string_view text, std::span<const PicturePlan> pictures) const {
    return replace(text, pictures, [&](const PicturePlan& picture, std::size_t) {
      std::string tokens;
      for (Index i = 0; i < picture.num_tokens; ++i) tokens += rules_.image_token;
      return tokens;
    });
  }
  /// Says which rows of a causal prompt image tokens take, and what else is not as in a text: positions, who sees whom.
  virtual void arrange(Prompt& prompt, std::span<const PicturePlan>) const { mark_image_rows(prompt); }

  /// Prepared pictures by the names and in the layout in which the reference's image processor gives them.
  [[nodiscard]] virtual std::vector<NamedTensor> tensors(const VisualInput& input) const {
    return {NamedTensor::floats("pixel_values", layout(input), input.pixels)};
  }
  /// The same read back from the reference's forward(); nothing where it gets no pictures.
  /// Errors  kShapeMismatch for tensors of another layout
  [[nodiscard]] virtual VisualInput from_arguments(const FindArgument& find) const {
    VisualInput input;
    const std::optional<Argument> pixels = find("pixel_values");
    if (!pixels) return input;
    if (pixels->shape.size() != 4) {
      throw Error(ErrorKind::kShapeMismatch, "inputs.pixel_values", shape_text(pixels->shape), "[images, channels, height, width]");
    }
    input.num_channels = pixels->shape[1];
    const Index size = pixels->shape[1] * pixels->shape[2] * pixels->shape[3];
    for (Index i = 0; i < pixels->shape[0]; ++i) {
      const auto from = pixels->values.begin() + i * size;
      std::transform(from, from + size, input.add_whole({pixels->shape[2], pixels->shape[3]}).begin(),
                     [](double value) { return static_cast<float>(value); });
    }
    return input;
  }

 protected:
  void mark_image_rows(Prompt& prompt) const {
    for (Index i = 0; rules_.image_token_id && i < prompt.size(); ++i) {
      if (prompt.ids[static_cast<std::size_t>(i)] == *rules_.image_token_id) prompt.image_rows.push_back(i);
    }
  }
  /// `text` with replacement(picture, its index) for the k-th image token.
  template <class Replacement>
  [[nodiscard]] std::string replace(std::string_view text, std::span<const PicturePlan> pictures, Replacement&& replacement) const {
    std::string result;
    std::size_t count = 0, begin = 0;
    for (std::size_t at; (at = text.find(rules_.image_token, begin)) != std::string_view::npos; begin = at + rules_.image_token.size()) {
      result += text.substr(begin, at - begin);
      if (count < pictures.size()) result += replacement(pictures[count], count);
      ++count;
    }
    if (count != pictures.size()) {
      throw Error(ErrorKind::kInvalidArgument, "prompt", concat(count, " image tokens \"", rules_.image_token, '"'),
                  concat(pictures.size(), ", one for each picture"));
    }
    return result += text.substr(begin);
  }
  /// [pictures, channels, height, width] of crops of one size.
  /// Errors  kShapeMismatch for crops of several sizes
  [[nodiscard]] static std::vector<Index> layout(const VisualInput& input) {
    const PictureSize first = input.crops.empty() ? PictureSize{} : input.crops.front().size;
    for (const VisualInput::Crop& crop : input.crops) {
      if (crop.size == first) continue;
      throw Error(ErrorKind::kShapeMismatch, "images", concat(crop.size.width, " x ", crop.size.height),
                  concat("the size of the first, ", first.width, " x ", first.height), "prepare them one at a time");
    }
    return {input.num_crops(), input.num_channels, first.height, first.width};
  }

 private:
  [[nodiscard]] static Error no_eyes() {
    return {ErrorKind::kUnsupportedModel, "images", "a model that reads text alone", "one that reads images"};
  }

  PromptRules rules_;
};

}  // namespace duet
