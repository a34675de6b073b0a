#pragma once

#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "duet/core/token.hpp"
#include "duet/layers/attention.hpp"
#include "duet/layers/feed_forward.hpp"
#include "duet/layers/positions.hpp"

namespace duet {

/// Where a decoder's logits come from.
enum class LanguageHead : unsigned char {
  kTied,  ///< the token embeddings, transposed
  kOwn,   ///< lm_head.weight
  kNone,  ///< no logits: a text encoder
};

/// Sizes of a decoder, named as config.json names them (Llama's spelling; a family's reader translates).
struct DecoderConfig {
  Index vocab_size = 0;
  Index hidden_size = 0;
  Index intermediate_size = 0;
  Index num_hidden_layers = 0;
  Index num_attention_heads = 0;
  Index num_key_value_heads = 0;
  Index head_dim = 0;
  Index max_position_embeddings = 0;
  float norm_eps = 1e-5f;
  std::string hidden_act;
  std::string_view hidden_act_key = "hidden_act";
  RopeConfig rope;
  std::optional<RopeConfig> sliding_rope;      ///< of the sliding layers, where theirs is another
  Index sliding_window = 0;                    ///< cache slots that a row of a sliding layer sees, its own included
  std::vector<Index> sliding_attention_layers; ///< those whose rows see sliding_window slots; the others' see all
  Linear::Bias qkv_bias = Linear::Bias::kNone;
  Linear::Bias attention_output_bias = Linear::Bias::kNone;
  Linear::Bias mlp_bias = Linear::Bias::kNone;
  QkvLayout qkv_layout = QkvLayout::kApart;
  LanguageHead head = LanguageHead::kOwn;
  float embedding_scale = 1.0f;          ///< of the token embeddings, not of image rows
  std::optional<float> attention_scale;  ///< absent: 1 / sqrt(head_dim)
  bool scale_by_inverse_layer = false;   ///< attention scores of layer i are divided by i + 1
  float attn_logit_softcapping = 0.0f;   ///< cap · tanh(score / cap); 0: none
  float final_logit_softcapping = 0.0f;  ///< cap · tanh(logit / cap); 0: none
  bool head_norms = false;               ///< self-attention has q_norm and k_norm, in a recipe with an OptionalNorm for them
  bool cross_attention_head_norms = false;

  Index cross_attention_hidden_size = 0;      ///< width of the image rows; 0: hidden_size
  std::vector<Index> cross_attention_layers;  ///< for placements that do not sit in every layer

  std::string where = "config.json: ";  ///< what stands before a key in errors

  [[nodiscard]] AttentionConfig attention(Index layer) const {
    AttentionConfig config;
    config.hidden_size = config.key_value_size = hidden_size;
    config.num_attention_heads = num_attention_heads;
    config.num_key_value_heads = num_key_value_heads;
    config.head_dim = head_dim;
    config.scale = attention_scale.value_or(1.0f / std::sqrt(static_cast<float>(head_dim)));
    if (scale_by_inverse_layer) config.scale *= 1.0f / static_cast<float>(layer + 1);
    config.soft_cap = attn_logit_softcapping;
    config.norm_eps = norm_eps;
    config.head_norms = head_norms;
    config.qkv_bias = qkv_bias;
    config.output_bias = attention_output_bias;
    config.qkv_layout = qkv_layout;
    return config;
  }
  [[nodiscard]] AttentionConfig cross_attention(Index layer) const {
    AttentionConfig config = attention(layer);
    config.head_norms = cross_attention_head_norms;
    config.qkv_layout = QkvLayout::kApart;
    if (cross_attention_hidden_size > 0) config.key_value_size = cross_attention_hidden_size;
    return config;
  }
  [[nodiscard]] FeedForwardConfig feed_forward() const {
    return {hidden_size, intermediate_size, hidden_act, hidden_act_key, mlp_bias};
  }
  [[nodiscard]] PositionConfig positions() const { return positions(rope); }
  [[nodiscard]] PositionConfig positions(const RopeConfig& turning) const {
    return {hidden_size, head_dim, max_position_embeddings, turning};
  }

  /// Throws Error{kInvalidArgument} unless the sizes are positive, possible and fit one another.
  void check() const {
    const auto positive = [&](std::string_view key, Index value, Index most = kLargestWidth) {
      if (value > 0 && value <= most) return;
      throw Error(ErrorKind::kInvalidArgument, concat(where, key), std::to_string(value), concat("a positive number up to ", most));
    };
    constexpr Index kMostIds = std::numeric_limits<TokenId>::max();
    positive("vocab_size", vocab_size, kMostIds);
    positive("hidden_size", hidden_size);
    positive("intermediate_size", intermediate_size);
    positive("num_hidden_layers", num_hidden_layers);
    positive("num_attention_heads", num_attention_heads);
    positive("num_key_value_heads", num_key_value_heads);
    positive("head_dim", head_dim);
    positive("max_position_embeddings", max_position_embeddings, kMostIds);
    if (!sliding_attention_layers.empty()) positive("sliding_window", sliding_window, kMostIds);
    const auto number = [&](std::string_view key, float value) {
      if (value >= 0.0f && std::isfinite(value)) return;
      throw Error(ErrorKind::kInvalidArgument, concat(where, key), concat(value), "a positive number");
    };
    number("attn_logit_softcapping", attn_logit_softcapping);
    number("final_logit_softcapping", final_logit_softcapping);
    number("query_pre_attn_scalar", attention_scale.value_or(0.0f));
    if (num_attention_heads % num_key_value_heads != 0) {
      throw Error(ErrorKind::kInvalidArgument, concat(where, "num_attention_heads"), std::to_string(num_attention_heads),
                  concat("a multiple of num_key_value_heads, ", num_key_value_heads));
    }
  }
};

}  // namespace duet
