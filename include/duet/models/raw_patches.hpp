#pragma once

#include <string>
#include <utility>
#include <vector>

#include "duet/kernels/patchify.hpp"
#include "duet/layers/linear.hpp"
#include "duet/models/stages.hpp"
#include "duet/models/vision_cost.hpp"
#include "duet/models/visual_input.hpp"

namespace duet {

struct RawPatchesConfig {
  Index image_size = 0;  ///< of the square picture that costs are told of
  Index patch_size = 0;
  Index num_channels = 3;
  std::string where = "config.json: ";  ///< what stands before a key in errors

  [[nodiscard]] Index width() const noexcept { return image_size; }

  /// Throws Error{kInvalidArgument} unless the sizes are positive and possible.
  void check() const {
    const auto require = [&](std::string_view key, Index value, Index least, Index most) {
      if (value >= least && value <= most) return;
      throw Error(ErrorKind::kInvalidArgument, concat(where, key), std::to_string(value), concat("between ", least, " and ", most));
    };
    require("patch_size", patch_size, 1, 2048);  // with the channels, a row is no wider than kLargestWidth
    require("num_channels", num_channels, 1, 4);
    require("image_size", image_size, patch_size, Index{1} << 16);
  }
};

/// The vision slot of a model without an encoder: the pixels of a patch, as they are, are its features. Has no weights.
///
/// Shapes   crops of [num_channels, height, width] → features [patches of all crops, patch_size² * num_channels], row by row; in a
///          row, pixel by pixel
/// Source   Bavishi et al. 2023 (Fuyu-8B)
class RawPatches {
 public:
  explicit RawPatches(RawPatchesConfig config) : config_((config.check(), std::move(config))) {}

  [[nodiscard]] const RawPatchesConfig& config() const noexcept { return config_; }
  /// Width of a feature row.
  [[nodiscard]] Index hidden_size() const noexcept { return config_.patch_size * config_.patch_size * config_.num_channels; }
  /// Rows that come out for a picture of image_size.
  [[nodiscard]] Index num_features() const noexcept {
    const Index edge = config_.image_size / config_.patch_size;
    return edge * edge;
  }

  /// The rows live in the workspace until the caller's frame ends.
  /// Errors  kShapeMismatch when the pixels are no whole patches
  template <class Observer = NoObserver>
  [[nodiscard]] Features encode(const VisualInput& input, Workspace& workspace, Observer&& = {}) const {
    Features features;
    Index num_rows = 0;
    for (const VisualInput::Crop& crop : input.crops) {
      const Index p = config_.patch_size, rows = crop.size.height / p, cols = crop.size.width / p;
      if (input.num_channels != config_.num_channels || rows == 0 || cols == 0 || crop.size.height % p != 0 || crop.size.width % p != 0) {
        throw Error(ErrorKind::kShapeMismatch, "pixel_values",
                    shape_text(std::vector{input.num_channels, crop.size.height, crop.size.width}),
                    concat('[', config_.num_channels, ", height, width], multiples of ", p),
                    "does preprocessor_config.json belong to this checkpoint?");
      }
      features.crops.push_back({crop.picture, num_rows, rows * cols, rows, cols});
      num_rows += rows * cols;
    }
    features.rows = workspace.matrix(num_rows, hidden_size());
    const kernels::PatchLayout layout{.patch_size = config_.patch_size, .pixels = kernels::PixelOrder::kChannelsLast};
    for (std::size_t i = 0; i < features.crops.size(); ++i) {
      const auto& [height, width] = input.crops[i].size;
      kernels::patchify(input.crop(static_cast<Index>(i)), config_.num_channels, height, width, layout,
                        features.rows.rows(features.crops[i].begin, features.crops[i].count));
    }
    return features;
  }

  /// Pixels as they are cost nothing.
  [[nodiscard]] VisionCost cost() const noexcept {
    return {config_.num_channels, {config_.image_size, config_.image_size}, config_.patch_size, hidden_size(), 0, num_features(), 0.0};
  }

 private:
  RawPatchesConfig config_;
};

}  // namespace duet
