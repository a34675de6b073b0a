#pragma once

#include <memory>
#include <string>
#include <utility>

#include "duet/models/tile_packing_projector.hpp"
#include "duet/pipeline/processors/any_resolution.hpp"
#include "duet/zoo/llava.hpp"

namespace duet {

/// LLaVA-NeXT (Liu et al. 2024) and LLaVA-OneVision (Li et al. 2024, 2408.03326): LLaVA that also sees a picture in tiles, whose
/// number and shape the picture's size decides. Method A.
template <class VisionFamily, class TextFamily>
struct LlavaNextOf {
  using Parts = LlavaParts<VisionFamily, TextFamily>;
  static constexpr std::string_view kName = "LLaVA-NeXT";
  static constexpr auto kModelTypes = joined(with_text("llava_next", Parts::vision("clip_vision_model"), TextFamily::kModelTypes),
                                            with_text("llava_onevision", Parts::vision("siglip_vision_model"), TextFamily::kModelTypes));
  static constexpr FamilyCard kCard{"CLIP, SigLIP", "MLP, tiles packed with newlines", "Llama"};
  using Projection = TilePackingProjector<typename Parts::Projector>;
  using Model = VisionLanguageModel<typename Parts::Vision, Projection, typename Parts::Text, EmbeddingFusion>;
  using Chat = ChatPrompt;

  static Model load(const JsonView& config, const Weights& root) {
    auto vision = Parts::load_vision(read_vision_config(config), root);
    auto text = Parts::load_text(config, root);
    const Weights newline = root.contains("model.image_newline") ? root.under("model") : root;
    Projection projector(Parts::load_projector(config, root, vision.hidden_size(), text.hidden_size()), read_max_tiles(config), newline);
    return {std::move(vision), std::move(projector), std::move(text)};
  }

  static PromptRules rules(const JsonView& config) {
    const bool onevision = is_onevision(config);
    PromptRules rules;
    rules.image_token_id = read_any<TokenId>(config, {"image_token_index", "image_token_id"}, onevision ? 151646 : 32000);
    rules.tokens_per_image = Parts::Vision::num_features(read_vision_config(config));  // of the whole; tiles bring more
    rules.question_prefix = onevision ? "<|im_start|>user " : "USER: ";
    rules.image_suffix = "\n";
    rules.question_suffix = onevision ? "<|im_end|><|im_start|>assistant\n" : " ASSISTANT:";
    rules.caption_question = "Describe the image.";
    return rules;
  }
  static std::shared_ptr<const Processor> processor(const CheckpointFolder& folder) {
    return std::make_shared<const AnyResolutionProcessor>(rules(folder.config()), folder);
  }

 private:
  static bool is_onevision(const JsonView& config) { return config.get_or<std::string>("model_type", "") == "llava_onevision"; }

  static VisionConfig read_vision_config(const JsonView& config) {
    constexpr ImageTowerDefaults kNext{.image_size = 336, .patch_size = 14, .hidden_size = 1024, .intermediate_size = 4096,
                                       .num_hidden_layers = 24, .num_attention_heads = 16};
    ImageTowerDefaults onevision = kSiglipSo400mDefaults;
    onevision.image_size = 384;
    onevision.num_hidden_layers = 26;
    return is_onevision(config) ? Parts::read_vision_config(config, onevision, "full") : Parts::read_vision_config(config, kNext, "default");
  }
};

using LlavaNext = LlavaNextOf<ClipVision, Llama>;
/// LLaVA-OneVision, and LLaVA-NeXT with SigLIP's tower.
using SiglipLlavaNext = LlavaNextOf<SiglipVision, Llama>;

}  // namespace duet
