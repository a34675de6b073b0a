#pragma once

#include <memory>

#include "duet/fusion/vision_language_model.hpp"
#include "duet/models/patch_merger.hpp"
#include "duet/models/projected_vision.hpp"
#include "duet/models/rotary_vision_transformer.hpp"
#include "duet/pipeline/processors/qwen2_vl.hpp"
#include "duet/zoo/llama.hpp"

namespace duet {

/// The policies of Qwen2-VL's image tower.
struct Qwen2VlVisionRecipe : RotaryVisionRecipeDefaults {
  using Norm = LayerNorm;
  using FeedForward = duet::FeedForward<ConfiguredActivation>;
  static constexpr GridFrequencies kFrequencies = GridFrequencies::kShared;
};
/// Those of Qwen2.5-VL's.
struct Qwen25VlVisionRecipe : RotaryVisionRecipeDefaults {
  using Norm = RmsNorm;
  using FeedForward = GatedFeedForward<ConfiguredActivation>;
  static constexpr GridFrequencies kFrequencies = GridFrequencies::kShared;
};

inline constexpr TensorName kQwen2VlVisionNames[] = {
    {"patch_embedding", "patch_embed.proj"},
    {"layers.*.input_layernorm", "blocks.*.norm1"},
    {"layers.*.self_attn.q_proj", "blocks.*.attn.qkv"},
    {"layers.*.self_attn.k_proj", "blocks.*.attn.qkv"},
    {"layers.*.self_attn.v_proj", "blocks.*.attn.qkv"},
    {"layers.*.self_attn.o_proj", "blocks.*.attn.proj"},
    {"layers.*.post_attention_layernorm", "blocks.*.norm2"},
    {"layers.*.mlp.up_proj", "blocks.*.mlp.fc1"},
    {"layers.*.mlp.down_proj", "blocks.*.mlp.fc2"},
};
inline constexpr TensorName kQwen25VlVisionNames[] = {
    {"patch_embedding", "patch_embed.proj"},
    {"layers.*.input_layernorm", "blocks.*.norm1"},
    {"layers.*.self_attn.q_proj", "blocks.*.attn.qkv"},
    {"layers.*.self_attn.k_proj", "blocks.*.attn.qkv"},
    {"layers.*.self_attn.v_proj", "blocks.*.attn.qkv"},
    {"layers.*.self_attn.o_proj", "blocks.*.attn.proj"},
    {"layers.*.post_attention_layernorm", "blocks.*.norm2"},
    {"layers.*.mlp.gate_proj", "blocks.*.mlp.gate_proj"},
    {"layers.*.mlp.up_proj", "blocks.*.mlp.up_proj"},
    {"layers.*.mlp.down_proj", "blocks.*.mlp.down_proj"},
};
inline constexpr TensorName kPatchMergerNames[] = {{"linear_1", "mlp.0"}, {"linear_2", "mlp.2"}};

/// What the configs of both towers say alike.
inline RotaryVisionConfig read_qwen_vision_config(const JsonView& config) {
  RotaryVisionConfig result;
  result.patch_size = config.get_or<Index>("patch_size", 14);
  result.num_channels = config.get_or<Index>("in_channels", 3);
  result.temporal_patch_size = config.get_or<Index>("temporal_patch_size", 2);
  result.spatial_merge_size = config.get_or<Index>("spatial_merge_size", 2);
  constexpr Index kCells = 16;  // along the edge of the picture that costs are told of: no key says one
  const auto is_edge = [](Index edge) { return edge > 0 && edge <= RotaryVisionConfig::kLargestEdge; };
  if (is_edge(result.patch_size) && is_edge(result.spatial_merge_size)) result.image_size = kCells * result.cell_size();
  result.num_hidden_layers = config.get_or<Index>("depth", 32);
  result.num_attention_heads = config.get_or<Index>("num_heads", 16);
  result.norm_eps = 1e-6f;  // no key says it
  result.where = config.prefix();
  return result;
}

/// What tells Qwen2-VL from Qwen2.5-VL: the tower's policies, sizes and names.
struct Qwen2VlVision {
  static constexpr std::string_view kName = "Qwen2-VL";
  static constexpr std::string_view kModelType = "qwen2_vl";
  static constexpr std::string_view kTowerName = "Qwen2-VL vision", kTowerType = "qwen2_vl_vision";
  static constexpr std::string_view kTowerClass = "Qwen2VisionTransformerPretrainedModel";
  using Recipe = Qwen2VlVisionRecipe;
  static constexpr std::span<const TensorName> kNames = kQwen2VlVisionNames;

