#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "duet/io/checkpoint_folder.hpp"
#include "duet/kernels/interpolate.hpp"
#include "duet/pipeline/preprocessor_config.hpp"
#include "duet/pipeline/processors/arguments.hpp"
#include "duet/pipeline/processors/layout.hpp"

namespace duet {

/// How pictures are cut, as config.json says.
struct DynamicTiling {
  Index tile_size = 448;  ///< pixels along an edge of a tile
  Index min_tiles = 1, max_tiles = 6;
  bool use_thumbnail = false;  ///< a picture that is cut is seen whole, too

  /// Errors  kInvalidArgument
  [[nodiscard]] static DynamicTiling read(const JsonView& config) {
    constexpr Index kMostTiles = 256, kLongest = Image::kLongestSquareEdge;
    DynamicTiling result;
    const JsonView vision = config.object_or_empty("vision_config");
    result.tile_size = read_between(vision, "image_size", 224, 1, kLongest);
    if (config.contains("force_image_size")) result.tile_size = read_between(config, "force_image_size", 0, 1, kLongest);
    result.max_tiles = read_between(config, "max_dynamic_patch", 6, 1, std::min(kMostTiles, kLongest / result.tile_size));
    result.min_tiles = read_between(config, "min_dynamic_patch", 1, 1, result.max_tiles);
    if (!config.get_or("dynamic_image_size", false)) result.min_tiles = result.max_tiles = 1;
    result.use_thumbnail = config.get_or("use_thumbnail", false);
    return result;
  }

  /// The grid of tiles whose aspect is closest to a picture's. Of equally close ones that with the most tiles, among those of
  /// whose area the picture has more than half; where it has so little of all, that with the fewest. (Where equally many tiles
  /// are equally close, which needs a min_tiles above 1, the reference takes what Python's set happens to give it.)
  [[nodiscard]] kernels::GridSize grid(PictureSize size) const {
    const auto width = static_cast<double>(size.width), height = static_cast<double>(size.height), aspect = width / height;
    const double tile_area = static_cast<double>(tile_size) * static_cast<double>(tile_size);
    kernels::GridSize best{1, 1};
    double least = std::numeric_limits<double>::infinity();
    for (Index tiles = min_tiles; tiles <= max_tiles; ++tiles) {
      for (Index cols = 1; cols <= tiles; ++cols) {
        if (tiles % cols != 0) continue;
        const Index rows = tiles / cols;
        const double distance = std::abs(aspect - static_cast<double>(cols) / static_cast<double>(rows));
        const bool fills = width * height > 0.5 * tile_area * static_cast<double>(tiles);
        if (distance < least || (distance == least && fills)) best = {rows, cols};
        least = std::min(least, distance);
      }
    }
    return best;
  }
};

/// NVLM (Dai et al. 2024, 2409.11402): a picture is cut into tiles by its aspect, the whole of it, as small as a tile, comes
/// last, and in the prompt every crop has its tag. What follows a tag differs: all rows of the crop (NVLM-D,
/// PictureRows::kInPrompt), nothing, for they are in memory (NVLM-X, kInMemory), or those of the whole alone (NVLM-H, kInBoth).
/// Of rows in memory a tag sees its own tile's, and text behind a picture all of the picture's.
class NvlmProcessor : public Processor {
 public:
  /// Errors  kInvalidArgument for what config.json and preprocessor_config.json cannot mean; kConfigMismatch where tags that
  ///         the prompt is read by have no ids
  NvlmProcessor(PromptRules rules, const CheckpointFolder& folder)
      : NvlmProcessor(std::move(rules), folder, DynamicTiling::read(folder.config())) {}

