#pragma once

#include <type_traits>

#include "duet/blocks/cross_attention_block.hpp"
#include "duet/blocks/decoder_block.hpp"
#include "duet/models/decoder_config.hpp"

namespace duet {

// Where cross-attention sits in a decoder's stack.

/// In every layer, between self-attention and the feed-forward branch (GPT-2, Vaswani et al. 2017).
struct InsideBlock {};
/// In place of the self-attention layers at cross_attention_layers (Llama 3.2 Vision).
struct OwnLayer {};
/// Before the layers at cross_attention_layers (Flamingo, Idefics1).
struct BeforeLayer {};

/// A decoder that reads text alone.
struct NoCrossAttention {
  static constexpr bool kReadsImages = false;
};
/// A decoder that also reads a visual memory.
template <class Placement, Gate GatePolicy = NoGate, class EmptyRow = AttendNothing>
struct CrossAttention {
  static constexpr bool kReadsImages = true;
  using Where = Placement;
  using Empty = EmptyRow;
  template <class Recipe>
  using Block = std::conditional_t<std::is_same_v<Placement, InsideBlock>, CrossAttentionBranch<Recipe, GatePolicy, EmptyRow>,
                                   CrossAttentionBlock<Recipe, GatePolicy, EmptyRow>>;
};

/// The policies that shape a decoder. Derive from it and name Norm, FeedForward and Position.
struct DecoderRecipeDefaults {
  using HeadNorm = NoNorm;
  using PostNorm = NoNorm;
  using NormOrder = NormBefore;  ///< NormAfter: BERT, BART
  using EmbeddingNorm = NoNorm;  ///< of embeddings with their positions (BERT, BART)
  // using FinalNorm = …;        ///< of the last layer's rows; Norm, where a recipe does not name it
};

template <class R>
concept DecoderRecipe = Norm<typename R::Norm> && Norm<typename R::HeadNorm> && Norm<typename R::PostNorm> &&
                        PositionEncoding<typename R::Position> && requires { typename R::FeedForward; };

namespace detail {

template <class Recipe>
struct FinalNormOf {
  using type = typename Recipe::Norm;
};
template <class Recipe>
  requires requires { typename Recipe::FinalNorm; }
struct FinalNormOf<Recipe> {
  using type = typename Recipe::FinalNorm;
};

}  // namespace detail

}  // namespace duet
