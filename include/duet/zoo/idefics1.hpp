#pragma once

#include <memory>
#include <utility>

#include "duet/fusion/projector_combinations.hpp"
#include "duet/models/perceiver.hpp"
#include "duet/pipeline/processors/idefics1.hpp"
#include "duet/zoo/clip.hpp"
#include "duet/zoo/llama.hpp"

namespace duet {

/// The policies of Idefics' resampler.
struct Idefics1PerceiverRecipe {
  using Norm = LayerNorm;
  using HeadNorm = OptionalNorm<LayerNorm>;
  using FeedForward = duet::FeedForward<kernels::Relu>;
};

inline constexpr TensorName kIdefics1Names[] = {
    {"additional_tokens", "embed_tokens.additional_embedding"},
    {"cross_layers.*.input_layernorm", "gated_cross_attn_layers.*.input_layernorm"},
    {"cross_layers.*.cross_attn.q_proj", "gated_cross_attn_layers.*.cross_attn.q_proj"},
    {"cross_layers.*.cross_attn.k_proj", "gated_cross_attn_layers.*.cross_attn.k_proj"},
    {"cross_layers.*.cross_attn.v_proj", "gated_cross_attn_layers.*.cross_attn.v_proj"},
    {"cross_layers.*.cross_attn.o_proj", "gated_cross_attn_layers.*.cross_attn.o_proj"},
    {"cross_layers.*.cross_attn.q_norm", "gated_cross_attn_layers.*.cross_attn.q_layer_norm"},
    {"cross_layers.*.cross_attn.k_norm", "gated_cross_attn_layers.*.cross_attn.k_layer_norm"},
    {"cross_layers.*.cross_attn_attn_gate", "gated_cross_attn_layers.*.alpha_cross_attn"},
    {"cross_layers.*.post_attention_layernorm", "gated_cross_attn_layers.*.post_attention_layernorm"},
    {"cross_layers.*.mlp.gate_proj", "gated_cross_attn_layers.*.mlp.gate_proj"},
    {"cross_layers.*.mlp.up_proj", "gated_cross_attn_layers.*.mlp.up_proj"},
    {"cross_layers.*.mlp.down_proj", "gated_cross_attn_layers.*.mlp.down_proj"},
    {"cross_layers.*.cross_attn_mlp_gate", "gated_cross_attn_layers.*.alpha_dense"},
};
inline constexpr TensorName kIdefics1PerceiverNames[] = {
    {"layers.*.context_norm", "blocks.*.0.context_layer_norm"},
    {"layers.*.latents_norm", "blocks.*.0.latents_layer_norm"},
    {"layers.*.self_attn.q_proj", "blocks.*.0.q_proj"},
    {"layers.*.self_attn.k_proj", "blocks.*.0.k_proj"},
    {"layers.*.self_attn.v_proj", "blocks.*.0.v_proj"},
    {"layers.*.self_attn.o_proj", "blocks.*.0.output_proj"},
    {"layers.*.self_attn.q_norm", "blocks.*.0.q_layer_norm"},
    {"layers.*.self_attn.k_norm", "blocks.*.0.k_layer_norm"},
    {"layers.*.post_attention_layernorm", "blocks.*.1.ln"},
    {"layers.*.mlp.up_proj", "blocks.*.1.fc"},
    {"layers.*.mlp.down_proj", "blocks.*.1.c_proj"},
    {"norm", "layer_norm"},
};

/// Idefics (Laurençon et al. 2023, 2306.16527), an open Flamingo (Alayrac et al. 2022, 2204.14198): a Llama, before some of whose
/// layers gated ones read the last picture. Method B.
struct Idefics1 {
  static constexpr std::string_view kName = "Idefics";
  static constexpr std::array kModelTypes{ModelType{"idefics"}};
  static constexpr FamilyCard kCard{"CLIP", "Perceiver", "Llama, gated layers between"};
  using TextDecoder = Decoder<LlamaRecipe, CrossAttention<BeforeLayer, TanhGate, AttendNothingKeepMlp>>;
  using Projection = OptionalProjector<Perceiver<Idefics1PerceiverRecipe>>;
  using Model = VisionLanguageModel<VisionTransformer<ClipVisionRecipe>, Projection, TextDecoder, CrossAttentionFusion>;
  using Chat = ChatPrompt;

