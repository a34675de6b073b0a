#pragma once

#include <cmath>
#include <string>

#include "duet/zoo/clip.hpp"

namespace duet {

/// The policies of SigLIP's image tower (Zhai et al. 2023, 2303.15343): no class token, and every row leaves through the
/// output norm.
struct SiglipVisionRecipe : VisionRecipeDefaults {
  using Norm = LayerNorm;
  using FeedForward = duet::FeedForward<ConfiguredActivation>;
  using OutputNorm = LayerNorm;
  using FirstRow = NoClassToken;
};

/// As CLIP's, with the head that pools: its attention is torch's, with q, k and v in one tensor.
inline constexpr TensorName kSiglipNames[] = {
    {"patch_embedding", "embeddings.patch_embedding"},
    {"position_embedding", "embeddings.position_embedding.weight"},
    {"embed_tokens", "embeddings.token_embedding"},
    {"embed_positions", "embeddings.position_embedding"},
    {"layers.*.input_layernorm", "encoder.layers.*.layer_norm1"},
    {"layers.*.self_attn.q_proj", "encoder.layers.*.self_attn.q_proj"},
    {"layers.*.self_attn.k_proj", "encoder.layers.*.self_attn.k_proj"},
    {"layers.*.self_attn.v_proj", "encoder.layers.*.self_attn.v_proj"},
    {"layers.*.self_attn.o_proj", "encoder.layers.*.self_attn.out_proj"},
    {"layers.*.post_attention_layernorm", "encoder.layers.*.layer_norm2"},
    {"layers.*.mlp.up_proj", "encoder.layers.*.mlp.fc1"},
    {"layers.*.mlp.down_proj", "encoder.layers.*.mlp.fc2"},
    {"norm", "final_layer_norm"},
    {"head.self_attn.q_proj", "head.attention.in_proj_"},
    {"head.self_attn.k_proj", "head.attention.in_proj_"},
    {"head.self_attn.v_proj", "head.attention.in_proj_"},
    {"head.self_attn.o_proj", "head.attention.out_proj"},
    {"head.mlp.up_proj", "head.mlp.fc1"},
    {"head.mlp.down_proj", "head.mlp.fc2"},
};

inline constexpr ImageTowerDefaults kSiglipDefaults{.patch_size = 16, .layer_norm_eps = 1e-6f, .hidden_act = "gelu_pytorch_tanh"};
/// SigLIP's largest tower, which most families read pictures with.
inline constexpr ImageTowerDefaults kSiglipSo400mDefaults{.patch_size = 14, .hidden_size = 1152, .intermediate_size = 4304, .num_hidden_layers = 27,
                                                          .num_attention_heads = 16, .layer_norm_eps = 1e-6f, .hidden_act = "gelu_pytorch_tanh"};

inline VisionConfig read_siglip_vision_config(const JsonView& config) { return read_clip_vision_config(config, kSiglipDefaults); }

inline DecoderConfig read_siglip_text_config(const JsonView& config) {
  DecoderConfig result = read_clip_text_config(config, {.vocab_size = 32000, .hidden_size = 768, .intermediate_size = 3072,
                                                        .num_attention_heads = 12, .max_position_embeddings = 64});
  result.norm_eps = config.get_or("layer_norm_eps", 1e-6f);
  result.hidden_act = config.get_or<std::string>("hidden_act", "gelu_pytorch_tanh");
  return result;
}

/// SigLIP's image tower: alone, with a pooling head or a classifier; or as the encoder of another family.
struct SiglipVision {
  static constexpr std::string_view kName = "SigLIP vision";
  static constexpr std::array kModelTypes{ModelType{"siglip_vision_model"}, ModelType{"siglip"}};
  static constexpr FamilyCard kCard{"SigLIP", "", ""};
  /// With both towers it is a Siglip, unless it classifies.
  static bool takes(const JsonView& config) {
    return config.get_or<std::string>("model_type", "") != "siglip" || detail::has_architecture(config, "SiglipForImageClassification");
  }
  using Recipe = SiglipVisionRecipe;
  using Model = ImageClassifier<VisionTransformer<Recipe>>;

