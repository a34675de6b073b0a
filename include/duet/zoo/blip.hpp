#pragma once

#include "duet/fusion/vision_language_model.hpp"
#include "duet/models/prediction_transform.hpp"
#include "duet/zoo/family.hpp"
#include "duet/zoo/vit.hpp"

namespace duet {

/// BLIP's and BLIP-2's image tower: a ViT, with the names of CLIP and queries, keys and values in one matrix.
inline constexpr TensorName kBlipVisionNames[] = {
    {"patch_embedding", "embeddings.patch_embedding"},
    {"class_embedding", "embeddings.class_embedding"},
    {"position_embedding", "embeddings.position_embedding"},
    {"layers.*.input_layernorm", "encoder.layers.*.layer_norm1"},
    {"layers.*.self_attn.q_proj", "encoder.layers.*.self_attn.qkv"},
    {"layers.*.self_attn.k_proj", "encoder.layers.*.self_attn.qkv"},
    {"layers.*.self_attn.v_proj", "encoder.layers.*.self_attn.qkv"},
    {"layers.*.self_attn.o_proj", "encoder.layers.*.self_attn.projection"},
    {"layers.*.post_attention_layernorm", "encoder.layers.*.layer_norm2"},
    {"layers.*.mlp.up_proj", "encoder.layers.*.mlp.fc1"},
    {"layers.*.mlp.down_proj", "encoder.layers.*.mlp.fc2"},
};

/// The policies of BERT (Devlin et al. 2018, 1810.04805) as a decoder: post-norm, learned positions, a transform before the logits.
struct BertRecipe : DecoderRecipeDefaults {
  using Norm = LayerNorm;
  using FeedForward = duet::FeedForward<ConfiguredActivation>;
  using Position = LearnedPositions;
  using NormOrder = NormAfter;
  using EmbeddingNorm = LayerNorm;
  using FinalNorm = PredictionTransform;
};

inline constexpr TensorName kBlipTextNames[] = {
    {"embed_tokens", "bert.embeddings.word_embeddings"},
    {"embed_positions", "bert.embeddings.position_embeddings"},
    {"embed_layernorm", "bert.embeddings.LayerNorm"},
    {"layers.*.self_attn.q_proj", "bert.encoder.layer.*.attention.self.query"},
    {"layers.*.self_attn.k_proj", "bert.encoder.layer.*.attention.self.key"},
    {"layers.*.self_attn.v_proj", "bert.encoder.layer.*.attention.self.value"},
    {"layers.*.self_attn.o_proj", "bert.encoder.layer.*.attention.output.dense"},
    {"layers.*.input_layernorm", "bert.encoder.layer.*.attention.output.LayerNorm"},
    {"layers.*.cross_attn.q_proj", "bert.encoder.layer.*.crossattention.self.query"},
    {"layers.*.cross_attn.k_proj", "bert.encoder.layer.*.crossattention.self.key"},
    {"layers.*.cross_attn.v_proj", "bert.encoder.layer.*.crossattention.self.value"},
    {"layers.*.cross_attn.o_proj", "bert.encoder.layer.*.crossattention.output.dense"},
    {"layers.*.cross_attn_layernorm", "bert.encoder.layer.*.crossattention.output.LayerNorm"},
    {"layers.*.mlp.up_proj", "bert.encoder.layer.*.intermediate.dense"},
    {"layers.*.mlp.down_proj", "bert.encoder.layer.*.output.dense"},
    {"layers.*.post_attention_layernorm", "bert.encoder.layer.*.output.LayerNorm"},
    {"transform.dense", "cls.predictions.transform.dense"},
    {"transform.norm", "cls.predictions.transform.LayerNorm"},
    {"lm_head", "cls.predictions.decoder"},
    {"lm_head_bias", "cls.predictions.bias"},
};

/// BLIP's image captioning (Li et al. 2022, 2201.12086): a ViT, and a BERT that reads text from left to right and the image in
/// every layer. Method B.
struct Blip {
  static constexpr std::string_view kName = "BLIP";
  static constexpr std::array kModelTypes{ModelType{"blip"}};
  static constexpr FamilyCard kCard{"ViT", "", "BERT"};
  using TextDecoder = Decoder<BertRecipe, CrossAttention<InsideBlock>>;
  using Model = VisionLanguageModel<VisionTransformer<VitRecipe>, IdentityOrLinear, TextDecoder, CrossAttentionFusion>;

