#pragma once

#include <string>

#include "duet/models/decoder.hpp"
#include "duet/pipeline/session.hpp"
#include "duet/zoo/family.hpp"

namespace duet {

/// OPT's policies (Zhang et al. 2022, 2205.01068): GPT-2's.
struct OptRecipe : DecoderRecipeDefaults {
  using Norm = LayerNorm;
  using FeedForward = duet::FeedForward<ConfiguredActivation>;
  using Position = LearnedPositions;
};

inline constexpr TensorName kOptNames[] = {
    {"norm", "final_layer_norm"},
    {"layers.*.input_layernorm", "layers.*.self_attn_layer_norm"},
    {"layers.*.self_attn.o_proj", "layers.*.self_attn.out_proj"},
    {"layers.*.post_attention_layernorm", "layers.*.final_layer_norm"},
    {"layers.*.mlp.up_proj", "layers.*.fc1"},
    {"layers.*.mlp.down_proj", "layers.*.fc2"},
};

/// OPT, alone or as the text model of another family.
struct Opt {
  static constexpr std::string_view kName = "OPT";
  static constexpr std::array kModelTypes{ModelType{"opt"}};
  static constexpr FamilyCard kCard{"", "", "OPT"};
  using Recipe = OptRecipe;
  using Model = TextModel<Decoder<Recipe>>;

  /// Errors  kUnsupportedModel for the kinds of OPT that have other parts (the one of 350M parameters)
  static DecoderConfig read_config(const JsonView& config) {
    DecoderConfig result;
    result.vocab_size = config.get_or<Index>("vocab_size", 50272);
    result.hidden_size = config.get_or<Index>("hidden_size", 768);
    result.intermediate_size = config.get_or<Index>("ffn_dim", 3072);
    result.num_hidden_layers = config.get_or<Index>("num_hidden_layers", 12);
    result.num_attention_heads = config.get_or<Index>("num_attention_heads", 12);
    set_equal_heads(result, config.where() + ": num_attention_heads");
    result.max_position_embeddings = config.get_or<Index>("max_position_embeddings", 2048);
    result.position_offset = 2;  // two rows that OPT keeps before the first position's
    result.hidden_act = config.get_or<std::string>("activation_function", "relu");
    result.hidden_act_key = "activation_function";
    result.qkv_bias = result.attention_output_bias = result.mlp_bias = read_bias(config, "enable_bias", true);
    result.head = config.get_or("tie_word_embeddings", true) ? LanguageHead::kTied : LanguageHead::kOwn;
    result.where = config.prefix();
    const auto require = [&](bool good, std::string_view key, std::string_view expected) {
      if (!good) throw Error(ErrorKind::kUnsupportedModel, config.at(key).where(), config.at(key).shown(), expected);
    };
    require(config.get_or("do_layer_norm_before", true), "do_layer_norm_before", "true");
    require(config.get_or("layer_norm_elementwise_affine", true), "layer_norm_elementwise_affine", "true");
    require(!config.get_or("_remove_final_layer_norm", false), "_remove_final_layer_norm", "false");
    require(config.get_or("word_embed_proj_dim", result.hidden_size) == result.hidden_size, "word_embed_proj_dim", "hidden_size");
    return result;
  }

  /// `body` candidates hold the stack, `head` the lm_head.
  static Decoder<Recipe> load_decoder(const JsonView& config, const Weights& root, const Prefixes& body, std::string_view head) {
    return {read_config(config), first_under(root, body, "embed_tokens.weight", kOptNames), root.under(head)};
  }
  static Model load(const JsonView& config, const Weights& root) {
    return Model(load_decoder(config, root, {"model.decoder", "decoder"}, ""));
  }
  static PromptRules rules(const JsonView&) { return {}; }
};

}  // namespace duet
