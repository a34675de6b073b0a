#pragma once

#include <algorithm>
#include <string>
#include <type_traits>
#include <utility>

#include "duet/models/image_classifier.hpp"
#include "duet/zoo/family.hpp"

namespace duet {

/// InternViT's policies (Chen et al. 2023, 2312.14238): scaled branches, and queries and keys that the 6B models normalise as
/// whole rows.
template <class NormPolicy>
struct InternVitRecipe : VisionRecipeDefaults {
  using Norm = NormPolicy;
  using HeadNorm = OptionalNorm<RmsNorm>;
  using FeedForward = duet::FeedForward<ConfiguredActivation>;
  using Scale = LayerScale;
  static constexpr HeadNormSpan kHeadNormSpan = HeadNormSpan::kAllHeads;
};

inline constexpr TensorName kInternVitNames[] = {
    {"patch_embedding", "embeddings.patch_embedding"},
    {"class_embedding", "embeddings.class_embedding"},
    {"position_embedding", "embeddings.position_embedding"},
    {"layers.*.input_layernorm", "encoder.layers.*.norm1"},
    {"layers.*.self_attn.q_proj", "encoder.layers.*.attn.qkv"},
    {"layers.*.self_attn.k_proj", "encoder.layers.*.attn.qkv"},
    {"layers.*.self_attn.v_proj", "encoder.layers.*.attn.qkv"},
    {"layers.*.self_attn.q_norm", "encoder.layers.*.attn.q_norm"},
    {"layers.*.self_attn.k_norm", "encoder.layers.*.attn.k_norm"},
    {"layers.*.self_attn.o_proj", "encoder.layers.*.attn.proj"},
    {"layers.*.attention_scale", "encoder.layers.*.ls1"},
    {"layers.*.post_attention_layernorm", "encoder.layers.*.norm2"},
    {"layers.*.mlp.up_proj", "encoder.layers.*.mlp.fc1"},
    {"layers.*.mlp.down_proj", "encoder.layers.*.mlp.fc2"},
    {"layers.*.feed_forward_scale", "encoder.layers.*.ls2"},
};

/// InternViT, alone or as the encoder of another family.
template <class NormPolicy>
struct InternVitOf {
  static constexpr std::string_view kName = "InternViT";
  static constexpr std::array kModelTypes{ModelType{"intern_vit_6b"}};
  static constexpr FamilyCard kCard{"InternViT", "", ""};
  static constexpr std::string_view kNormType = std::is_same_v<NormPolicy, RmsNorm> ? "rms_norm" : "layer_norm";
  /// Errors  kUnsupportedModel for a norm that neither kind has
  static bool takes(const JsonView& config) {
    const auto type = config.get_or<std::string>("norm_type", "rms_norm");
    return type == kNormType || (type != "layer_norm" && kNormType == "rms_norm");
  }
  using Encoder = VisionTransformer<InternVitRecipe<NormPolicy>>;
  using Model = ImageClassifier<Encoder>;

  /// `prefix`: where the tower's tensors lie.
  static Encoder load_encoder(VisionConfig config, const Weights& root, std::string_view prefix) {
    const Weights weights = root.under(prefix).named(kInternVitNames);
    config.check();
    // NVLM's checkpoints have heads beyond the config's, for the number to be a multiple of eight: vectors tell how many.
    const Index channels = config.head_norms ? weights.vector_size("layers.0.self_attn.q_norm.weight").value_or(0)
                                             : weights.vector_size("layers.0.self_attn.q_proj.bias").value_or(0) / 3;
    config.num_dummy_heads = std::max<Index>(0, channels / config.head_dim() - config.num_attention_heads);
    return {std::move(config), weights};
  }
  static VisionConfig read_config(const JsonView& config) {
    VisionConfig result;
    result.image_size = config.get_or<Index>("image_size", 224);
    result.patch_size = config.get_or<Index>("patch_size", 14);
    result.num_channels = config.get_or<Index>("num_channels", 3);
    result.hidden_size = config.get_or<Index>("hidden_size", 3200);
    result.intermediate_size = config.get_or<Index>("intermediate_size", 12800);
    result.num_hidden_layers = config.get_or<Index>("num_hidden_layers", 48);
    result.num_attention_heads = config.get_or<Index>("num_attention_heads", 25);
    result.layer_norm_eps = config.get_or("layer_norm_eps", 1e-6f);
    result.hidden_act = config.get_or<std::string>("hidden_act", "gelu");
    result.qkv_bias = read_bias(config, "qkv_bias", false);
    result.head_norms = config.get_or("qk_normalization", true);
    result.where = config.prefix();
    if (const auto type = config.get_or<std::string>("norm_type", "rms_norm"); type != kNormType) {
      throw Error(ErrorKind::kUnsupportedModel, result.where + "norm_type", '"' + type + '"',
                  "rms_norm, or layer_norm in a tower alone");
    }
    return result;
  }
  static Model load(const JsonView& config, const Weights& root) {
    VisionHeads heads;
    heads.pooler.emplace();
    return {load_encoder(read_config(config), root, ""), std::move(heads)};
  }
  static PromptRules rules(const JsonView&) { return {}; }
};

using InternVit = InternVitOf<RmsNorm>;
using InternVitLayerNorm = InternVitOf<LayerNorm>;

}  // namespace duet
