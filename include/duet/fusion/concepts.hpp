#pragma once

#include <concepts>
#include <span>

#include "duet/fusion/prompt.hpp"
#include "duet/layers/kv_cache.hpp"
#include "duet/models/visual_input.hpp"

namespace duet {

/// The first slot of a vision-language model: pictures to features [n, hidden_size].
template <class E>
concept VisionEncoder = requires(const E& encoder, const VisualInput& input, Workspace& workspace) {
  { encoder.encode(input, workspace) } -> std::same_as<Features>;
  { encoder.hidden_size() } -> std::same_as<Index>;
};

/// The second slot, row by row: features [n, input_size] to image tokens [n, output_size].
template <class P>
concept RowProjector = requires(const P& projector, ConstMatrixView features, MatrixView out, Workspace& workspace) {
  projector.project(features, out, workspace);
  { projector.input_size() } -> std::same_as<Index>;
  { projector.output_size() } -> std::same_as<Index>;
};

/// The second slot, picture by picture: the features of all crops, with how they lie, to the image tokens of every picture.
/// Here features are pooled, shuffled, resampled or packed with separators.
template <class P>
concept PictureProjector = requires(const P& projector, const Features& features, const VisualInput& input, Workspace& workspace) {
  { projector.project(features, input, workspace) } -> std::same_as<ImageRows>;
  { projector.input_size() } -> std::same_as<Index>;
  { projector.output_size() } -> std::same_as<Index>;
};

template <class P>
concept Projector = RowProjector<P> || PictureProjector<P>;

/// The third slot: embeds ids and runs rows through a stack that remembers them.
template <class D>
concept LanguageDecoder = requires(const D& decoder, std::span<const TokenId> ids, MatrixView hidden,
                                   std::span<const Sequence> sequences, Workspace& workspace) {
  decoder.embed(ids, hidden);
  decoder.forward(hidden, sequences, Phase::kPrefill, workspace);
  { decoder.hidden_size() } -> std::same_as<Index>;
};

/// A decoder whose stack also reads a visual memory.
template <class D>
concept CrossAttentionDecoder = LanguageDecoder<D> && requires(const D& decoder, ConstMatrixView rows, Workspace& workspace,
                                                                    KeyValueFormat format) {
  { decoder.memorize(rows, workspace, format) } -> std::same_as<VisualMemory>;
};

/// A decoder that knows nothing but its rows.
template <class D>
concept SelfAttentionDecoder = LanguageDecoder<D> && !CrossAttentionDecoder<D>;

/// The fourth slot, seen from the third: a policy that can bring image rows to decoder D.
template <class F, class D>
concept FusionFor = requires(const D& decoder, const Prompt& prompt, const ImageRows& rows, MatrixView hidden,
                             typename F::Memory& memory, Workspace& workspace) {
  F::fuse(decoder, prompt, rows, hidden, memory, workspace);
  { F::memory_of(memory) } -> std::same_as<const VisualMemory*>;
};

}  // namespace duet
