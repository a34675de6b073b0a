#pragma once

#include <algorithm>
#include <optional>
#include <span>
#include <utility>

#include "duet/layers/linear.hpp"
#include "duet/models/pooler.hpp"
#include "duet/models/vision_transformer.hpp"

namespace duet {

/// What a classifier reads of a crop.
enum class ClassifierInput : unsigned char {
  kFirstRow,         ///< the class token's row (ViT)
  kFirstAndPatches,  ///< that row, and beside it the mean of the patches' (DINOv2)
  kMean,             ///< the mean of all rows (SigLIP)
};

/// What reads an encoder's rows; a checkpoint may have any of them.
struct VisionHeads {
  std::optional<Linear> classifier;  ///< [num_labels, width of its input]
  ClassifierInput classifier_input = ClassifierInput::kFirstRow;
  std::optional<Pooler> pooler;
  std::optional<Linear> projection;  ///< of the pooled row [projection_dim, hidden_size]
};

/// A vision model on its own: an encoder, and perhaps heads that read its rows.
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
    return heads_.classifier->map(classifier_input(features), Phase::kPrefill, workspace);
  }
  /// One row an image. Requires pools()
  [[nodiscard]] Matrix pool(const Features& features, Workspace& workspace) const {
    return heads_.pooler->pool(features, workspace);
  }
  /// [crops, projection_dim] of pooled rows. Requires projects()
  [[nodiscard]] Matrix project(ConstMatrixView pooled, Workspace& workspace) const {
    return heads_.projection->map(pooled, Phase::kPrefill, workspace);
  }

 private:
  [[nodiscard]] Matrix classifier_input(const Features& features) const {
    if (heads_.classifier_input == ClassifierInput::kFirstRow) return features.first_rows();
    const bool all = heads_.classifier_input == ClassifierInput::kMean;
    const Index width = features.rows.cols();
    Matrix input(static_cast<Index>(features.crops.size()), all ? width : 2 * width);
    for (std::size_t i = 0; i < features.crops.size(); ++i) {
      const Features::Crop& crop = features.crops[i];
      const std::span<float> row = input.view().row(static_cast<Index>(i));
      if (!all) std::ranges::copy(features.rows.row(crop.begin), row.begin());
      const Index count = all ? crop.count : crop.grid_rows * crop.grid_cols;
      mean(features.rows.rows(crop.begin + crop.count - count, count), row.last(static_cast<std::size_t>(width)));
    }
    return input;
  }
  static void mean(ConstMatrixView rows, std::span<float> out) {
    for (std::size_t j = 0; j < out.size(); ++j) {
      double sum = 0.0;
      for (Index i = 0; i < rows.rows(); ++i) sum += static_cast<double>(rows(i, static_cast<Index>(j)));
      out[j] = static_cast<float>(sum / static_cast<double>(rows.rows()));
    }
  }

  Vision vision_;
  VisionHeads heads_;
};

}  // namespace duet
