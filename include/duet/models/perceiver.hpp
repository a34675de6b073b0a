#pragma once

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "duet/blocks/residual.hpp"
#include "duet/layers/attention.hpp"
#include "duet/layers/feed_forward.hpp"
#include "duet/models/image_rows.hpp"
#include "duet/models/visual_input.hpp"

namespace duet {

/// Sizes of a Perceiver resampler.
struct PerceiverConfig {
  Index hidden_size = 0;  ///< width of features and latents
  Index num_latents = 0;
  Index depth = 0;
  Index num_attention_heads = 0;
  Index num_key_value_heads = 0;
  Index head_dim = 0;
  Index intermediate_size = 0;
  float norm_eps = 1e-5f;
  bool head_norms = false;  ///< queries and keys are normalised, in a recipe with an OptionalNorm for them
  std::string hidden_act;
  std::string where = "config.json: perceiver_config.";

  /// Throws Error{kInvalidArgument} unless the sizes are positive, possible and fit one another.
  void check() const {
    for (const auto& [key, value] : {std::pair<std::string_view, Index>{"hidden_size", hidden_size},
                                     {"resampler_n_latents", num_latents},
                                     {"resampler_depth", depth},
                                     {"resampler_n_heads", num_attention_heads},
                                     {"num_key_value_heads", num_key_value_heads},
                                     {"resampler_head_dim", head_dim},
                                     {"intermediate_size", intermediate_size}}) {
      if (value > 0 && value <= kLargestWidth) continue;
      throw Error(ErrorKind::kInvalidArgument, concat(where, key), std::to_string(value), concat("a positive number up to ", kLargestWidth));
    }
    if (num_attention_heads % num_key_value_heads == 0) return;
    throw Error(ErrorKind::kInvalidArgument, concat(where, "resampler_n_heads"), std::to_string(num_attention_heads),
                concat("a multiple of num_key_value_heads, ", num_key_value_heads));
  }
};

/// A fixed number of rows from any number of features: learned latents ask the features, and one another, layer by layer.
///
///     x += attention(norm(x), [norm(features); norm(x)]);  x += feed_forward(norm(x));  out = norm(x)
///
/// Shapes   features [n, hidden_size] of every crop → [num_latents, hidden_size]; weights "latents", "layers.*", "norm"
/// Recipe   Norm, HeadNorm, FeedForward
/// Source   Alayrac et al. 2022, 2204.14198 (Flamingo), section 2.1
template <class Recipe>
class Perceiver {
 public:
  Perceiver(PerceiverConfig config, const Weights& weights)
      : config_((config.check(), std::move(config))),
        latents_(weights.vector("latents", config_.num_latents * config_.hidden_size)),
        norm_(weights.scope("norm"), config_.hidden_size, config_.norm_eps) {
    for (Index i = 0; i < config_.depth; ++i) layers_.emplace_back(config_, weights.scope("layers", i));
  }

  [[nodiscard]] const PerceiverConfig& config() const noexcept { return config_; }
  [[nodiscard]] Index input_size() const noexcept { return config_.hidden_size; }
  [[nodiscard]] Index output_size() const noexcept { return config_.hidden_size; }

  /// Image tokens of a crop, however many patches it has.
  [[nodiscard]] Index num_tokens(Index) const noexcept { return config_.num_latents; }
  /// Of a crop of `features` rows.
  [[nodiscard]] double multiply_adds(Index features) const noexcept {
    const auto latents = static_cast<double>(config_.num_latents), asked = latents + static_cast<double>(features);
    double keys = 0, rest = 0;  // weights that asked rows pass, and those that latents do
    for (const Layer& layer : layers_) {
      const auto count = [](double& sum) { return [&sum](const WeightMatrix& w) { sum += static_cast<double>(w.in_features * w.out_features); }; };
      double all = 0, query = 0;
      layer.attention.for_each_weight(count(all));
      layer.attention.for_each_query_weight(count(query));
      keys += all - query;
      rest += query;
      layer.feed_forward.for_each_weight(count(rest));
    }
    const auto width = static_cast<double>(config_.num_attention_heads * config_.head_dim * config_.depth);
    return asked * keys + latents * (rest + 2.0 * asked * width);
  }

