#pragma once

#include <memory>

#include "duet/models/q_former.hpp"
#include "duet/pipeline/processors/blip2.hpp"
#include "duet/zoo/blip.hpp"
#include "duet/zoo/opt.hpp"

namespace duet {

inline constexpr TensorName kQFormerNames[] = {
    {"norm", "qformer.layernorm"},
    {"layers.*.self_attn.q_proj", "qformer.encoder.layer.*.attention.attention.query"},
    {"layers.*.self_attn.k_proj", "qformer.encoder.layer.*.attention.attention.key"},
    {"layers.*.self_attn.v_proj", "qformer.encoder.layer.*.attention.attention.value"},
    {"layers.*.self_attn.o_proj", "qformer.encoder.layer.*.attention.output.dense"},
    {"layers.*.input_layernorm", "qformer.encoder.layer.*.attention.output.LayerNorm"},
    {"layers.*.cross_attn.q_proj", "qformer.encoder.layer.*.crossattention.attention.query"},
    {"layers.*.cross_attn.k_proj", "qformer.encoder.layer.*.crossattention.attention.key"},
    {"layers.*.cross_attn.v_proj", "qformer.encoder.layer.*.crossattention.attention.value"},
    {"layers.*.cross_attn.o_proj", "qformer.encoder.layer.*.crossattention.output.dense"},
    {"layers.*.cross_attn_layernorm", "qformer.encoder.layer.*.crossattention.output.LayerNorm"},
    {"layers.*.mlp.up_proj", "qformer.encoder.layer.*.intermediate_query.dense"},
    {"layers.*.mlp.down_proj", "qformer.encoder.layer.*.output_query.dense"},
    {"layers.*.post_attention_layernorm", "qformer.encoder.layer.*.output_query.LayerNorm"},
};

/// BLIP-2 with an OPT (Li et al. 2023, 2301.12597): a ViT, a Q-Former that asks it, and a text model that reads the answers before
/// the text. Method A, for all the cross-attention in its projector.
struct Blip2 {
  static constexpr std::string_view kName = "BLIP-2";
  static constexpr auto kModelTypes = with_text("blip-2", {}, Opt::kModelTypes);
  static constexpr FamilyCard kCard{"ViT", "Q-Former, linear", "OPT"};
  using Model = VisionLanguageModel<VisionTransformer<VitRecipe>, QFormer, Decoder<OptRecipe>, EmbeddingFusion>;

  static Model load(const JsonView& config, const Weights& root) {
    VisionTransformer<VitRecipe> vision(read_vision_config(config), first_under(root, {"vision_model", "model.vision_model"},
                                                                               "class_embedding", kBlipVisionNames));
    auto text = Opt::load_decoder(config.object_or_empty("text_config"), root,
                                  {"language_model.model.decoder", "model.language_model.decoder"},
                                  root.contains("language_model.lm_head.weight") ? "language_model" : "");
    QFormerConfig sizes = read_q_former_config(config);
    sizes.output_size = text.hidden_size();
    const Weights q_former = first_under(root, {"", "model"}, "query_tokens", kQFormerNames);
    return {std::move(vision), QFormer(std::move(sizes), q_former), std::move(text)};
  }

  static PromptRules rules(const JsonView& config) {
    PromptRules rules;
    rules.image_token_id = read_any<TokenId>(config, {"image_token_index", "image_token_id"}, 50265);
    rules.tokens_per_image = config.get_or<Index>("num_query_tokens", 32);
    rules.question_prefix = "Question: ";
    rules.question_suffix = " Answer:";
    return rules;
  }
  static std::shared_ptr<const Processor> processor(const CheckpointFolder& folder) {
    return std::make_shared<const Blip2Processor>(rules(folder.config()), folder);
  }

 private:
  static VisionConfig read_vision_config(const JsonView& config) {
    const JsonView vision = config.object_or_empty("vision_config");
    VisionConfig defaults;
    defaults.image_size = 224;
    defaults.patch_size = 14;
    defaults.hidden_size = 1408;
    defaults.intermediate_size = 6144;
    defaults.num_hidden_layers = 39;
    defaults.num_attention_heads = 16;
    defaults.layer_norm_eps = 1e-6f;
    defaults.qkv_bias = read_bias(vision, "qkv_bias", true);
    return Blip::read_vision_config(vision, std::move(defaults));
  }
  static QFormerConfig read_q_former_config(const JsonView& config) {
    const JsonView q = config.object_or_empty("qformer_config");
    if (q.get_or("use_qformer_text_input", false)) {
      throw Error(ErrorKind::kUnsupportedModel, q.at("use_qformer_text_input").where(), "true", "false");
    }
    QFormerConfig result;
    result.encoder_hidden_size = q.get_or<Index>("encoder_hidden_size", 1408);
    result.num_query_tokens = config.get_or<Index>("num_query_tokens", 32);
    result.hidden_size = q.get_or<Index>("hidden_size", 768);
    result.intermediate_size = q.get_or<Index>("intermediate_size", 3072);
    result.num_hidden_layers = q.get_or<Index>("num_hidden_layers", 12);
    result.num_attention_heads = q.get_or<Index>("num_attention_heads", 12);
    result.cross_attention_frequency = q.get_or<Index>("cross_attention_frequency", 2);
    result.layer_norm_eps = q.get_or("layer_norm_eps", 1e-12f);
    result.hidden_act = q.get_or<std::string>("hidden_act", "gelu");
    result.where = q.prefix();
    return result;
  }
};

}  // namespace duet
