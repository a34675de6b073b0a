#pragma once

#include <algorithm>
#include <cmath>

#include "duet/models/contrastive_model.hpp"
#include "duet/models/image_classifier.hpp"
#include "duet/models/mllama_vision.hpp"
#include "duet/models/raw_patches.hpp"
#include "duet/models/rotary_vision_transformer.hpp"
#include "duet/models/text_encoder.hpp"
#include "duet/pipeline/any_model.hpp"

namespace duet {

// Sizes, bytes and arithmetic of a model, from its configs: what `inspect` prints and `bench` divides by.

namespace detail {

inline double gflop(double multiply_adds) { return 2e-9 * multiply_adds; }

/// Multiply-adds of `rows` rows through an encoder, attention among all rows of an image included.
template <class Recipe>
void describe_vision(const VisionTransformer<Recipe>& vision, ModelInfo& info) {
  const VisionConfig& c = vision.config();
  info.num_channels = c.num_channels;
  info.image_size = c.image_size;
  info.image_width = c.width();
  info.patch_size = c.patch_size;
  info.vision_hidden_size = c.hidden_size;
  info.vision_layers = c.num_hidden_layers;
  info.tokens_per_image = vision.num_features();
  const auto rows = static_cast<double>(vision.rows_per_image()), width = static_cast<double>(c.hidden_size);
  const double per_row = 4.0 * width * width + 2.0 * width * static_cast<double>(c.intermediate_size);
  const auto layers = static_cast<double>(vision.num_layers_run());
  const double patches = static_cast<double>(vision.num_patches() * c.num_channels * c.patch_size * c.patch_size) * width;
  info.vision_gflop = gflop(layers * rows * (per_row + 2.0 * rows * width) + patches);
}

/// The same of a picture of the size that such encoders' costs are told of; in windows a row reads a window's rows alone.
template <class Recipe>
void describe_vision(const RotaryVisionTransformer<Recipe>& vision, ModelInfo& info) {
  const RotaryVisionConfig& c = vision.config();
  info.num_channels = c.num_channels;
  info.image_size = info.image_width = c.image_size;
  info.patch_size = c.patch_size;
  info.vision_hidden_size = c.hidden_size;
  info.vision_layers = c.num_hidden_layers;
  info.tokens_per_image = vision.num_features() / (c.spatial_merge_size * c.spatial_merge_size);
  const auto rows = static_cast<double>(vision.num_features()), width = static_cast<double>(c.hidden_size);
  const auto weights = static_cast<double>(vision.weights_per_row());
  double pairs = 0;  // of rows that see one another, in all layers
  const double window = c.window_size == 0 ? rows : std::min(rows, std::pow(static_cast<double>(c.window_cells() * c.spatial_merge_size), 2.0));
  for (Index i = 0; i < vision.num_layers_run(); ++i) pairs += rows * (c.sees_all(i) ? rows : window);
  info.vision_gflop = gflop(rows * weights + 2.0 * pairs * width);
}

/// Pixels as they are cost nothing.
inline void describe_vision(const RawPatches& vision, ModelInfo& info) {
  info.num_channels = vision.config().num_channels;
  info.image_size = info.image_width = vision.config().image_size;
  info.patch_size = vision.config().patch_size;
  info.vision_hidden_size = vision.hidden_size();
  info.tokens_per_image = vision.num_features();
}

/// Every row of a picture, padding included, passes all blocks.
inline void describe_vision(const MllamaVision& vision, ModelInfo& info) {
  const MllamaVisionConfig& c = vision.config();
  info.num_channels = c.num_channels;
  info.image_size = info.image_width = c.image_size;
  info.patch_size = c.patch_size;
  info.vision_hidden_size = c.hidden_size;
  info.vision_layers = c.num_hidden_layers + c.num_global_layers;
  info.tokens_per_image = vision.num_features();
  double weights = 0;
  vision.for_each_weight([&](const WeightMatrix& w) { weights += static_cast<double>(w.in_features * w.out_features); });
  const auto rows = static_cast<double>(vision.sequence_rows()), width = static_cast<double>(c.hidden_size);
  const double patches = static_cast<double>(c.max_num_tiles * c.num_patches() * c.num_channels * c.patch_size * c.patch_size) * width;
  info.vision_gflop = gflop(rows * (weights + 2.0 * rows * width * static_cast<double>(info.vision_layers)) + patches);
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
  detail::describe_vision(model.vision(), info);
  if constexpr (requires { model.projector().for_each_weight([](const WeightMatrix&) {}); }) {
    model.projector().for_each_weight([&](const WeightMatrix& w) {
      info.vision_gflop += detail::gflop(static_cast<double>(info.tokens_per_image * w.in_features * w.out_features));
    });
  }
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
