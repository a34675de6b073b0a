#pragma once

#include <cmath>
#include <string>

#include "duet/models/contrastive_model.hpp"
#include "duet/models/image_classifier.hpp"
#include "duet/zoo/family.hpp"

namespace duet {

/// The policies of CLIP's image tower (Radford et al. 2021, 2103.00020). Its output norm is for the pooled class token
/// alone, so features leave the tower without it.
struct ClipVisionRecipe : VisionRecipeDefaults {
  using Norm = LayerNorm;
  using FeedForward = duet::FeedForward<ConfiguredActivation>;
  using StemNorm = LayerNorm;
  static constexpr Linear::Bias kPatchBias = Linear::Bias::kNone;
};

/// The policies of CLIP's text tower: a causal stack of the same blocks, without a head.
struct ClipTextRecipe : DecoderRecipeDefaults {
  using Norm = LayerNorm;
  using FeedForward = duet::FeedForward<ConfiguredActivation>;
  using Position = LearnedPositions;
};

inline constexpr TensorName kClipNames[] = {
    {"patch_embedding", "embeddings.patch_embedding"},
    {"class_embedding", "embeddings.class_embedding"},
    {"position_embedding", "embeddings.position_embedding.weight"},
    {"pre_layernorm", "pre_layrnorm"},  // sic
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
};

/// Sizes of an image tower whose config leaves them out.
struct ImageTowerDefaults {
  Index image_size = 224, patch_size = 32, hidden_size = 768, intermediate_size = 3072, num_hidden_layers = 12, num_attention_heads = 12;
  float layer_norm_eps = 1e-5f;
  const char* hidden_act = "quick_gelu";
};

inline VisionConfig read_clip_vision_config(const JsonView& config, const ImageTowerDefaults& defaults = {}) {
  VisionConfig result;
  result.image_size = config.get_or("image_size", defaults.image_size);
  result.patch_size = config.get_or("patch_size", defaults.patch_size);
  result.num_channels = config.get_or<Index>("num_channels", 3);
  result.hidden_size = config.get_or("hidden_size", defaults.hidden_size);
  result.intermediate_size = config.get_or("intermediate_size", defaults.intermediate_size);
  result.num_hidden_layers = config.get_or("num_hidden_layers", defaults.num_hidden_layers);
  result.num_attention_heads = config.get_or("num_attention_heads", defaults.num_attention_heads);
  result.layer_norm_eps = config.get_or("layer_norm_eps", defaults.layer_norm_eps);
  result.hidden_act = config.get_or<std::string>("hidden_act", defaults.hidden_act);
  result.where = config.prefix();
  return result;
}

/// Sizes of a text tower whose config leaves them out.
struct TextTowerDefaults {
  Index vocab_size = 49408, hidden_size = 512, intermediate_size = 2048, num_attention_heads = 8, max_position_embeddings = 77;
};

inline DecoderConfig read_clip_text_config(const JsonView& config, const TextTowerDefaults& defaults = {}) {
  DecoderConfig result;
  result.vocab_size = config.get_or<Index>("vocab_size", defaults.vocab_size);
  result.hidden_size = config.get_or<Index>("hidden_size", defaults.hidden_size);
  result.intermediate_size = config.get_or<Index>("intermediate_size", defaults.intermediate_size);
  result.num_hidden_layers = config.get_or<Index>("num_hidden_layers", 12);
  result.num_attention_heads = config.get_or<Index>("num_attention_heads", defaults.num_attention_heads);
  result.num_key_value_heads = result.num_attention_heads;
  if (result.num_attention_heads <= 0 || result.hidden_size % result.num_attention_heads != 0) {
    throw Error(ErrorKind::kInvalidArgument, config.where() + ": num_attention_heads",
                std::to_string(result.num_attention_heads), concat("a divisor of hidden_size, ", result.hidden_size));
  }
  result.head_dim = result.hidden_size / result.num_attention_heads;
  result.max_position_embeddings = config.get_or<Index>("max_position_embeddings", defaults.max_position_embeddings);
  result.norm_eps = config.get_or("layer_norm_eps", 1e-5f);
  result.hidden_act = config.get_or<std::string>("hidden_act", "quick_gelu");
  result.qkv_bias = result.attention_output_bias = result.mlp_bias = Linear::Bias::kRequired;
  result.head = LanguageHead::kNone;
  result.where = config.prefix();
  return result;
}

/// CLIP's image tower, alone or as the encoder of another family.
struct ClipVision {
  static constexpr std::string_view kName = "CLIP vision";
  static constexpr std::array kModelTypes{ModelType{"clip_vision_model"}};
  static constexpr FamilyCard kCard{"CLIP", "", ""};
  using Recipe = ClipVisionRecipe;
  using Model = ImageClassifier<VisionTransformer<Recipe>>;

