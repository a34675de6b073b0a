#pragma once

#include <utility>

#include "duet/fusion/cross_attention_fusion.hpp"
#include "duet/fusion/embedding_fusion.hpp"
#include "duet/fusion/hybrid_fusion.hpp"
#include "duet/models/decoder.hpp"
#include "duet/models/projectors.hpp"

namespace duet {

/// A multimodal language model: three parts and the one decision that tells the architectures apart.
///
///     pixels → Vision → features → Projection → image tokens ─┐
///     ids → embeddings ──────────────────────────── Fusion ───┴→ Text → logits
///
/// Immutable once built; state lives in the caller's caches, memories and workspace, so threads may share a model.
template <VisionEncoder Vision, Projector Projection, LanguageDecoder Text, class Fusion>
class VisionLanguageModel {
  static_assert(FusionFor<Fusion, Text>,
                "duet: this fusion policy cannot drive this decoder. CrossAttentionFusion needs a decoder with "
                "cross-attention, Decoder<Recipe, CrossAttention<...>>, and so does HybridFusion; EmbeddingFusion needs one "
                "without, Decoder<Recipe>.");

 public:
  using Encoder = Vision;
  using Decoder = Text;
  using FusionPolicy = Fusion;
  using Memory = typename Fusion::Memory;

  /// Errors  kShapeMismatch when one part's output does not fit the next one's input
  VisionLanguageModel(Vision vision, Projection projector, Text decoder)
      : vision_(std::move(vision)), projector_(std::move(projector)), decoder_(std::move(decoder)) {
    require_equal("projector input", projector_.input_size(), vision_.hidden_size());
    if constexpr (!Text::kReadsImages || requires { requires Fusion::kWritesRows; }) {
      require_equal("projector output", projector_.output_size(), decoder_.hidden_size());
    }
  }

  [[nodiscard]] const Vision& vision() const noexcept { return vision_; }
  [[nodiscard]] const Projection& projector() const noexcept { return projector_; }
  [[nodiscard]] const Text& decoder() const noexcept { return decoder_; }

  /// Pictures to image tokens [num_image_tokens, hidden_size of the text], a span for each picture.
  template <class Observer = NoObserver>
  [[nodiscard]] ImageRows encode(const VisualInput& input, Workspace& workspace, Observer&& observe = {}) const {
    const auto frame = workspace.frame();
    const Features features = vision_.encode(input, workspace, observe);
    return project(features, input, workspace, observe);
  }

  /// Embeds the prompt and brings the image rows to the decoder: into hidden [prompt, hidden_size], or into memory.
  void fuse(const Prompt& prompt, const ImageRows& rows, MatrixView hidden, Memory& memory, Workspace& workspace) const {
    decoder_.embed(prompt.ids, hidden);
    Fusion::fuse(decoder_, prompt, rows, hidden, memory, workspace);
  }

 private:
  template <class Observer>
  [[nodiscard]] ImageRows project(const Features& features, const VisualInput& input, Workspace& workspace, Observer& observe) const {
    if constexpr (requires { projector_.project(features, input, workspace, observe); }) {  // it packs what it has projected
      ImageRows result = projector_.project(features, input, workspace, observe);
      observe(Stage::kPacked, 0, ConstMatrixView(result.rows.view()));
      return result;
    } else if constexpr (PictureProjector<Projection>) {
      ImageRows result = projector_.project(features, input, workspace);
      observe(Stage::kProjected, 0, ConstMatrixView(result.rows.view()));
      return result;
    } else {
      ImageRows result{Matrix(features.rows.rows(), projector_.output_size()),
                       std::vector<ImageRows::Span>(static_cast<std::size_t>(input.num_pictures()))};
      projector_.project(features.rows, result.rows, workspace);
      for (const Features::Crop& crop : features.crops) {
        ImageRows::Span& span = result.spans[static_cast<std::size_t>(crop.picture)];
        if (span.count == 0) span.begin = crop.begin;
        span.count += crop.count;
      }
      observe(Stage::kProjected, 0, ConstMatrixView(result.rows.view()));
      return result;
    }
  }
  static void require_equal(std::string_view where, Index got, Index expected) {
    if (got == expected) return;
    throw Error(ErrorKind::kShapeMismatch, std::string(where), std::to_string(got), std::to_string(expected),
                "the parts of this model do not fit one another");
  }

  Vision vision_;
  Projection projector_;
  Text decoder_;
};

}  // namespace duet
