#pragma once

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "duet/io/checkpoint_folder.hpp"
#include "duet/pipeline/preprocessor_config.hpp"
#include "duet/pipeline/processors/arguments.hpp"
#include "duet/pipeline/processors/layout.hpp"

namespace duet {

/// Llama 3.2 Vision (Dubey et al. 2024, 2407.21783): a picture is laid on a canvas of a few tiles. Every picture has the crops of the
/// largest canvas; num_crops of them show it, the others are zeros. A text row sees the pictures of the last run of image tokens
/// before it.
class MllamaProcessor : public Processor {
 public:
  MllamaProcessor(PromptRules rules, const CheckpointFolder& folder) : Processor(std::move(rules)) {
    const JsonView file = folder.preprocessor_config(), vision = folder.vision_config();
    max_tiles_ = file.get_or<Index>("max_image_tiles", vision.get_or<Index>("max_num_tiles", 4));
    if (max_tiles_ < 1 || max_tiles_ > kMostTiles) {
      throw Error(ErrorKind::kInvalidArgument, concat(file.where(), ": max_image_tiles"), concat(max_tiles_),
                  concat("between 1 and ", kMostTiles));
    }
    for (Index rows = 1; rows <= max_tiles_; ++rows) {
      for (Index cols = 1; rows * cols <= max_tiles_; ++cols) grids_.push_back({rows, cols});
    }
    const TargetSize size = read_size(file, "size", {224, 224, {}, {}});
    tile_ = size.height.value_or(size.shortest_edge.value_or(size.longest_edge.value_or(224)));
    if (size.width.value_or(tile_) != tile_) {
      throw Error(ErrorKind::kInvalidArgument, concat(file.where(), ": size"), concat(tile_, " x ", *size.width), "a square, as tiles are");
    }
    if (tile_ > Image::kLongestSquareEdge / max_tiles_) {
      throw Error(ErrorKind::kInvalidArgument, concat(file.where(), ": size"), concat(max_tiles_, " tiles of ", tile_, " pixels"),
                  concat("at most ", Image::kLongestSquareEdge, " pixels in a row"));
    }
    filter_ = read_filter(file, Filter::kBilinear);
    scale_ = PixelScale(file, kHalves, kHalves);
  }

  [[nodiscard]] Alpha alpha() const noexcept override { return Alpha::kCompositeWhite; }

  [[nodiscard]] PicturePlan plan(PictureSize size) const override { return plan_of(size, best_grid(size), {tile_, tile_}); }
  void process(const Image& picture, VisualInput& input) const override {
    const PicturePlan planned = plan({picture.height(), picture.width()});
    const Image image = fitted(picture, planned);
    input.add_picture(planned);
    for (Index i = 0; i < max_tiles_; ++i) {
      const std::span<float> out = input.add_crop({tile_, tile_});
      if (i < planned.num_crops) scale_.write(image, i / planned.tile_cols * tile_, i % planned.tile_cols * tile_, {tile_, tile_}, out);
    }
  }
  [[nodiscard]] Image seen(const Image& picture) const override {
    const PicturePlan planned = plan({picture.height(), picture.width()});
    return window(fitted(picture, planned), 0, 0, planned.resized);
  }

  /// The text begins behind image tokens that lead it, unless it says itself where.
  [[nodiscard]] std::vector<TokenId> encode(const Tokenizer& tokenizer, std::string_view text, std::span<const PicturePlan> pictures,
                                            SpecialTokens special) const override {
    std::string whole = replace(text, pictures, [this](const PicturePlan&, std::size_t) { return rules().image_token; });
    const std::string begin = begin_of_text(tokenizer);
    if (special == SpecialTokens::kAdd && !begin.empty() && whole.find(begin) == std::string::npos) {
      std::size_t at = 0;
      while (std::string_view(whole).substr(at).starts_with(rules().image_token)) at += rules().image_token.size();
      whole.insert(at, begin);
    }
    return tokenizer.encode(whole, SpecialTokens::kNone);
  }
  /// An image token's picture is seen up to the next image token; of several that follow one another all are seen as far as the last
  /// is. Rows before the first see nothing.
  void arrange(Prompt& prompt, std::span<const PicturePlan> pictures) const override {
    struct Span {
      Index begin, end;          // rows of the prompt
      kernels::KeyRange memory;  // those of the picture's tiles
    };
    std::vector<Span> spans;
    Index memory = 0;
    for (Index i = 0; i < prompt.size() && spans.size() < pictures.size(); ++i) {
      if (!is_image_token(prompt.ids[static_cast<std::size_t>(i)])) continue;
      const PicturePlan& picture = pictures[spans.size()];
      if (!spans.empty()) spans.back().end = i;
      spans.push_back({i, prompt.size(), {memory, memory + picture.num_tokens / max_tiles_ * picture.num_crops}});
      memory += picture.num_tokens;
    }
    if (spans.empty()) return;  // all rows see what the memory holds, which is nothing or older
    for (std::size_t k = spans.size() - 1; k-- > 0;) {
      if (spans[k].begin + 1 == spans[k].end) spans[k].end = spans[k + 1].end;
    }
    for (Index i = 0; i < prompt.size(); ++i) {
      kernels::KeyRange* range = nullptr;  // the row's last one so far
      prompt.visible_images[static_cast<std::size_t>(i)] = {0, 0};
      for (const Span& span : spans) {
        if (i < span.begin || i >= span.end) continue;
        if (range == nullptr) {
          range = &prompt.visible_images[static_cast<std::size_t>(i)];
          *range = span.memory;
        } else if (range->end == span.memory.begin) {
          range->end = span.memory.end;
        } else {
          prompt.extra_visible_images.push_back({i, span.memory});
          range = &prompt.extra_visible_images.back().keys;
        }
      }
    }
  }

