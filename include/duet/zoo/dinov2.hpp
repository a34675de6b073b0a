#pragma once

#include <array>
#include <string>

#include "duet/models/image_classifier.hpp"
#include "duet/zoo/family.hpp"

namespace duet {

/// DINOv2's policies (Oquab et al. 2023, 2304.07193): a ViT whose branches are scaled. The largest has SwiGLU.
template <class FeedForwardPolicy, class PositionPolicy>
struct Dinov2Recipe : VisionRecipeDefaults {
  using Norm = LayerNorm;
  using FeedForward = FeedForwardPolicy;
  using Scale = LayerScale;
  using Positions = PositionPolicy;
  using OutputNorm = LayerNorm;
};

inline constexpr std::array kDinov2NamesWithoutMlp{
    TensorName{"patch_embedding", "embeddings.patch_embeddings.projection"},
    TensorName{"class_embedding", "embeddings.cls_token"},
    TensorName{"register_tokens", "embeddings.register_tokens"},
    TensorName{"position_embedding", "embeddings.position_embeddings"},
    TensorName{"layers.*.input_layernorm", "encoder.layer.*.norm1"},
    TensorName{"layers.*.self_attn.q_proj", "encoder.layer.*.attention.attention.query"},
    TensorName{"layers.*.self_attn.k_proj", "encoder.layer.*.attention.attention.key"},
    TensorName{"layers.*.self_attn.v_proj", "encoder.layer.*.attention.attention.value"},
    TensorName{"layers.*.self_attn.o_proj", "encoder.layer.*.attention.output.dense"},
    TensorName{"layers.*.attention_scale", "encoder.layer.*.layer_scale1.lambda1"},
    TensorName{"layers.*.post_attention_layernorm", "encoder.layer.*.norm2"},
    TensorName{"layers.*.feed_forward_scale", "encoder.layer.*.layer_scale2.lambda1"},
    TensorName{"post_layernorm", "layernorm"},
};
inline constexpr auto kDinov2Names = joined(kDinov2NamesWithoutMlp, std::array{TensorName{"layers.*.mlp.up_proj", "encoder.layer.*.mlp.fc1"},
                                                                              TensorName{"layers.*.mlp.down_proj", "encoder.layer.*.mlp.fc2"}});
/// With gate and up in one tensor.
inline constexpr auto kDinov2SwigluNames = joined(kDinov2NamesWithoutMlp, std::array{TensorName{"layers.*.mlp.gate_proj", "encoder.layer.*.mlp.weights_in"},
                                                                                    TensorName{"layers.*.mlp.up_proj", "encoder.layer.*.mlp.weights_in"},
                                                                                    TensorName{"layers.*.mlp.down_proj", "encoder.layer.*.mlp.weights_out"}});

inline VisionConfig read_dinov2_config(const JsonView& config) {
  VisionConfig result;
  result.image_size = config.get_or<Index>("image_size", 224);
  result.patch_size = config.get_or<Index>("patch_size", 16);
  result.num_channels = config.get_or<Index>("num_channels", 3);
  result.hidden_size = config.get_or<Index>("hidden_size", 768);
  const auto ratio = config.get_or<Index>("mlp_ratio", 4);
  if (result.hidden_size > kLargestWidth || ratio <= 0 || ratio > kLargestWidth) {  // their product stays in 64 bits
    throw Error(ErrorKind::kInvalidArgument, config.where() + ": mlp_ratio", concat(ratio, " of hidden_size ", result.hidden_size),
                "a sensible width");
  }
  result.intermediate_size = result.hidden_size * ratio;
  // Of SwiGLU's three matrices each is two thirds as wide, up to a multiple of 8.
  if (config.get_or("use_swiglu_ffn", false)) result.intermediate_size = (result.intermediate_size * 2 / 3 + 7) / 8 * 8;
  result.num_hidden_layers = config.get_or<Index>("num_hidden_layers", 12);
  result.num_attention_heads = config.get_or<Index>("num_attention_heads", 12);
  result.layer_norm_eps = config.get_or("layer_norm_eps", 1e-6f);
  result.hidden_act = config.get_or("use_swiglu_ffn", false) ? "silu" : config.get_or<std::string>("hidden_act", "gelu");
  result.qkv_bias = read_bias(config, "qkv_bias", true);
  if (config.get_or<std::string>("model_type", "") == "dinov2_with_registers") {
    result.num_register_tokens = config.get_or<Index>("num_register_tokens", 4);
  }
  result.where = config.prefix();
  return result;
}

/// DINOv2 without registers or with (Darcet et al. 2023, 2309.16588), whose positions are smoothed where the grid shrinks: an encoder,
/// perhaps with a classifier.
template <class FeedForwardPolicy, class PositionPolicy>
struct Dinov2Of {
  static constexpr bool kRegisters = std::is_same_v<PositionPolicy, SmoothPatchPositions>;
  static constexpr std::string_view kName = kRegisters ? "DINOv2 with registers" : "DINOv2";
  static constexpr std::array kModelTypes{ModelType{kRegisters ? "dinov2_with_registers" : "dinov2"}};
  static constexpr FamilyCard kCard{"DINOv2", "", ""};
  static bool takes(const JsonView& config) {
    return config.get_or("use_swiglu_ffn", false) == std::is_same_v<FeedForwardPolicy, GatedFeedForward<kernels::Silu>>;
  }
  using Recipe = Dinov2Recipe<FeedForwardPolicy, PositionPolicy>;
  using Model = ImageClassifier<VisionTransformer<Recipe>>;

  static Model load(const JsonView& config, const Weights& root) {
    const bool gated = config.get_or("use_swiglu_ffn", false);
    const std::span<const TensorName> names = gated ? std::span<const TensorName>(kDinov2SwigluNames) : kDinov2Names;
    VisionTransformer<Recipe> encoder(read_dinov2_config(config), first_under(root, {kModelTypes[0].name, ""}, "post_layernorm.weight", names));
    VisionHeads heads;
    if (root.contains("classifier.weight")) {
      heads.classifier.emplace(root, "classifier", 2 * encoder.hidden_size(), read_num_labels(config), Linear::Bias::kRequired);
      heads.classifier_input = ClassifierInput::kFirstAndPatches;
    } else {
      heads.pooler.emplace();
    }
    return {std::move(encoder), std::move(heads)};
  }
  static PromptRules rules(const JsonView&) { return {}; }
};

using Dinov2 = Dinov2Of<FeedForward<ConfiguredActivation>, LearnedPatchPositions>;
using Dinov2Swiglu = Dinov2Of<GatedFeedForward<kernels::Silu>, LearnedPatchPositions>;
using Dinov2Registers = Dinov2Of<FeedForward<ConfiguredActivation>, SmoothPatchPositions>;
using Dinov2SwigluRegisters = Dinov2Of<GatedFeedForward<kernels::Silu>, SmoothPatchPositions>;

}  // namespace duet
