#pragma once

#include <memory>

#include "duet/fusion/vision_language_model.hpp"
#include "duet/models/raw_patches.hpp"
#include "duet/pipeline/processors/fuyu.hpp"
#include "duet/zoo/persimmon.hpp"

namespace duet {

inline constexpr TensorName kFuyuProjectorNames[] = {{"linear", "vision_embed_tokens"}};

/// Fuyu (Bavishi et al. 2023): no encoder at all. Patches of pixels become image tokens by one linear map, and a Persimmon text
/// model reads them. Method A.
struct Fuyu {
  static constexpr std::string_view kName = "Fuyu";
  static constexpr std::array kModelTypes{ModelType{"fuyu"}};
  static constexpr FamilyCard kCard{"none: raw patches", "linear", "Persimmon"};
  using Model = VisionLanguageModel<RawPatches, LinearProjector, Decoder<Persimmon::Recipe>, EmbeddingFusion>;
  using Chat = ChatPrompt;

  static Model load(const JsonView& config, const Weights& root) {
    RawPatchesConfig patches;
    patches.image_size = config.get_or<Index>("image_size", 300);
    patches.patch_size = config.get_or<Index>("patch_size", 30);
    patches.num_channels = config.get_or<Index>("num_channels", 3);
    RawPatches vision(std::move(patches));
    // Without a text_config, the sizes of the text stand beside those of the patches.
    const JsonView text_config = config.contains("text_config") ? config.at("text_config") : config;
    const bool old_names = root.contains("language_model.model.embed_tokens.weight");
    auto text = Persimmon::load_decoder(text_config, root, {"language_model.model", "model.language_model"}, old_names ? "language_model" : "");
    const ProjectorConfig sizes{.input_size = vision.hidden_size(), .output_size = text.hidden_size(), .projector_hidden_act = ""};
    const Weights projector = first_under(root, {"", "model"}, "linear.weight", kFuyuProjectorNames);
    return {std::move(vision), LinearProjector(sizes, projector), std::move(text)};
  }

  static PromptRules rules(const JsonView& config) {
    PromptRules rules;
    rules.image_token_id = config.get_or<TokenId>("image_token_id", 71011);
    rules.image_token = "|SPEAKER|";
    rules.caption_question = "Generate a coco-style caption.\n";
    return rules;
  }
  static std::shared_ptr<const Processor> processor(const CheckpointFolder& folder) {
    return std::make_shared<const FuyuProcessor>(rules(folder.config()), folder);
  }
};

}  // namespace duet
