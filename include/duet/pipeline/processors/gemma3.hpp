#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "duet/io/checkpoint_folder.hpp"
#include "duet/pipeline/image_processor.hpp"
#include "duet/pipeline/processors/arguments.hpp"
#include "duet/pipeline/single_view_processor.hpp"

namespace duet {

/// Gemma 3 (Gemma Team 2025, 2503.19786): every picture is stretched to one square, and, where pan and scan is asked for, parts of a
/// long one to squares of their own. Image rows of a prompt see each other.
class Gemma3Processor : public SingleViewProcessor {
 public:
  /// Errors  kInvalidArgument for what preprocessor_config.json cannot mean
  Gemma3Processor(PromptRules rules, const CheckpointFolder& folder) : SingleViewProcessor(std::move(rules), folder) {
    const JsonView file = folder.preprocessor_config();
    pans_ = file.get_or("do_pan_and_scan", false);
    least_edge_ = read_between(file, "pan_and_scan_min_crop_size", 256, 1, Image::kMaxPixels);
    most_crops_ = read_between(file, "pan_and_scan_max_num_crops", 4, 2, 64);
    least_ratio_ = file.get_or("pan_and_scan_min_ratio_to_activate", 1.2);
    tokens_per_crop_ = this->rules().tokens_per_image;
    if (tokens_per_crop_ == 0) tokens_per_crop_ = read_between(folder.config(), "mm_tokens_per_image", 256, 1, 1 << 20);
  }

  [[nodiscard]] PicturePlan plan(PictureSize size) const override {
    PicturePlan result = SingleViewProcessor::plan(size);
    if (const Grid grid = parts_of(size); grid.rows * grid.cols > 1) {
      result.tile_rows = grid.rows;
      result.tile_cols = grid.cols;
      result.num_crops = grid.rows * grid.cols + 1;
    }
    result.num_tokens = result.num_crops * tokens_per_crop_;
    return result;
  }
  void process(const Image& picture, VisualInput& input) const override {
    const PictureSize size{picture.height(), picture.width()};
    const PicturePlan planned = plan(size);
    input.add_picture(planned);
    processor().process(picture, input.add_crop(planned.resized));
    if (planned.num_crops == 1) return;
    const Index height = up(size.height, planned.tile_rows), width = up(size.width, planned.tile_cols);
    for (Index i = 0; i + 1 < planned.num_crops; ++i) {
      const Index top = i / planned.tile_cols * height, left = i % planned.tile_cols * width;
      const Image part = window(picture, top, left, {std::min(height, size.height - top), std::min(width, size.width - left)});
      processor().process(part, input.add_crop(planned.resized));
    }
  }

  [[nodiscard]] std::string expand(std::string_view text, std::span<const PicturePlan> pictures) const override {
    std::string crop = "\n\n<start_of_image>";
    for (Index i = 0; i < tokens_per_crop_; ++i) crop += "<image_soft_token>";
    crop += "<end_of_image>\n\n";
    return replace(text, pictures, [&](const PicturePlan& picture, std::size_t) {
      if (picture.num_crops == 1) return crop;
      std::string result = concat("Here is the original image ", crop, " and here are some crops to help you see better ");
      for (Index i = 1; i < picture.num_crops; ++i) result += concat(i > 1 ? " " : "", crop);
      return result;
    });
  }
  void arrange(Prompt& prompt, std::span<const PicturePlan>) const override {
    mark_image_rows(prompt);
    std::vector<kernels::KeyRange> blocks;  // slots of neighbouring image rows
    const Index first = prompt.visible.empty() ? 0 : prompt.visible.front().end - 1;  // slot of row 0
    for (const Index row : prompt.image_rows) {
      if (blocks.empty() || blocks.back().end != first + row) blocks.push_back({first + row, first + row});
      ++blocks.back().end;
    }
    std::size_t own = 0;
    for (const Index row : prompt.image_rows) {
      if (first + row >= blocks[own].end) ++own;
      prompt.visible[static_cast<std::size_t>(row)].end = blocks[own].end;
      for (std::size_t later = own + 1; later < blocks.size(); ++later) prompt.extra_visible.push_back({row, blocks[later]});
    }
  }
  [[nodiscard]] bool reads_ahead() const noexcept override { return true; }

  [[nodiscard]] std::vector<NamedTensor> tensors(const VisualInput& input) const override {
    std::vector<std::int64_t> parts;  // beside the whole
    for (const PicturePlan& picture : input.pictures) parts.push_back(picture.num_crops - 1);
    std::vector<NamedTensor> result = SingleViewProcessor::tensors(input);
    result.push_back(NamedTensor::int64s("num_crops", {input.num_pictures()}, parts));
    return result;
  }

 private:
  struct Grid {
    Index rows = 1, cols = 1;
  };
  static Index up(Index edge, Index parts) { return (edge + parts - 1) / parts; }
  /// About as many parts along the longer edge as it is longer than the other, none of them too small; one where it is not long.
  [[nodiscard]] Grid parts_of(PictureSize size) const {
    const Index longer = std::max(size.height, size.width), shorter = std::min(size.height, size.width);
    const double ratio = static_cast<double>(longer) / static_cast<double>(shorter);
    if (!pans_ || ratio < least_ratio_) return {};
    const Index wanted = std::min(longer / least_edge_, static_cast<Index>(std::floor(ratio + 0.5)));
    const Index parts = std::clamp<Index>(wanted, 2, most_crops_);
    if (std::min(up(longer, parts), shorter) < least_edge_) return {};
    return size.width >= size.height ? Grid{1, parts} : Grid{parts, 1};
  }

  bool pans_ = false;
  Index least_edge_ = 256, most_crops_ = 4, tokens_per_crop_ = 256;
  double least_ratio_ = 1.2;
};

}  // namespace duet
