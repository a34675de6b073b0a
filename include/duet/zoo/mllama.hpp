#pragma once

#include <array>
#include <utility>
#include <vector>

#include "duet/models/image_classifier.hpp"
#include "duet/models/mllama_vision.hpp"
#include "duet/pipeline/processors/mllama.hpp"
#include "duet/zoo/llama.hpp"

namespace duet {

inline constexpr TensorName kMllamaVisionNames[] = {
    {"position_embedding", "gated_positional_embedding.embedding"},
    {"position_gate", "gated_positional_embedding.gate"},
    {"canvas_positions", "gated_positional_embedding.tile_embedding"},
    {"pre_tile", "pre_tile_positional_embedding.embedding"},
    {"pre_tile_gate", "pre_tile_positional_embedding.gate"},
    {"post_tile", "post_tile_positional_embedding.embedding"},
    {"post_tile_gate", "post_tile_positional_embedding.gate"},
    {"pre_layernorm", "layernorm_pre"},
    {"post_layernorm", "layernorm_post"},
    {"local.*.input_layernorm", "transformer.layers.*.input_layernorm"},
    {"local.*.self_attn.q_proj", "transformer.layers.*.self_attn.q_proj"},
    {"local.*.self_attn.k_proj", "transformer.layers.*.self_attn.k_proj"},
    {"local.*.self_attn.v_proj", "transformer.layers.*.self_attn.v_proj"},
    {"local.*.self_attn.o_proj", "transformer.layers.*.self_attn.o_proj"},
    {"local.*.post_attention_layernorm", "transformer.layers.*.post_attention_layernorm"},
    {"local.*.mlp.up_proj", "transformer.layers.*.mlp.fc1"},
    {"local.*.mlp.down_proj", "transformer.layers.*.mlp.fc2"},
    {"global.*.input_layernorm", "global_transformer.layers.*.input_layernorm"},
    {"global.*.self_attn.q_proj", "global_transformer.layers.*.self_attn.q_proj"},
    {"global.*.self_attn.k_proj", "global_transformer.layers.*.self_attn.k_proj"},
    {"global.*.self_attn.v_proj", "global_transformer.layers.*.self_attn.v_proj"},
    {"global.*.self_attn.o_proj", "global_transformer.layers.*.self_attn.o_proj"},
    {"global.*.attention_scale", "global_transformer.layers.*.gate_attn"},
    {"global.*.post_attention_layernorm", "global_transformer.layers.*.post_attention_layernorm"},
    {"global.*.mlp.up_proj", "global_transformer.layers.*.mlp.fc1"},
    {"global.*.mlp.down_proj", "global_transformer.layers.*.mlp.fc2"},
    {"global.*.feed_forward_scale", "global_transformer.layers.*.gate_ffn"},
};

/// The image tower of Llama 3.2 Vision, alone or as the encoder of the family.
struct MllamaTower {
  static constexpr std::string_view kName = "Llama 3.2 vision tower";
  static constexpr std::array kModelTypes{ModelType{"mllama_vision_model"}};
  static constexpr FamilyCard kCard{"tiled ViT in two stages", "", ""};
  using Model = ImageClassifier<MllamaVision>;

