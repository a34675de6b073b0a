#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "duet/fusion/concepts.hpp"

namespace duet {

// Projectors made of projectors.

/// A picture projector that some checkpoints of a kind have; without it the features are the image tokens.
template <PictureProjector P>
class OptionalProjector {
 public:
  explicit OptionalProjector(Index size) : size_(size) {}
  explicit OptionalProjector(P projector) : size_(projector.input_size()), projector_(std::move(projector)) {}

  [[nodiscard]] Index input_size() const noexcept { return size_; }
  [[nodiscard]] Index output_size() const noexcept { return projector_ ? projector_->output_size() : size_; }
  [[nodiscard]] ImageRows project(const Features& features, const VisualInput& input, Workspace& workspace) const {
    if (projector_) return projector_->project(features, input, workspace);
    ImageRows result{Matrix::clone(features.rows), std::vector<ImageRows::Span>(static_cast<std::size_t>(input.num_pictures()))};
    for (const Features::Crop& crop : features.crops) {
      ImageRows::Span& span = result.spans[static_cast<std::size_t>(crop.picture)];
      if (span.count == 0) span.begin = crop.begin;
      span.count += crop.count;
    }
    return result;
  }
  [[nodiscard]] Index num_tokens(Index features) const noexcept { return projector_ ? projector_->num_tokens(features) : features; }
  [[nodiscard]] double multiply_adds(Index features) const noexcept { return projector_ ? projector_->multiply_adds(features) : 0.0; }

 private:
  Index size_;
  std::optional<P> projector_;
};

/// One projector behind another: every feature row through the first, then the rows of each picture through the second.
template <RowProjector First, PictureProjector Second>
class ProjectorChain {
 public:
  ProjectorChain(First first, Second second) : first_(std::move(first)), second_(std::move(second)) {
    if (first_.output_size() == second_.input_size()) return;
    throw Error(ErrorKind::kShapeMismatch, "projector", std::to_string(first_.output_size()), std::to_string(second_.input_size()),
                "its parts do not fit one another");
  }

  [[nodiscard]] Index input_size() const noexcept { return first_.input_size(); }
  [[nodiscard]] Index output_size() const noexcept { return second_.output_size(); }
  [[nodiscard]] ImageRows project(const Features& features, const VisualInput& input, Workspace& workspace) const {
    const auto frame = workspace.frame();
    Features projected{workspace.matrix(features.rows.rows(), first_.output_size()), features.crops};
    first_.project(features.rows, projected.rows, workspace);
    return second_.project(projected, input, workspace);
  }
  [[nodiscard]] Index num_tokens(Index features) const noexcept { return second_.num_tokens(features); }
  [[nodiscard]] double multiply_adds(Index features) const noexcept {
    double weights = 0;
    first_.for_each_weight([&](const WeightMatrix& w) { weights += static_cast<double>(w.in_features * w.out_features); });
    return static_cast<double>(features) * weights + second_.multiply_adds(features);
  }

 private:
  First first_;
  Second second_;
};

}  // namespace duet
