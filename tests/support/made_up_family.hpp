#pragma once

// A family that nobody has trained, as include/duet/zoo/README.md says how to add one: all of it is in this header.

#include <cmath>

#include "duet/models/vision_transformer.hpp"
#include "duet/pipeline/session.hpp"
#include "duet/zoo/family.hpp"

namespace made_up {

using duet::ConstMatrixView;
using duet::Index;
using duet::JsonView;
using duet::MatrixView;
using duet::Weights;
using duet::Workspace;

/// A norm of its own: x / mean |x| · scale.
class MeanNorm {
 public:
  static constexpr bool kIdentity = false;
  MeanNorm(const Weights& weights, Index size, float eps) : scale_(weights.vector("weight", size)), eps_(eps) {}
  void forward(ConstMatrixView x, MatrixView out, Workspace&) const {
    for (Index i = 0; i < x.rows(); ++i) {
      float sum = eps_;
      for (const float value : x.row(i)) sum += std::abs(value);
      for (Index j = 0; j < x.cols(); ++j) out(i, j) = x(i, j) * static_cast<float>(x.cols()) / sum * scale_[static_cast<std::size_t>(j)];
    }
  }

 private:
  std::vector<float> scale_;  // [size]
  float eps_;
};

/// An activation of its own.
struct SineShrink {
  static constexpr std::string_view config_names[] = {"sine_shrink"};
  static float apply(float x) { return x - 0.5f * std::sin(x); }
};

/// A projector of its own: a picture is one image token, the largest of each channel of its features put through a linear map.
class LargestProjector {
 public:
  LargestProjector(Index input_size, Index output_size, const Weights& weights)
      : linear_(weights, "largest", input_size, output_size, duet::Linear::Bias::kNone) {}
  [[nodiscard]] Index input_size() const noexcept { return linear_.in_features(); }
  [[nodiscard]] Index output_size() const noexcept { return linear_.out_features(); }
  [[nodiscard]] duet::ImageRows project(const duet::Features& features, const duet::VisualInput& input, Workspace& workspace) const {
    duet::Matrix largest(input.num_pictures(), input_size());
    largest.eigen().setConstant(-1e30f);
    duet::ImageRows result;
    for (const duet::Features::Crop& crop : features.crops) {
      for (Index i = crop.begin; i < crop.begin + crop.count; ++i) {
        for (Index c = 0; c < input_size(); ++c) largest(crop.picture, c) = std::max(largest(crop.picture, c), features.rows(i, c));
      }
      result.spans.push_back({crop.picture, 1});
    }
    result.rows = linear_.map(largest, duet::Phase::kPrefill, workspace);
    return result;
  }

 private:
  duet::Linear linear_;
};

struct VisionRecipe : duet::VisionRecipeDefaults {
  using Norm = MeanNorm;
  using FeedForward = duet::FeedForward<SineShrink>;
};
struct TextRecipe : duet::DecoderRecipeDefaults {
  using Norm = MeanNorm;
  using FeedForward = duet::GatedFeedForward<SineShrink>;
  using Position = duet::RotaryEmbedding;
};

inline constexpr duet::TensorName kNames[] = {{"layers.*.input_layernorm", "layers.*.first"}, {"layers.*.post_attention_layernorm", "layers.*.second"}};

struct Family {
  static constexpr std::string_view kName = "Made up";
  static constexpr std::array kModelTypes{duet::ModelType{"made_up"}};
  static constexpr duet::FamilyCard kCard{"ViT", "largest, linear", "made up"};
  using Model = duet::VisionLanguageModel<duet::VisionTransformer<VisionRecipe>, LargestProjector, duet::Decoder<TextRecipe>, duet::EmbeddingFusion>;

  static Model load(const JsonView& config, const Weights& root) {
    duet::VisionTransformer<VisionRecipe> vision(read_vision_config(config.at("eyes")), root.under("eyes").named(kNames));
    duet::Decoder<TextRecipe> text(read_text_config(config), root.under("text").named(kNames), root);
    LargestProjector projector(vision.hidden_size(), text.hidden_size(), root);
    return {std::move(vision), std::move(projector), std::move(text)};
  }
  static duet::PromptRules rules(const JsonView& config) {
    duet::PromptRules rules;
    rules.image_token_id = config.get<duet::TokenId>("image_token_id");
    rules.tokens_per_image = 1;
    return rules;
  }

 private:
  static duet::VisionConfig read_vision_config(const JsonView& config) {
    duet::VisionConfig result;
    result.image_size = config.get<Index>("image_size");
    result.patch_size = config.get<Index>("patch_size");
    result.hidden_size = config.get<Index>("hidden_size");
    result.intermediate_size = 2 * result.hidden_size;
    result.num_hidden_layers = 1;
    result.num_attention_heads = 2;
    result.hidden_act = "sine_shrink";
    result.qkv_bias = duet::Linear::Bias::kNone;
    return result;
  }
  static duet::DecoderConfig read_text_config(const JsonView& config) {
    duet::DecoderConfig result;
    result.vocab_size = config.get<Index>("vocab_size");
    result.hidden_size = config.get<Index>("hidden_size");
    result.intermediate_size = 2 * result.hidden_size;
    result.num_hidden_layers = 2;
    result.num_attention_heads = result.num_key_value_heads = 2;
    result.head_dim = result.hidden_size / 2;
    result.max_position_embeddings = 32;
    result.hidden_act = "sine_shrink";
    result.head = duet::LanguageHead::kTied;
    return result;
  }
};

}  // namespace made_up