  static VisionConfig read_config(const JsonView& config, const ImageTowerDefaults& defaults = {}) {
    return read_clip_vision_config(config, defaults);
  }
  static VisionTransformer<Recipe> load_encoder(VisionConfig config, const Weights& root, const Prefixes& prefixes) {
    return {std::move(config), first_under(root, prefixes, "class_embedding", kClipNames)};
  }
  static Model load(const JsonView& config, const Weights& root) {
    const Prefixes prefixes{"vision_model", ""};
    auto encoder = load_encoder(read_clip_vision_config(config), root, prefixes);
    VisionHeads heads;
    const Weights weights = first_under(root, prefixes, "class_embedding", kClipNames);
    if (weights.contains("post_layernorm.weight")) {
      heads.pooler.emplace(LayerNorm(weights.scope("post_layernorm"), encoder.hidden_size(), encoder.config().layer_norm_eps));
    }
    if (root.contains("visual_projection.weight")) {
      heads.projection.emplace(root, "visual_projection", encoder.hidden_size(), config.get_or<Index>("projection_dim", 512), Linear::Bias::kNone);
    }
    return {std::move(encoder), std::move(heads)};
  }
  static PromptRules rules(const JsonView&) { return {}; }
};

/// CLIP's text tower, alone or as half of CLIP.
struct ClipText {
  static constexpr std::string_view kName = "CLIP text";
  static constexpr std::array kModelTypes{ModelType{"clip_text_model"}};
  static constexpr FamilyCard kCard{"", "", "CLIP text"};
  using Model = TextEncoder<Decoder<ClipTextRecipe>>;

  static Model load_encoder(const JsonView& config, const Weights& root, std::optional<Linear> projection = std::nullopt) {
    const Weights weights = first_under(root, {"text_model", ""}, "embed_tokens.weight", kClipNames);
    return {Decoder<ClipTextRecipe>(read_clip_text_config(config), weights, weights), {.eos_token_id = config.get_or<TokenId>("eos_token_id", 49407)},
            std::move(projection)};
  }
  static Model load(const JsonView& config, const Weights& root) {
    if (!root.contains("text_projection.weight")) return load_encoder(config, root);
    return load_encoder(config, root, Linear(root, "text_projection", config.get_or<Index>("hidden_size", 512),
                                             config.get_or<Index>("projection_dim", 512), Linear::Bias::kNone));
  }
  static PromptRules rules(const JsonView&) { return {}; }
};

/// CLIP: both towers and the space they share.
struct Clip {
  static constexpr std::string_view kName = "CLIP";
  static constexpr std::array kModelTypes{ModelType{"clip"}};
  static constexpr FamilyCard kCard{"CLIP", "linear, both towers", "CLIP text"};
  using Model = ContrastiveModel<VisionTransformer<ClipVisionRecipe>, ClipText::Model>;

  static Model load(const JsonView& config, const Weights& root) {
    auto vision = ClipVision::load_encoder(read_clip_vision_config(tower(config, "vision_config")), root, {"vision_model"});
    auto text = ClipText::load_encoder(tower(config, "text_config"), root);
    const Index projection_dim = config.get_or<Index>("projection_dim", 512);
    ContrastiveParts parts{
        Pooler(LayerNorm(root.under("vision_model").scope("post_layernorm"), vision.hidden_size(), vision.config().layer_norm_eps)),
        Linear(root, "visual_projection", vision.hidden_size(), projection_dim, Linear::Bias::kNone),
        Linear(root, "text_projection", text.hidden_size(), projection_dim, Linear::Bias::kNone),
        std::exp(root.vector("logit_scale", 1)[0]),
    };
    return {std::move(vision), std::move(text), std::move(parts)};
  }
  static PromptRules rules(const JsonView&) { return {}; }

 private:
  /// The oldest checkpoints have their towers' configs at "…_config_dict" too, which then holds alone.
  static JsonView tower(const JsonView& config, const std::string& key) {
    const std::string old_key = key + "_dict";
    return config.object_or_empty(config.contains(old_key) ? old_key : key);
  }
};

}  // namespace duet