  /// Sizes of the image tower; `defaults` are what absent keys stand for.
  static VisionConfig read_vision_config(const JsonView& config, VisionConfig defaults) {
    VisionConfig result = std::move(defaults);
    result.image_size = config.get_or("image_size", result.image_size);
    result.patch_size = config.get_or("patch_size", result.patch_size);
    result.hidden_size = config.get_or("hidden_size", result.hidden_size);
    result.intermediate_size = config.get_or("intermediate_size", result.intermediate_size);
    result.num_hidden_layers = config.get_or("num_hidden_layers", result.num_hidden_layers);
    result.num_attention_heads = config.get_or("num_attention_heads", result.num_attention_heads);
    result.layer_norm_eps = config.get_or("layer_norm_eps", result.layer_norm_eps);
    result.hidden_act = config.get_or<std::string>("hidden_act", "gelu");
    result.where = config.prefix();
    return result;
  }

  static Model load(const JsonView& config, const Weights& root) {
    VisionTransformer<VitRecipe> vision(vision_config(config), first_under(root, {"vision_model", "model.vision_model"},
                                                                          "class_embedding", kBlipVisionNames));
    const Weights text = root.under("text_decoder").named(kBlipTextNames);
    DecoderConfig sizes = read_text_config(config.object_or_empty("text_config"));
    sizes.cross_attention_hidden_size = vision.hidden_size();
    if (!text.contains("lm_head.weight")) sizes.head = LanguageHead::kTied;
    ProjectorConfig projector;
    projector.input_size = projector.output_size = vision.hidden_size();
    return {std::move(vision), IdentityOrLinear(projector, root), TextDecoder(std::move(sizes), text, text)};
  }

  static PromptRules rules(const JsonView& config) {
    PromptRules rules;
    rules.picture_rows = PictureRows::kInMemory;
    rules.tokens_per_image = VisionTransformer<VitRecipe>::num_features(vision_config(config));
    const JsonView text = config.object_or_empty("text_config");
    rules.decoder_start_token_id = text.get_or<TokenId>("bos_token_id", 30522);
    rules.end_token_id = text.get_or<TokenId>("sep_token_id", 102);
    return rules;
  }

 private:
  static VisionConfig vision_config(const JsonView& config) {
    VisionConfig defaults;
    defaults.image_size = 384;
    defaults.patch_size = 16;
    defaults.hidden_size = 768;
    defaults.intermediate_size = 3072;
    defaults.num_hidden_layers = defaults.num_attention_heads = 12;
    return read_vision_config(config.object_or_empty("vision_config"), std::move(defaults));
  }
  static DecoderConfig read_text_config(const JsonView& config) {
    DecoderConfig result;
    result.vocab_size = config.get_or<Index>("vocab_size", 30524);
    result.hidden_size = config.get_or<Index>("hidden_size", 768);
    result.intermediate_size = config.get_or<Index>("intermediate_size", 3072);
    result.num_hidden_layers = config.get_or<Index>("num_hidden_layers", 12);
    result.num_attention_heads = config.get_or<Index>("num_attention_heads", 8);
    set_equal_heads(result, config.where() + ": num_attention_heads");
    result.max_position_embeddings = config.get_or<Index>("max_position_embeddings", 512);
    result.norm_eps = config.get_or("layer_norm_eps", 1e-12f);
    result.hidden_act = config.get_or<std::string>("hidden_act", "gelu");
    result.qkv_bias = result.attention_output_bias = result.mlp_bias = result.head_bias = Linear::Bias::kRequired;
    result.where = config.prefix();
    return result;
  }
};

}  // namespace duet
