#pragma once

#include "duet/models/contrastive_model.hpp"
#include "duet/models/image_classifier.hpp"
#include "duet/models/projected_vision.hpp"
#include "duet/models/text_encoder.hpp"
#include "duet/models/vision_cost.hpp"
#include "duet/pipeline/any_model.hpp"

namespace duet {

// Sizes, bytes and arithmetic of a model, from its configs: what `inspect` prints and `bench` divides by.

namespace detail {

inline double gflop(double multiply_adds) { return 2e-9 * multiply_adds; }

template <class Vision>
void describe_vision(const Vision& vision, ModelInfo& info) {
  const VisionCost cost = vision.cost();
  info.num_channels = cost.num_channels;
  info.image_size = cost.image_size.height;
  info.image_width = cost.image_size.width;
  info.patch_size = cost.patch_size;
  info.vision_hidden_size = cost.hidden_size;
  info.vision_layers = cost.num_layers;
  info.tokens_per_image = cost.num_features;
  info.vision_gflop = gflop(cost.multiply_adds);
}

/// Of a model with an encoder and a projector.
template <class Model>
void describe_projected(const Model& model, ModelInfo& info) {
  describe_vision(model.vision(), info);
  const auto& projector = model.projector();
  const Index num_features = info.tokens_per_image;
  if constexpr (requires { projector.multiply_adds(num_features); }) {
    info.tokens_per_image = projector.num_tokens(num_features);
    info.vision_gflop += gflop(projector.multiply_adds(num_features));
    return;
  }
  if constexpr (requires { projector.num_tokens(model.vision().num_patches()); }) {
    info.tokens_per_image = projector.num_tokens(model.vision().num_patches());
  }
  if constexpr (requires { projector.for_each_weight([](const WeightMatrix&) {}); }) {
    projector.for_each_weight([&](const WeightMatrix& w) {
      info.vision_gflop += gflop(static_cast<double>(info.tokens_per_image * w.in_features * w.out_features));
    });
  }
}

template <class Recipe, class Cross>
void describe_text(const Decoder<Recipe, Cross>& decoder, ModelInfo& info) {
  const DecoderConfig& c = decoder.config();
  info.context = c.max_position_embeddings;
  info.vocab_size = c.vocab_size;
  info.hidden_size = c.hidden_size;
  info.num_hidden_layers = c.num_hidden_layers;
  info.num_attention_heads = c.num_attention_heads;
  info.num_key_value_heads = c.num_key_value_heads;
  info.head_dim = c.head_dim;
  const typename Decoder<Recipe, Cross>::Cost cost = decoder.cost();
  info.text_gflop_per_token = gflop(static_cast<double>(cost.stack_weights));
  info.head_gflop = gflop(static_cast<double>(cost.head_weights));
  info.text_bytes_per_token = cost.bytes;
  info.self_attention_layers = cost.self_layers;
  info.cross_attention_layers = cost.cross_layers;
}

}  // namespace detail

template <class Text>
void describe(const TextModel<Text>& model, ModelInfo& info) {
  info.fusion = "none (text only)";
  detail::describe_text(model.decoder(), info);
}
template <class Vision, class Projection, class Text, class Fusion>
void describe(const VisionLanguageModel<Vision, Projection, Text, Fusion>& model, ModelInfo& info) {
  info.fusion = Fusion::kName;
  detail::describe_text(model.decoder(), info);
  detail::describe_projected(model, info);
}
template <class Vision, class Projection>
void describe(const ProjectedVision<Vision, Projection>& model, ModelInfo& info) {
  info.fusion = "none (vision only)";
  detail::describe_projected(model, info);
}
template <class Vision>
void describe(const ImageClassifier<Vision>& model, ModelInfo& info) {
  info.fusion = "none (vision only)";
  detail::describe_vision(model.vision(), info);
}
template <class Stack>
void describe(const TextEncoder<Stack>& model, ModelInfo& info) {
  info.fusion = "none (text only)";
  detail::describe_text(model.stack(), info);
}
template <class Vision, class Text>
void describe(const ContrastiveModel<Vision, Text>& model, ModelInfo& info) {
  info.fusion = "none (two towers)";
  detail::describe_text(model.text().stack(), info);
  detail::describe_vision(model.vision(), info);
}

}  // namespace duet
