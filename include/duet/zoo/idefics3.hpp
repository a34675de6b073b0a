#pragma once

#include <memory>

#include "duet/fusion/vision_language_model.hpp"
#include "duet/models/pixel_shuffle_projector.hpp"
#include "duet/pipeline/processors/idefics2.hpp"
#include "duet/pipeline/processors/idefics3.hpp"
#include "duet/zoo/llama.hpp"
#include "duet/zoo/siglip.hpp"

namespace duet {

/// SigLIP's tower, with positions that crops of any size share.
struct Idefics3VisionRecipe : SiglipVisionRecipe {
  using Positions = BucketedPatchPositions;
};

inline constexpr ImageTowerDefaults kIdefics3TowerDefaults{.hidden_size = 1152, .num_attention_heads = 16, .layer_norm_eps = 1e-6f,
                                                           .hidden_act = "gelu_pytorch_tanh"};
inline constexpr ImageTowerDefaults kIdefics2TowerDefaults{.layer_norm_eps = 1e-6f, .hidden_act = "gelu_pytorch_tanh"};

/// The image tower of Idefics2, Idefics3 and SmolVLM, alone.
struct IdeficsTower {
  static constexpr std::string_view kName = "Idefics2 and 3 vision";
  static constexpr std::array kModelTypes{ModelType{"idefics3_vision"}, ModelType{"smolvlm_vision"}, ModelType{"idefics2_vision"},
                                          ModelType{"idefics3"}, ModelType{"smolvlm"}, ModelType{"idefics2"}};
  static constexpr FamilyCard kCard{"SigLIP, bucketed positions", "", ""};
  /// Older folders have the family's model_type, and another class.
  static bool takes(const JsonView& config) {
    if (config.get_or<std::string>("model_type", "").ends_with("_vision")) return true;
    const auto is = [&](std::string_view name) { return detail::has_architecture(config, name); };
    return is("Idefics3VisionTransformer") || is("SmolVLMVisionTransformer") || is("Idefics2VisionTransformer");
  }
  using Model = ImageClassifier<VisionTransformer<Idefics3VisionRecipe>>;

  static Model load(const JsonView& config, const Weights& root) {
    const bool is_second = config.get_or<std::string>("model_type", "").starts_with("idefics2");
    VisionConfig sizes = read_clip_vision_config(config, is_second ? kIdefics2TowerDefaults : kIdefics3TowerDefaults);
    return {VisionTransformer<Idefics3VisionRecipe>(std::move(sizes), root.named(kSiglipNames)), {}};
  }
  static PromptRules rules(const JsonView&) { return {}; }
  static std::shared_ptr<const Processor> processor(const CheckpointFolder& folder) {
    const bool is_second = folder.config().get_or<std::string>("model_type", "").starts_with("idefics2");
    if (is_second) return std::make_shared<const Idefics2Processor>(PromptRules{}, folder);
    return std::make_shared<const Idefics3Processor>(PromptRules{}, folder);
  }
};

/// Idefics3 (Laurençon et al. 2024, 2408.12637), SmolVLM and SmolVLM2 (Marafioti et al. 2025, 2504.05299): a SigLIP tower that
/// reads tiles, squares of whose features become one image token, and a Llama text model. Method A.
struct Idefics3 {
  static constexpr std::string_view kName = "Idefics3";
  static constexpr std::array kModelTypes{ModelType{"idefics3"}, ModelType{"smolvlm"}};
  static constexpr FamilyCard kCard{"SigLIP, bucketed positions", "pixel shuffle, linear", "Llama"};
  using Model = VisionLanguageModel<VisionTransformer<Idefics3VisionRecipe>, PixelShuffleProjector<LinearProjector>, Decoder<Llama::Recipe>, EmbeddingFusion>;
  using Chat = ChatPrompt;

  static Model load(const JsonView& config, const Weights& root) {
    VisionTransformer<Idefics3VisionRecipe> vision(read_vision_config(config), root.under("model.vision_model").named(kSiglipNames));
    auto text = Llama::load_decoder(config.object_or_empty("text_config"), root, {"model.text_model"}, "");
    const Index scale = read_scale_factor(config);
    ProjectorConfig projector;
    projector.input_size = scale * scale * vision.hidden_size();
    projector.output_size = text.hidden_size();
    projector.bias = Linear::Bias::kNone;
    PixelShuffleProjector connector(LinearProjector(projector, root.under("model.connector.modality_projection").named(kProjectorNames)), scale);
    return {std::move(vision), std::move(connector), std::move(text)};
  }

  static PromptRules rules(const JsonView& config) {
    const VisionConfig vision = read_vision_config(config);
    const Index scale = read_scale_factor(config);
    vision.check();
    PromptRules rules;
    rules.image_token_id = config.get_or<TokenId>("image_token_id", 128257);
    rules.tokens_per_image = vision.grid().rows / scale * (vision.grid().cols / scale);
    rules.question_prefix = "User:";
    rules.question_suffix = "<end_of_utterance>\nAssistant:";
    rules.caption_question = "Describe the image.";
    return rules;
  }
  static std::shared_ptr<const Processor> processor(const CheckpointFolder& folder) {
    return std::make_shared<const Idefics3Processor>(rules(folder.config()), folder);
  }

 private:
  static constexpr TensorName kProjectorNames[] = {{"linear", "proj"}};

  static VisionConfig read_vision_config(const JsonView& config) {
    return read_clip_vision_config(config.object_or_empty("vision_config"), kIdefics3TowerDefaults);
  }
  static Index read_scale_factor(const JsonView& config) {
    const auto scale = config.get_or<Index>("scale_factor", 2);
    if (scale > 0 && scale <= 64) return scale;
    throw Error(ErrorKind::kInvalidArgument, "config.json: scale_factor", std::to_string(scale), "between 1 and 64");
  }
};

}  // namespace duet