  [[nodiscard]] PicturePlan plan(PictureSize size) const override {
    const kernels::GridSize grid = tiling_.grid(size);
    PicturePlan result{.original = size,
                       .resized = {grid.rows * tile(), grid.cols * tile()},
                       .num_tokens = rules().tokens_per_image};
    if (grid.size() == 1) return result;
    result.num_crops = grid.size() + (tiling_.use_thumbnail ? 1 : 0);
    result.tile_rows = grid.rows;
    result.tile_cols = grid.cols;
    result.num_tokens *= result.num_crops;
    return result;
  }
  void process(const Image& picture, VisualInput& input) const override {
    const PicturePlan planned = plan({picture.height(), picture.width()});
    const Image image = seen(picture);
    input.add_picture(planned);
    const Index cols = planned.resized.width / tile(), tiles = planned.resized.height / tile() * cols;
    for (Index i = 0; i < tiles; ++i) {
      scale_.write(image, i / cols * tile(), i % cols * tile(), {tile(), tile()}, input.add_crop({tile(), tile()}));
    }
    if (planned.num_crops > tiles) scale_.write(resize(picture, tile(), tile(), filter_), input.add_crop({tile(), tile()}));
  }
  [[nodiscard]] Image seen(const Image& picture) const override {
    const PictureSize size = plan({picture.height(), picture.width()}).resized;
    return resize(picture, size.width, size.height, filter_);
  }

  [[nodiscard]] std::string expand(std::string_view text, std::span<const PicturePlan> pictures) const override {
    const PictureRows where = rules().picture_rows;
    return replace(text, pictures, [&](const PicturePlan& picture, std::size_t) {
      std::string rows;  // of a crop
      for (Index i = 0; i < picture.num_tokens / picture.num_crops; ++i) rows += kImagePad;
      std::string result = "<Image>";
      for (Index k = 1; k <= picture.num_crops; ++k) {
        const bool last = k == picture.num_crops;
        result += last ? std::string(kThumbnailTag) : tile_tag(k);
        if (where == PictureRows::kInPrompt || (last && where == PictureRows::kInBoth)) result += rows;
      }
      return result += "</Image>";
    });
  }
  /// Errors  kInvalidArgument for tags of tiles that a picture does not have
  void arrange(Prompt& prompt, std::span<const PicturePlan> pictures) const override {
    mark_image_rows(prompt);
    const auto first = std::ranges::find_if(prompt.ids, [this](TokenId id) { return tag_of(id).has_value(); });
    if (first == prompt.ids.end()) return;  // all rows see what the memory holds, which is nothing or older
    const Index thumbnails = rules().picture_rows == PictureRows::kInBoth ? 1 : 0;  // crops that are not in memory
    kernels::KeyRange seen{0, 0};
    std::size_t picture = 0;
    Index begin = 0;  // of the picture's rows in memory
    for (std::size_t i = 0; i < prompt.ids.size(); ++i) {
      const std::optional<Index> tag = tag_of(prompt.ids[i]);
      prompt.visible_images[i] = seen;
      if (!tag || picture == pictures.size()) continue;
      const PicturePlan& plan = pictures[picture];
      const Index rows = plan.num_tokens / plan.num_crops, crops = plan.num_crops - thumbnails;
      if (*tag < tiling_.max_tiles) {
        if (*tag + 1 >= plan.num_crops) throw no_such_tile(*tag, plan);
        prompt.visible_images[i] = {begin + *tag * rows, begin + (*tag + 1) * rows};
        continue;
      }
      seen = {begin, begin + crops * rows};
      prompt.visible_images[i] = thumbnails > 0 ? seen : kernels::KeyRange{seen.end - rows, seen.end};
      begin = seen.end;
      ++picture;
    }
  }

  [[nodiscard]] std::vector<NamedTensor> tensors(const VisualInput& input) const override {
    std::vector<std::int64_t> counts;
    for (const PicturePlan& picture : input.pictures) counts.push_back(picture.num_crops);
    return {NamedTensor::floats("pixel_values", layout(input), input.pixels),
            NamedTensor::int64s("num_patches_list", {input.num_pictures()}, counts)};
  }
  /// pixel_values [crops, channels, tile, tile], of which num_patches_list [pictures] says how many each picture has; without it
  /// each is a picture.
  [[nodiscard]] VisualInput from_arguments(const FindArgument& find) const override {
    VisualInput input;
    const auto pixels = detail::find_argument(find, "pixel_values", 4, "[crops, channels, height, width]");
    if (!pixels) return input;
    const PictureSize size = detail::stored_size(*pixels);
    const auto counts = detail::find_argument(find, "num_patches_list", 1, "[pictures]");
    const auto crops = static_cast<double>(pixels->shape[0]);
    std::vector<double> each(static_cast<std::size_t>(pixels->shape[0]), 1.0);
    if (counts) each = counts->values;
    double total = 0.0;
    for (const double count : each) {
      const bool good = count >= 1.0 && count <= crops && count == std::floor(count);
      total += good ? count : crops + 1.0;
    }
    if (total != crops) {
      throw Error(ErrorKind::kInvalidArgument, "inputs.num_patches_list",
                  concat(each.size(), " numbers that do not add up"),
                  concat("positive ones with the sum ", pixels->shape[0], ", the crops of pixel_values"));
    }
    Index next = 0;
    for (const double count : each) {
      const auto n = static_cast<Index>(count);
      input.add_picture({.original = size,
                         .resized = size,
                         .num_crops = n,
                         .tile_rows = n > 1 ? 1 : 0,
                         .tile_cols = n > 1 ? n - 1 : 0,
                         .num_tokens = n * rules().tokens_per_image});
      for (Index k = 0; k < n; ++k) detail::add_stored_crop(input, *pixels, next++, size);
    }
    return input;
  }

