#pragma once

#include "duet/models/decoder.hpp"
#include "duet/pipeline/chat_prompt.hpp"
#include "duet/pipeline/session.hpp"
#include "duet/zoo/family.hpp"

namespace duet {

/// Persimmon's policies (Elsen et al. 2023): layer norms, of queries and keys too, and rotation of a part of each head.
struct PersimmonRecipe : DecoderRecipeDefaults {
  using Norm = LayerNorm;
  using HeadNorm = OptionalNorm<LayerNorm>;
  using FeedForward = duet::FeedForward<ConfiguredActivation>;
  using Position = RotaryEmbedding;
};

inline constexpr TensorName kPersimmonNames[] = {
    {"layers.*.self_attn.qkv_proj", "layers.*.self_attn.query_key_value"},
    {"layers.*.self_attn.o_proj", "layers.*.self_attn.dense"},
    {"layers.*.self_attn.q_norm", "layers.*.self_attn.q_layernorm"},
    {"layers.*.self_attn.k_norm", "layers.*.self_attn.k_layernorm"},
    {"layers.*.mlp.up_proj", "layers.*.mlp.dense_h_to_4h"},
    {"layers.*.mlp.down_proj", "layers.*.mlp.dense_4h_to_h"},
    {"norm", "final_layernorm"},
};

inline DecoderConfig read_persimmon_config(const JsonView& config) {
  DecoderConfig result;
  result.vocab_size = config.get_or<Index>("vocab_size", 262144);
  result.hidden_size = config.get_or<Index>("hidden_size", 4096);
  result.intermediate_size = config.get_or<Index>("intermediate_size", 16384);
  result.num_hidden_layers = config.get_or<Index>("num_hidden_layers", 36);
  result.num_attention_heads = config.get_or<Index>("num_attention_heads", 64);
  result.num_key_value_heads = result.num_attention_heads;
  if (result.num_attention_heads <= 0 || result.hidden_size % result.num_attention_heads != 0) {
    throw Error(ErrorKind::kInvalidArgument, config.where() + ": num_attention_heads",
                std::to_string(result.num_attention_heads), concat("a divisor of hidden_size, ", result.hidden_size));
  }
  result.head_dim = result.hidden_size / result.num_attention_heads;
  result.max_position_embeddings = config.get_or<Index>("max_position_embeddings", 16384);
  result.norm_eps = config.get_or("layer_norm_eps", 1e-5f);
  result.hidden_act = config.get_or<std::string>("hidden_act", "relu2");
  result.rope = read_rope(config, {25000.0f, 16384});
  const bool says_part = config.contains("partial_rotary_factor") || config.object_or_empty("rope_parameters").contains("partial_rotary_factor");
  if (!says_part) result.rope.partial_rotary_factor = 0.5f;
  result.head_norms = config.get_or("qk_layernorm", true);
  result.qkv_layout = QkvLayout::kByHead;
  result.qkv_bias = result.attention_output_bias = result.mlp_bias = Linear::Bias::kRequired;
  result.head = config.get_or("tie_word_embeddings", false) ? LanguageHead::kTied : LanguageHead::kOwn;
  result.where = config.prefix();
  return result;
}

/// Persimmon, alone or as the text model of Fuyu.
struct Persimmon {
  static constexpr std::string_view kName = "Persimmon";
  static constexpr std::array kModelTypes{ModelType{"persimmon"}};
  static constexpr FamilyCard kCard{"", "", "Persimmon"};
  using Recipe = PersimmonRecipe;
  using Chat = ChatPrompt;
  using Model = TextModel<Decoder<Recipe>>;

  /// `body` candidates hold the stack, `head` the lm_head.
  static Decoder<Recipe> load_decoder(const JsonView& config, const Weights& root, const Prefixes& body, std::string_view head) {
    return {read_persimmon_config(config), first_under(root, body, "embed_tokens.weight", kPersimmonNames), root.under(head)};
  }
  static Model load(const JsonView& config, const Weights& root) { return Model(load_decoder(config, root, {"model", ""}, "")); }
  static PromptRules rules(const JsonView&) { return {}; }
};

}  // namespace duet