  static Model load(const JsonView& config, const Weights& root) {
    auto vision = ClipVision::load_encoder(read_vision_config(config), root, {"model.vision_model"});
    DecoderConfig sizes = read_text_config(config);
    sizes.cross_attention_hidden_size = vision.hidden_size();
    Projection projection = has_resampler(config) ? Projection(load_perceiver(config, root, vision.hidden_size())) : Projection(vision.hidden_size());
    return {std::move(vision), std::move(projection), TextDecoder(std::move(sizes), root.under("model").named(kIdefics1Names), root.named(kHeadNames))};
  }

  static PromptRules rules(const JsonView& config) {
    PromptRules rules;
    rules.picture_rows = PictureRows::kInMemory;
    // The tokenizer's two additional tokens: what stands around pictures, and then the picture.
    rules.image_token_id = read_any<TokenId>(config, {"image_token_id"}, config.get_or<TokenId>("vocab_size", 32000) + 1);
    rules.tokens_per_image = has_resampler(config) ? perceiver(config).get_or<Index>("resampler_n_latents", 64)
                                                   : VisionTransformer<ClipVisionRecipe>::num_features(read_vision_config(config));
    rules.question_prefix = "User: ";
    rules.question_suffix = "<end_of_utterance>\nAssistant:";
    return rules;
  }
  static std::shared_ptr<const Processor> processor(const CheckpointFolder& folder) {
    return std::make_shared<const Idefics1Processor>(rules(folder.config()), folder);
  }

 private:
  static constexpr TensorName kHeadNames[] = {{"additional_head", "lm_head.additional_fc"}};

  static JsonView perceiver(const JsonView& config) { return config.object_or_empty("perceiver_config"); }
  static bool has_resampler(const JsonView& config) {
    return config.get_or("use_resampler", perceiver(config).get_or("use_resampler", false));
  }
  static VisionConfig read_vision_config(const JsonView& config) {
    const JsonView vision = config.object_or_empty("vision_config");
    VisionConfig result;
    result.image_size = vision.get_or<Index>("image_size", 224);
    result.patch_size = vision.get_or<Index>("patch_size", 14);
    result.num_channels = vision.get_or<Index>("num_channels", 3);
    result.hidden_size = read_any<Index>(vision, {"embed_dim", "hidden_size"}, 768);
    result.intermediate_size = vision.get_or<Index>("intermediate_size", 5120);
    result.num_hidden_layers = vision.get_or<Index>("num_hidden_layers", 32);
    result.num_attention_heads = vision.get_or<Index>("num_attention_heads", 16);
    result.layer_norm_eps = vision.get_or("layer_norm_eps", 1e-5f);
    result.hidden_act = vision.get_or<std::string>("hidden_act", "gelu");
    result.where = vision.prefix();
    return result;
  }
  static DecoderConfig read_text_config(const JsonView& config) {
    DecoderConfig result = read_llama_config(config, {.model_type = "idefics"});
    result.additional_vocab_size = config.get_or<Index>("additional_vocab_size", 0);
    result.cross_attention_head_norms = config.get_or("qk_layer_norms", false);
    const Index interval = config.get_or<Index>("cross_layer_interval", 1);
    if (interval < 1) throw Error(ErrorKind::kInvalidArgument, config.at("cross_layer_interval").where(), std::to_string(interval), "a positive number");
    for (Index i = 0; i < std::min(result.num_hidden_layers, kLargestWidth); i += interval) result.cross_attention_layers.push_back(i);
    return result;
  }
  static Perceiver<Idefics1PerceiverRecipe> load_perceiver(const JsonView& config, const Weights& root, Index hidden_size) {
    const JsonView sizes = perceiver(config);
    PerceiverConfig result;
    result.hidden_size = hidden_size;
    result.num_latents = sizes.get_or<Index>("resampler_n_latents", 64);
    result.depth = sizes.get_or<Index>("resampler_depth", 6);
    result.num_attention_heads = result.num_key_value_heads = sizes.get_or<Index>("resampler_n_heads", 16);
    result.head_dim = sizes.get_or<Index>("resampler_head_dim", 96);
    result.intermediate_size = 4 * hidden_size;
    result.head_norms = sizes.get_or("qk_layer_norms_perceiver", false);
    result.hidden_act = "relu";
    result.where = sizes.prefix();
    return {std::move(result), root.under("model.perceiver_resampler").named(kIdefics1PerceiverNames)};
  }
};

}  // namespace duet
