#pragma once

#include <array>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "duet/layers/activation_choice.hpp"
#include "duet/layers/attention.hpp"
#include "duet/layers/feed_forward.hpp"
#include "duet/models/visual_input.hpp"

namespace duet {

/// A learned row that asks all rows of a crop, then passes an MLP:
///
///     x = attention(probe, rows);  pooled = x + feed_forward(norm(x))
///
/// Shapes   weights probe [hidden_size], self_attn, layernorm, mlp
/// Source   Zhai et al. 2022, 2106.04560 (the MAP head), section 3.4; Zhai et al. 2023, 2303.15343 (SigLIP)
class AttentionPool {
 public:
  AttentionPool(const AttentionConfig& attention, const FeedForwardConfig& feed_forward, float norm_eps, const Weights& weights)
      : probe_(weights.vector("probe", attention.hidden_size)),
        attention_(attention, weights.scope("self_attn")),
        norm_(weights.scope("layernorm"), attention.hidden_size, norm_eps),
        feed_forward_(feed_forward, weights.scope("mlp")) {}

  /// [crops, hidden_size]
  [[nodiscard]] Matrix pool(const Features& features, Workspace& workspace) const {
    const auto frame = workspace.frame();
    const AttentionConfig& config = attention_.config();
    Matrix pooled(static_cast<Index>(features.crops.size()), config.hidden_size);
    const ConstMatrixView probe(probe_.data(), 1, config.hidden_size);
    const MatrixView q = attention_.project_queries(probe, Phase::kPrefill, workspace);
    const MatrixView attended = workspace.matrix(pooled.rows(), q.cols());
    for (std::size_t i = 0; i < features.crops.size(); ++i) {
      const Features::Crop& crop = features.crops[i];
      KeyValueStore store(crop.count, config.num_key_value_heads, config.head_dim);
      attention_.memorize(features.rows.rows(crop.begin, crop.count), store, workspace);
      const auto row = static_cast<Index>(i);
      const std::array visible{kernels::KeyRange{0, crop.count}};
      kernels::AttentionJob jobs[] = {{q, store.pages(), visible, attended.rows(row, 1), {}}};
      attention_.attend(jobs, attended.rows(row, 1), pooled.view().rows(row, 1), kernels::Store::kAssign, Phase::kPrefill, workspace);
    }
    const MatrixView normed = workspace.matrix(pooled.rows(), pooled.cols());
    norm_.forward(pooled, normed, workspace);
    feed_forward_.forward(normed, pooled, kernels::Store::kAdd, Phase::kPrefill, workspace);
    return pooled;
  }

 private:
  std::vector<float> probe_;  // [hidden_size]
  Attention<> attention_;
  LayerNorm norm_;
  FeedForward<> feed_forward_;
};

/// What makes one row of a crop's: its first row, the class token's, as it is (DINOv2), through a norm (CLIP) or through a dense
/// layer (ViT); or a row that asks all of them (SigLIP).
class Pooler {
 public:
  Pooler() = default;
  explicit Pooler(LayerNorm norm) : how_(std::move(norm)) {}
  Pooler(Linear dense, ActivationChoice<ConfiguredActivation> activation) : how_(Dense{std::move(dense), activation}) {}
  explicit Pooler(AttentionPool attention) : how_(std::move(attention)) {}

  /// [crops, pooled size] of features from `encode`.
  [[nodiscard]] Matrix pool(const Features& features, Workspace& workspace) const {
    if (const auto* attention = std::get_if<AttentionPool>(&how_)) return attention->pool(features, workspace);
    Matrix first = features.first_rows();
    if (const auto* norm = std::get_if<LayerNorm>(&how_)) norm->forward(first, first, workspace);
    const auto* dense = std::get_if<Dense>(&how_);
    if (dense == nullptr) return first;
    Matrix pooled(first.rows(), dense->linear.out_features());
    dense->linear.forward(first, pooled, Phase::kPrefill, workspace, dense->activation.function(workspace.kernels()));
    return pooled;
  }

 private:
  struct Dense {
    Linear linear;
    ActivationChoice<ConfiguredActivation> activation;
  };
  std::variant<std::monostate, LayerNorm, Dense, AttentionPool> how_;
};

}  // namespace duet