  static MllamaVisionConfig read_config(const JsonView& config) {
    MllamaVisionConfig result;
    result.image_size = config.get_or("image_size", result.image_size);
    result.patch_size = config.get_or("patch_size", result.patch_size);
    result.num_channels = config.get_or("num_channels", result.num_channels);
    result.hidden_size = config.get_or("hidden_size", result.hidden_size);
    result.intermediate_size = config.get_or("intermediate_size", result.intermediate_size);
    result.num_hidden_layers = config.get_or("num_hidden_layers", result.num_hidden_layers);
    result.num_global_layers = config.get_or("num_global_layers", result.num_global_layers);
    result.attention_heads = read_any(config, {"attention_heads", "num_attention_heads"}, result.attention_heads);
    result.max_num_tiles = config.get_or("max_num_tiles", result.max_num_tiles);
    result.norm_eps = config.get_or("norm_eps", result.norm_eps);
    result.hidden_act = config.get_or("hidden_act", result.hidden_act);
    result.intermediate_layers_indices = config.get_or("intermediate_layers_indices", result.intermediate_layers_indices);
    result.where = config.prefix();
    result.check();
    if (config.contains("supported_aspect_ratios")) {
      const JsonView ratios = config.at("supported_aspect_ratios");
      for (const auto& ratio : ratios.as<std::vector<std::vector<Index>>>()) {
        if (ratio.size() != 2) throw Error(ErrorKind::kInvalidArgument, ratios.where(), ratios.shown(), "pairs of numbers of tiles");
        result.supported_aspect_ratios.push_back({ratio[0], ratio[1]});
      }
    } else {
      for (Index rows = 1; rows <= result.max_num_tiles; ++rows) {
        for (Index cols = 1; rows * cols <= result.max_num_tiles; ++cols) result.supported_aspect_ratios.push_back({rows, cols});
      }
    }
    return result;
  }
  static MllamaVision load_encoder(const JsonView& config, const Weights& root, const Prefixes& prefixes) {
    return {read_config(config), first_under(root, prefixes, "class_embedding", kMllamaVisionNames)};
  }
  static Model load(const JsonView& config, const Weights& root) { return {load_encoder(config, root, {""}), {}}; }
  static PromptRules rules(const JsonView& config) {
    PromptRules rules;
    rules.tokens_per_image = read_config(config).num_features();
    return rules;
  }
  static std::shared_ptr<const Processor> processor(const CheckpointFolder& folder) {
    return std::make_shared<const MllamaProcessor>(rules(folder.config()), folder);
  }
};

/// Llama 3.2 Vision (Grattafiori et al. 2024, 2407.21783, section 7): a Llama 3.1 with layers of its own between the others that
/// read the pictures, gated. Method B.
struct Mllama {
  static constexpr std::string_view kName = "Llama 3.2 Vision";
  static constexpr std::array kModelTypes{ModelType{"mllama"}};
  static constexpr FamilyCard kCard{"tiled ViT in two stages", "linear", "Llama, gated layers"};
  using TextDecoder = Decoder<LlamaRecipe, CrossAttention<OwnLayer, TanhGate, AttendAllNoMlp>>;
  using Model = VisionLanguageModel<MllamaVision, LinearProjector, TextDecoder, CrossAttentionFusion>;
  using Chat = ChatPrompt;

  static Model load(const JsonView& config, const Weights& root) {
    auto vision = MllamaTower::load_encoder(config.object_or_empty("vision_config"), root, {"vision_model", "model.vision_model"});
    DecoderConfig sizes = read_text_config(config.object_or_empty("text_config"));
    ProjectorConfig projector;
    projector.input_size = vision.hidden_size();
    projector.output_size = sizes.hidden_size;
    LinearProjector projection(projector, first_under(root, {"", "model"}, "linear.weight", kProjectorNames));
    const std::string_view head = root.contains("language_model.lm_head.weight") ? "language_model" : "";
    TextDecoder text(std::move(sizes), first_under(root, {"language_model.model", "model.language_model"}, "embed_tokens.weight"), root.under(head));
    return {std::move(vision), std::move(projection), std::move(text)};
  }

  static PromptRules rules(const JsonView& config) {
    PromptRules rules;
    rules.picture_rows = PictureRows::kInMemory;
    rules.image_token_id = read_any<TokenId>(config, {"image_token_index", "image_token_id"}, 128256);
    rules.image_token = "<|image|>";
    rules.tokens_per_image = MllamaTower::read_config(config.object_or_empty("vision_config")).num_features();
    return rules;
  }
  static std::shared_ptr<const Processor> processor(const CheckpointFolder& folder) {
    return std::make_shared<const MllamaProcessor>(rules(folder.config()), folder);
  }

 private:
  static constexpr TensorName kProjectorNames[] = {{"linear", "multi_modal_projector"}};

  static DecoderConfig read_text_config(const JsonView& config) {
    DecoderConfig result = read_llama_config(config, {.model_type = "mllama_text_model",
                                                      .vocab_size = 128256,
                                                      .intermediate_size = 14336,
                                                      .num_hidden_layers = 40,
                                                      .num_key_value_heads = 8,
                                                      .max_position_embeddings = 131072,
                                                      .rms_norm_eps = 1e-5f,
                                                      .rope_theta = 500000.0f});
    result.num_embeddings = result.vocab_size + kImageTokens;
    result.cross_attention_layers = config.get_or("cross_attention_layers", std::vector<Index>{3, 8, 13, 18, 23, 28, 33, 38});
    result.cross_attention_head_norms = true;
    return result;
  }
  static constexpr Index kImageTokens = 8;  // ids that are read and never written
};

}  // namespace duet