  static VisionConfig read_config(const JsonView& config, const ImageTowerDefaults& defaults = kSiglipDefaults) {
    return read_clip_vision_config(config, defaults);
  }
  static VisionTransformer<Recipe> load_encoder(VisionConfig config, const Weights& root, const Prefixes& prefixes) {
    return {std::move(config), tower_weights(root, prefixes)};
  }
  static Pooler load_pooler(const VisionConfig& config, const Weights& root, const Prefixes& prefixes) {
    AttentionConfig attention;
    attention.hidden_size = attention.key_value_size = config.hidden_size;
    attention.num_attention_heads = attention.num_key_value_heads = config.num_attention_heads;
    attention.head_dim = config.head_dim();
    attention.scale = 1.0f / std::sqrt(static_cast<float>(attention.head_dim));
    attention.qkv_bias = attention.output_bias = Linear::Bias::kRequired;
    const FeedForwardConfig mlp{config.hidden_size, config.intermediate_size, config.hidden_act, "vision hidden_act", Linear::Bias::kRequired};
    return Pooler(AttentionPool(attention, mlp, config.layer_norm_eps, tower_weights(root, prefixes).scope("head")));
  }
  static Model load(const JsonView& config, const Weights& root) {
    const Prefixes prefixes{"vision_model", ""};
    const JsonView tower = config.contains("vision_config") ? config.at("vision_config") : config;  // of a classifier
    auto encoder = load_encoder(read_siglip_vision_config(tower), root, prefixes);
    VisionHeads heads;
    if (root.contains("classifier.weight")) {
      heads.classifier.emplace(root, "classifier", encoder.hidden_size(), read_num_labels(config), Linear::Bias::kRequired);
      heads.classifier_input = ClassifierInput::kMean;
    } else if (tower.get_or("vision_use_head", true)) {
      heads.pooler = load_pooler(encoder.config(), root, prefixes);
    }
    return {std::move(encoder), std::move(heads)};
  }
  static PromptRules rules(const JsonView&) { return {}; }

 private:
  static Weights tower_weights(const Weights& root, const Prefixes& prefixes) {
    return first_under(root, prefixes, "position_embedding", kSiglipNames);
  }
};

/// SigLIP's text tower: it reads in both directions, and the last row stands for the text.
struct SiglipText {
  static constexpr std::string_view kName = "SigLIP text";
  static constexpr std::array kModelTypes{ModelType{"siglip_text_model"}};
  static constexpr FamilyCard kCard{"", "", "SigLIP text"};
  using Model = TextEncoder<Decoder<ClipTextRecipe>>;

  static Model load_encoder(const JsonView& config, const Weights& root, std::optional<Linear> projection) {
    const Weights weights = tower_weights(root);
    return {Decoder<ClipTextRecipe>(read_siglip_text_config(config), weights, weights),
            {.mask = TextEncoderConfig::Mask::kBidirectional, .eos_token_id = std::nullopt}, std::move(projection)};
  }
  static Linear load_head(const JsonView& config, const Weights& root) {
    const auto hidden_size = config.get_or<Index>("hidden_size", 768);
    return {tower_weights(root), "head", hidden_size, config.get_or<Index>("projection_size", hidden_size), Linear::Bias::kRequired};
  }
  static Model load(const JsonView& config, const Weights& root) { return load_encoder(config, root, load_head(config, root)); }
  static PromptRules rules(const JsonView&) { return {}; }

 private:
  static Weights tower_weights(const Weights& root) { return first_under(root, {"text_model", ""}, "embed_tokens.weight", kSiglipNames); }
};

/// SigLIP: both towers, compared by a sigmoid of each pair.
struct Siglip {
  static constexpr std::string_view kName = "SigLIP";
  static constexpr std::array kModelTypes{ModelType{"siglip"}};
  static constexpr FamilyCard kCard{"SigLIP", "", "SigLIP text"};
  using Model = ContrastiveModel<VisionTransformer<SiglipVisionRecipe>, SiglipText::Model>;

  static Model load(const JsonView& config, const Weights& root) {
    const JsonView text_config = config.object_or_empty("text_config");
    auto vision = SiglipVision::load_encoder(read_siglip_vision_config(config.object_or_empty("vision_config")), root, {"vision_model"});
    ContrastiveParts parts{SiglipVision::load_pooler(vision.config(), root, {"vision_model"}), std::nullopt,
                           SiglipText::load_head(text_config, root), std::exp(root.vector("logit_scale", 1)[0]),
                           root.vector("logit_bias", 1)[0]};
    return {std::move(vision), SiglipText::load_encoder(text_config, root, std::nullopt), std::move(parts)};
  }
  static PromptRules rules(const JsonView&) { return {}; }
};

}  // namespace duet
