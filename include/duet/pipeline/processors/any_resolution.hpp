#pragma once

#include <charconv>
#include <cmath>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "duet/io/checkpoint_folder.hpp"
#include "duet/models/any_resolution.hpp"
#include "duet/pipeline/image_processor.hpp"
#include "duet/pipeline/processors/arguments.hpp"
#include "duet/pipeline/processors/layout.hpp"

namespace duet {

/// How many tiles' worth of tokens a picture may become, roughly, as vision_aspect_ratio says; 0: any number.
/// Errors  kInvalidArgument for what is no number
inline Index read_max_tiles(const JsonView& config) {
  const bool onevision = config.get_or<std::string>("model_type", "") == "llava_onevision";
  const auto aspect = config.get_or<std::string>("vision_aspect_ratio", onevision ? "anyres_max_9" : "");
  constexpr std::string_view kLimit = "anyres_max_";
  if (!aspect.starts_with(kLimit)) return 0;
  Index max_tiles = 0;
  const auto [end, error] = std::from_chars(aspect.data() + kLimit.size(), aspect.data() + aspect.size(), max_tiles);
  if (error == std::errc() && end == aspect.data() + aspect.size() && max_tiles >= 1) return max_tiles;
  throw Error(ErrorKind::kInvalidArgument, "config.json: vision_aspect_ratio", '"' + aspect + '"', "anyres_max_N");
}

/// LLaVA-NeXT and LLaVA-OneVision: the whole picture stretched to one tile comes first, then tiles of the picture on the canvas that
/// suits it best; image tokens of padding are left out, and a token ends every row of the others.
class AnyResolutionProcessor : public Processor {
 public:
  /// Errors  kInvalidArgument for sizes that config.json cannot mean
  AnyResolutionProcessor(PromptRules rules, const CheckpointFolder& folder) : Processor(std::move(rules)) {
    const JsonView config = folder.config(), vision = config.object_or_empty("vision_config");
    const bool whole_config = config.contains("vision_config");
    const bool siglip = vision.get_or<std::string>("model_type", "") == "siglip_vision_model";
    const bool onevision = config.get_or<std::string>("model_type", "") == "llava_onevision";
    tile_ = vision.get_or<Index>("image_size", whole_config ? 224 : onevision ? 384 : 336);
    const auto patch_size = vision.get_or<Index>("patch_size", whole_config ? siglip ? 16 : 32 : 14);
    if (tile_ < 1 || tile_ > Image::kLongestSquareEdge || patch_size < 1 || patch_size > tile_) {
      throw Error(ErrorKind::kInvalidArgument, vision.where(), concat("image_size ", tile_, ", patch_size ", patch_size), "a tile of at least a patch");
    }
    grid_edge_ = tile_ / patch_size;
    const auto rows = config.get_or<std::string>("vision_feature_select_strategy", onevision ? "full" : "default");
    const bool keeps_class = !siglip && whole_config && rows == "full";
    base_tokens_ = grid_edge_ * grid_edge_ + (keeps_class ? 1 : 0);
    max_tiles_ = read_max_tiles(config);
    if (folder.has("preprocessor_config.json")) {
      const JsonView file = folder.preprocessor_config();
      one_.emplace(file);
      filter_ = read_filter(file, Filter::kBicubic);
      // A tile is prepared as any picture is, but it must come out in the size that the encoder reads.
      if (const PictureSize size = one_->output_size({tile_, tile_}); size != PictureSize{tile_, tile_}) {
        throw Error(ErrorKind::kConfigMismatch, file.where(), concat("tiles of ", size.height, " x ", size.width),
                    concat(tile_, " x ", tile_, ", vision_config.image_size"));
      }
    }
    read_canvases(folder.preprocessor_config().contains("image_grid_pinpoints") ? folder.preprocessor_config() : config, onevision);
  }

  [[nodiscard]] PicturePlan plan(PictureSize size) const override {
    const PictureSize canvas = best_resolution(size, canvases_);
    const Index rows = canvas.height / tile_, cols = canvas.width / tile_;
    const UnpaddedGrid grid = unpadded(size, rows * grid_edge_, cols * grid_edge_);
    const PictureSize kept = limited_grid(grid.rows, grid.cols, max_tiles_, grid_edge_ * grid_edge_);
    return {.original = size,
            .resized = canvas,
            .num_crops = rows * cols + 1,
            .tile_rows = rows,
            .tile_cols = cols,
            .num_tokens = base_tokens_ + kept.height * (kept.width + 1)};
  }

