#pragma once

#include "duet/fusion/vision_language_model.hpp"
#include "duet/models/image_classifier.hpp"
#include "duet/models/rotary_vision_transformer.hpp"
#include "duet/pipeline/processors/pixtral.hpp"
#include "duet/zoo/llama.hpp"
#include "duet/zoo/llava_frame.hpp"

namespace duet {

/// The policies of Pixtral's image tower.
struct PixtralVisionRecipe : RotaryVisionRecipeDefaults {
  using Norm = RmsNorm;
  using FeedForward = GatedFeedForward<ConfiguredActivation>;
  using StemNorm = RmsNorm;
  static constexpr GridFrequencies kFrequencies = GridFrequencies::kAlternating;
};

inline constexpr TensorName kPixtralVisionNames[] = {
    {"patch_embedding", "patch_conv"},
    {"pre_layernorm", "ln_pre"},
    {"layers.*.input_layernorm", "transformer.layers.*.attention_norm"},
    {"layers.*.self_attn.q_proj", "transformer.layers.*.attention.q_proj"},
    {"layers.*.self_attn.k_proj", "transformer.layers.*.attention.k_proj"},
    {"layers.*.self_attn.v_proj", "transformer.layers.*.attention.v_proj"},
    {"layers.*.self_attn.o_proj", "transformer.layers.*.attention.o_proj"},
    {"layers.*.post_attention_layernorm", "transformer.layers.*.ffn_norm"},
    {"layers.*.mlp.gate_proj", "transformer.layers.*.feed_forward.gate_proj"},
    {"layers.*.mlp.up_proj", "transformer.layers.*.feed_forward.up_proj"},
    {"layers.*.mlp.down_proj", "transformer.layers.*.feed_forward.down_proj"},
};

inline RotaryVisionConfig read_pixtral_vision_config(const JsonView& config) {
  RotaryVisionConfig result;
  result.image_size = config.get_or<Index>("image_size", 1024);
  result.patch_size = config.get_or<Index>("patch_size", 16);
  result.max_grid = result.patch_size > 0 ? result.image_size / result.patch_size : 0;
  result.num_channels = config.get_or<Index>("num_channels", 3);
  result.hidden_size = config.get_or<Index>("hidden_size", 1024);
  result.intermediate_size = config.get_or<Index>("intermediate_size", 4096);
  result.num_hidden_layers = config.get_or<Index>("num_hidden_layers", 24);
  result.num_attention_heads = config.get_or<Index>("num_attention_heads", 16);
  result.norm_eps = 1e-5f;  // no key says it
  result.rope_theta = read_rope(config, {10000.0f}).rope_theta;
  result.hidden_act = config.get_or<std::string>("hidden_act", "gelu");
  result.bias = Linear::Bias::kNone;
  result.where = config.prefix();
  return result;
}

/// Pixtral's image tower, alone or as the encoder of another family.
struct PixtralVision {
  static constexpr std::string_view kName = "Pixtral vision";
  static constexpr std::array kModelTypes{ModelType{"pixtral"}};
  static constexpr FamilyCard kCard{"ViT with 2-D rotation", "", ""};
  using Encoder = RotaryVisionTransformer<PixtralVisionRecipe>;
  using Model = ImageClassifier<Encoder>;

  static Encoder load_encoder(RotaryVisionConfig config, const Weights& root, const Prefixes& prefixes) {
    return {std::move(config), first_under(root, prefixes, "patch_embedding.weight", kPixtralVisionNames)};
  }
  static Model load(const JsonView& config, const Weights& root) { return {load_encoder(read_pixtral_vision_config(config), root, {""}), {}}; }
  static PromptRules rules(const JsonView&) { return {}; }
  static std::shared_ptr<const Processor> processor(const CheckpointFolder& folder) {
    return std::make_shared<const PixtralProcessor>(PromptRules{}, folder);
  }
};

/// Pixtral (Agrawal et al. 2024, 2410.07073) as the reference has it: LLaVA's frame around a tower for pictures of any size and
/// a Mistral text model. Method A.
struct Pixtral {
  static constexpr std::string_view kName = "Pixtral";
  static constexpr std::array kModelTypes{ModelType{"llava", {{{"vision_config", "pixtral"}, {"text_config", "mistral"}}}}};
  static constexpr FamilyCard kCard{"ViT with 2-D rotation", "MLP", "Mistral"};
  using Frame = LlavaFrame<Llama>;
  using Model = VisionLanguageModel<PixtralVision::Encoder, Frame::Projector, Frame::Text, EmbeddingFusion>;
  using Chat = ChatPrompt;

  static Model load(const JsonView& config, const Weights& root) {
    auto vision = PixtralVision::load_encoder(read_vision_config(config), root, {"vision_tower", "model.vision_tower"});
    auto text = Frame::load_text(config, root);
    auto projector = Frame::load_projector(config, root, vision.hidden_size(), text.hidden_size());
    return {std::move(vision), std::move(projector), std::move(text)};
  }

  static PromptRules rules(const JsonView& config) {
    PromptRules rules;
    rules.image_token_id = read_any<TokenId>(config, {"image_token_index", "image_token_id"}, 32000);
    rules.image_token = "[IMG]";
    rules.question_prefix = "<s>[INST]";
    rules.question_suffix = "[/INST]";
    rules.caption_question = "Describe the image.";
    return rules;
  }
  static std::shared_ptr<const Processor> processor(const CheckpointFolder& folder) {
    return std::make_shared<const PixtralProcessor>(rules(folder.config()), folder);
  }

 private:
  static RotaryVisionConfig read_vision_config(const JsonView& config) {
    RotaryVisionConfig result = read_pixtral_vision_config(config.object_or_empty("vision_config"));
    result.feature_layers = Frame::read_feature_layers(config);
    if (const auto strategy = config.get_or<std::string>("vision_feature_select_strategy", "default"); strategy != "full") {
      throw Error(ErrorKind::kConfigMismatch, "config.json: vision_feature_select_strategy", '"' + strategy + '"', "full",
                  "this tower has no class token to leave out");
    }
    return result;
  }
};

}  // namespace duet
