#pragma once

#include "duet/zoo/clip.hpp"
#include "duet/zoo/gpt2.hpp"
#include "duet/zoo/llama.hpp"

namespace duet {

/// LLaVA 1.5 (Liu et al. 2023, 2310.03744): a CLIP tower, a two-layer projector, and any text model that reads rows.
/// Method A. `TextFamily` is Llama or Gpt2.
template <class TextFamily>
struct LlavaOf {
  static constexpr std::string_view kName = "LLaVA";
  using Model = VisionLanguageModel<VisionTransformer<ClipVisionRecipe>, MlpProjector<ConfiguredActivation>,
                                    Decoder<typename TextFamily::Recipe>, EmbeddingFusion>;
  using Chat = ChatPrompt;

  static Model load(const JsonView& config, const Weights& root) {
    auto vision = ClipVision::load_encoder(
        read_vision_config(config), root,
        {"vision_tower.vision_model", "model.vision_tower.vision_model", "model.vision_tower", "vision_tower"});
    const bool old_names = !root.contains("model.multi_modal_projector.linear_1.weight");
    auto text = TextFamily::load_decoder(config.object_or_empty("text_config"), root, TextFamily::inside_vlm(),
                                         old_names ? "language_model" : "");
    ProjectorConfig projector;
    projector.input_size = vision.hidden_size();
    projector.output_size = text.hidden_size();
    projector.projector_hidden_act = config.get_or<std::string>("projector_hidden_act", "gelu");
    projector.bias = read_bias(config, "multimodal_projector_bias", true);
    const Weights projector_weights =
        first_under(root, {"multi_modal_projector", "model.multi_modal_projector"}, "linear_1.weight");
    return {std::move(vision), MlpProjector<ConfiguredActivation>(projector, projector_weights), std::move(text)};
  }

  static PromptRules rules(const JsonView& config) {
    PromptRules rules;
    rules.image_token_id = read_any<TokenId>(config, {"image_token_index", "image_token_id"}, 32000);
    rules.tokens_per_image = VisionTransformer<ClipVisionRecipe>::num_features(read_vision_config(config));
    rules.question_prefix = "USER: ";
    rules.image_suffix = "\n";
    rules.question_suffix = " ASSISTANT:";
    rules.caption_question = "Describe the image.";
    return rules;
  }

 private:
  /// Absent keys of vision_config have CLIP's defaults, an absent vision_config those of the first LLaVA.
  static VisionConfig read_vision_config(const JsonView& config) {
    VisionConfig result = read_clip_vision_config(config.object_or_empty("vision_config"));
    result.feature_layers = read_feature_layers(config);
    result.feature_rows = read_feature_rows(config);
    if (config.contains("vision_config")) return result;
    result.image_size = 336;
    result.patch_size = 14;
    result.hidden_size = 1024;
    result.intermediate_size = 4096;
    result.num_hidden_layers = 24;
    result.num_attention_heads = 16;
    return result;
  }
  static std::vector<Index> read_feature_layers(const JsonView& config) {
    if (!config.contains("vision_feature_layer")) return {-2};
    const JsonView layers = config.at("vision_feature_layer");
    return layers.json().is_array() ? layers.as<std::vector<Index>>() : std::vector<Index>{layers.as<Index>()};
  }
  static FeatureRows read_feature_rows(const JsonView& config) {
    const auto strategy = config.get_or<std::string>("vision_feature_select_strategy", "default");
    if (strategy == "default") return FeatureRows::kPatches;
    if (strategy == "full") return FeatureRows::kAll;
    throw Error(ErrorKind::kConfigMismatch, "config.json: vision_feature_select_strategy", '"' + strategy + '"',
                "default or full");
  }
};

using Llava = LlavaOf<Llama>;
using LlavaGpt2 = LlavaOf<Gpt2>;

}  // namespace duet
