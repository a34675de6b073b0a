#pragma once

#include <cmath>
#include <utility>

#include "duet/io/checkpoint_folder.hpp"
#include "duet/pipeline/preprocessor_config.hpp"
#include "duet/pipeline/processors/arguments.hpp"
#include "duet/pipeline/processors/layout.hpp"

namespace duet {

/// Qwen2-VL (Wang et al. 2024, 2409.12191) and Qwen2.5-VL: a picture keeps its aspect, roughly, in a size whose edges are whole groups
/// of patches, and which has neither too few pixels nor too many.
class Qwen2VlProcessor : public Processor {
 public:
  Qwen2VlProcessor(PromptRules rules, const CheckpointFolder& folder) : Processor(std::move(rules)) {
    const JsonView vision = folder.vision_config(), file = folder.preprocessor_config();
    const auto read = [&](std::string_view key, std::string_view in_config, Index fallback) {
      const auto value = file.get_or<Index>(key, vision.get_or<Index>(in_config, fallback));
      if (value >= 1 && value <= 1024) return value;
      throw Error(ErrorKind::kInvalidArgument, concat(file.where(), ": ", key), concat(value), "between 1 and 1024");
    };
    patch_size_ = read("patch_size", "patch_size", 14);
    merge_size_ = read("merge_size", "spatial_merge_size", 2);
    temporal_patch_size_ = read("temporal_patch_size", "temporal_patch_size", 2);
    do_resize_ = file.get_or("do_resize", true);
    const JsonView size = file.object_or_empty("size");
    min_pixels_ = file.get_or<Index>("min_pixels", size.get_or<Index>("shortest_edge", 56 * 56));
    max_pixels_ = file.get_or<Index>("max_pixels", size.get_or<Index>("longest_edge", 28 * 28 * 1280));
    const Index group = patch_size_ * merge_size_;
    if (min_pixels_ < 1 || max_pixels_ < std::max(min_pixels_, group * group) || max_pixels_ > Image::kMaxPixels) {
      throw Error(ErrorKind::kInvalidArgument, file.where(), concat("min_pixels ", min_pixels_, ", max_pixels ", max_pixels_),
                  concat("a range of numbers up to ", Image::kMaxPixels, " that holds ", group, " x ", group));
    }
    filter_ = read_filter(file, Filter::kBicubic);
    scale_ = PixelScale(file, kClipMean, kClipStd);
  }

  /// Pictures with an edge below one group of patches, which the reference refuses, are enlarged.
  /// Errors  kInvalidArgument for one more than 200 times as long as wide
  [[nodiscard]] PicturePlan plan(PictureSize size) const override {
    const Index group = patch_size_ * merge_size_;
    if (!do_resize_) {
      if (size.height % group == 0 && size.width % group == 0) return plan_of(size, size);
      throw wrong_picture(size, concat("edges in multiples of ", group), "resize it");
    }
    const auto height = static_cast<double>(size.height), width = static_cast<double>(size.width);
    if (std::max(height, width) / std::min(height, width) > kLongestAspect) {
      throw wrong_picture(size, concat("at most ", kLongestAspect, " times as long as wide"), "crop it");
    }
    const auto unit = static_cast<double>(group);
    const auto whole = [&](double groups) { return std::max<Index>(1, static_cast<Index>(groups)) * group; };
    PictureSize result{static_cast<Index>(std::nearbyint(height / unit)) * group, static_cast<Index>(std::nearbyint(width / unit)) * group};
    if (result.height * result.width > max_pixels_) {
      const double beta = std::sqrt(height * width / static_cast<double>(max_pixels_));
      result = {whole(std::floor(height / beta / unit)), whole(std::floor(width / beta / unit))};
    } else if (result.height * result.width < min_pixels_) {
      const double beta = std::sqrt(static_cast<double>(min_pixels_) / (height * width));
      result = {whole(std::ceil(height * beta / unit)), whole(std::ceil(width * beta / unit))};
    }
    return plan_of(size, result);
  }
  void process(const Image& picture, VisualInput& input) const override {
    const Image image = seen(picture);
    input.add_picture(plan({picture.height(), picture.width()}));
    scale_.write(image, input.add_crop({image.height(), image.width()}));
  }
  [[nodiscard]] Image seen(const Image& picture) const override {
    const PicturePlan planned = plan({picture.height(), picture.width()});
    return planned.resized == planned.original ? picture : resize(picture, planned.resized.width, planned.resized.height, filter_);
  }

  /// M-RoPE: rows of a picture stand at one position and where they are in its grid; the text goes on behind the furthest of them.
  void arrange(Prompt& prompt, std::span<const PicturePlan> pictures) const override {
    mark_image_rows(prompt);
    if (prompt.image_rows.empty()) return;
    prompt.offsets.resize(prompt.ids.size());
    Index position = prompt.positions.front(), of_picture = 0;  // rows of the picture so far
    std::size_t picture = 0;
    for (std::size_t i = 0; i < prompt.ids.size(); ++i) {
      prompt.positions[i] = position;
      if (!is_image_token(prompt.ids[i]) || picture == pictures.size()) {
        ++position;
        continue;
      }
      const Index group = patch_size_ * merge_size_;
      const Index rows = pictures[picture].resized.height / group, cols = pictures[picture].resized.width / group;
      prompt.offsets[i] = {of_picture / cols, of_picture % cols};
      if (++of_picture < rows * cols) continue;
      position += std::max(rows, cols);
      of_picture = 0;
      ++picture;
    }
  }

