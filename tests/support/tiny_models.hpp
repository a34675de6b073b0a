#pragma once

#include <vector>

#include "duet/fusion/vision_language_model.hpp"
#include "duet/models/vision_transformer.hpp"
#include "duet/pipeline/session.hpp"
#include "support/tiny_weights.hpp"

namespace duet::testing {

struct RotaryRecipe : DecoderRecipeDefaults {
  using Norm = RmsNorm;
  using FeedForward = GatedFeedForward<kernels::Silu>;
  using Position = RotaryEmbedding;
};
struct LearnedRecipe : DecoderRecipeDefaults {
  using Norm = LayerNorm;
  using FeedForward = duet::FeedForward<kernels::GeluTanh>;
  using Position = LearnedPositions;
};
struct TinyVisionRecipe : VisionRecipeDefaults {
  using Norm = LayerNorm;
  using FeedForward = duet::FeedForward<kernels::Gelu>;
};

inline DecoderConfig tiny_decoder() {
  DecoderConfig config;
  config.vocab_size = 97;
  config.hidden_size = 48;
  config.intermediate_size = 80;
  config.num_hidden_layers = 3;
  config.num_attention_heads = 6;
  config.num_key_value_heads = 2;
  config.head_dim = 8;
  config.max_position_embeddings = 400;
  config.hidden_act = "silu";
  config.head = LanguageHead::kTied;
  return config;
}

inline VisionConfig tiny_vision() {
  VisionConfig config;
  config.image_size = 24;
  config.patch_size = 8;
  config.hidden_size = 32;
  config.intermediate_size = 48;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 4;
  config.hidden_act = "gelu";
  return config;
}

inline VisualInput tiny_image(int seed) {
  VisualInput input;
  const std::span<float> pixels = input.add_whole({24, 24});
  for (int i = 0; i < 3 * 24 * 24; ++i) pixels[static_cast<std::size_t>(i)] = static_cast<float>((i * 37 + seed * 101) % 199) / 100.0f - 1.0f;
  return input;
}

inline std::vector<TokenId> tiny_ids(Index count) {
  std::vector<TokenId> ids;
  for (Index i = 0; i < count; ++i) ids.push_back(static_cast<TokenId>((i * 31 + 7) % 97));
  return ids;
}

}  // namespace duet::testing
