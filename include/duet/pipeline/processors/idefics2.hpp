#pragma once

#include <string>
#include <utility>

#include "duet/io/checkpoint_folder.hpp"
#include "duet/pipeline/preprocessor_config.hpp"
#include "duet/pipeline/processors/arguments.hpp"
#include "duet/pipeline/processors/layout.hpp"

namespace duet {

/// Idefics 2 (Laurençon et al. 2024, 2405.02246): a picture keeps its aspect, within two bounds of its edges. Where pictures are
/// split, its four quarters come first.
class Idefics2Processor : public Processor {
 public:
  /// Errors  kInvalidArgument for what preprocessor_config.json cannot mean
  Idefics2Processor(PromptRules rules, const CheckpointFolder& folder) : Processor(std::move(rules)) {
    const JsonView file = folder.preprocessor_config();
    do_resize_ = file.get_or("do_resize", true);
    splits_ = file.get_or("do_image_splitting", false);
    size_ = read_size(file, "size", {{}, {}, 378, 980});
    filter_ = read_filter(file, Filter::kBilinear);
    scale_ = PixelScale(file, kHalves, kHalves);
    tokens_per_crop_ = this->rules().tokens_per_image;
    if (tokens_per_crop_ == 0) tokens_per_crop_ = read_between(folder.processor_config(), "image_seq_len", 64, 1, 1 << 20);
  }

  [[nodiscard]] Alpha alpha() const noexcept override { return Alpha::kCompositeWhite; }

  [[nodiscard]] PicturePlan plan(PictureSize size) const override {
    if (splits_ && (size.height < 2 || size.width < 2)) {
      throw wrong_picture(size, "at least 2 x 2 pixels, to be quartered", "");
    }
    const Index crops = splits_ ? 5 : 1;
    return {.original = size,
            .resized = resized(size),
            .num_crops = crops,
            .tile_rows = splits_ ? 2 : 0,
            .tile_cols = splits_ ? 2 : 0,
            .num_tokens = crops * tokens_per_crop_};
  }
  void process(const Image& picture, VisualInput& input) const override {
    const PicturePlan planned = plan({picture.height(), picture.width()});
    input.add_picture(planned);
    for (Index i = 0; i + 1 < planned.num_crops; ++i) {
      const Index middle_y = picture.height() / 2, middle_x = picture.width() / 2;
      const Index top = i / 2 * middle_y, left = i % 2 * middle_x;
      const PictureSize quarter{i / 2 == 0 ? middle_y : picture.height() - middle_y, i % 2 == 0 ? middle_x : picture.width() - middle_x};
      add(window(picture, top, left, quarter), input);
    }
    add(picture, input);
  }
  [[nodiscard]] Image seen(const Image& picture) const override {
    const PictureSize size{picture.height(), picture.width()}, target = resized(size);
    return target == size ? picture : resize(picture, target.width, target.height, filter_);
  }

  [[nodiscard]] std::string expand(std::string_view text, std::span<const PicturePlan> pictures) const override {
    static constexpr std::string_view kAround = "<fake_token_around_image>";
    std::string result = replace(text, pictures, [this](const PicturePlan& picture, std::size_t) {
      std::string tokens(kAround);
      for (Index crop = 0; crop < picture.num_crops; ++crop) {
        for (Index i = 0; i < tokens_per_crop_; ++i) tokens += rules().image_token;
        tokens += kAround;
      }
      return tokens;
    });
    // Neighbours share the token between them.
    const std::string twice = concat(kAround, kAround);
    for (std::size_t at = 0; !pictures.empty() && (at = result.find(twice, at)) != std::string::npos;) {
      result.erase(at, kAround.size());
      at += kAround.size();
    }
    return result;
  }

  [[nodiscard]] std::vector<NamedTensor> tensors(const VisualInput& input) const override { return detail::masked_tensors(input); }
  /// Every crop comes back as a picture of its own: the arguments do not say which belong together.
  [[nodiscard]] VisualInput from_arguments(const FindArgument& find) const override {
    return detail::masked_pictures(find, [this](PictureSize size) {
      return PicturePlan{.original = size, .resized = size, .num_tokens = tokens_per_crop_};
    });
  }

 private:
  void add(const Image& crop, VisualInput& input) const {
    const Image image = seen(crop);
    scale_.write(image, input.add_crop({image.height(), image.width()}));
  }
  [[nodiscard]] PictureSize resized(PictureSize size) const {
    if (!do_resize_) return size;
    if (size_.height) return {*size_.height, *size_.width};
    const double aspect = static_cast<double>(size.width) / static_cast<double>(size.height);
    const Index longest = size_.longest_edge.value_or(980), shortest = size_.shortest_edge.value_or(1);
    PictureSize result = size;
    if (size.width >= size.height && size.width > longest) {
      result = {static_cast<Index>(static_cast<double>(longest) / aspect), longest};
    } else if (size.height > size.width && size.height > longest) {
      result = {longest, static_cast<Index>(static_cast<double>(longest) * aspect)};
    }
    return {std::max(result.height, shortest), std::max(result.width, shortest)};
  }

  bool do_resize_ = true, splits_ = false;
  TargetSize size_;
  Index tokens_per_crop_ = 0;
  Filter filter_ = Filter::kBilinear;
  PixelScale scale_;
};

}  // namespace duet
