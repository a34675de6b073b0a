#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "duet/fusion/vision_language_model.hpp"
#include "duet/zoo/clip.hpp"
#include "duet/zoo/gpt2.hpp"
#include "duet/zoo/llama.hpp"
#include "duet/zoo/llava_frame.hpp"
#include "duet/zoo/siglip.hpp"

namespace duet {

/// LLaVA's frame around a tower of another family, whose patches have learned positions.
template <class VisionFamily, class TextFamily>
struct LlavaParts : LlavaFrame<TextFamily> {
  /// The tower that vision_config names; where there is none, `by_default`.
  static constexpr ModelType::Part vision(std::string_view by_default) {
    constexpr std::string_view kName = VisionFamily::kModelTypes[0].name;
    return {"vision_config", kName, kName == by_default ? ModelType::Absent::kTaken : ModelType::Absent::kRefused};
  }
  using Vision = VisionTransformer<typename VisionFamily::Recipe>;

  /// `absent` are the sizes where there is no vision_config; keys that one leaves out have its own family's defaults.
  static VisionConfig read_vision_config(const JsonView& config, const ImageTowerDefaults& absent, const char* strategy) {
    VisionConfig result = config.contains("vision_config") ? VisionFamily::read_config(config.at("vision_config"))
                                                           : VisionFamily::read_config(config.object_or_empty("vision_config"), absent);
    result.feature_layers = LlavaFrame<TextFamily>::read_feature_layers(config);
    result.feature_rows = read_feature_rows(config, strategy);
    return result;
  }
  static Vision load_vision(VisionConfig config, const Weights& root) {
    return VisionFamily::load_encoder(std::move(config), root,
                                      {"vision_tower.vision_model", "model.vision_tower.vision_model", "model.vision_tower", "vision_tower"});
  }

 private:
  /// Errors  kConfigMismatch for a strategy that is not known, or that leaves out the class token of a tower without one
  static FeatureRows read_feature_rows(const JsonView& config, const char* fallback) {
    constexpr bool kHasClassToken = VisionFamily::Recipe::FirstRow::kRows > 0;
    const auto strategy = config.get_or<std::string>("vision_feature_select_strategy", fallback);
    if (strategy == "full") return FeatureRows::kAll;
    if (strategy == "default" && kHasClassToken) return FeatureRows::kPatches;
    throw Error(ErrorKind::kConfigMismatch, "config.json: vision_feature_select_strategy", '"' + strategy + '"',
                kHasClassToken ? "default or full" : "full, for a tower without a class token");
  }
};

/// LLaVA 1.5 (Liu et al. 2023, 2310.03744): a CLIP or SigLIP tower, a two-layer projector, and any text model that reads rows.
/// Method A.
template <class VisionFamily, class TextFamily>
struct LlavaOf {
  using Parts = LlavaParts<VisionFamily, TextFamily>;
  static constexpr std::string_view kName = "LLaVA";
  static constexpr auto kModelTypes = with_text("llava", Parts::vision("clip_vision_model"), TextFamily::kModelTypes);
  static constexpr FamilyCard kCard{"CLIP, SigLIP", "MLP", "Llama, GPT-2"};
  using Model = VisionLanguageModel<typename Parts::Vision, typename Parts::Projector, typename Parts::Text, EmbeddingFusion>;
  using Chat = ChatPrompt;

  static Model load(const JsonView& config, const Weights& root) {
    auto vision = Parts::load_vision(read_vision_config(config), root);
    auto text = Parts::load_text(config, root);
    auto projector = Parts::load_projector(config, root, vision.hidden_size(), text.hidden_size());
    return {std::move(vision), std::move(projector), std::move(text)};
  }

  static PromptRules rules(const JsonView& config) {
    PromptRules rules;
    rules.image_token_id = read_any<TokenId>(config, {"image_token_index", "image_token_id"}, 32000);
    rules.tokens_per_image = Parts::Vision::num_features(read_vision_config(config));
    rules.question_prefix = "USER: ";
    rules.image_suffix = "\n";
    rules.question_suffix = " ASSISTANT:";
    rules.caption_question = "Describe the image.";
    return rules;
  }

 private:
  static VisionConfig read_vision_config(const JsonView& config) {
    constexpr ImageTowerDefaults kFirstLlava{.image_size = 336, .patch_size = 14, .hidden_size = 1024, .intermediate_size = 4096,
                                             .num_hidden_layers = 24, .num_attention_heads = 16};
    return Parts::read_vision_config(config, kFirstLlava, "default");
  }
};

using Llava = LlavaOf<ClipVision, Llama>;
using LlavaGpt2 = LlavaOf<ClipVision, Gpt2>;
using SiglipLlava = LlavaOf<SiglipVision, Llama>;

}  // namespace duet
