#pragma once

#include <algorithm>
#include <string>
#include <utility>

#include "duet/kernels/elementwise.hpp"
#include "duet/layers/norms.hpp"
#include "duet/models/image_rows.hpp"
#include "duet/models/projectors.hpp"
#include "duet/models/visual_input.hpp"

namespace duet {

/// Fewer rows: the mean of each k × k square of patches, through a norm and a linear map.
///
/// Shapes   features of crops of [m, n] patches → [edge², output_size] each, k = m / edge; weights "norm", "linear"
/// Errors   kShapeMismatch for a crop whose patches do not make edge × edge squares
/// Source   Gemma Team 2025, 2503.19786 (Gemma 3), section 2.1
template <class Norm>
class AveragePoolProjector {
 public:
  /// `edge` is how many image tokens stand along a crop's edge.
  AveragePoolProjector(const ProjectorConfig& config, Index edge, float norm_eps, const Weights& weights)
      : edge_(edge), norm_(weights.scope("norm"), config.input_size, norm_eps), linear_(config, weights) {}

  [[nodiscard]] Index input_size() const noexcept { return linear_.input_size(); }
  [[nodiscard]] Index output_size() const noexcept { return linear_.output_size(); }

  /// Image tokens of a crop, however many patches it has.
  [[nodiscard]] Index num_tokens(Index) const noexcept { return edge_ * edge_; }

  [[nodiscard]] ImageRows project(const Features& features, const VisualInput& input, Workspace& workspace) const {
    const Index tokens = edge_ * edge_, num_crops = static_cast<Index>(features.crops.size());
    ImageRows result;
    result.rows = Matrix(num_crops * tokens, output_size());
    result.spans.resize(static_cast<std::size_t>(input.num_pictures()));
    const auto frame = workspace.frame();
    const MatrixView pooled = workspace.matrix(num_crops * tokens, input_size());
    for (Index i = 0; i < num_crops; ++i) {
      const Features::Crop& crop = features.crops[static_cast<std::size_t>(i)];
      ImageRows::Span& span = result.spans[static_cast<std::size_t>(crop.picture)];
      if (span.count == 0) span.begin = i * tokens;
      span.count += tokens;
      pool(features.rows, crop, pooled.rows(i * tokens, tokens), workspace);
    }
    norm_.forward(pooled, pooled, workspace);
    linear_.project(pooled, result.rows, workspace);
    return result;
  }
  /// Calls visit(weight) for every matrix.
  template <class Visit>
  void for_each_weight(Visit&& visit) const {
    linear_.for_each_weight(visit);
  }

 private:
  void pool(ConstMatrixView rows, const Features::Crop& crop, MatrixView out, Workspace& workspace) const {
    const Index k = crop.grid_rows / edge_;
    if (k == 0 || crop.grid_rows != k * edge_ || crop.grid_cols != k * edge_) {
      throw Error(ErrorKind::kShapeMismatch, "image", concat(crop.grid_rows, " x ", crop.grid_cols, " patches"),
                  concat(edge_, " x ", edge_, " squares of them"), "does preprocessor_config.json belong to this checkpoint?");
    }
    const Index patches = crop.begin + crop.count - crop.grid_rows * crop.grid_cols;
    for (Index i = 0; i < out.rows(); ++i) {
      const std::span<float> mean = out.row(i);
      std::ranges::fill(mean, 0.0f);
      for (Index y = 0; y < k; ++y) {
        for (Index x = 0; x < k; ++x) {
          const auto patch = rows.row(patches + (i / edge_ * k + y) * crop.grid_cols + i % edge_ * k + x);
          for (std::size_t j = 0; j < mean.size(); ++j) mean[j] += patch[j];
        }
      }
    }
    kernels::scale(out, 1.0f / static_cast<float>(k * k), workspace);
  }

  Index edge_;
  Norm norm_;
  LinearProjector linear_;
};

}  // namespace duet
