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
#include "duet/fusion/prompt.hpp"
#include "duet/io/image.hpp"
#include "duet/io/named_tensor.hpp"
#include "duet/io/tokenizer.hpp"
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
    return replace(text, pictures, [this](const PicturePlan& picture, std::size_t) { return image_tokens({&picture, 1}); });
  }
  /// Ids of a text with pictures in it. `special` says whether it begins a conversation, with the special tokens that the reference
  /// gives it.
  /// Errors  those of expand
  [[nodiscard]] virtual std::vector<TokenId> encode(const Tokenizer& tokenizer, std::string_view text, std::span<const PicturePlan> pictures,
                                                    SpecialTokens special) const {
    if (!rules_.image_token_id) return tokenizer.encode(text, special);  // a text alone may say what it likes
    return tokenizer.encode(expand(text, pictures), special);
  }
  /// Whether a text says where its pictures are.
  [[nodiscard]] virtual bool spells_images_out(std::string_view text) const {
    return rules_.image_token_id && text.find(rules_.image_token) != std::string_view::npos;
  }
  /// Whether an id of a prompt is an image token: one for each row of a picture that the prompt has, or, where all are in memory, for
  /// each picture.
  [[nodiscard]] virtual bool is_image_token(TokenId id) const noexcept { return rules_.image_token_id && id == *rules_.image_token_id; }
  /// How many image tokens a picture has in a prompt.
  [[nodiscard]] Index prompt_tokens(const PicturePlan& picture) const noexcept {
    if (rules_.picture_rows == PictureRows::kInPrompt) return picture.num_tokens;
    if (rules_.picture_rows == PictureRows::kInBoth) return picture.num_tokens / std::max<Index>(1, picture.num_crops);
    return rules_.image_token_id ? 1 : 0;
  }

  /// Says which rows of a causal prompt, read behind others or not, image tokens take, and what else is not as in a text: positions,
  /// who sees whom. `pictures` are those whose image tokens the prompt has.
  virtual void arrange(Prompt& prompt, std::span<const PicturePlan>) const { mark_image_rows(prompt); }
  /// Whether rows of a prompt see rows behind them, so that none of them can be kept for another prompt.
  [[nodiscard]] virtual bool reads_ahead() const noexcept { return false; }

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
    if (rules_.picture_rows == PictureRows::kInMemory) return;
    for (Index i = 0; i < prompt.size(); ++i) {
      if (is_image_token(prompt.ids[static_cast<std::size_t>(i)])) prompt.image_rows.push_back(i);
    }
  }
  /// Of image tokens in a prompt.
  [[nodiscard]] Error wrong_number(std::size_t got, std::size_t pictures) const {
    return {ErrorKind::kInvalidArgument, "prompt", concat(got, " image tokens \"", rules_.image_token, '"'),
            concat(pictures, ", one for each picture")};
  }
  /// `text` without its image tokens, of which it has one for each picture, or none.
  /// Errors  kInvalidArgument for another number of them
  [[nodiscard]] std::string without_images(std::string_view text, std::span<const PicturePlan> pictures) const {
    if (!spells_images_out(text)) return std::string(text);
    return replace(text, pictures, [](const PicturePlan&, std::size_t) { return std::string(); });
  }
  /// The image tokens of pictures, one after another.
  [[nodiscard]] std::string image_tokens(std::span<const PicturePlan> pictures) const {
    std::string tokens;
    for (const PicturePlan& picture : pictures) {
      for (Index i = 0; i < picture.num_tokens; ++i) tokens += rules_.image_token;
    }
    return tokens;
  }
  /// How a tokenizer spells the token that texts begin with; nothing where it has none.
  [[nodiscard]] static std::string begin_of_text(const Tokenizer& tokenizer) {
    const std::optional<TokenId> bos = tokenizer.bos_token_id();
    return bos ? std::string(tokenizer.id_to_token(*bos)) : std::string();
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
    if (count != pictures.size()) throw wrong_number(count, pictures.size());
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
