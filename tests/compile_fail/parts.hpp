#pragma once
#include "duet/fusion/vision_language_model.hpp"
#include "duet/models/vision_transformer.hpp"

// Recipes of the smallest kind.
struct TextRecipe : duet::DecoderRecipeDefaults {
  using Norm = duet::RmsNorm;
  using FeedForward = duet::GatedFeedForward<>;
  using Position = duet::RotaryEmbedding;
};
struct ImageRecipe : duet::VisionRecipeDefaults {
  using Norm = duet::LayerNorm;
  using FeedForward = duet::FeedForward<>;
};
using Vision = duet::VisionTransformer<ImageRecipe>;
using Plain = duet::Decoder<TextRecipe>;
using Reading = duet::Decoder<TextRecipe, duet::CrossAttention<duet::InsideBlock>>;