  static RotaryVisionConfig read_config(const JsonView& config) {
    RotaryVisionConfig result = read_qwen_vision_config(config);
    result.hidden_size = config.get_or<Index>("embed_dim", 1280);
    const auto ratio = config.get_or("mlp_ratio", 4.0);
    if (!(ratio > 0.0 && ratio <= 1024.0)) throw Error(ErrorKind::kInvalidArgument, config.at("mlp_ratio").where(), concat(ratio), "above 0 and at most 1024");
    result.intermediate_size = static_cast<Index>(static_cast<double>(result.hidden_size) * ratio);
    result.hidden_act = config.get_or<std::string>("hidden_act", "quick_gelu");
    return result;
  }
  /// Width of the image tokens.
  static Index read_output_size(const JsonView& config) { return config.get_or<Index>("hidden_size", 3584); }
};
struct Qwen25VlVision {
  static constexpr std::string_view kName = "Qwen2.5-VL";
  static constexpr std::string_view kModelType = "qwen2_5_vl";
  static constexpr std::string_view kTowerName = "Qwen2.5-VL vision", kTowerType = "qwen2_5_vl_vision";
  static constexpr std::string_view kTowerClass = "Qwen2_5_VisionTransformerPretrainedModel";
  using Recipe = Qwen25VlVisionRecipe;
  static constexpr std::span<const TensorName> kNames = kQwen25VlVisionNames;

  static RotaryVisionConfig read_config(const JsonView& config) {
    RotaryVisionConfig result = read_qwen_vision_config(config);
    result.hidden_size = config.get_or<Index>("hidden_size", 3584);
    result.intermediate_size = config.get_or<Index>("intermediate_size", 3420);
    result.hidden_act = config.get_or<std::string>("hidden_act", "silu");
    result.window_size = config.get_or<Index>("window_size", 112);
    result.fullatt_block_indexes = config.get_or<std::vector<Index>>("fullatt_block_indexes", {7, 15, 23, 31});
    return result;
  }
  static Index read_output_size(const JsonView& config) { return config.get_or<Index>("out_hidden_size", 3584); }
};

/// Either tower with its merger, alone or as the encoder and projector of its family: what it makes of pictures are image tokens.
template <class Tower>
struct QwenVlVisionOf {
  static constexpr std::string_view kName = Tower::kTowerName;
  static constexpr std::array kModelTypes{ModelType{Tower::kModelType}, ModelType{Tower::kTowerType}};
  static constexpr FamilyCard kCard{"ViT with 2-D rotation", "merging MLP", ""};
  /// The tower's config has the family's model_type, and another class.
  static bool takes(const JsonView& config) {
    return config.get_or<std::string>("model_type", "") != Tower::kModelType || detail::has_architecture(config, Tower::kTowerClass);
  }
  using Encoder = RotaryVisionTransformer<typename Tower::Recipe>;
  using Merger = PatchMerger<typename Tower::Recipe::Norm>;
  using Model = ProjectedVision<Encoder, Merger>;

