#pragma once

#include "duet/models/image_classifier.hpp"
#include "duet/zoo/family.hpp"

namespace duet {

/// ViT's policies (Dosovitskiy et al. 2021, 2010.11929).
struct VitRecipe : VisionRecipeDefaults {
  using Norm = LayerNorm;
  using FeedForward = duet::FeedForward<ConfiguredActivation>;
  using OutputNorm = LayerNorm;
};

inline constexpr TensorName kVitNames[] = {
    {"patch_embedding", "embeddings.patch_embeddings.projection"},
    {"class_embedding", "embeddings.cls_token"},
    {"position_embedding", "embeddings.position_embeddings"},
    {"layers.*.input_layernorm", "encoder.layer.*.layernorm_before"},
    {"layers.*.self_attn.q_proj", "encoder.layer.*.attention.attention.query"},
    {"layers.*.self_attn.k_proj", "encoder.layer.*.attention.attention.key"},
    {"layers.*.self_attn.v_proj", "encoder.layer.*.attention.attention.value"},
    {"layers.*.self_attn.o_proj", "encoder.layer.*.attention.output.dense"},
    {"layers.*.post_attention_layernorm", "encoder.layer.*.layernorm_after"},
    {"layers.*.mlp.up_proj", "encoder.layer.*.intermediate.dense"},
    {"layers.*.mlp.down_proj", "encoder.layer.*.output.dense"},
    {"post_layernorm", "layernorm"},
};

/// As saved by newer versions of the reference.
inline constexpr TensorName kVitNewNames[] = {
    {"patch_embedding", "embeddings.patch_embeddings.projection"},
    {"class_embedding", "embeddings.cls_token"},
    {"position_embedding", "embeddings.position_embeddings"},
    {"layers.*.input_layernorm", "layers.*.layernorm_before"},
    {"layers.*.self_attn.q_proj", "layers.*.attention.q_proj"},
    {"layers.*.self_attn.k_proj", "layers.*.attention.k_proj"},
    {"layers.*.self_attn.v_proj", "layers.*.attention.v_proj"},
    {"layers.*.self_attn.o_proj", "layers.*.attention.o_proj"},
    {"layers.*.post_attention_layernorm", "layers.*.layernorm_after"},
    {"layers.*.mlp.up_proj", "layers.*.mlp.fc1"},
    {"layers.*.mlp.down_proj", "layers.*.mlp.fc2"},
    {"post_layernorm", "layernorm"},
};

inline VisionConfig read_vit_config(const JsonView& config) {
  VisionConfig result;
  result.image_size = config.get_or<Index>("image_size", 224);
  result.patch_size = config.get_or<Index>("patch_size", 16);
  result.num_channels = config.get_or<Index>("num_channels", 3);
  result.hidden_size = config.get_or<Index>("hidden_size", 768);
  result.intermediate_size = config.get_or<Index>("intermediate_size", 3072);
  result.num_hidden_layers = config.get_or<Index>("num_hidden_layers", 12);
  result.num_attention_heads = config.get_or<Index>("num_attention_heads", 12);
  result.layer_norm_eps = config.get_or("layer_norm_eps", 1e-12f);
  result.hidden_act = config.get_or<std::string>("hidden_act", "gelu");
  result.qkv_bias = read_bias(config, "qkv_bias", true);
  result.where = config.prefix();
  return result;
}

/// ViT: an encoder, or with "classifier.weight" in the checkpoint an ImageNet-style classifier.
struct Vit {
  static constexpr std::string_view kName = "ViT";
  using Recipe = VitRecipe;
  using Model = ImageClassifier<VisionTransformer<Recipe>>;

  static VisionTransformer<Recipe> load_encoder(const JsonView& config, const Weights& root,
                                                const Prefixes& prefixes) {
    const Weights renamed = first_under(root, prefixes, "layers.0.mlp.up_proj.weight", kVitNewNames);
    const bool is_new = renamed.contains("layers.0.mlp.up_proj.weight");
    return {read_vit_config(config), is_new ? renamed : first_under(root, prefixes, "post_layernorm.weight", kVitNames)};
  }
  static Model load(const JsonView& config, const Weights& root) {
    auto encoder = load_encoder(config, root, {"vit", ""});
    std::optional<Linear> classifier;
    if (root.contains("classifier.weight")) {
      classifier.emplace(root, "classifier", encoder.hidden_size(), read_num_labels(config), Linear::Bias::kRequired);
    }
    return {std::move(encoder), std::move(classifier)};
  }
  static PromptRules rules(const JsonView&, const Model&) { return {}; }

 private:
  static Index read_num_labels(const JsonView& config) {
    if (config.contains("id2label")) return static_cast<Index>(config.at("id2label").json().size());
    return config.get_or<Index>("num_labels", 2);
  }
};

}  // namespace duet
