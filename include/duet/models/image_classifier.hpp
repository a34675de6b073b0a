#pragma once

#include <optional>
#include <utility>

#include "duet/layers/activation_choice.hpp"
#include "duet/layers/linear.hpp"
#include "duet/layers/norms.hpp"
#include "duet/models/vision_transformer.hpp"

namespace duet {

/// What makes an encoder's first row (the class token) stand for the whole image: a norm (CLIP) or a dense layer (ViT).
class Pooler {
 public:
  explicit Pooler(LayerNorm norm) : norm_(std::move(norm)) {}
  Pooler(Linear dense, ActivationChoice<ConfiguredActivation> activation) : dense_(std::move(dense)), activation_(activation) {}

  /// rows [crops, hidden_size] → [crops, pooled size]
  [[nodiscard]] Matrix pool(ConstMatrixView rows, Workspace& workspace) const {
    Matrix pooled(rows.rows(), dense_ ? dense_->out_features() : rows.cols());
    if (norm_) {
      norm_->forward(rows, pooled, workspace);
    } else {
      dense_->forward(rows, pooled, Phase::kPrefill, workspace, activation_->function(workspace.kernels()));
    }
    return pooled;
  }

 private:
  std::optional<LayerNorm> norm_;
  std::optional<Linear> dense_;
  std::optional<ActivationChoice<ConfiguredActivation>> activation_;
};

/// What reads an encoder's first row; a checkpoint may have any of them.
struct VisionHeads {
  std::optional<Linear> classifier;  ///< [num_labels, hidden_size]
  std::optional<Pooler> pooler;
  std::optional<Linear> projection;  ///< of the pooled row [projection_dim, hidden_size]
};

/// A vision model on its own: an encoder, and perhaps heads that read its first row.
///
/// Shapes   pixels → features; logits [crops, num_labels] when there is a classifier
template <class Vision>
class ImageClassifier {
 public:
  ImageClassifier(Vision vision, VisionHeads heads) : vision_(std::move(vision)), heads_(std::move(heads)) {}

  [[nodiscard]] const Vision& vision() const noexcept { return vision_; }
  [[nodiscard]] Index num_labels() const noexcept { return heads_.classifier ? heads_.classifier->out_features() : 0; }
  [[nodiscard]] bool pools() const noexcept { return heads_.pooler.has_value(); }
  [[nodiscard]] bool projects() const noexcept { return pools() && heads_.projection.has_value(); }

  /// logits [crops, num_labels] of features from `vision().encode`. Requires num_labels() > 0
  [[nodiscard]] Matrix classify(const Features& features, Workspace& workspace) const {
    return heads_.classifier->map(features.first_rows(), Phase::kPrefill, workspace);
  }
  /// One row an image. Requires pools()
  [[nodiscard]] Matrix pool(const Features& features, Workspace& workspace) const {
    return heads_.pooler->pool(features.first_rows(), workspace);
  }
  /// [crops, projection_dim] of pooled rows. Requires projects()
  [[nodiscard]] Matrix project(ConstMatrixView pooled, Workspace& workspace) const {
    return heads_.projection->map(pooled, Phase::kPrefill, workspace);
  }

 private:
  Vision vision_;
  VisionHeads heads_;
};

}  // namespace duet
