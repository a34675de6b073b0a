#pragma once

#include <optional>
#include <utility>

#include "duet/kernels/elementwise.hpp"
#include "duet/models/pooler.hpp"
#include "duet/models/text_encoder.hpp"
#include "duet/models/vision_transformer.hpp"

namespace duet {

/// What joins the two towers of a contrastive model.
struct ContrastiveParts {
  Pooler pooler;                            ///< what makes one row of an image's
  std::optional<Linear> visual_projection;  ///< [projection_dim, pooled size]; absent where the pooled row is what is compared
  Linear text_projection;                   ///< [projection_dim, text hidden_size]
  float logit_scale = 1.0f;                 ///< exp of the stored one
  float logit_bias = 0.0f;
};

/// Two towers that meet in one space: how well does each text describe each image?
///
///     image_embeds = normalize(visual_projection(pooled rows));  text_embeds likewise, of the row that stands for the text
///     logits_per_image = logit_scale · image_embeds · text_embedsᵀ + logit_bias
///
/// Source  Radford et al. 2021, 2103.00020 (CLIP); Zhai et al. 2023, 2303.15343 (SigLIP)
template <class Vision, class Text>
class ContrastiveModel {
 public:
  ContrastiveModel(Vision vision, Text text, ContrastiveParts parts)
      : vision_(std::move(vision)), text_(std::move(text)), parts_(std::move(parts)) {}

  [[nodiscard]] const Vision& vision() const noexcept { return vision_; }
  [[nodiscard]] const Text& text() const noexcept { return text_; }
  [[nodiscard]] Index projection_dim() const noexcept { return parts_.text_projection.out_features(); }
  [[nodiscard]] float logit_scale() const noexcept { return parts_.logit_scale; }
  [[nodiscard]] float logit_bias() const noexcept { return parts_.logit_bias; }

  /// Unit vectors [pictures, projection_dim].
  template <class Observer = NoObserver>
  [[nodiscard]] Matrix embed_images(const VisualInput& input, Workspace& workspace, Observer&& observe = {}) const {
    const auto frame = workspace.frame();
    Matrix pooled = parts_.pooler.pool(vision_.encode(input, workspace, observe), workspace);
    return normalized(parts_.visual_projection ? parts_.visual_projection->map(pooled, Phase::kPrefill, workspace) : std::move(pooled));
  }

  /// Unit vectors [num_texts, projection_dim].
  /// Requires what Text::encode requires
  template <class Observer = NoObserver>
  [[nodiscard]] Matrix embed_texts(const TextInput& texts, Workspace& workspace, Observer&& observe = {}) const {
    const auto frame = workspace.frame();
    const Matrix pooled = text_.pool(texts, text_.encode(texts, workspace, observe));
    return normalized(parts_.text_projection.map(pooled, Phase::kPrefill, workspace));
  }

 private:
  static Matrix normalized(Matrix rows) {
    for (Index i = 0; i < rows.rows(); ++i) kernels::l2_normalize(rows.view().row(i));
    return rows;
  }

  Vision vision_;
  Text text_;
  ContrastiveParts parts_;
};

}  // namespace duet