  [[nodiscard]] std::vector<NamedTensor> tensors(const VisualInput& input) const override {
    NamedTensor pixels = detail::padded_pictures(input, max_tiles_);
    pixels.shape.insert(pixels.shape.begin(), 1);
    std::vector<std::int64_t> ids, mask;
    for (const PicturePlan& picture : input.pictures) {
      const auto is_its = [&](Grid grid) { return grid.rows == picture.tile_rows && grid.cols == picture.tile_cols; };
      const auto found = std::ranges::find_if(grids_, is_its);
      ids.push_back(found - grids_.begin() + 1);
      for (Index i = 0; i < max_tiles_; ++i) mask.push_back(i < picture.num_crops ? 1 : 0);
    }
    std::vector<NamedTensor> result;
    result.push_back(std::move(pixels));
    result.push_back(NamedTensor::int64s("aspect_ratio_ids", {1, input.num_pictures()}, ids));
    result.push_back(NamedTensor::int64s("aspect_ratio_mask", {1, input.num_pictures(), max_tiles_}, mask));
    return result;
  }

  /// pixel_values [batch, pictures, tiles, channels, height, width]; a picture whose aspect_ratio_id is 0 is padding of a batch.
  [[nodiscard]] VisualInput from_arguments(const FindArgument& find) const override {
    VisualInput input;
    const auto pixels = detail::find_argument(find, "pixel_values", 6, "[batch, pictures, tiles, channels, height, width]");
    if (!pixels) return input;
    const Argument ids = detail::get_argument(find, "aspect_ratio_ids", 2, "[batch, pictures]");
    if (ids.shape[0] != pixels->shape[0] || ids.shape[1] != pixels->shape[1]) {
      throw detail::wrong_argument("aspect_ratio_ids", ids, concat("[", pixels->shape[0], ", ", pixels->shape[1], "]"));
    }
    if (pixels->shape[2] != max_tiles_) throw detail::wrong_argument("pixel_values", *pixels, concat(max_tiles_, " tiles a picture"));
    for (std::size_t i = 0; i < ids.values.size(); ++i) {
      const double id = ids.values[i];
      const PictureSize tile = detail::stored_size(*pixels);
      if (!(id >= 0.0 && id <= static_cast<double>(grids_.size()) && id == std::floor(id))) {
        throw Error(ErrorKind::kInvalidArgument, concat("inputs.aspect_ratio_ids[", i, "]"), concat(id), concat("between 0 and ", grids_.size()));
      }
      // Padding stays: rows that see no picture see all there is.
      const Grid grid = id == 0.0 ? Grid{0, 0} : grids_[static_cast<std::size_t>(id) - 1];
      const PictureSize size{grid.rows * tile.height, grid.cols * tile.width};
      input.add_picture(plan_of(size, grid, tile));
      for (Index k = 0; k < max_tiles_; ++k) detail::add_stored_crop(input, *pixels, static_cast<Index>(i) * max_tiles_ + k, tile);
    }
    return input;
  }

 private:
  static constexpr Index kMostTiles = 64;
  /// A canvas in tiles; the aspect_ratio_id is one more than its index.
  struct Grid {
    Index rows, cols;
  };
  [[nodiscard]] PicturePlan plan_of(PictureSize original, Grid grid, PictureSize tile) const {
    return {.original = original,
            .resized = {grid.rows * tile.height, grid.cols * tile.width},
            .num_crops = grid.rows * grid.cols,
            .tile_rows = grid.rows,
            .tile_cols = grid.cols,
            .num_tokens = rules().tokens_per_image};
  }

  /// The canvas on which the picture grows least; where it must shrink on every one, shrinks least. Of equals the smallest.
  [[nodiscard]] Grid best_grid(PictureSize size) const {
    const auto scale_of = [&](Grid grid) {
      return std::min(static_cast<double>(grid.rows * tile_) / static_cast<double>(size.height),
                      static_cast<double>(grid.cols * tile_) / static_cast<double>(size.width));
    };
    const auto better = [&](Grid a, Grid b) {
      const double x = scale_of(a), y = scale_of(b);
      if (x == y) return a.rows * a.cols < b.rows * b.cols;
      if (x >= 1.0 && y >= 1.0) return x < y;
      return x > y;
    };
    return *std::ranges::min_element(grids_, better);
  }
  /// The picture as it lies at the upper left of its canvas.
  [[nodiscard]] Image fitted(const Image& picture, const PicturePlan& planned) const {
    const auto height = static_cast<double>(picture.height()), width = static_cast<double>(picture.width());
    const Index most_height = std::clamp(picture.height(), tile_, planned.resized.height);
    const Index most_width = std::clamp(picture.width(), tile_, planned.resized.width);
    const double scale_y = static_cast<double>(most_height) / height, scale_x = static_cast<double>(most_width) / width;
    const auto whole = [](double edge, Index most) { return std::clamp<Index>(static_cast<Index>(std::floor(edge)), 1, most); };
    const PictureSize size = scale_x < scale_y ? PictureSize{whole(height * scale_x, most_height), most_width}
                                               : PictureSize{most_height, whole(width * scale_y, most_width)};
    return resize(picture, size.width, size.height, filter_);
  }

  Index max_tiles_ = 0, tile_ = 0;
  Filter filter_ = Filter::kBilinear;
  PixelScale scale_;
  std::vector<Grid> grids_;
};

}  // namespace duet
