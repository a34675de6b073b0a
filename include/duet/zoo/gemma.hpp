#pragma once

#include "duet/models/decoder.hpp"
#include "duet/pipeline/chat_prompt.hpp"
#include "duet/pipeline/session.hpp"
#include "duet/zoo/family.hpp"

namespace duet {

/// Gemma's policies (Gemma Team 2024, 2403.08295).
struct GemmaRecipe : DecoderRecipeDefaults {
  using Norm = RmsNormPlusOne;
  using FeedForward = GatedFeedForward<ConfiguredActivation>;
  using Position = RotaryEmbedding;
};
/// Gemma 2 and 3 normalise what a branch adds, too; Gemma 3 also queries and keys (2408.00118; 2503.19786).
struct Gemma2Recipe : GemmaRecipe {
  using PostNorm = RmsNormPlusOne;
  using HeadNorm = OptionalNorm<RmsNormPlusOne>;
};

/// With four norms a block, those before the branches and those after them share words with other families' two.
inline constexpr TensorName kGemma2Names[] = {
    {"layers.*.post_self_attn_layernorm", "layers.*.post_attention_layernorm"},
    {"layers.*.post_attention_layernorm", "layers.*.pre_feedforward_layernorm"},
};

/// What the absent keys of a model_type's config stand for.
struct GemmaDefaults {
  std::string_view model_type;
  Index vocab_size, hidden_size, intermediate_size, num_hidden_layers, num_attention_heads, num_key_value_heads;
  Index max_position_embeddings;
  float rope_theta;
  float soft_caps[2];  ///< of attention scores and of logits; 0: none
};
inline constexpr GemmaDefaults kGemmaDefaults[] = {
    {"gemma", 256000, 3072, 24576, 28, 16, 16, 8192, 1e4f, {0.0f, 0.0f}},
    {"gemma2", 256000, 2304, 9216, 26, 8, 4, 8192, 1e4f, {50.0f, 30.0f}},
    {"gemma3_text", 262208, 2304, 9216, 26, 8, 4, 131072, 1e6f, {0.0f, 0.0f}},
};

/// Sliding layers of Gemma 3 turn by a frequency of their own: rope_local_base_freq (old) or rope_parameters (new).
inline RopeConfig read_gemma3_sliding_rope(const JsonView& config) {
  if (config.object_or_empty("rope_parameters").contains("sliding_attention")) return read_rope(config, 1e4f, "sliding_attention");
  RopeConfig rope;
  rope.rope_theta = config.get_or("rope_local_base_freq", 1e4f);
  return rope;
}

/// `type` is gemma, gemma2 or gemma3_text.
inline DecoderConfig read_gemma_config(const JsonView& config, std::string_view type) {
  const GemmaDefaults& defaults = *std::ranges::find(kGemmaDefaults, type, &GemmaDefaults::model_type);
  DecoderConfig result;
  result.vocab_size = config.get_or("vocab_size", defaults.vocab_size);
  result.hidden_size = config.get_or("hidden_size", defaults.hidden_size);
  result.intermediate_size = config.get_or("intermediate_size", defaults.intermediate_size);
  result.num_hidden_layers = config.get_or("num_hidden_layers", defaults.num_hidden_layers);
  result.num_attention_heads = config.get_or("num_attention_heads", defaults.num_attention_heads);
  result.num_key_value_heads = config.get_or("num_key_value_heads", defaults.num_key_value_heads);
  result.head_dim = config.get_or<Index>("head_dim", 256);
  result.max_position_embeddings = config.get_or("max_position_embeddings", defaults.max_position_embeddings);
  result.norm_eps = config.get_or("rms_norm_eps", 1e-6f);
  // The first checkpoints say "gelu" in hidden_act and mean its approximation; hidden_activation came to say so.
  const bool is_named = config.contains("hidden_activation");
  const auto act = config.get_or<std::string>(is_named ? "hidden_activation" : "hidden_act", "gelu_pytorch_tanh");
  result.hidden_act = !is_named && act == "gelu" ? "gelu_pytorch_tanh" : act;
  result.hidden_act_key = is_named ? "hidden_activation" : "hidden_act";
  result.rope = read_rope(config, {defaults.rope_theta, defaults.max_position_embeddings});
  result.qkv_bias = result.attention_output_bias = read_bias(config, "attention_bias", false);
  result.head = config.get_or("tie_word_embeddings", true) ? LanguageHead::kTied : LanguageHead::kOwn;
  result.embedding_scale = std::sqrt(static_cast<float>(result.hidden_size));
  result.where = config.prefix();
  if (type == "gemma") return result;

  result.attention_scale = 1.0f / std::sqrt(config.get_or("query_pre_attn_scalar", 256.0f));
  const auto cap = [&](std::string_view key, float fallback) { return read_nullable<float>(config, key, fallback).value_or(0.0f); };
  result.attn_logit_softcapping = cap("attn_logit_softcapping", defaults.soft_caps[0]);
  result.final_logit_softcapping = cap("final_logit_softcapping", defaults.soft_caps[1]);
  // Every second layer, or all but every sixth.
  Index pattern = 2;
  if (type == "gemma3_text") {
    pattern = read_any<Index>(config, {"sliding_window_pattern", "_sliding_window_pattern"}, 6);
    result.head_norms = true;
    result.sliding_rope = read_gemma3_sliding_rope(config);
  }
  const std::optional<Index> window = read_nullable<Index>(config, "sliding_window", 4096);
  if (!window || pattern < 1) return result;
  result.sliding_window = *window;
  result.sliding_attention_layers = read_sliding_layers(config, result.num_hidden_layers, [&](Index i) { return (i + 1) % pattern != 0; });
  return result;
}

/// A generation of Gemma, alone or as the text model of another family.
template <class PoliciesOfIt>
struct GemmaOf {
  using Recipe = PoliciesOfIt;
  static constexpr std::string_view kName = "Gemma";
  static constexpr auto kModelTypes = [] {
    if constexpr (Recipe::PostNorm::kIdentity) {
      return std::array{ModelType{"gemma"}};
    } else {
      return std::array{ModelType{"gemma2"}, ModelType{"gemma3_text"}};
    }
  }();
  static constexpr FamilyCard kCard{"", "", "Gemma"};
  using Chat = ChatPrompt;
  using Model = TextModel<Decoder<Recipe>>;

  /// `body` candidates hold the stack, `head` the lm_head. Of which generation Gemma 2's type is, config.json's model_type says.
  template <class Cross = NoCrossAttention>
  static Decoder<Recipe, Cross> load_decoder(const JsonView& config, const Weights& root, const Prefixes& body, std::string_view head) {
    constexpr bool kIsFirst = Recipe::PostNorm::kIdentity;
    const std::string_view later = config.get_or<std::string>("model_type", "gemma2") == "gemma3_text" ? "gemma3_text" : "gemma2";
    const std::span<const TensorName> names = kIsFirst ? std::span<const TensorName>() : std::span<const TensorName>(kGemma2Names);
    return {read_gemma_config(config, kIsFirst ? "gemma" : later), first_under(root, body, "embed_tokens.weight", names), root.under(head)};
  }
  static Model load(const JsonView& config, const Weights& root) { return Model(load_decoder(config, root, {"model", ""}, "")); }
  static PromptRules rules(const JsonView&) { return {}; }

  // Inside a checkpoint that reads images, too.
  static Prefixes inside_vlm() { return {"language_model.model", "model.language_model"}; }
};

using Gemma = GemmaOf<GemmaRecipe>;
/// Gemma 2, and the text model of Gemma 3.
using Gemma2 = GemmaOf<Gemma2Recipe>;

}  // namespace duet
