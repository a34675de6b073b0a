#pragma once

#include <utility>

#include "duet/core/workspace.hpp"
#include "duet/models/image_rows.hpp"
#include "duet/models/stages.hpp"
#include "duet/models/visual_input.hpp"

namespace duet {

/// An encoder with the projector that its checkpoint holds, and no text model: pictures become image tokens.
///
/// Shapes   pixels → rows [num_image_tokens, output_size of the projector]
template <class Vision, class Projection>
class ProjectedVision {
 public:
  ProjectedVision(Vision vision, Projection projector) : vision_(std::move(vision)), projector_(std::move(projector)) {}

  [[nodiscard]] const Vision& vision() const noexcept { return vision_; }
  [[nodiscard]] const Projection& projector() const noexcept { return projector_; }

  /// A span of rows for each picture. Errors as the encoder's
  template <class Observer = NoObserver>
  [[nodiscard]] ImageRows encode(const VisualInput& input, Workspace& workspace, Observer&& observe = {}) const {
    const auto frame = workspace.frame();
    ImageRows result = projector_.project(vision_.encode(input, workspace, observe), input, workspace);
    observe(Stage::kProjected, 0, ConstMatrixView(result.rows.view()));
    return result;
  }

 private:
  Vision vision_;
  Projection projector_;
};

}  // namespace duet
