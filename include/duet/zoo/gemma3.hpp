#pragma once

#include <memory>
#include <string>
#include <utility>

#include "duet/fusion/vision_language_model.hpp"
#include "duet/models/average_pool_projector.hpp"
#include "duet/pipeline/processors/gemma3.hpp"
#include "duet/zoo/gemma.hpp"
#include "duet/zoo/siglip.hpp"

namespace duet {

/// Gemma 3 with eyes (Gemma Team 2025, 2503.19786): a SigLIP tower, whose features are averaged to a fixed number of image tokens,
/// and the text model, in which image tokens see one another in both directions. Method A.
struct Gemma3 {
  static constexpr std::string_view kName = "Gemma 3";
  static constexpr std::array kModelTypes{ModelType{"gemma3"}};
  static constexpr FamilyCard kCard{"SigLIP", "average pool, linear", "Gemma 3"};
  using Model = VisionLanguageModel<VisionTransformer<SiglipVisionRecipe>, AveragePoolProjector<RmsNormPlusOne>, Decoder<Gemma2Recipe>, EmbeddingFusion>;
  using Chat = ChatPrompt;

  static Model load(const JsonView& config, const Weights& root) {
    auto vision = SiglipVision::load_encoder(
        read_vision_config(config), root,
        {"vision_tower.vision_model", "model.vision_tower.vision_model", "model.vision_tower", "vision_tower"});
    const bool old_names = !root.contains("model.multi_modal_projector.mm_soft_emb_norm.weight");
    auto text = Gemma2::load_decoder(text_config(config), root, Gemma2::inside_vlm(), old_names ? "language_model" : "");
    ProjectorConfig projector;
    projector.input_size = vision.hidden_size();
    projector.output_size = text.hidden_size();
    projector.bias = Linear::Bias::kNone;
    const Weights weights = root.under(old_names ? "multi_modal_projector" : "model.multi_modal_projector").named(kProjectorNames);
    AveragePoolProjector<RmsNormPlusOne> pool(projector, read_edge(config), vision.config().layer_norm_eps, weights);
    return {std::move(vision), std::move(pool), std::move(text)};
  }

  static PromptRules rules(const JsonView& config) {
    PromptRules rules;
    rules.image_token_id = read_any<TokenId>(config, {"image_token_index", "image_token_id"}, 262144);
    rules.image_token = "<start_of_image>";
    rules.tokens_per_image = read_edge(config) * read_edge(config);
    rules.question_prefix = "<start_of_turn>user\n";
    rules.question_suffix = "<end_of_turn>\n<start_of_turn>model\n";
    rules.caption_question = "Describe the image.";
    return rules;
  }
  static std::shared_ptr<const Processor> processor(const CheckpointFolder& folder) {
    return std::make_shared<const Gemma3Processor>(rules(folder.config()), folder);
  }

 private:
  static constexpr TensorName kProjectorNames[] = {
      {"norm", "mm_soft_emb_norm"},
      {"linear", "mm_input_projection_", WeightLayout::kInOut},
  };

  static JsonView text_config(const JsonView& config) { return config.object_or_empty("text_config"); }
  static VisionConfig read_vision_config(const JsonView& config) { return SiglipVision::read_config(config.object_or_empty("vision_config")); }
  /// Image tokens along a picture's edge.
  static Index read_edge(const JsonView& config) {
    const auto tokens = config.get_or<Index>("mm_tokens_per_image", 256);
    Index edge = 1;
    while (edge < 1024 && edge * edge < tokens) ++edge;
    if (edge * edge == tokens) return edge;
    throw Error(ErrorKind::kInvalidArgument, "config.json: mm_tokens_per_image", std::to_string(tokens), "the square of a number up to 1024");
  }
};

}  // namespace duet
