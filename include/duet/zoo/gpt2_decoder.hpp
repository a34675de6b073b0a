#pragma once

#include <algorithm>

#include "duet/models/decoder.hpp"
#include "duet/zoo/family.hpp"

namespace duet {

/// GPT-2's policies (Radford et al. 2019).
struct Gpt2Recipe : DecoderRecipeDefaults {
  using Norm = LayerNorm;
  using FeedForward = duet::FeedForward<ConfiguredActivation>;
  using Position = LearnedPositions;
};

/// GPT-2 stores Conv1D weights, [in, out], with q, k and v in one.
inline constexpr TensorName kGpt2Names[] = {
    {"embed_tokens", "wte"},
    {"embed_positions", "wpe"},
    {"norm", "ln_f"},
    {"layers.*.input_layernorm", "h.*.ln_1"},
    {"layers.*.self_attn.q_proj", "h.*.attn.c_attn", WeightLayout::kInOut},
    {"layers.*.self_attn.k_proj", "h.*.attn.c_attn", WeightLayout::kInOut},
    {"layers.*.self_attn.v_proj", "h.*.attn.c_attn", WeightLayout::kInOut},
    {"layers.*.self_attn.o_proj", "h.*.attn.c_proj", WeightLayout::kInOut},
    {"layers.*.cross_attn_layernorm", "h.*.ln_cross_attn"},
    {"layers.*.cross_attn.q_proj", "h.*.crossattention.q_attn", WeightLayout::kInOut},
    {"layers.*.cross_attn.k_proj", "h.*.crossattention.c_attn", WeightLayout::kInOut},
    {"layers.*.cross_attn.v_proj", "h.*.crossattention.c_attn", WeightLayout::kInOut},
    {"layers.*.cross_attn.o_proj", "h.*.crossattention.c_proj", WeightLayout::kInOut},
    {"layers.*.post_attention_layernorm", "h.*.ln_2"},
    {"layers.*.mlp.up_proj", "h.*.mlp.c_fc", WeightLayout::kInOut},
    {"layers.*.mlp.down_proj", "h.*.mlp.c_proj", WeightLayout::kInOut},
};

inline DecoderConfig read_gpt2_config(const JsonView& config) {
  DecoderConfig result;
  result.vocab_size = config.get_or<Index>("vocab_size", 50257);
  result.hidden_size = read_any<Index>(config, {"n_embd", "hidden_size"}, 768);
  result.num_hidden_layers = read_any<Index>(config, {"n_layer", "num_hidden_layers"}, 12);
  result.num_attention_heads = read_any<Index>(config, {"n_head", "num_attention_heads"}, 12);
  result.num_key_value_heads = result.num_attention_heads;
  if (result.num_attention_heads <= 0 || result.hidden_size % result.num_attention_heads != 0) {
    throw Error(ErrorKind::kInvalidArgument, config.where() + ": n_head", std::to_string(result.num_attention_heads),
                concat("a divisor of n_embd, ", result.hidden_size));
  }
  result.head_dim = result.hidden_size / result.num_attention_heads;
  // An impossible hidden_size must not overflow on its way to the check.
  result.intermediate_size = config.get_or<Index>("n_inner", 4 * std::clamp<Index>(result.hidden_size, 0, kLargestWidth));
  result.max_position_embeddings = read_any<Index>(config, {"n_positions", "max_position_embeddings"}, 1024);
  result.norm_eps = config.get_or("layer_norm_epsilon", 1e-5f);
  result.hidden_act = config.get_or<std::string>("activation_function", "gelu_new");
  result.hidden_act_key = "activation_function";
  result.qkv_bias = result.attention_output_bias = result.mlp_bias = Linear::Bias::kRequired;
  result.head = config.get_or("tie_word_embeddings", true) ? LanguageHead::kTied : LanguageHead::kOwn;
  if (!config.get_or("scale_attn_weights", true)) result.attention_scale = 1.0f;
  result.scale_by_inverse_layer = config.get_or("scale_attn_by_inverse_layer_idx", false);
  result.where = config.prefix();
  return result;
}

/// GPT-2's stack, wherever it stands: alone, in LLaVA, or as the decoder of a vision-encoder-decoder.
struct Gpt2Decoder {
  static constexpr std::array kModelTypes{ModelType{"gpt2"}};
  using Recipe = Gpt2Recipe;

  /// `body` candidates hold the stack, `head` the lm_head.
  template <class Cross = NoCrossAttention>
  static Decoder<Recipe, Cross> load_decoder(const JsonView& config, const Weights& root,
                                             const Prefixes& body, std::string_view head) {
    DecoderConfig sizes = read_gpt2_config(config);
    return {std::move(sizes), first_under(root, body, "embed_tokens.weight", kGpt2Names), root.under(head)};
  }

  // Inside an encoder-decoder's checkpoint.
  static DecoderConfig read_config(const JsonView& config) { return read_gpt2_config(config); }
  static Decoder<Recipe, CrossAttention<InsideBlock>> load_inside_encoder_decoder(DecoderConfig sizes, const Weights& root) {
    return {std::move(sizes), first_under(root, {"decoder.transformer"}, "embed_tokens.weight", kGpt2Names), root.under("decoder")};
  }
  static TokenId start_token_id(const JsonView& config) {
    return config.get_or<TokenId>("decoder_start_token_id", config.get_or<TokenId>("bos_token_id", 50256));
  }

  // Inside a LLaVA checkpoint.
  static Prefixes inside_vlm() { return {"language_model.transformer", "model.language_model"}; }
};

}  // namespace duet
