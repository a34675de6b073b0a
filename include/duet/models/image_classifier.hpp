#pragma once

#include <optional>
#include <utility>

#include "duet/layers/linear.hpp"
#include "duet/models/vision_transformer.hpp"

namespace duet {

/// A vision model on its own: an encoder, and perhaps a classifier that reads its first row (the class token).
///
/// Shapes   pixels → features; logits [num_images, num_labels] when there is a classifier
template <class Vision>
class ImageClassifier {
 public:
  ImageClassifier(Vision vision, std::optional<Linear> classifier)
      : vision_(std::move(vision)), classifier_(std::move(classifier)) {}

  [[nodiscard]] const Vision& vision() const noexcept { return vision_; }
  [[nodiscard]] Index num_labels() const noexcept { return classifier_ ? classifier_->out_features() : 0; }

  /// logits [num_images, num_labels] of features from `vision().encode`.
  [[nodiscard]] Matrix classify(const Features& features, Workspace& workspace) const {
    const auto frame = workspace.frame();
    const Index num_images = features.rows_per_image == 0 ? 0 : features.rows.rows() / features.rows_per_image;
    const MatrixView first = workspace.matrix(num_images, features.rows.cols());
    for (Index i = 0; i < num_images; ++i) copy(features.rows.rows(i * features.rows_per_image, 1), first.rows(i, 1));
    Matrix logits(num_images, num_labels());
    classifier_->forward(first, logits, Phase::kPrefill, workspace);
    return logits;
  }

 private:
  Vision vision_;
  std::optional<Linear> classifier_;  // [num_labels, hidden_size]
};

}  // namespace duet
