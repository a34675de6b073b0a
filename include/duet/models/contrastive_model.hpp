#pragma once

#include <algorithm>
#include <span>
#include <utility>

#include "duet/kernels/elementwise.hpp"
#include "duet/models/decoder.hpp"
#include "duet/models/image_classifier.hpp"

namespace duet {

/// What joins the two towers of a contrastive model.
struct ContrastiveParts {
  LayerNorm post_layernorm;  ///< of the pooled class token
  Linear visual_projection;  ///< [projection_dim, vision hidden_size]
  Linear text_projection;    ///< [projection_dim, text hidden_size]
  float logit_scale = 1.0f;  ///< exp of the stored one
  TokenId eos_token_id = 0;
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

  /// Unit vectors [num_images, projection_dim].
  template <class Observer = NoObserver>
  [[nodiscard]] Matrix embed_images(const VisualInput& input, Workspace& workspace, Observer&& observe = {}) const {
    const auto frame = workspace.frame();
    const Features features = vision_.encode(input, workspace, observe);
    const MatrixView pooled = workspace.matrix(input.num_images, features.rows.cols());
    for (Index i = 0; i < input.num_images; ++i) copy(features.rows.rows(i * features.rows_per_image, 1), pooled.rows(i, 1));
    parts_.post_layernorm.forward(pooled, pooled, workspace);
    return project(parts_.visual_projection, pooled, workspace);
  }

  /// Unit vectors [num_texts, projection_dim] for `num_texts` rows of ids of equal length.
  template <class Observer = NoObserver>
  [[nodiscard]] Matrix embed_texts(std::span<const TokenId> ids, Index num_texts, Workspace& workspace,
                                   Observer&& observe = {}) const {
    const auto frame = workspace.frame();
    const Index length = num_texts == 0 ? 0 : static_cast<Index>(ids.size()) / num_texts;
    std::vector<KvCache> caches;
    std::vector<Sequence> sequences;
    const auto positions = workspace.array<Index>(length);
    const auto visible = workspace.array<kernels::KeyRange>(length);
    for (Index i = 0; i < length; ++i) {
      positions[static_cast<std::size_t>(i)] = i;
      visible[static_cast<std::size_t>(i)] = {0, i + 1};
    }
    for (Index i = 0; i < num_texts; ++i) caches.push_back(text_.make_cache(length));
    for (Index i = 0; i < num_texts; ++i) {
      sequences.push_back({&caches[static_cast<std::size_t>(i)], nullptr, positions, visible, {}, i * length, length});
    }
    const MatrixView hidden = workspace.matrix(num_texts * length, text_.hidden_size());
    text_.embed(ids, hidden);
    text_.forward(hidden, sequences, Phase::kPrefill, workspace, observe);
    text_.normalize(hidden, hidden, workspace);
    observe(Stage::kFinalNorm, 0, ConstMatrixView(hidden));
    const MatrixView pooled = workspace.matrix(num_texts, hidden.cols());
    for (Index i = 0; i < num_texts; ++i) {
      const auto text = ids.subspan(static_cast<std::size_t>(i * length), static_cast<std::size_t>(length));
      copy(hidden.rows(i * length + end_of_text(text), 1), pooled.rows(i, 1));
    }
    return project(parts_.text_projection, pooled, workspace);
  }

 private:
  /// The row that stands for a text. Checkpoints whose config still says eos_token_id 2, an old mistake of the reference's,
  /// mark it with their largest id; the others with the first end-of-text token.
  [[nodiscard]] Index end_of_text(std::span<const TokenId> ids) const {
    constexpr TokenId kMistakenEos = 2;
    const auto at = parts_.eos_token_id == kMistakenEos ? std::ranges::max_element(ids)
                                                        : std::ranges::find(ids, parts_.eos_token_id);
    return at == ids.end() ? 0 : static_cast<Index>(at - ids.begin());
  }
  static Matrix project(const Linear& projection, ConstMatrixView pooled, Workspace& workspace) {
    Matrix result(pooled.rows(), projection.out_features());
    projection.forward(pooled, result, Phase::kPrefill, workspace);
    for (Index i = 0; i < result.rows(); ++i) kernels::l2_normalize(result.view().row(i));
    return result;
  }

  Vision vision_;
  Text text_;
  ContrastiveParts parts_;
};

}  // namespace duet
