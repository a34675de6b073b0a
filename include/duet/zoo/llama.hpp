#pragma once

#include "duet/models/decoder.hpp"
#include "duet/pipeline/chat_prompt.hpp"
#include "duet/pipeline/session.hpp"
#include "duet/zoo/family.hpp"

namespace duet {

/// Llama's policies (Touvron et al. 2023, 2302.13971; grouped queries and scaled rotation: 2407.21783). Its tensor names
/// are the ones Duet's parts ask for.
struct LlamaRecipe : DecoderRecipeDefaults {
  using Norm = RmsNorm;
  using FeedForward = GatedFeedForward<ConfiguredActivation>;
  using Position = RotaryEmbedding;
};

inline DecoderConfig read_llama_config(const JsonView& config) {
  DecoderConfig result;
  result.vocab_size = config.get_or<Index>("vocab_size", 32000);
  result.hidden_size = config.get_or<Index>("hidden_size", 4096);
  result.intermediate_size = config.get_or<Index>("intermediate_size", 11008);
  result.num_hidden_layers = config.get_or<Index>("num_hidden_layers", 32);
  result.num_attention_heads = config.get_or<Index>("num_attention_heads", 32);
  result.num_key_value_heads = config.get_or<Index>("num_key_value_heads", result.num_attention_heads);
  if (result.num_attention_heads <= 0) {
    throw Error(ErrorKind::kInvalidArgument, config.where() + ": num_attention_heads",
                std::to_string(result.num_attention_heads), "a positive number");
  }
  result.head_dim = config.get_or<Index>("head_dim", result.hidden_size / result.num_attention_heads);
  result.max_position_embeddings = config.get_or<Index>("max_position_embeddings", 2048);
  result.norm_eps = config.get_or("rms_norm_eps", 1e-6f);
  result.hidden_act = config.get_or<std::string>("hidden_act", "silu");
  result.rope = read_rope(config, 10000.0f);
  result.qkv_bias = result.attention_output_bias = read_bias(config, "attention_bias", false);
  result.mlp_bias = read_bias(config, "mlp_bias", false);
  result.head = config.get_or("tie_word_embeddings", false) ? LanguageHead::kTied : LanguageHead::kOwn;
  result.where = config.prefix();
  return result;
}

/// Llama 1 to 3.2 and what shares its architecture (SmolLM2, TinyLlama, Vicuna), alone or inside another family.
struct Llama {
  static constexpr std::string_view kName = "Llama";
  using Recipe = LlamaRecipe;
  using Chat = ChatPrompt;
  using Model = TextModel<Decoder<Recipe>>;

  template <class Cross = NoCrossAttention>
  static Decoder<Recipe, Cross> load_decoder(const JsonView& config, const Weights& root,
                                             const Prefixes& body, std::string_view head) {
    DecoderConfig sizes = read_llama_config(config);
    return {std::move(sizes), first_under(root, body, "embed_tokens.weight"), root.under(head)};
  }
  static Model load(const JsonView& config, const Weights& root) {
    return Model(load_decoder(config, root, {"model", ""}, ""));
  }
  static PromptRules rules(const JsonView&) { return {}; }

  // Inside a LLaVA checkpoint.
  static Prefixes inside_vlm() { return {"language_model.model", "model.language_model"}; }
};

}  // namespace duet