  static Encoder load_encoder(const JsonView& config, const Weights& root, const Prefixes& prefixes) {
    return {Tower::read_config(config), first_under(root, prefixes, "patch_embedding.weight", Tower::kNames)};
  }
  static Merger load_merger(const JsonView& config, const Encoder& encoder, const Weights& root, const Prefixes& prefixes) {
    const PatchMergerConfig sizes{encoder.hidden_size(), Tower::read_output_size(config), encoder.config().spatial_merge_size,
                                  encoder.config().norm_eps};
    return {sizes, first_under(root, prefixes, "linear_1.weight", kPatchMergerNames)};
  }
  static Model load(const JsonView& config, const Weights& root) {
    auto encoder = load_encoder(config, root, {""});
    auto merger = load_merger(config, encoder, root, {"merger"});
    return {std::move(encoder), std::move(merger)};
  }
  static PromptRules rules(const JsonView&) { return {}; }
  static std::shared_ptr<const Processor> processor(const CheckpointFolder& folder) {
    return std::make_shared<const Qwen2VlProcessor>(PromptRules{}, folder);
  }
};

inline constexpr LlamaDefaults kQwen2VlDefaults{
    .model_type = "qwen2_vl", .vocab_size = 152064, .hidden_size = 8192, .intermediate_size = 29568, .num_hidden_layers = 80,
    .num_attention_heads = 64, .num_key_value_heads = 8, .max_position_embeddings = 32768, .rms_norm_eps = 1e-5f,
    .rope_theta = 1e6f, .sliding_window = 4096};

/// Sizes of the text model: Qwen2's with other defaults, and rotation by sections.
inline DecoderConfig read_qwen2_vl_text_config(const JsonView& config) {
  DecoderConfig result = read_llama_config(config, kQwen2VlDefaults);
  result.qkv_bias = Linear::Bias::kRequired;
  const std::optional<Index> window = read_nullable<Index>(config, "sliding_window", kQwen2VlDefaults.sliding_window);
  if (window && config.get_or("use_sliding_window", false)) {
    const auto first = config.get_or<Index>("max_window_layers", 80);
    result.sliding_window = *window;
    result.sliding_attention_layers = read_sliding_layers(config, result.num_hidden_layers, [&](Index i) { return i >= first; });
  }
  return result;
}

/// Qwen2-VL (Wang et al. 2024, 2409.12191) and Qwen2.5-VL (Bai et al. 2025, 2502.13923): a tower for pictures of any size, cells
/// of whose patches become image tokens, and a text model that turns by an image token's row and column. Method A.
template <class Tower>
struct QwenVlOf {
  static constexpr std::string_view kName = Tower::kName;
  static constexpr std::array kModelTypes{ModelType{Tower::kModelType}};
  static constexpr FamilyCard kCard{"ViT with 2-D rotation", "merging MLP", "Qwen2 with M-RoPE"};
  using Alone = QwenVlVisionOf<Tower>;
  using Model = VisionLanguageModel<typename Alone::Encoder, typename Alone::Merger, Decoder<Llama::Recipe>, EmbeddingFusion>;
  using Chat = ChatPrompt;

  static Model load(const JsonView& config, const Weights& root) {
    const JsonView vision_config = config.object_or_empty("vision_config");
    auto vision = Alone::load_encoder(vision_config, root, {"visual", "model.visual"});
    auto merger = Alone::load_merger(vision_config, vision, root, {"visual.merger", "model.visual.merger"});
    const JsonView text = config.contains("text_config") ? config.at("text_config") : config;
    DecoderConfig text_sizes = read_qwen2_vl_text_config(text);
    if (config.contains("tie_word_embeddings")) {
      text_sizes.head = config.get<bool>("tie_word_embeddings") ? LanguageHead::kTied : LanguageHead::kOwn;
    }
    const Weights stack = first_under(root, {"model", "model.language_model"}, "embed_tokens.weight");
    return {std::move(vision), std::move(merger), Decoder<Llama::Recipe>(std::move(text_sizes), stack, root)};
  }

  static PromptRules rules(const JsonView& config) {
    PromptRules rules;
    rules.image_token_id = config.get_or<TokenId>("image_token_id", 151655);
    rules.image_token = "<|image_pad|>";
    rules.question_prefix = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n";
    rules.image_prefix = "<|vision_start|>";
    rules.image_suffix = "<|vision_end|>";
    rules.question_suffix = "<|im_end|>\n<|im_start|>assistant\n";
    rules.caption_question = "Describe this image.";
    return rules;
  }
  static std::shared_ptr<const Processor> processor(const CheckpointFolder& folder) {
    return std::make_shared<const Qwen2VlProcessor>(rules(folder.config()), folder);
  }
};

using Qwen2VlTower = QwenVlVisionOf<Qwen2VlVision>;
using Qwen25VlTower = QwenVlVisionOf<Qwen25VlVision>;
using Qwen2Vl = QwenVlOf<Qwen2VlVision>;
using Qwen25Vl = QwenVlOf<Qwen25VlVision>;

}  // namespace duet
