#pragma once

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "duet/blocks/cross_attention_block.hpp"
#include "duet/blocks/decoder_block.hpp"
#include "duet/models/image_rows.hpp"
#include "duet/models/visual_input.hpp"

namespace duet {

/// Sizes of a Q-Former, named as config.json names them.
struct QFormerConfig {
  Index encoder_hidden_size = 0;  ///< width of the features
  Index num_query_tokens = 0;
  Index hidden_size = 0;
  Index intermediate_size = 0;
  Index num_hidden_layers = 0;
  Index num_attention_heads = 0;
  Index cross_attention_frequency = 0;  ///< every so many layers, from the first on, read the features
  float layer_norm_eps = 1e-12f;
  std::string hidden_act = "gelu";
  Index output_size = 0;  ///< hidden_size of the text
  std::string where = "config.json: ";

  /// Throws Error{kInvalidArgument} unless the sizes are positive, possible and fit one another.
  void check() const {
    const auto require = [&](bool good, std::string_view key, Index value, const std::string& expected) {
      if (!good) throw Error(ErrorKind::kInvalidArgument, concat(where, key), std::to_string(value), expected);
    };
    for (const auto& [key, value] : {std::pair<std::string_view, Index>{"encoder_hidden_size", encoder_hidden_size},
                                     {"num_query_tokens", num_query_tokens},
                                     {"hidden_size", hidden_size},
                                     {"intermediate_size", intermediate_size},
                                     {"num_hidden_layers", num_hidden_layers},
                                     {"cross_attention_frequency", cross_attention_frequency}}) {
      require(value > 0 && value <= kLargestWidth, key, value, concat("a positive number up to ", kLargestWidth));
    }
    require(num_attention_heads > 0 && hidden_size % num_attention_heads == 0, "num_attention_heads", num_attention_heads,
            concat("a divisor of hidden_size, ", hidden_size));
  }
};

/// A projector that asks: learned queries see one another and, in every few layers, a crop's features; then a linear map to the
/// text's width. The layers are those of BERT, and so of a post-norm decoder, that see in both directions.
///
/// Shapes   features [n, encoder_hidden_size] of every crop → [num_query_tokens, output_size]
/// Source   Li et al. 2023, 2301.12597 (BLIP-2), section 3.1
class QFormer {
  struct Recipe {
    using Norm = LayerNorm;
    using HeadNorm = NoNorm;
    using PostNorm = NoNorm;
    using FeedForward = duet::FeedForward<ConfiguredActivation>;
    using NormOrder = NormAfter;
  };

 public:
  /// Takes "query_tokens", "norm", "layers.*", and "language_projection".
  QFormer(QFormerConfig config, const Weights& weights)
      : config_((config.check(), std::move(config))),
        query_tokens_(weights.vector("query_tokens", config_.num_query_tokens * config_.hidden_size)),
        norm_(weights.scope("norm"), config_.hidden_size, config_.layer_norm_eps),
        language_projection_(weights, "language_projection", config_.hidden_size, config_.output_size, Linear::Bias::kRequired) {
    AttentionConfig attention;
    attention.hidden_size = attention.key_value_size = config_.hidden_size;
    attention.num_attention_heads = attention.num_key_value_heads = config_.num_attention_heads;
    attention.head_dim = head_dim();
    attention.scale = 1.0f / std::sqrt(static_cast<float>(attention.head_dim));
    attention.qkv_bias = attention.output_bias = Linear::Bias::kRequired;
    AttentionConfig reading = attention;
    reading.key_value_size = config_.encoder_hidden_size;
    const FeedForwardConfig feed_forward{config_.hidden_size, config_.intermediate_size, config_.hidden_act, "qformer_config.hidden_act",
                                         Linear::Bias::kRequired};
    for (Index i = 0; i < config_.num_hidden_layers; ++i) {
      const Weights layer = weights.scope("layers", i);
      blocks_.emplace_back(attention, feed_forward, config_.layer_norm_eps, layer);
      if (reads(i)) cross_.emplace_back(reading, config_.layer_norm_eps, layer, "cross_attn_layernorm");
    }
  }

  [[nodiscard]] const QFormerConfig& config() const noexcept { return config_; }
  [[nodiscard]] Index input_size() const noexcept { return config_.encoder_hidden_size; }
  [[nodiscard]] Index output_size() const noexcept { return language_projection_.out_features(); }

