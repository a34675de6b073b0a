#pragma once

#include <cmath>

#include "duet/models/decoder.hpp"
#include "duet/zoo/family.hpp"

namespace duet {

/// The policies of BART's decoder, which TrOCR reads with: post-norm, a norm behind the embeddings, none at the end.
struct TrOcrRecipe : DecoderRecipeDefaults {
  using Norm = LayerNorm;
  using FeedForward = duet::FeedForward<ConfiguredActivation>;
  using Position = LearnedOrSinusoidalPositions;
  using NormOrder = NormAfter;
  using EmbeddingNorm = OptionalNorm<LayerNorm>;
  using FinalNorm = NoNorm;
};

inline constexpr TensorName kTrOcrNames[] = {
    {"embed_layernorm", "layernorm_embedding"},
    {"layers.*.input_layernorm", "layers.*.self_attn_layer_norm"},
    {"layers.*.self_attn.o_proj", "layers.*.self_attn.out_proj"},
    {"layers.*.cross_attn_layernorm", "layers.*.encoder_attn_layer_norm"},
    {"layers.*.cross_attn.q_proj", "layers.*.encoder_attn.q_proj"},
    {"layers.*.cross_attn.k_proj", "layers.*.encoder_attn.k_proj"},
    {"layers.*.cross_attn.v_proj", "layers.*.encoder_attn.v_proj"},
    {"layers.*.cross_attn.o_proj", "layers.*.encoder_attn.out_proj"},
    {"layers.*.post_attention_layernorm", "layers.*.final_layer_norm"},
    {"layers.*.mlp.up_proj", "layers.*.fc1"},
    {"layers.*.mlp.down_proj", "layers.*.fc2"},
};

/// The text half of TrOCR (Li et al. 2021, 2109.10282): a decoder that writes what an image of text says.
struct TrOcr {
  static constexpr std::array kModelTypes{ModelType{"trocr"}};
  using Recipe = TrOcrRecipe;

  static DecoderConfig read_config(const JsonView& config) {
    DecoderConfig result;
    result.vocab_size = config.get_or<Index>("vocab_size", 50265);
    result.hidden_size = read_any<Index>(config, {"d_model", "hidden_size"}, 1024);
    result.num_hidden_layers = read_any<Index>(config, {"decoder_layers", "num_hidden_layers"}, 12);
    result.num_attention_heads = read_any<Index>(config, {"decoder_attention_heads", "num_attention_heads"}, 16);
    result.intermediate_size = config.get_or<Index>("decoder_ffn_dim", 4096);
    result.max_position_embeddings = config.get_or<Index>("max_position_embeddings", 512);
    result.hidden_act = config.get_or<std::string>("activation_function", "gelu");
    result.hidden_act_key = "activation_function";
    set_equal_heads(result, config.where() + ": decoder_attention_heads");
    result.qkv_bias = result.attention_output_bias = result.mlp_bias = Linear::Bias::kRequired;
    result.head = config.get_or("tie_word_embeddings", true) ? LanguageHead::kTied : LanguageHead::kOwn;
    result.embedding_norm = config.get_or("layernorm_embedding", true);
    if (config.get_or("scale_embedding", false)) result.embedding_scale = std::sqrt(static_cast<float>(result.hidden_size));
    if (config.get_or("use_learned_position_embeddings", true)) {
      result.position_offset = 2;  // two rows that BART keeps before the first position's
    } else {
      result.position_table = PositionTable::kSinusoidal;
      result.position_offset = config.get_or<Index>("pad_token_id", 1) + 1;
    }
    result.where = config.prefix();
    return result;
  }
  static Decoder<Recipe, CrossAttention<InsideBlock>> load_inside_encoder_decoder(DecoderConfig sizes, const Weights& root) {
    return {std::move(sizes), first_under(root, {"decoder.model.decoder"}, "embed_tokens.weight", kTrOcrNames),
            root.under("decoder").named(kHeadNames)};
  }
  static TokenId start_token_id(const JsonView& config) { return config.get_or<TokenId>("decoder_start_token_id", 2); }

 private:
  static constexpr TensorName kHeadNames[] = {{"lm_head", "output_projection"}};
};

}  // namespace duet