  [[nodiscard]] std::vector<NamedTensor> tensors(const VisualInput& input) const override {
    std::vector<float> patches;
    std::vector<std::int64_t> grids;
    Index count = 0;
    for (Index i = 0; i < input.num_crops(); ++i) {
      const PictureSize size = input.crops[static_cast<std::size_t>(i)].size;
      const std::span<const float> pixels = input.crop(i);
      const Index rows = size.height / patch_size_, cols = size.width / patch_size_;
      for_each_patch(rows, cols, [&](Index, Index row, Index col) {
        for (Index c = 0; c < input.num_channels; ++c) {
          for (Index frame = 0; frame < temporal_patch_size_; ++frame) {  // a picture stands still
            for (Index y = 0; y < patch_size_; ++y) {
              const auto from = pixels.begin() + (c * size.height + row * patch_size_ + y) * size.width + col * patch_size_;
              patches.insert(patches.end(), from, from + patch_size_);
            }
          }
        }
      });
      grids.insert(grids.end(), {1, rows, cols});
      count += rows * cols;
    }
    const Index values = input.num_channels * temporal_patch_size_ * patch_size_ * patch_size_;
    return {NamedTensor::floats("pixel_values", {count, values}, patches),
            NamedTensor::int64s("image_grid_thw", {input.num_crops(), 3}, grids)};
  }

  /// pixel_values hold patches in the order in which they are merged, each with every frame of a moment: the frames of a picture are equal.
  /// The tower alone calls them hidden_states and grid_thw.
  [[nodiscard]] VisualInput from_arguments(const FindArgument& find_any) const override {
    const FindArgument find = [&](std::string_view name) {
      std::optional<Argument> found = find_any(name);
      return found ? found : find_any(name == "pixel_values" ? "hidden_states" : "grid_thw");
    };
    VisualInput input;
    const auto pixels = detail::find_argument(find, "pixel_values", 2, "[patches, values of a patch]");
    if (!pixels) return input;
    const Argument grids = detail::get_argument(find, "image_grid_thw", 2, "[pictures, 3]");
    const Index area = patch_size_ * patch_size_, frames = temporal_patch_size_;
    if (grids.shape[1] != 3) throw detail::wrong_argument("image_grid_thw", grids, "[pictures, 3]");
    if (pixels->shape[1] == 0 || pixels->shape[1] % (area * frames) != 0) {
      throw detail::wrong_argument("pixel_values", *pixels, concat("[patches, channels · ", frames, " · ", patch_size_, "²]"));
    }
    input.num_channels = pixels->shape[1] / (area * frames);
    Index done = 0;  // patches
    for (Index i = 0; i < grids.shape[0]; ++i) {
      const double* thw = grids.values.data() + 3 * i;
      const auto whole = [&](double edge) { return edge >= 1.0 && edge <= 65536.0 && std::fmod(edge, static_cast<double>(merge_size_)) == 0.0; };
      if (thw[0] != 1.0 || !whole(thw[1]) || !whole(thw[2]) || thw[1] * thw[2] > static_cast<double>(pixels->shape[0] - done)) {
        throw Error(ErrorKind::kInvalidArgument, concat("inputs.image_grid_thw[", i, "]"), concat(thw[0], ", ", thw[1], ", ", thw[2]),
                    concat("one moment, and edges in groups of ", merge_size_, " with all their patches"));
      }
      const auto rows = static_cast<Index>(thw[1]), cols = static_cast<Index>(thw[2]);
      const PictureSize size{rows * patch_size_, cols * patch_size_};
      input.add_picture(plan_of(size, size));
      const std::span<float> out = input.add_crop(size);  // [channels, height, width]
      for_each_patch(rows, cols, [&](Index patch, Index row, Index col) {
        const double* from = pixels->values.data() + (done + patch) * pixels->shape[1];
        for (Index c = 0; c < input.num_channels; ++c) {
          for (Index y = 0; y < patch_size_; ++y) {
            const double* line = from + c * frames * area + y * patch_size_;  // of the first frame
            float* to = out.data() + (c * size.height + row * patch_size_ + y) * size.width + col * patch_size_;
            std::transform(line, line + patch_size_, to, [](double value) { return static_cast<float>(value); });
          }
        }
      });
      done += rows * cols;
    }
    if (done != pixels->shape[0]) throw detail::wrong_argument("pixel_values", *pixels, concat("[", done, ", values of a patch]"));
    return input;
  }

 private:
  [[nodiscard]] PicturePlan plan_of(PictureSize original, PictureSize resized) const {
    const Index group = patch_size_ * merge_size_;
    return {.original = original, .resized = resized, .num_tokens = resized.height / group * (resized.width / group)};
  }
  /// visit(index in pixel_values, row, col) for every patch of a grid.
  template <class Visit>
  void for_each_patch(Index rows, Index cols, Visit&& visit) const {
    Index patch = 0;
    for (Index row = 0; row < rows; row += merge_size_) {
      for (Index col = 0; col < cols; col += merge_size_) {
        for (Index y = 0; y < merge_size_; ++y) {
          for (Index x = 0; x < merge_size_; ++x) visit(patch++, row + y, col + x);
        }
      }
    }
  }

  static constexpr double kLongestAspect = 200.0;

  Index patch_size_ = 0, merge_size_ = 0, temporal_patch_size_ = 0, min_pixels_ = 0, max_pixels_ = 0;
  bool do_resize_ = true;
  Filter filter_ = Filter::kBicubic;
  PixelScale scale_;
};

}  // namespace duet
