#pragma once

#include <tuple>
#include <utility>
#include <vector>

#include "duet/models/image_classifier.hpp"
#include "duet/zoo/family.hpp"

namespace duet {

/// ViT's policies (Dosovitskiy et al. 2021, 2010.11929), and DeiT's (Touvron et al. 2021, 2012.12877), which has a second token behind
/// the class token: it was distilled.
struct VitRecipe : VisionRecipeDefaults {
  static constexpr RegisterPositions kRegisterPositions = RegisterPositions::kLearned;
  using Norm = LayerNorm;
  using FeedForward = duet::FeedForward<ConfiguredActivation>;
  using OutputNorm = LayerNorm;
};

inline constexpr TensorName kVitNames[] = {
    {"patch_embedding", "embeddings.patch_embeddings.projection"},
    {"class_embedding", "embeddings.cls_token"},
    {"register_tokens", "embeddings.distillation_token"},
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
    {"pooler", "pooler.dense"},
};

/// As saved by newer versions of the reference.
inline constexpr TensorName kVitNewNames[] = {
    {"patch_embedding", "embeddings.patch_embeddings.projection"},
    {"class_embedding", "embeddings.cls_token"},
    {"register_tokens", "embeddings.distillation_token"},
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
    {"pooler", "pooler.dense"},
};

/// An edge of squares, or [height, width].
inline std::pair<Index, Index> read_height_and_width(const JsonView& config, std::string_view key, Index fallback) {
  if (!config.contains(key)) return {fallback, fallback};
  const JsonView value = config.at(key);
  const auto edges = value.json().is_array() ? value.as<std::vector<Index>>() : std::vector(2, value.as<Index>());
  if (edges.size() == 2) return {edges[0], edges[1]};
  throw Error(ErrorKind::kInvalidArgument, value.where(), value.shown(), "a number or [height, width]");
}

inline VisionConfig read_vit_config(const JsonView& config) {
  VisionConfig result;
  std::tie(result.image_size, result.image_width) = read_height_and_width(config, "image_size", 224);
  const auto [patch_height, patch_width] = read_height_and_width(config, "patch_size", 16);
  if (patch_height != patch_width) {
    throw Error(ErrorKind::kUnsupportedModel, config.at("patch_size").where(), concat(patch_height, " x ", patch_width), "square patches");
  }
  result.patch_size = patch_height;
  result.num_channels = config.get_or<Index>("num_channels", 3);
  result.hidden_size = config.get_or<Index>("hidden_size", 768);
  result.intermediate_size = config.get_or<Index>("intermediate_size", 3072);
  result.num_hidden_layers = config.get_or<Index>("num_hidden_layers", 12);
  result.num_attention_heads = config.get_or<Index>("num_attention_heads", 12);
  if (config.get_or<std::string>("model_type", "") == "deit") result.num_register_tokens = 1;
  result.layer_norm_eps = config.get_or("layer_norm_eps", 1e-12f);
  result.hidden_act = config.get_or<std::string>("hidden_act", "gelu");
  result.qkv_bias = read_bias(config, "qkv_bias", true);
  result.where = config.prefix();
  return result;
}

/// ViT or DeiT: an encoder, perhaps with a pooler, or with "classifier.weight" in the checkpoint an ImageNet-style classifier.
struct Vit {
  static constexpr std::string_view kName = "ViT";
  static constexpr std::array kModelTypes{ModelType{"vit"}, ModelType{"deit"}};
  static constexpr FamilyCard kCard{"ViT, DeiT", "", ""};
  using Recipe = VitRecipe;
  using Model = ImageClassifier<VisionTransformer<Recipe>>;

  static VisionConfig read_config(const JsonView& config) { return read_vit_config(config); }
  static VisionTransformer<Recipe> load_encoder(VisionConfig config, const Weights& root, const Prefixes& prefixes) {
    return {std::move(config), encoder_weights(root, prefixes)};
  }
  static Model load(const JsonView& config, const Weights& root) {
    const Prefixes prefixes{"vit", "deit", ""};
    auto encoder = load_encoder(read_config(config), root, prefixes);
    VisionHeads heads;
    if (root.contains("classifier.weight")) {
      heads.classifier.emplace(root, "classifier", encoder.hidden_size(), read_num_labels(config), Linear::Bias::kRequired);
    } else if (const Weights weights = encoder_weights(root, prefixes); weights.contains("pooler.weight")) {
      const Index size = config.get_or<Index>("pooler_output_size", encoder.hidden_size());
      heads.pooler.emplace(Linear(weights, "pooler", encoder.hidden_size(), size, Linear::Bias::kRequired),
                           ActivationChoice<ConfiguredActivation>("pooler_act", config.get_or<std::string>("pooler_act", "tanh")));
    }
    return {std::move(encoder), std::move(heads)};
  }
  static PromptRules rules(const JsonView&) { return {}; }

 private:
  static Weights encoder_weights(const Weights& root, const Prefixes& prefixes) {
    const Weights renamed = first_under(root, prefixes, "layers.0.mlp.up_proj.weight", kVitNewNames);
    const bool is_new = renamed.contains("layers.0.mlp.up_proj.weight");
    return is_new ? renamed : first_under(root, prefixes, "post_layernorm.weight", kVitNames);
  }
};

}  // namespace duet
