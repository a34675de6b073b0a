#pragma once

#include <utility>

#include "duet/kernels/elementwise.hpp"
#include "duet/models/text_encoder.hpp"
#include "duet/models/vision_transformer.hpp"

namespace duet {

/// What joins the two towers of a contrastive model.
struct ContrastiveParts {
  LayerNorm post_layernorm;  ///< of the pooled class token
  Linear visual_projection;  ///< [projection_dim, vision hidden_size]
  Linear text_projection;    ///< [projection_dim, text hidden_size]
  float logit_scale = 1.0f;  ///< exp of the stored one
};

/// Two towers that meet in one space: how well does each text describe each image?
///
///     image_embeds = normalize(visual_projection(norm(class token)));  text_embeds likewise, of the end-of-text row
///     logits_per_image = logit_scale · image_embeds · text_embedsᵀ
///
/// Source  Radford et al. 2021, 2103.00020 (CLIP)
template <class Vision, class Text>
class ContrastiveModel {
 public:
  ContrastiveModel(Vision vision, Text text, ContrastiveParts parts)
      : vision_(std::move(vision)), text_(std::move(text)), parts_(std::move(parts)) {}

  [[nodiscard]] const Vision& vision() const noexcept { return vision_; }
  [[nodiscard]] const Text& text() const noexcept { return text_; }
  [[nodiscard]] Index projection_dim() const noexcept { return parts_.visual_projection.out_features(); }
  [[nodiscard]] float logit_scale() const noexcept { return parts_.logit_scale; }

  /// Unit vectors [pictures, projection_dim].
  template <class Observer = NoObserver>
  [[nodiscard]] Matrix embed_images(const VisualInput& input, Workspace& workspace, Observer&& observe = {}) const {
    const auto frame = workspace.frame();
    Matrix pooled = vision_.encode(input, workspace, observe).first_rows();
    parts_.post_layernorm.forward(pooled, pooled, workspace);
    return project(parts_.visual_projection, pooled, workspace);
  }

  /// Unit vectors [num_texts, projection_dim].
  /// Requires what Text::encode requires
  template <class Observer = NoObserver>
  [[nodiscard]] Matrix embed_texts(const TextInput& texts, Workspace& workspace, Observer&& observe = {}) const {
    const auto frame = workspace.frame();
    const Matrix pooled = text_.pool(texts, text_.encode(texts, workspace, observe));
    return project(parts_.text_projection, pooled, workspace);
  }

 private:
  static Matrix project(const Linear& projection, ConstMatrixView pooled, Workspace& workspace) {
    Matrix result = projection.map(pooled, Phase::kPrefill, workspace);
    for (Index i = 0; i < result.rows(); ++i) kernels::l2_normalize(result.view().row(i));
    return result;
  }

  Vision vision_;
  Text text_;
  ContrastiveParts parts_;
};

}  // namespace duet
