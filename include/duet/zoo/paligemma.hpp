#pragma once

#include <memory>
#include <string>
#include <utility>

#include "duet/fusion/vision_language_model.hpp"
#include "duet/pipeline/processors/paligemma.hpp"
#include "duet/zoo/gemma.hpp"
#include "duet/zoo/siglip.hpp"

namespace duet {

/// PaliGemma (Beyer et al. 2024, 2407.07726) and PaliGemma 2 (Steiner et al. 2024, 2412.03555): a SigLIP tower, a linear map, and a
/// Gemma that reads picture and question in both directions. Image rows are not scaled as Gemma's embeddings are. Method A.
template <class TextFamily>
struct PaliGemmaOf {
  static constexpr std::string_view kName = "PaliGemma";
  static constexpr auto kModelTypes = [] {
    auto types = with_text("paligemma", {}, TextFamily::kModelTypes);
    for (ModelType& type : types) {
      if (type.parts[1].name != "gemma") type.parts[1].absent = ModelType::Absent::kRefused;
    }
    return types;
  }();
  static constexpr FamilyCard kCard{"SigLIP", "linear", "Gemma"};
  using Model = VisionLanguageModel<VisionTransformer<SiglipVisionRecipe>, LinearProjector, Decoder<typename TextFamily::Recipe>, EmbeddingFusion>;

  static Model load(const JsonView& config, const Weights& root) {
    auto vision = SiglipVision::load_encoder(
        read_vision_config(config), root,
        {"vision_tower.vision_model", "model.vision_tower.vision_model", "model.vision_tower", "vision_tower"});
    const bool old_names = !root.contains("model.multi_modal_projector.linear.weight");
    auto text = TextFamily::load_decoder(config.object_or_empty("text_config"), root, TextFamily::inside_vlm(), old_names ? "language_model" : "");
    ProjectorConfig projector;
    projector.input_size = vision.hidden_size();
    projector.output_size = text.hidden_size();
    LinearProjector linear(projector, root.under(old_names ? "multi_modal_projector" : "model.multi_modal_projector"));
    return {std::move(vision), std::move(linear), std::move(text)};
  }

  static PromptRules rules(const JsonView& config) {
    const VisionConfig vision = read_vision_config(config);
    vision.check();
    PromptRules rules;
    rules.image_token_id = read_any<TokenId>(config, {"image_token_index", "image_token_id"}, 256000);
    rules.tokens_per_image = VisionTransformer<SiglipVisionRecipe>::num_features(vision);
    rules.question_suffix = "\n";
    rules.caption_question = "caption en";
    return rules;
  }
  static std::shared_ptr<const Processor> processor(const CheckpointFolder& folder) {
    return std::make_shared<const PaliGemmaProcessor>(rules(folder.config()), folder);
  }

 private:
  static VisionConfig read_vision_config(const JsonView& config) {
    return SiglipVision::read_config(config.object_or_empty("vision_config"), config.contains("vision_config") ? kSiglipDefaults : kSiglipSo400mDefaults);
  }
};

using PaliGemma = PaliGemmaOf<Gemma>;
using PaliGemma2 = PaliGemmaOf<Gemma2>;

}  // namespace duet
