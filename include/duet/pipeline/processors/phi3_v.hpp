#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "duet/io/checkpoint_folder.hpp"
#include "duet/pipeline/interpolate.hpp"
#include "duet/pipeline/preprocessor_config.hpp"
#include "duet/pipeline/processors/arguments.hpp"
#include "duet/pipeline/processors/layout.hpp"

namespace duet {

/// Phi-3-vision and Phi-3.5-vision (Abdin et al. 2024, 2404.14219): a picture is made as large as its number of tiles allows, and cut
/// into them; the whole of it, as small as a tile, comes first. In a prompt picture k is <|image_k|>, and its rows have the id -k.
class Phi3VProcessor : public Processor {
 public:
  /// Errors  kInvalidArgument for what preprocessor_config.json cannot mean
  Phi3VProcessor(PromptRules rules, const CheckpointFolder& folder) : Processor(std::move(rules)) {
    const JsonView file = folder.preprocessor_config();
    num_crops_ = read_between(file, "num_crops", 1, 1, 400);
    scale_ = PixelScale(file, kClipMean, kClipStd);
  }

  /// Errors  kInvalidArgument for a picture so narrow that nothing is left of it
  [[nodiscard]] PicturePlan plan(PictureSize size) const override {
    const PictureSize scaled = scaled_size(size);
    const auto tiles = [](Index edge) { return (edge + kTile - 1) / kTile; };
    return plan_of(size, tiles(scaled.height), tiles(scaled.width), {kTile, kTile});
  }
  void process(const Image& picture, VisualInput& input) const override {
    const PicturePlan planned = plan({picture.height(), picture.width()});
    const Image image = seen(picture);
    std::vector<float> pixels(static_cast<std::size_t>(3 * image.height() * image.width()));
    scale_.write(image, pixels);
    input.add_picture(planned);
    const std::span<float> whole = input.add_crop({kTile, kTile});
    for (std::size_t c = 0; c < 3; ++c) {
      const std::size_t from = pixels.size() / 3, to = whole.size() / 3;  // values of a channel
      interpolate_bicubic(std::span(pixels).subspan(c * from, from), planned.resized, {kTile, kTile}, whole.subspan(c * to, to));
    }
    for (Index i = 0; i + 1 < planned.num_crops; ++i) {
      scale_.write(image, i / planned.tile_cols * kTile, i % planned.tile_cols * kTile, {kTile, kTile}, input.add_crop({kTile, kTile}));
    }
  }
  /// The grid of tiles, with the picture in its middle and white around it.
  [[nodiscard]] Image seen(const Image& picture) const override {
    const PicturePlan planned = plan({picture.height(), picture.width()});
    const PictureSize size = scaled_size(planned.original);
    const Image image = resize_upright(picture, size);
    const Index top = (planned.resized.height - size.height) / 2, left = (planned.resized.width - size.width) / 2;
    return window(image, -top, -left, planned.resized, {255, 255, 255});
  }

  [[nodiscard]] bool spells_images_out(std::string_view text) const override {
    return Processor::spells_images_out(text) || find_marker(text, 0).length > 0;
  }
  [[nodiscard]] bool is_image_token(TokenId id) const noexcept override { return id < 0; }
  /// Every stretch of text between pictures is encoded for itself, with the special tokens of a text of its own.
  [[nodiscard]] std::vector<TokenId> encode(const Tokenizer& tokenizer, std::string_view text, std::span<const PicturePlan> pictures,
                                            SpecialTokens special) const override {
    std::vector<TokenId> ids;
    std::size_t begin = 0, count = 0;
    const auto add = [&](std::string_view words) {
      const std::vector<TokenId> more = tokenizer.encode(words, special);
      ids.insert(ids.end(), more.begin(), more.end());
    };
    for (Marker marker; (marker = find_marker(text, begin)).length > 0; begin = marker.at + marker.length) {
      add(text.substr(begin, marker.at - begin));
      if (const auto k = static_cast<Index>(++count); marker.number != 0 && marker.number != k) {
        throw Error(ErrorKind::kInvalidArgument, "prompt", concat("<|image_", marker.number, "|>"),
                    concat("<|image_", k, "|>: pictures in their order"));
      }
      if (count > pictures.size()) continue;
      ids.insert(ids.end(), static_cast<std::size_t>(pictures[count - 1].num_tokens), -static_cast<TokenId>(count));
    }
    if (count != pictures.size()) {
      throw Error(ErrorKind::kInvalidArgument, "prompt", concat(count, " image tokens <|image_1|> …"),
                  concat(pictures.size(), ", one for each picture"));
    }
    add(text.substr(begin));
    return ids;
  }