  /// Image tokens of a crop, however many patches it has.
  [[nodiscard]] Index num_tokens(Index) const noexcept { return config_.num_query_tokens; }
  /// Of a crop of `features` rows.
  [[nodiscard]] double multiply_adds(Index features) const noexcept {
    const auto queries = static_cast<double>(config_.num_query_tokens), rows = static_cast<double>(features), width = static_cast<double>(config_.hidden_size);
    double weights = static_cast<double>(config_.hidden_size * config_.output_size);
    const auto count = [&](const WeightMatrix& w) { weights += static_cast<double>(w.in_features * w.out_features); };
    for (const auto& block : blocks_) block.for_each_weight(count);
    for (const auto& branch : cross_) branch.for_each_weight(count);  // those of keys and values, which features pass, apart
    const auto readers = static_cast<double>(cross_.size()), layers = static_cast<double>(blocks_.size());
    return queries * (weights + 2.0 * width * (queries * layers + rows * readers)) +
           2.0 * rows * width * static_cast<double>(config_.encoder_hidden_size) * readers;
  }

  /// Every crop's queries, the crops of a picture one after another.
  [[nodiscard]] ImageRows project(const Features& features, const VisualInput& input, Workspace& workspace) const {
    const auto crops = static_cast<Index>(features.crops.size()), queries = config_.num_query_tokens;
    const auto frame = workspace.frame();
    const MatrixView hidden = workspace.matrix(crops * queries, config_.hidden_size);
    const auto visible = workspace.array<kernels::KeyRange>(queries);
    std::ranges::fill(visible, kernels::KeyRange{0, queries});

    // A crop is to its queries what an image is to a text: a visual memory.
    std::vector<KvCache> caches;
    std::vector<VisualMemory> memories;
    std::vector<Sequence> sequences;
    for (const Features::Crop& crop : features.crops) {
      caches.emplace_back(config_.num_hidden_layers, queries, config_.num_attention_heads, head_dim());
      VisualMemory& memory = memories.emplace_back(static_cast<Index>(cross_.size()), crop.count, config_.num_attention_heads, head_dim());
      for (std::size_t i = 0; i < cross_.size(); ++i) {
        cross_[i].memorize(features.rows.rows(crop.begin, crop.count), memory.layer(static_cast<Index>(i)), workspace);
      }
    }
    for (Index i = 0; i < crops; ++i) {
      const auto at = static_cast<std::size_t>(i);
      const auto seen = workspace.array<kernels::KeyRange>(queries);
      std::ranges::fill(seen, kernels::KeyRange{0, features.crops[at].count});
      sequences.push_back({.cache = &caches[at], .memory = &memories[at], .visible = visible, .memory_spans = seen,
                           .row_begin = i * queries, .rows = queries});
      std::ranges::copy(query_tokens_, hidden.row(i * queries).data());
    }

    norm_.forward(hidden, hidden, workspace);
    Index next_cross = 0;
    for (Index i = 0; i < config_.num_hidden_layers; ++i) {
      blocks_[static_cast<std::size_t>(i)].forward(hidden, sequences, i, {}, Phase::kPrefill, workspace, [&](MatrixView) {
        if (!reads(i)) return;
        cross_[static_cast<std::size_t>(next_cross)].forward(hidden, sequences, next_cross, Phase::kPrefill, workspace, [](ConstMatrixView) {});
        ++next_cross;
      });
    }
    ImageRows result{Matrix(hidden.rows(), output_size()), std::vector<ImageRows::Span>(static_cast<std::size_t>(input.num_pictures()))};
    language_projection_.forward(hidden, result.rows, Phase::kPrefill, workspace);
    for (Index i = 0; i < crops; ++i) {
      ImageRows::Span& span = result.spans[static_cast<std::size_t>(features.crops[static_cast<std::size_t>(i)].picture)];
      if (span.count == 0) span.begin = i * queries;
      span.count += queries;
    }
    return result;
  }

 private:
  [[nodiscard]] bool reads(Index layer) const noexcept { return layer % config_.cross_attention_frequency == 0; }
  [[nodiscard]] Index head_dim() const noexcept { return config_.hidden_size / config_.num_attention_heads; }

  QFormerConfig config_;
  std::vector<float> query_tokens_;  // [num_query_tokens, hidden_size]
  LayerNorm norm_;
  std::vector<DecoderBlock<Recipe>> blocks_;                                  // [num_hidden_layers]
  std::vector<CrossAttentionBranch<Recipe, NoGate, AttendNothing>> cross_;  // [layers that read]
  Linear language_projection_;                                                // [output_size, hidden_size]
};

}  // namespace duet
