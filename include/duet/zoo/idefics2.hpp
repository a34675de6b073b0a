#pragma once

#include <array>
#include <memory>
#include <utility>

#include "duet/fusion/projector_combinations.hpp"
#include "duet/models/perceiver.hpp"
#include "duet/pipeline/processors/idefics2.hpp"
#include "duet/zoo/idefics3.hpp"

namespace duet {

/// The policies of Idefics2's resampler.
struct Idefics2PerceiverRecipe {
  using Norm = RmsNorm;
  using HeadNorm = NoNorm;
  using FeedForward = GatedFeedForward<ConfiguredActivation>;
};

/// Idefics2 (Laurençon et al. 2024, 2405.02246): a SigLIP tower that reads pictures of any size, a gated MLP and a Perceiver that makes
/// a fixed number of image tokens of each, and a Mistral. Method A.
struct Idefics2 {
  static constexpr std::string_view kName = "Idefics2";
  static constexpr std::array kModelTypes{ModelType{"idefics2"}};
  static constexpr FamilyCard kCard{"SigLIP, bucketed positions", "gated MLP, Perceiver", "Llama"};
  using Resampler = Perceiver<Idefics2PerceiverRecipe>;
  using Projection = ProjectorChain<GatedMlpProjector<ConfiguredActivation>, Resampler>;
  using Model = VisionLanguageModel<VisionTransformer<Idefics3VisionRecipe>, Projection, Decoder<Llama::Recipe>, EmbeddingFusion>;
  using Chat = ChatPrompt;

  static Model load(const JsonView& config, const Weights& root) {
    VisionTransformer<Idefics3VisionRecipe> vision(read_vision_config(config), root.under("model.vision_model").named(kSiglipNames));
    const JsonView text_config = config.object_or_empty("text_config");
    auto text = Llama::load_decoder(text_config, root, {"model.text_model"}, "");
    ProjectorConfig projector;
    projector.input_size = vision.hidden_size();
    projector.output_size = text.hidden_size();
    projector.projector_hidden_act = text_config.get_or<std::string>("hidden_act", "silu");
    projector.bias = Linear::Bias::kNone;
    const Weights connector = root.under("model.connector").named(kConnectorNames);
    Projection projection({projector, text.config().intermediate_size, connector.scope("modality_projection")},
                          {read_perceiver_config(config, text.hidden_size()), connector});
    return {std::move(vision), std::move(projection), std::move(text)};
  }

  static PromptRules rules(const JsonView& config) {
    PromptRules rules;
    rules.image_token_id = read_any<TokenId>(config, {"image_token_id", "image_token_index"}, 32001);
    rules.tokens_per_image = config.object_or_empty("perceiver_config").get_or<Index>("resampler_n_latents", 64);
    rules.question_prefix = "User:";
    rules.question_suffix = "<end_of_utterance>\nAssistant:";
    rules.caption_question = "Describe the image.";
    return rules;
  }
  static std::shared_ptr<const Processor> processor(const CheckpointFolder& folder) {
    return std::make_shared<const Idefics2Processor>(rules(folder.config()), folder);
  }

 private:
  static constexpr TensorName kConnectorNames[] = {
      {"latents", "perceiver_resampler.latents"},
      {"layers.*.context_norm", "perceiver_resampler.layers.*.input_context_norm"},
      {"layers.*.latents_norm", "perceiver_resampler.layers.*.input_latents_norm"},
      {"layers.*.self_attn.q_proj", "perceiver_resampler.layers.*.self_attn.q_proj"},
      {"layers.*.self_attn.k_proj", "perceiver_resampler.layers.*.self_attn.k_proj"},
      {"layers.*.self_attn.v_proj", "perceiver_resampler.layers.*.self_attn.v_proj"},
      {"layers.*.self_attn.o_proj", "perceiver_resampler.layers.*.self_attn.o_proj"},
      {"layers.*.post_attention_layernorm", "perceiver_resampler.layers.*.post_attention_layernorm"},
      {"layers.*.mlp.gate_proj", "perceiver_resampler.layers.*.mlp.gate_proj"},
      {"layers.*.mlp.up_proj", "perceiver_resampler.layers.*.mlp.up_proj"},
      {"layers.*.mlp.down_proj", "perceiver_resampler.layers.*.mlp.down_proj"},
      {"norm", "perceiver_resampler.norm"},
  };

  static VisionConfig read_vision_config(const JsonView& config) {
    return read_clip_vision_config(config.object_or_empty("vision_config"), kIdefics2TowerDefaults);
  }
  static PerceiverConfig read_perceiver_config(const JsonView& config, Index hidden_size) {
    const JsonView sizes = config.object_or_empty("perceiver_config");
    PerceiverConfig result;
    result.hidden_size = hidden_size;
    result.num_latents = sizes.get_or<Index>("resampler_n_latents", 64);
    result.depth = sizes.get_or<Index>("resampler_depth", 3);
    result.num_attention_heads = sizes.get_or<Index>("resampler_n_heads", 16);
    result.num_key_value_heads = sizes.get_or<Index>("num_key_value_heads", 4);
    result.head_dim = sizes.get_or<Index>("resampler_head_dim", 96);
    result.intermediate_size = 4 * hidden_size;
    result.norm_eps = sizes.get_or("rms_norm_eps", 1e-6f);
    result.hidden_act = sizes.get_or<std::string>("hidden_act", "silu");
    result.where = sizes.prefix();
    return result;
  }
};

}  // namespace duet