  /// Every crop's latents, the crops of a picture one after another.
  [[nodiscard]] ImageRows project(const Features& features, const VisualInput& input, Workspace& workspace) const {
    const auto crops = static_cast<Index>(features.crops.size()), n = config_.num_latents;
    ImageRows result{Matrix(crops * n, config_.hidden_size), std::vector<ImageRows::Span>(static_cast<std::size_t>(input.num_pictures()))};
    for (Index i = 0; i < crops; ++i) {
      const Features::Crop& crop = features.crops[static_cast<std::size_t>(i)];
      resample(features.rows.rows(crop.begin, crop.count), result.rows.view().rows(i * n, n), workspace);
      ImageRows::Span& span = result.spans[static_cast<std::size_t>(crop.picture)];
      if (span.count == 0) span.begin = i * n;
      span.count += n;
    }
    return result;
  }

 private:
  struct Layer {
    Layer(const PerceiverConfig& config, const Weights& weights)
        : context_norm(weights.scope("context_norm"), config.hidden_size, config.norm_eps),
          latents_norm(weights.scope("latents_norm"), config.hidden_size, config.norm_eps),
          attention(attention_config(config), weights.scope("self_attn")),
          feed_forward_norm(weights.scope("post_attention_layernorm"), config.hidden_size, config.norm_eps),
          feed_forward({.hidden_size = config.hidden_size, .intermediate_size = config.intermediate_size, .hidden_act = config.hidden_act},
                       weights.scope("mlp")) {}

    typename Recipe::Norm context_norm, latents_norm;
    Attention<typename Recipe::HeadNorm> attention;
    typename Recipe::Norm feed_forward_norm;
    typename Recipe::FeedForward feed_forward;
  };
  static AttentionConfig attention_config(const PerceiverConfig& config) {
    AttentionConfig result;
    result.hidden_size = result.key_value_size = config.hidden_size;
    result.num_attention_heads = config.num_attention_heads;
    result.num_key_value_heads = config.num_key_value_heads;
    result.head_dim = config.head_dim;
    result.scale = 1.0f / std::sqrt(static_cast<float>(config.head_dim));
    result.norm_eps = config.norm_eps;
    result.head_norms = config.head_norms;
    return result;
  }

  /// features [n, hidden_size] → out [num_latents, hidden_size].
  void resample(ConstMatrixView features, MatrixView out, Workspace& workspace) const {
    const auto frame = workspace.frame();
    std::ranges::copy(latents_, out.data());
    const Index n = features.rows(), all = n + out.rows();
    const MatrixView asked = workspace.matrix(all, config_.hidden_size);  // [features; latents], normalised
    const auto visible = workspace.array<kernels::KeyRange>(out.rows());
    std::ranges::fill(visible, kernels::KeyRange{0, all});
    KeyValueStore store(all, config_.num_key_value_heads, config_.head_dim);
    for (const Layer& layer : layers_) {
      const auto inner = workspace.frame();
      layer.context_norm.forward(features, asked.rows(0, n), workspace);
      layer.latents_norm.forward(out, asked.rows(n, out.rows()), workspace);
      layer.attention.memorize(asked, store, workspace);
      const MatrixView q = layer.attention.project_queries(asked.rows(n, out.rows()), Phase::kPrefill, workspace);
      const MatrixView attended = workspace.matrix(q.rows(), q.cols());
      kernels::AttentionJob jobs[] = {{q, store.pages(), visible, attended, {}}};
      layer.attention.attend(jobs, attended, out, kernels::Store::kAdd, Phase::kPrefill, workspace);
      add_residual<NormBefore>(layer.feed_forward_norm, out, workspace, [&](ConstMatrixView x) {
        layer.feed_forward.forward(x, out, kernels::Store::kAdd, Phase::kPrefill, workspace);
      });
    }
    norm_.forward(out, out, workspace);
  }

  PerceiverConfig config_;
  std::vector<float> latents_;  // [num_latents, hidden_size]
  std::vector<Layer> layers_;   // [depth]
  typename Recipe::Norm norm_;
};

}  // namespace duet