  [[nodiscard]] std::vector<NamedTensor> tensors(const VisualInput& input) const override {
    std::vector<std::int64_t> tokens;
    for (const PicturePlan& picture : input.pictures) tokens.push_back(picture.num_tokens);
    return {detail::padded_pictures(input, num_crops_ + 1),
            detail::sizes_tensor("image_sizes", input, [](const PicturePlan& picture) { return picture.resized; }),
            NamedTensor::int64s("num_img_tokens", {input.num_pictures()}, tokens)};
  }
  /// pixel_values [pictures, crops, channels, tile, tile] are padded to the most crops; image_sizes are those of the grids of tiles.
  [[nodiscard]] VisualInput from_arguments(const FindArgument& find) const override {
    VisualInput input;
    const auto pixels = detail::find_argument(find, "pixel_values", 5, "[pictures, crops, channels, height, width]");
    if (!pixels) return input;
    const PictureSize tile = detail::stored_size(*pixels);
    const Index most = pixels->shape[1];
    const std::vector<PictureSize> sizes = detail::sizes_argument(find, "image_sizes", pixels->shape[0], most * std::max(tile.height, tile.width));
    for (Index i = 0; i < pixels->shape[0]; ++i) {
      const PictureSize size = sizes[static_cast<std::size_t>(i)];
      const PicturePlan planned = plan_of(size, size.height / tile.height, size.width / tile.width, tile);
      if (planned.resized != size || planned.num_crops > most) {
        throw Error(ErrorKind::kShapeMismatch, concat("inputs.image_sizes[", i, "]"), concat(size.height, " x ", size.width),
                    concat("at most ", most - 1, " tiles of ", tile.height, " x ", tile.width));
      }
      input.add_picture(planned);
      for (Index k = 0; k < planned.num_crops; ++k) detail::add_stored_crop(input, *pixels, i * most + k, tile);
    }
    return input;
  }

 private:
  static constexpr Index kTile = 336;  // CLIP's, which no file of a checkpoint says

  struct Marker {
    std::size_t at = 0, length = 0;  ///< length 0: none
    Index number = 0;                ///< 0: not numbered
  };
  /// The next image token from `begin` on: the family's own or a numbered one.
  [[nodiscard]] Marker find_marker(std::string_view text, std::size_t begin) const {
    static constexpr std::string_view kPrefix = "<|image_", kEnd = "|>";
    Marker found;
    if (const std::size_t at = text.find(rules().image_token, begin); !rules().image_token.empty() && at != std::string_view::npos) {
      found = {at, rules().image_token.size(), 0};
    }
    for (std::size_t at = begin; (at = text.find(kPrefix, at)) != std::string_view::npos; ++at) {
      if (found.length > 0 && found.at <= at) break;
      const char* digits = text.data() + at + kPrefix.size();
      Index number = 0;
      const auto [end, error] = std::from_chars(digits, text.data() + text.size(), number);
      if (error != std::errc() || number < 1 || !text.substr(static_cast<std::size_t>(end - text.data())).starts_with(kEnd)) continue;
      return {at, static_cast<std::size_t>(end - text.data()) + kEnd.size() - at, number};
    }
    return found;
  }

  /// The longer edge in as many tiles as the number of crops allows, the other one by the aspect.
  [[nodiscard]] PictureSize scaled_size(PictureSize size) const {
    const double ratio = static_cast<double>(std::max(size.width, size.height)) / static_cast<double>(std::min(size.width, size.height));
    Index scale = 1;
    while (static_cast<double>(scale + 1) * std::ceil(static_cast<double>(scale + 1) / ratio) <= static_cast<double>(num_crops_)) ++scale;
    const Index longer = scale * kTile, shorter = static_cast<Index>(static_cast<double>(longer) / ratio);
    if (shorter < 1) {
      throw wrong_picture(size, concat("at most ", longer, " times as long as wide"), "crop it");
    }
    return size.width < size.height ? PictureSize{longer, shorter} : PictureSize{shorter, longer};
  }
  /// Pictures that stand are laid down to be resized: passes are rounded, so their order shows.
  static Image resize_upright(const Image& picture, PictureSize size) {
    if (picture.width() >= picture.height()) return resize(picture, size.width, size.height, Filter::kBilinear);
    return transposed(resize(transposed(picture), size.height, size.width, Filter::kBilinear));
  }
  static Image transposed(const Image& image) {
    std::vector<std::uint8_t> out(image.rgb().size());
    for (Index y = 0; y < image.height(); ++y) {
      for (Index x = 0; x < image.width(); ++x) {
        std::copy_n(image.rgb().begin() + 3 * (y * image.width() + x), 3, out.begin() + 3 * (x * image.height() + y));
      }
    }
    return Image::from_rgb(out, image.height(), image.width());
  }

  /// Every row of tokens ends in a separator, and one stands between tiles and the whole.
  [[nodiscard]] static PicturePlan plan_of(PictureSize original, Index rows, Index cols, PictureSize tile) {
    constexpr Index kTileEdge = 12;  // tokens
    return {.original = original,
            .resized = {rows * tile.height, cols * tile.width},
            .num_crops = rows * cols + 1,
            .tile_rows = rows,
            .tile_cols = cols,
            .num_tokens = (rows * cols + 1) * kTileEdge * kTileEdge + 1 + (rows + 1) * kTileEdge};
  }

  Index num_crops_ = 1;
  PixelScale scale_;
};

}  // namespace duet
