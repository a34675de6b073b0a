#pragma once

#include <cmath>
#include <memory>
#include <string>

#include "duet/fusion/vision_language_model.hpp"
#include "duet/models/hd_projector.hpp"
#include "duet/pipeline/processors/phi3_v.hpp"
#include "duet/zoo/clip.hpp"
#include "duet/zoo/llama.hpp"

namespace duet {

inline constexpr TensorName kPhi3VProjectorNames[] = {{"linear_1", "img_projection.0"}, {"linear_2", "img_projection.2"}};

/// Phi-3-vision and Phi-3.5-vision (Abdin et al. 2024, 2404.14219): a CLIP tower over tiles, rows packed with separators, and
/// Phi-3's text model. Method A.
struct Phi3V {
  static constexpr std::string_view kName = "Phi-3-vision";
  static constexpr std::array kModelTypes{ModelType{"phi3_v"}};
  static constexpr FamilyCard kCard{"CLIP", "HD packing, MLP", "Phi-3"};
  using Model = VisionLanguageModel<VisionTransformer<ClipVisionRecipe>, HdProjector, Decoder<Llama::Recipe>, EmbeddingFusion>;
  using Chat = ChatPrompt;

  static Model load(const JsonView& config, const Weights& root) {
    const JsonView embed = config.object_or_empty("embd_layer"), processor = config.object_or_empty("img_processor");
    require(embed, "projection_cls", "linear", "mlp");
    const Weights tower = root.under("model.vision_embed_tokens.img_processor.vision_model").named(kClipNames);
    VisionTransformer<ClipVisionRecipe> vision(read_vision_config(processor, tower), tower);
    const ProjectorConfig sizes{.input_size = vision.hidden_size(), .output_size = config.get_or<Index>("hidden_size", 3072)};
    HdProjector projector(sizes, read_order(embed), root.under("model.vision_embed_tokens").named(kPhi3VProjectorNames));
    return {std::move(vision), std::move(projector),
            Decoder<Llama::Recipe>(read_llama_config(config, "phi3"), root.under("model").named(kPhi3Names), root)};
  }

  static PromptRules rules(const JsonView&) {
    PromptRules rules;
    rules.image_token_id = -1;  // no id of the vocabulary: the k-th picture's is -k
    rules.image_token = "<|image|>";
    rules.question_prefix = "<|user|>\n";
    rules.image_suffix = "\n";
    rules.question_suffix = "<|end|>\n<|assistant|>\n";
    rules.caption_question = "Describe the image.";
    return rules;
  }
  static std::shared_ptr<const Processor> processor(const CheckpointFolder& folder) {
    return std::make_shared<const Phi3VProcessor>(rules(folder.config()), folder);
  }

 private:
  /// The reference builds OpenAI's ViT-L/14-336, whatever config.json says; what the tensors' shapes say of a tower goes before it.
  static VisionConfig read_vision_config(const JsonView& processor, const Weights& tower) {
    VisionConfig result;
    result.patch_size = 14;
    result.hidden_size = tower.vector_size("class_embedding").value_or(processor.get_or<Index>("image_dim_out", 1024));
    result.intermediate_size = tower.vector_size("layers.0.mlp.up_proj.bias").value_or(4096);
    while (tower.contains(concat("layers.", result.num_hidden_layers, ".mlp.up_proj.bias"))) ++result.num_hidden_layers;
    if (result.num_hidden_layers == 0) result.num_hidden_layers = 24;
    const Index rows = tower.vector_size("position_embedding").value_or(577 * result.hidden_size) / std::max<Index>(1, result.hidden_size);
    result.image_size = result.patch_size * static_cast<Index>(std::sqrt(static_cast<double>(std::max<Index>(0, rows - 1))));
    result.num_attention_heads = 16;
    result.layer_norm_eps = 1e-5f;
    result.hidden_act = "quick_gelu";
    result.feature_layers = {processor.get_or<Index>("layer_idx", -2)};
    const auto type = processor.get_or<std::string>("type_feature", "patch");
    if (type != "patch") {
      throw Error(ErrorKind::kUnsupportedModel, processor.at("type_feature").where(), '"' + type + '"', "patch");
    }
    result.feature_rows = FeatureRows::kPatches;
    result.where = processor.prefix();
    return result;
  }
  static HdOrder read_order(const JsonView& embed) {
    for (const std::string_view key : {"use_hd_transform", "with_learnable_separator"}) {
      if (!embed.get_or(key, false)) {
        throw Error(ErrorKind::kUnsupportedModel, embed.where() + ": " + std::string(key), "false", "true, as in Phi-3-vision and Phi-3.5-vision");
      }
    }
    const auto order = embed.get_or<std::string>("hd_transform_order", "glb_sub");
    if (order == "sub_glb") return HdOrder::kTilesFirst;
    if (order == "glb_sub") return HdOrder::kWholeFirst;
    throw Error(ErrorKind::kConfigMismatch, embed.at("hd_transform_order").where(), '"' + order + '"', "sub_glb or glb_sub");
  }
  static void require(const JsonView& config, std::string_view key, std::string_view fallback, std::string_view expected) {
    const auto value = config.get_or<std::string>(key, std::string(fallback));
    if (value == expected) return;
    throw Error(ErrorKind::kUnsupportedModel, config.where() + ": " + std::string(key), '"' + value + '"', expected);
  }
};

}  // namespace duet
