#pragma once

#include <cmath>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include "duet/fusion/vision_language_model.hpp"
#include "duet/models/pixel_shuffle_projector.hpp"
#include "duet/models/tiles_and_thumbnail.hpp"
#include "duet/pipeline/processors/nvlm.hpp"
#include "duet/zoo/intern_vit.hpp"
#include "duet/zoo/llama.hpp"

namespace duet {

inline constexpr TensorName kNvlmProjectorNames[] = {{"norm", "mlp1.0"}, {"linear_1", "mlp1.1"}, {"linear_2", "mlp1.3"}};
using NvlmProjector = PixelShuffleProjector<MlpProjector<kernels::Gelu, LayerNorm>>;
using NvlmCrossDecoder = Decoder<Llama::Recipe, CrossAttention<BeforeLayer, TanhGate>>;

/// All rows of all crops among the text.
struct NvlmDParts {
  static constexpr std::string_view kName = "NVLM-D", kModelType = "NVLM_D", kDecoder = "Qwen2";
  static constexpr PictureRows kPictureRows = PictureRows::kInPrompt;
  using Projection = NvlmProjector;
  using Text = Decoder<Llama::Recipe>;
  using Fusion = EmbeddingFusion;
};
/// All of them in gated layers' memory.
struct NvlmXParts {
  static constexpr std::string_view kName = "NVLM-X", kModelType = "NVLM_X", kDecoder = "Qwen2, gated layers between";
  static constexpr PictureRows kPictureRows = PictureRows::kInMemory;
  using Projection = NvlmProjector;
  using Text = NvlmCrossDecoder;
  using Fusion = CrossAttentionFusion;
};
/// The view of the whole among the text, the tiles in memory.
struct NvlmHParts {
  static constexpr std::string_view kName = "NVLM-H", kModelType = "NVLM_H", kDecoder = "Qwen2, gated layers between";
  static constexpr PictureRows kPictureRows = PictureRows::kInBoth;
  using Projection = TilesAndThumbnail<NvlmProjector>;
  using Text = NvlmCrossDecoder;
  using Fusion = HybridFusion;
};

/// NVLM 1.0 (Dai et al. 2024, 2409.11402): an InternViT over tiles, squares of whose features become one image token, and
/// Qwen2. What differs is the fusion alone: method A (D), method B (X) or both (H).
///
/// D is read as its checkpoint spells it. X and H have none that is public, so this part is ours: config.json is D's with
/// cross_layer_interval (8: a gated layer before every eighth of Qwen2's) and tile_token_ids (of <tile_1> … and
/// <tile_global_thumbnail>, which are tokens of their own); tensors are D's and, for every gated layer,
/// language_model.model.cross_layers.I. with input_layernorm, cross_attn.{q,k,v,o}_proj, cross_attn_attn_gate,
/// post_attention_layernorm, mlp.{gate,up,down}_proj and cross_attn_mlp_gate, shaped as Qwen2's layers are.
template <class Parts>
struct NvlmOf {
  static constexpr std::string_view kName = Parts::kName;
  static constexpr std::array kModelTypes{ModelType{Parts::kModelType}};
  static constexpr FamilyCard kCard{"InternViT", "pixel shuffle, MLP", Parts::kDecoder};
  using Model =
      VisionLanguageModel<InternVit::Encoder, typename Parts::Projection, typename Parts::Text, typename Parts::Fusion>;
  using Chat = ChatPrompt;

  static Model load(const JsonView& config, const Weights& root) {
    auto vision = InternVit::load_encoder(read_vision_config(config), root, "vision_model");
    DecoderConfig text = read_text_config(config);
    const Index scale = read_scale(config);
    const ProjectorConfig projector{.input_size = vision.hidden_size() * scale * scale,
                                    .output_size = text.hidden_size,
                                    .bias = Linear::Bias::kNone,
                                    .intermediate_size = text.intermediate_size};
    NvlmProjector projection({projector, root.named(kNvlmProjectorNames)}, scale, read_order(config));
    return {std::move(vision), typename Parts::Projection(std::move(projection)),
            typename Parts::Text(std::move(text), root.under("language_model.model"), root.under("language_model"))};
  }

  /// The image token's id is in config.json, or else in the tokenizer's: NvlmProcessor finds it.
  static PromptRules rules(const JsonView& config) {
    PromptRules rules;
    rules.picture_rows = Parts::kPictureRows;
    if (config.contains("image_token_id")) rules.image_token_id = config.get<TokenId>("image_token_id");
    const auto patch_size = config.object_or_empty("vision_config").get_or<Index>("patch_size", 14);
    const Index patches = DynamicTiling::read(config).tile_size / std::max<Index>(1, patch_size);  // along a tile's edge
    rules.tokens_per_image = patches / read_scale(config) * (patches / read_scale(config));
    rules.question_prefix = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n";
    rules.image_suffix = "\n";
    rules.question_suffix = "<|im_end|>\n<|im_start|>assistant\n";
    rules.caption_question = "Please describe the image shortly.";
    return rules;
  }
  static std::shared_ptr<const Processor> processor(const CheckpointFolder& folder) {
    return std::make_shared<const NvlmProcessor>(rules(folder.config()), folder);
  }

 private:
  static VisionConfig read_vision_config(const JsonView& config) {
    VisionConfig result = InternVit::read_config(config.object_or_empty("vision_config"));
    result.feature_layers = {config.get_or<Index>("select_layer", -1)};
    result.feature_rows = FeatureRows::kPatches;
    return result;
  }
  static DecoderConfig read_text_config(const JsonView& config) {
    const JsonView text = config.object_or_empty("llm_config");
    // The reference goes by the class; model_type is another's there.
    if (!detail::has_architecture(text, "Qwen2ForCausalLM")) {
      const std::string got = text.contains("architectures") ? text.at("architectures").shown() : "nothing";
      throw Error(ErrorKind::kUnsupportedModel, text.where() + ": architectures", got, "Qwen2ForCausalLM");
    }
    DecoderConfig result = read_llama_config(text, "qwen2");
    if constexpr (Parts::Text::kReadsImages) {
      const Index layers = std::min(result.num_hidden_layers, kLargestWidth);
      const Index interval = read_between(config, "cross_layer_interval", 8, 1, kLargestWidth);
      for (Index i = 0; i < layers; i += interval) result.cross_attention_layers.push_back(i);
    }
    return result;
  }
  /// The edge of a square of patches that becomes one image token.
  static Index read_scale(const JsonView& config) {
    const auto ratio = config.get_or("downsample_ratio", 0.5);
    const double scale = ratio > 0.0 ? 1.0 / ratio : 0.0;
    if (scale >= 1.0 && scale <= 64.0 && scale == std::floor(scale)) return static_cast<Index>(scale);
    throw Error(ErrorKind::kInvalidArgument, "config.json: downsample_ratio", concat(ratio),
                "one over a number between 1 and 64");
  }
  /// The first version leaves rows and columns exchanged.
  static SquareOrder read_order(const JsonView& config) {
    return config.get_or<std::string>("ps_version", "v1") == "v1" ? SquareOrder::kColumnByColumn : SquareOrder::kRowByRow;
  }
};

using NvlmD = NvlmOf<NvlmDParts>;
using NvlmX = NvlmOf<NvlmXParts>;
using NvlmH = NvlmOf<NvlmHParts>;

}  // namespace duet