  /// Errors  kFileNotReadable without preprocessor_config.json
  void process(const Image& picture, VisualInput& input) const override {
    const PicturePlan planned = plan({picture.height(), picture.width()});
    const Image canvas = seen(picture);
    input.add_picture(planned);
    one_->process(resize(picture, tile_, tile_, filter_), input.add_crop({tile_, tile_}));
    for (Index i = 0; i + 1 < planned.num_crops; ++i) {
      const Index top = i / planned.tile_cols * tile_, left = i % planned.tile_cols * tile_;
      PictureSize part{std::min(tile_, canvas.height() - top), std::min(tile_, canvas.width() - left)};
      if (one_->output_size(part) != PictureSize{tile_, tile_}) part = {tile_, tile_};
      one_->process(window(canvas, top, left, part), input.add_crop({tile_, tile_}));
    }
  }
  /// The canvas, with the picture in its middle. Padding is as wide on both sides, as the reference's: a canvas may lack a pixel, and
  /// then its last tiles are stretched by one.
  [[nodiscard]] Image seen(const Image& picture) const override {
    if (!one_) {
      throw Error(ErrorKind::kFileNotReadable, "preprocessor_config.json", "nothing", "one, to prepare images", "is the download complete?");
    }
    const PicturePlan planned = plan({picture.height(), picture.width()});
    const PictureSize canvas = planned.resized, size = fitted(planned.original, canvas);
    const Image image = resize(picture, size.width, size.height, filter_);
    const Index top = (canvas.height - size.height) / 2, left = (canvas.width - size.width) / 2;
    return window(image, -top, -left, {size.height + 2 * top, size.width + 2 * left});
  }

  [[nodiscard]] std::vector<NamedTensor> tensors(const VisualInput& input) const override {
    Index most = 0;
    for (const PicturePlan& picture : input.pictures) most = std::max(most, picture.num_crops);
    return {detail::padded_pictures(input, most),
            detail::sizes_tensor("image_sizes", input, [](const PicturePlan& picture) { return picture.original; })};
  }
  /// pixel_values [pictures, crops, channels, tile, tile] are padded to the most crops; image_sizes are those of the pictures as they came.
  [[nodiscard]] VisualInput from_arguments(const FindArgument& find) const override {
    VisualInput input;
    const auto pixels = detail::find_argument(find, "pixel_values", 5, "[pictures, crops, channels, height, width]");
    if (!pixels) return input;
    const PictureSize tile = detail::stored_size(*pixels);
    if (tile != PictureSize{tile_, tile_}) throw detail::wrong_argument("pixel_values", *pixels, concat("crops of ", tile_, " x ", tile_));
    const std::vector<PictureSize> sizes = detail::sizes_argument(find, "image_sizes", pixels->shape[0], Image::kMaxPixels);
    for (Index i = 0; i < pixels->shape[0]; ++i) {
      const PicturePlan planned = plan(sizes[static_cast<std::size_t>(i)]);
      if (planned.num_crops > pixels->shape[1]) {
        throw detail::wrong_argument("pixel_values", *pixels, concat(planned.num_crops, " crops of picture ", i, ", for its size"));
      }
      input.add_picture(planned);
      for (Index k = 0; k < planned.num_crops; ++k) detail::add_stored_crop(input, *pixels, i * pixels->shape[1] + k, tile);
    }
    return input;
  }

 private:
  /// The largest size of the picture's aspect within a canvas.
  static PictureSize fitted(PictureSize size, PictureSize canvas) {
    const auto height = static_cast<double>(size.height), width = static_cast<double>(size.width);
    const double scale_x = static_cast<double>(canvas.width) / width, scale_y = static_cast<double>(canvas.height) / height;
    const auto up = [](double edge, Index most) { return std::clamp<Index>(static_cast<Index>(std::ceil(edge)), 1, most); };
    if (scale_x < scale_y) return {up(height * scale_x, canvas.height), canvas.width};
    return {canvas.height, up(width * scale_y, canvas.width)};
  }
  void read_canvases(const JsonView& source, bool onevision) {
    if (!source.contains("image_grid_pinpoints")) {
      if (onevision) {
        for (Index i = 0; i < 36; ++i) canvases_.push_back({384 * (1 + i / 6), 384 * (1 + i % 6)});
      } else {
        canvases_ = {{336, 672}, {672, 336}, {672, 672}, {1008, 336}, {336, 1008}};
      }
      return;
    }
    for (const JsonView& size : source.at("image_grid_pinpoints").elements()) {
      const auto edges = size.as<std::vector<Index>>();
      const auto whole = [&](Index edge) { return edge >= tile_ && edge % tile_ == 0 && edge <= Image::kLongestSquareEdge; };
      if (edges.size() != 2 || !whole(edges[0]) || !whole(edges[1])) {
        throw Error(ErrorKind::kInvalidArgument, size.where(), size.shown(), concat("[height, width] in whole tiles of ", tile_, " pixels"));
      }
      canvases_.push_back({edges[0], edges[1]});
    }
    if (canvases_.empty()) throw Error(ErrorKind::kInvalidArgument, source.at("image_grid_pinpoints").where(), "none", "at least one size");
  }

  Index tile_ = 0;         ///< pixels along its edge
  Index grid_edge_ = 0;    ///< patches along the edge of a tile
  Index base_tokens_ = 0;  ///< image tokens of the tile with the whole picture
  Index max_tiles_ = 0;    ///< tiles' worth of tokens that a picture may become, roughly; 0: any number
  std::vector<PictureSize> canvases_;
  std::optional<ImageProcessor> one_;  ///< prepares a tile
  Filter filter_ = Filter::kBicubic;
};

}  // namespace duet
