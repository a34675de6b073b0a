#pragma once

#include <vector>

#include "duet/kernels/patchify.hpp"
#include "duet/layers/linear.hpp"

namespace duet {

struct PatchEmbeddingConfig {
  Index num_channels = 3;
  Index patch_size = 0;
  Index hidden_size = 0;
  Linear::Bias bias = Linear::Bias::kRequired;
  Index cell = 1;    ///< patches come out cell by cell, each of cell x cell of them; 1: row by row
  Index frames = 1;  ///< of a convolution that also runs over time; a picture stands still
};

/// Cuts an image into patches and projects each to a vector: the convolution of a ViT, whose stride is its kernel, as one
/// matmul.
///
/// Shapes   pixels [num_channels, height, width] → [num_patches, hidden_size], row-major over the patch grid or over
///          its cells; weight "patch_embedding" [hidden_size, num_channels, (frames,) patch_size, patch_size]
/// Requires height and width to be multiples of patch_size * cell
/// Source   Dosovitskiy et al. 2021, 2010.11929, section 3.1
class PatchEmbedding {
 public:
  PatchEmbedding(const PatchEmbeddingConfig& config, const Weights& weights)
      : config_(config),
        projection_(weights, "patch_embedding", config.num_channels * config.frames * config.patch_size * config.patch_size,
                    config.hidden_size, config.bias) {}

  [[nodiscard]] Index num_patches(Index height, Index width) const noexcept {
    return (height / config_.patch_size) * (width / config_.patch_size);
  }
  void forward(std::span<const float> pixels, Index height, Index width, MatrixView out, Workspace& workspace) const {
    const auto frame = workspace.frame();
    const MatrixView patches = workspace.matrix(out.rows(), projection_.in_features());  // [num_patches, c · p · p]
    const kernels::PatchLayout layout{config_.patch_size, config_.cell, config_.frames, kernels::PixelOrder::kChannelsFirst};
    kernels::patchify(pixels, config_.num_channels, height, width, layout, patches);
    projection_.forward(patches, out, Phase::kPrefill, workspace);
  }

 private:
  PatchEmbeddingConfig config_;
  Linear projection_;
};

}  // namespace duet