 private:
  static constexpr std::string_view kImagePad = "<|vision_pad|>", kThumbnailTag = "<tile_global_thumbnail>";
  static constexpr TokenId kImagePadId = 151654;  // Qwen2.5's, where no file says another
  static std::string tile_tag(Index k) { return concat("<tile_", k, ">"); }

  NvlmProcessor(PromptRules rules, const CheckpointFolder& folder, const DynamicTiling& tiling)
      : NvlmProcessor(rules, folder, tiling, read_tags(rules, folder, tiling)) {}
  NvlmProcessor(PromptRules rules, const CheckpointFolder& folder, const DynamicTiling& tiling, std::vector<TokenId> tags)
      : Processor(with_image_token(std::move(rules), folder, tags)), tiling_(tiling), tags_(std::move(tags)) {
    filter_ = read_filter(folder.preprocessor_config(), Filter::kBicubic);
    scale_ = PixelScale(folder.preprocessor_config(), kImagenetMean, kImagenetStd);
  }

  [[nodiscard]] Index tile() const noexcept { return tiling_.tile_size; }

  /// Ids of the tiles' tags and, last, of the thumbnail's; none where no row's sight depends on tags.
  static std::vector<TokenId> read_tags(const PromptRules& rules, const CheckpointFolder& folder,
                                        const DynamicTiling& tiling) {
    if (rules.picture_rows == PictureRows::kInPrompt) return {};
    const JsonView config = folder.config();
    std::vector<TokenId> tags;
    if (config.contains("tile_token_ids")) {
      tags = config.get<std::vector<TokenId>>("tile_token_ids");
    } else {
      for (Index k = 1; k <= tiling.max_tiles + 1; ++k) {
        const std::string tag = k > tiling.max_tiles ? std::string(kThumbnailTag) : tile_tag(k);
        if (const auto id = folder.added_token(tag)) tags.push_back(*id);
      }
    }
    if (static_cast<Index>(tags.size()) == tiling.max_tiles + 1) return tags;
    throw Error(ErrorKind::kConfigMismatch, "config.json: tile_token_ids", concat(tags.size(), " ids"),
                concat(tiling.max_tiles + 1, ": of <tile_1> … and of ", kThumbnailTag),
                "give them there, or as added tokens in tokenizer_config.json");
  }
  static PromptRules with_image_token(PromptRules rules, const CheckpointFolder& folder, std::span<const TokenId> tags) {
    if (rules.picture_rows == PictureRows::kInMemory) {
      rules.image_token_id = tags.back();  // of which a picture has one, however it is cut
    } else if (!rules.image_token_id) {
      rules.image_token_id = folder.added_token(kImagePad).value_or(kImagePadId);
    }
    return rules;
  }
  [[nodiscard]] std::optional<Index> tag_of(TokenId id) const noexcept {
    const auto found = std::ranges::find(tags_, id);
    return found == tags_.end() ? std::nullopt : std::optional<Index>(found - tags_.begin());
  }
  static Error no_such_tile(Index tag, const PicturePlan& plan) {
    return {ErrorKind::kInvalidArgument, "prompt", tile_tag(tag + 1),
            concat("tags of ", plan.num_crops - 1, " tiles, those that the picture has")};
  }

  DynamicTiling tiling_;
  std::vector<TokenId> tags_;
  Filter filter_ = Filter::kBicubic;
  PixelScale scale_;
};

}  // namespace duet
