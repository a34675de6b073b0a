#pragma once

#include <vector>

#include "duet/layers/activation_choice.hpp"
#include "duet/layers/linear.hpp"
#include "duet/layers/norms.hpp"
#include "duet/models/image_rows.hpp"
#include "duet/models/visual_input.hpp"

namespace duet {

struct PatchMergerConfig {
  Index input_size = 0;          ///< width of the encoder's features
  Index output_size = 0;         ///< hidden_size of the text model
  Index spatial_merge_size = 2;  ///< edge of the cells of patches that become one image token
  float norm_eps = 1e-6f;
};

/// image tokens = linear_2(gelu(linear_1(cells of norm(features)))): the patches of a cell, side by side, are one row.
///
/// Shapes   features [n, input_size], cell by cell → [n / cell, output_size], cell = spatial_merge_size²; weights ln_q,
///          linear_1 [input_size * cell, input_size * cell], linear_2 [output_size, input_size * cell]
/// Source   Wang et al. 2024, 2409.12191 (Qwen2-VL), section 2.1
template <Norm FeatureNorm>
class PatchMerger {
 public:
  PatchMerger(const PatchMergerConfig& config, const Weights& weights)
      : cell_(config.spatial_merge_size * config.spatial_merge_size),
        norm_(weights.scope("ln_q"), config.input_size, config.norm_eps),
        linear_1_(weights, "linear_1", config.input_size * cell_, config.input_size * cell_, Linear::Bias::kRequired),
        linear_2_(weights, "linear_2", config.input_size * cell_, config.output_size, Linear::Bias::kRequired) {}

  [[nodiscard]] Index input_size() const noexcept { return linear_1_.in_features() / cell_; }
  [[nodiscard]] Index output_size() const noexcept { return linear_2_.out_features(); }

  /// Requires crops of whole cells
  [[nodiscard]] ImageRows project(const Features& features, const VisualInput& input, Workspace& workspace) const {
    const auto frame = workspace.frame();
    const Index tokens = features.rows.rows() / cell_;
    const MatrixView normed = workspace.matrix(features.rows.rows(), input_size());
    norm_.forward(features.rows, normed, workspace);
    const MatrixView cells(normed.data(), tokens, input_size() * cell_);  // neighbouring rows are one
    const MatrixView inner = workspace.matrix(tokens, linear_1_.out_features());
    linear_1_.forward(cells, inner, Phase::kPrefill, workspace, kernels::activation_function<kernels::Gelu>(workspace.kernels()));
    ImageRows result{Matrix(tokens, output_size()), std::vector<ImageRows::Span>(static_cast<std::size_t>(input.num_pictures()))};
    linear_2_.forward(inner, result.rows, Phase::kPrefill, workspace);
    for (const Features::Crop& crop : features.crops) {
      ImageRows::Span& span = result.spans[static_cast<std::size_t>(crop.picture)];
      if (span.count == 0) span.begin = crop.begin / cell_;
      span.count += crop.count / cell_;
    }
    return result;
  }
  /// Calls visit(weight) for every matrix.
  template <class Visit>
  void for_each_weight(Visit&& visit) const {
    visit(linear_1_.weight());
    visit(linear_2_.weight());
  }

 private:
  Index cell_;
  FeatureNorm norm_;
  Linear linear_1_, linear_2_;
};

}  // namespace duet
