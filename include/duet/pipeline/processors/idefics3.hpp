#pragma once

#include <cmath>
#include <string>
#include <utility>

#include "duet/io/checkpoint_folder.hpp"
#include "duet/pipeline/preprocessor_config.hpp"
#include "duet/pipeline/processors/arguments.hpp"
#include "duet/pipeline/processors/layout.hpp"

namespace duet {

/// Idefics 3 (Laurençon et al. 2024, 2408.12637), SmolVLM and SmolVLM 2: a picture, its longest edge made a given length, is cut into
/// square tiles, and the whole of it, as small as a tile, comes last. In the prompt every tile has its place before it.
class Idefics3Processor : public Processor {
 public:
  /// Errors  kInvalidArgument for what preprocessor_config.json cannot mean
  Idefics3Processor(PromptRules rules, const CheckpointFolder& folder) : Processor(std::move(rules)) {
    const JsonView file = folder.preprocessor_config();
    do_resize_ = file.get_or("do_resize", true);
    splits_ = file.get_or("do_image_splitting", true);
    size_ = read_size(file, "size", {{}, {}, {}, 4 * 364});
    const TargetSize tile = read_size(file, "max_image_size", {{}, {}, {}, 364});
    tile_ = tile.longest_edge.value_or(tile.height.value_or(tile.shortest_edge.value_or(364)));
    filter_ = read_filter(file, Filter::kLanczos);
    scale_ = PixelScale(file, kHalves, kHalves);
    tokens_per_tile_ = this->rules().tokens_per_image;
    if (tokens_per_tile_ == 0) tokens_per_tile_ = read_between(folder.processor_config(), "image_seq_len", 169, 1, 1 << 20);
  }

  [[nodiscard]] Alpha alpha() const noexcept override { return Alpha::kCompositeWhite; }

  [[nodiscard]] PicturePlan plan(PictureSize size) const override {
    PicturePlan result{.original = size, .resized = {tile_, tile_}, .num_tokens = tokens_per_tile_};
    if (!splits_) return result;
    result.resized = whole_tiles(first_size(size));
    if (result.resized.height <= tile_ && result.resized.width <= tile_) return result;
    result.tile_rows = result.resized.height / tile_;
    result.tile_cols = result.resized.width / tile_;
    result.num_crops = result.tile_rows * result.tile_cols + 1;
    result.num_tokens = result.num_crops * tokens_per_tile_;
    return result;
  }
  void process(const Image& picture, VisualInput& input) const override {
    const PicturePlan planned = plan({picture.height(), picture.width()});
    const Image image = seen(picture);
    input.add_picture(planned);
    for (Index i = 0; i + 1 < planned.num_crops; ++i) {
      const Index row = i / planned.tile_cols, col = i % planned.tile_cols;
      scale_.write(image, row * tile_, col * tile_, {tile_, tile_}, input.add_crop({tile_, tile_}));
    }
    scale_.write(resize(image, tile_, tile_, filter_of(picture)), input.add_crop({tile_, tile_}));
  }
  [[nodiscard]] Image seen(const Image& picture) const override {
    const PictureSize size{picture.height(), picture.width()}, first = first_size(size), last = plan(size).resized;
    const Image image = first == size ? picture : resize(picture, first.width, first.height, filter_of(picture));
    return first == last ? image : resize(image, last.width, last.height, filter_of(picture));
  }

  [[nodiscard]] std::string expand(std::string_view text, std::span<const PicturePlan> pictures) const override {
    static constexpr std::string_view kAround = "<fake_token_around_image>", kWhole = "<global-img>";
    std::string tile;  // its image tokens
    for (Index i = 0; i < tokens_per_tile_; ++i) tile += rules().image_token;
    return replace(text, pictures, [&](const PicturePlan& picture, std::size_t) {
      std::string result;
      for (Index row = 1; row <= picture.tile_rows; ++row) {
        for (Index col = 1; col <= picture.tile_cols; ++col) result += concat(kAround, "<row_", row, "_col_", col, ">", tile);
        result += '\n';
      }
      if (picture.tile_rows > 0) result += '\n';
      return result += concat(kAround, kWhole, tile, kAround);
    });
  }

  [[nodiscard]] std::vector<NamedTensor> tensors(const VisualInput& input) const override { return detail::masked_tensors(input); }
  /// Every tile comes back as a picture of its own: the arguments do not say which belong together.
  [[nodiscard]] VisualInput from_arguments(const FindArgument& find) const override {
    return detail::masked_pictures(find, [this](PictureSize size) {
      return PicturePlan{.original = size, .resized = size, .num_tokens = tokens_per_tile_};
    });
  }

 private:
  /// The reference takes grey pictures for pictures with a palette, whose pixels Pillow does not mix.
  [[nodiscard]] Filter filter_of(const Image& picture) const noexcept { return picture.is_grey() ? Filter::kNearest : filter_; }
  static constexpr Index kLongestEdge = 4096;  // the reference's, whatever `size` says

  /// After the first resize, which keeps the aspect.
  [[nodiscard]] PictureSize first_size(PictureSize size) const {
    if (!do_resize_) return size;
    if (!size_.longest_edge) return {size_.height.value_or(tile_), size_.width.value_or(tile_)};
    size = with_longest(size, *size_.longest_edge);
    Index& shorter = size.width >= size.height ? size.height : size.width;
    shorter += shorter % 2;
    size = {std::max<Index>(1, size.height), std::max<Index>(1, size.width)};
    if (std::max(size.height, size.width) > kLongestEdge) size = with_longest(size, kLongestEdge);
    return {std::max<Index>(1, size.height), std::max<Index>(1, size.width)};
  }
  static PictureSize with_longest(PictureSize size, Index edge) {
    const double aspect = static_cast<double>(size.width) / static_cast<double>(size.height), longest = static_cast<double>(edge);
    if (size.width >= size.height) return {static_cast<Index>(longest / aspect), edge};
    return {edge, static_cast<Index>(longest * aspect)};
  }
  /// Both edges rounded up to whole tiles, the longer one first.
  [[nodiscard]] PictureSize whole_tiles(PictureSize size) const {
    const double aspect = static_cast<double>(size.width) / static_cast<double>(size.height);
    const auto up = [this](Index edge) { return (edge + tile_ - 1) / tile_ * tile_; };
    if (size.width >= size.height) {
      const Index width = up(size.width);
      return {std::max(tile_, up(static_cast<Index>(static_cast<double>(width) / aspect))), width};
    }
    const Index height = up(size.height);
    return {height, std::max(tile_, up(static_cast<Index>(static_cast<double>(height) * aspect)))};
  }

  bool do_resize_ = true, splits_ = true;
  TargetSize size_;
  Index tile_ = 0, tokens_per_tile_ = 0;
  Filter filter_ = Filter::kLanczos;
  PixelScale scale_;
};

}  // namespace duet
