#pragma once

#include "duet/models/decoder.hpp"
#include "duet/pipeline/chat_prompt.hpp"
#include "duet/pipeline/session.hpp"
#include "duet/zoo/family.hpp"

namespace duet {

/// Llama's policies (Touvron et al. 2023, 2302.13971; grouped queries and scaled rotation: 2407.21783), which Mistral, Qwen2,
/// Qwen3 and Phi-3 share: they differ by numbers, by biases, by norms of the heads, and by names.
struct LlamaRecipe : DecoderRecipeDefaults {
  using Norm = RmsNorm;
  using FeedForward = GatedFeedForward<ConfiguredActivation>;
  using Position = RotaryEmbedding;
  using HeadNorm = OptionalNorm<RmsNorm>;
};

/// What the absent keys of a model_type's config stand for.
struct LlamaDefaults {
  std::string_view model_type;
  Index vocab_size = 32000, hidden_size = 4096, intermediate_size = 11008, num_hidden_layers = 32, num_attention_heads = 32;
  Index num_key_value_heads = 0;  ///< 0: num_attention_heads
  Index head_dim = 0;             ///< 0: hidden_size / num_attention_heads
  Index max_position_embeddings = 2048;
  Index original_max_position_embeddings = 0;
  float rms_norm_eps = 1e-6f, rope_theta = 10000.0f;
  Index sliding_window = 0;  ///< 0: none
};
inline constexpr LlamaDefaults kLlamaDefaults[] = {
    {.model_type = "llama"},
    {.model_type = "mistral", .intermediate_size = 14336, .num_key_value_heads = 8, .max_position_embeddings = 131072,
     .sliding_window = 4096},
    {.model_type = "phi3", .vocab_size = 32064, .hidden_size = 3072, .intermediate_size = 8192, .max_position_embeddings = 4096,
     .original_max_position_embeddings = 4096, .rms_norm_eps = 1e-5f},
    {.model_type = "qwen2", .vocab_size = 151936, .intermediate_size = 22016, .num_key_value_heads = 32,
     .max_position_embeddings = 32768, .sliding_window = 4096},
    {.model_type = "qwen3", .vocab_size = 151936, .intermediate_size = 22016, .num_key_value_heads = 32, .head_dim = 128,
     .max_position_embeddings = 32768, .sliding_window = 4096},
};

/// Llama's names are the ones Duet's parts ask for. Phi-3 stores queries, keys and values in one matrix, gate and up in another.
inline constexpr TensorName kPhi3Names[] = {
    {"layers.*.self_attn.q_proj", "layers.*.self_attn.qkv_proj"}, {"layers.*.self_attn.k_proj", "layers.*.self_attn.qkv_proj"},
    {"layers.*.self_attn.v_proj", "layers.*.self_attn.qkv_proj"}, {"layers.*.mlp.gate_proj", "layers.*.mlp.gate_up_proj"},
    {"layers.*.mlp.up_proj", "layers.*.mlp.gate_up_proj"},
};

/// Sizes of a model_type whose absent keys stand for `defaults`.
inline DecoderConfig read_llama_config(const JsonView& config, const LlamaDefaults& defaults) {
  DecoderConfig result;
  result.vocab_size = config.get_or("vocab_size", defaults.vocab_size);
  result.hidden_size = config.get_or("hidden_size", defaults.hidden_size);
  result.intermediate_size = config.get_or("intermediate_size", defaults.intermediate_size);
  result.num_hidden_layers = config.get_or("num_hidden_layers", defaults.num_hidden_layers);
  result.num_attention_heads = config.get_or("num_attention_heads", defaults.num_attention_heads);
  const std::optional<Index> kv_heads = defaults.num_key_value_heads > 0 ? std::optional(defaults.num_key_value_heads) : std::nullopt;
  result.num_key_value_heads = read_nullable(config, "num_key_value_heads", kv_heads).value_or(result.num_attention_heads);
  if (result.num_attention_heads <= 0) {
    throw Error(ErrorKind::kInvalidArgument, config.where() + ": num_attention_heads",
                std::to_string(result.num_attention_heads), "a positive number");
  }
  result.head_dim =
      config.get_or("head_dim", defaults.head_dim > 0 ? defaults.head_dim : result.hidden_size / result.num_attention_heads);
  result.max_position_embeddings = config.get_or("max_position_embeddings", defaults.max_position_embeddings);
  result.norm_eps = config.get_or("rms_norm_eps", defaults.rms_norm_eps);
  result.hidden_act = config.get_or<std::string>("hidden_act", "silu");
  result.rope = read_rope(config, {defaults.rope_theta, defaults.max_position_embeddings, defaults.original_max_position_embeddings});
  result.head = config.get_or("tie_word_embeddings", false) ? LanguageHead::kTied : LanguageHead::kOwn;
  result.where = config.prefix();
  return result;
}

/// Sizes of a model_type: of Llama, if it is none that is listed.
inline DecoderConfig read_llama_config(const JsonView& config, std::string_view type) {
  const auto listed = std::ranges::find(kLlamaDefaults, type, &LlamaDefaults::model_type);
  const LlamaDefaults& defaults = listed == std::end(kLlamaDefaults) ? kLlamaDefaults[0] : *listed;
  DecoderConfig result = read_llama_config(config, defaults);
  const bool is_qwen = type == "qwen2" || type == "qwen3";
  if (type == "qwen2") {
    result.qkv_bias = Linear::Bias::kRequired;
  } else if (type != "mistral" && type != "phi3") {
    result.qkv_bias = result.attention_output_bias = read_bias(config, "attention_bias", false);
  }
  if (&defaults == &kLlamaDefaults[0]) result.mlp_bias = read_bias(config, "mlp_bias", false);
  result.head_norms = type == "qwen3";
  if (&defaults == &kLlamaDefaults[0]) return result;
  // Qwen's window is there on demand, and from layer max_window_layers on, as the reference documents, its flash attention does, and all
  // its attentions do since 4.53 (layer_types); before, its eager and sdpa attention cut every layer. Those of the others are everywhere.
  const std::optional<Index> fallback = defaults.sliding_window > 0 ? std::optional(defaults.sliding_window) : std::nullopt;
  const std::optional<Index> window = read_nullable(config, "sliding_window", fallback);
  const Index first = is_qwen ? config.get_or<Index>("max_window_layers", 28) : 0;
  if (!window || (is_qwen && !config.get_or("use_sliding_window", false))) return result;
  result.sliding_window = *window;
  result.sliding_attention_layers = read_sliding_layers(config, result.num_hidden_layers, [&](Index i) { return i >= first; });
  return result;
}
/// The same of the model_type that config.json names.
inline DecoderConfig read_llama_config(const JsonView& config) {
  return read_llama_config(config, config.get_or<std::string>("model_type", "llama"));
}

/// Llama 1 to 3.2 and what shares its architecture (Mistral, Qwen2, Qwen3, Phi-3, SmolLM2, TinyLlama, Vicuna), alone or inside
/// another family.
struct Llama {
  static constexpr std::string_view kName = "Llama";
  static constexpr std::array kModelTypes{ModelType{"llama"}, ModelType{"mistral"}, ModelType{"phi3"}, ModelType{"qwen2"}, ModelType{"qwen3"}};
  static constexpr FamilyCard kCard{"", "", "Llama"};
  using Recipe = LlamaRecipe;
  using Chat = ChatPrompt;
  using Model = TextModel<Decoder<Recipe>>;

  /// `body` candidates hold the stack, `head` the lm_head.
  template <class Cross = NoCrossAttention>
  static Decoder<Recipe, Cross> load_decoder(const JsonView& config, const Weights& root,
                                             const Prefixes& body, std::string_view head) {
    const bool fused = config.get_or<std::string>("model_type", "") == "phi3";
    const std::span<const TensorName> names = fused ? std::span<const TensorName>(kPhi3Names) : std::span<const TensorName>();
    return {read_llama_config(config), first_under(root, body, "embed_tokens.weight", names), root.under(head)};
  }
  static Model load(const JsonView& config, const Weights& root) {
    return Model(load_decoder(config, root, {"model", ""}, ""));
  }
  static PromptRules rules(const JsonView&) { return {}; }

  // Inside a LLaVA checkpoint.
  static Prefixes inside_vlm() { return {"language_model.model", "model.language_model"}; }
};

}  // namespace duet
