#pragma once

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "duet/models/decoder_recipe.hpp"
#include "duet/models/stages.hpp"

namespace duet {

/// A decoder-only language model: embeddings, a stack of blocks, a final norm, and a head onto the vocabulary.
///
/// Prefill, a chunk of it, one decode step and a batch of conversations are the same `forward` over a list of sequences.
/// The decoder is const; what changes lives in each sequence's cache and memory.
template <class Recipe, class Cross = NoCrossAttention>
class Decoder {
  using FinalNorm = typename detail::FinalNormOf<Recipe>::type;
  static_assert(DecoderRecipe<Recipe>,
                "duet: this decoder recipe lacks a policy. A recipe is a struct of types: Norm, FeedForward, Position, and "
                "HeadNorm and PostNorm, which DecoderRecipeDefaults supplies.");

 public:
  static constexpr bool kReadsImages = Cross::kReadsImages;

  Decoder(DecoderConfig config, const Weights& weights, const Weights& head_weights)
      : config_((config.check(), std::move(config))),
        embed_tokens_(weights, "embed_tokens", std::max(config_.vocab_size, config_.num_embeddings), config_.hidden_size),
        positions_(config_.positions(), weights),
        embedding_norm_(embedding_norm(config_, weights)),
        norm_(final_norm(config_, weights, head_weights)) {
    if (config_.sliding_rope) sliding_positions_.emplace(config_.positions(*config_.sliding_rope), weights);
    for (Index i = 0; i < config_.num_hidden_layers; ++i) add_layer(i, weights);
    if (const Index more = config_.additional_vocab_size; more > 0) {
      additional_tokens_ = Embedding(weights, "additional_tokens", more, config_.hidden_size);
      additional_head_ = make_head(head_weights, "additional_head", more, additional_tokens_);
    }
    lm_head_ = make_head(head_weights, "lm_head", config_.vocab_size, embed_tokens_);
  }

  [[nodiscard]] const DecoderConfig& config() const noexcept { return config_; }
  [[nodiscard]] Index hidden_size() const noexcept { return config_.hidden_size; }
  /// Width of the logits.
  [[nodiscard]] Index vocab_size() const noexcept { return config_.vocab_size + config_.additional_vocab_size; }
  /// Ids that can be embedded: placeholders may have rows that no logit belongs to.
  [[nodiscard]] Index num_embeddings() const noexcept { return embed_tokens_.num_embeddings() + additional_tokens_.num_embeddings(); }
  /// How many positions there are to be at.
  [[nodiscard]] Index num_positions() const noexcept { return positions_.num_positions(); }
  /// Sequences longer than this are read otherwise from their first row on: what a cache holds of a sequence is of use only
  /// while it stays on one side. See Sequence::length.
  [[nodiscard]] Index switch_length() const noexcept {
    return std::min(positions_.switch_length(), sliding_positions_ ? sliding_positions_->switch_length() : positions_.switch_length());
  }

  /// An empty cache with room for `capacity` positions.
  [[nodiscard]] KvCache make_cache(Index capacity, KeyValueFormat format = KeyValueFormat::kF32) const {
    return {num_self_layers(), capacity, config_.num_key_value_heads, config_.head_dim, format};
  }

  /// hidden [ids, hidden_size] = embedding_scale · token embeddings. Requires ids below num_embeddings().
  void embed(std::span<const TokenId> ids, MatrixView hidden) const {
    const Index first = embed_tokens_.num_embeddings();
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const std::span<float> row = hidden.row(static_cast<Index>(i));
      ids[i] < first ? embed_tokens_.row(ids[i], 0, row) : additional_tokens_.row(ids[i] - first, 0, row);
    }
    if (config_.embedding_scale == 1.0f) return;
    for (Index i = 0; i < hidden.rows(); ++i) {
      for (float& value : hidden.row(i)) value *= config_.embedding_scale;
    }
  }

  /// Keys and values of image rows [n, hidden_size] for every cross-attention layer, computed once per image.
  [[nodiscard]] VisualMemory memorize(ConstMatrixView rows, Workspace& workspace,
                                      KeyValueFormat format = KeyValueFormat::kF32) const
    requires(kReadsImages)
  {
    VisualMemory memory(static_cast<Index>(cross_.size()), rows.rows(), config_.num_key_value_heads, config_.head_dim, format);
    for (std::size_t i = 0; i < cross_.size(); ++i) {
      cross_[i].memorize(rows, memory.layer(static_cast<Index>(i)), workspace);
    }
    return memory;
  }

  /// Runs embedded rows [rows, hidden_size] through the stack in place; each sequence's cache grows by its rows. The rows
  /// end before the final norm.
  ///
  /// Requires room in every cache; positions below num_positions()
  template <class Observer = NoObserver>
  void forward(MatrixView hidden, std::span<const Sequence> sequences, Phase phase, Workspace& workspace,
               Observer&& observe = {}) const {
    const auto frame = workspace.frame();
    const auto positions = workspace.array<Index>(hidden.rows());
    for (const Sequence& s : sequences) std::ranges::copy(s.positions, positions.begin() + s.row_begin);
    positions_.embed(positions, hidden);
    if constexpr (!Recipe::EmbeddingNorm::kIdentity) embedding_norm_.forward(hidden, hidden, workspace);
    observe(Stage::kEmbeds, 0, ConstMatrixView(hidden));
    const LayerInput full{sequences, turn(positions_, sequences, positions, workspace)};
    const LayerInput sliding = config_.sliding_attention_layers.empty() ? full : slide(full, positions, workspace);

    Index next_self = 0, next_cross = 0;
    const auto nothing = [](MatrixView) {};
    const auto cross = [&](MatrixView) { read_images(hidden, sequences, next_cross++, phase, workspace, observe); };
    const auto self = [&](Index layer, auto&& between) {
      const LayerInput& input = is_in(config_.sliding_attention_layers, layer) ? sliding : full;
      blocks_[static_cast<std::size_t>(next_self)].forward(hidden, input.sequences, next_self, input.angles, phase, workspace, between,
                                                           observe);
      ++next_self;
    };
    for (Index layer = 0; layer < config_.num_hidden_layers; ++layer) {
      if constexpr (!kReadsImages) {
        self(layer, nothing);
      } else if constexpr (std::is_same_v<typename Cross::Where, InsideBlock>) {
        self(layer, cross);
      } else if constexpr (std::is_same_v<typename Cross::Where, OwnLayer>) {
        is_cross_layer(layer) ? cross(hidden) : self(layer, nothing);
      } else {
        if (is_cross_layer(layer)) cross(hidden);
        self(layer, nothing);
      }
      observe(Stage::kLayer, layer, ConstMatrixView(hidden));
    }
    for (const Sequence& s : sequences) s.cache->advance(s.rows);
  }

  /// out = norm(hidden) [rows, hidden_size].
  void normalize(ConstMatrixView hidden, MatrixView out, Workspace& workspace) const {
    if constexpr (FinalNorm::kIdentity) {
      if (hidden.data() != out.data()) copy(hidden, out);
    } else {
      norm_.forward(hidden, out, workspace);
    }
  }
  /// logits [rows, vocab_size] of normalised rows.
  void logits(ConstMatrixView normed, MatrixView out, Phase phase, Workspace& workspace) const {
    if (config_.additional_vocab_size == 0) {
      lm_head_.forward(normed, out, phase, workspace);
    } else {
      const kernels::MatmulJob jobs[] = {lm_head_.job(out.cols(0, config_.vocab_size)),
                                         additional_head_.job(out.cols(config_.vocab_size, config_.additional_vocab_size))};
      kernels::matmul(normed, jobs, phase, workspace);
    }
    if (config_.final_logit_softcapping > 0.0f) kernels::soft_cap(out, config_.final_logit_softcapping, workspace);
  }

  /// What one decoded row costs in weights: each is read, multiplied and added once.
  struct Cost {
    Index stack_weights = 0;  ///< of the blocks' matrices, those that run for text
    Index head_weights = 0;
    std::uint64_t bytes = 0;  ///< of both, as stored
    Index self_layers = 0;    ///< layers that keep keys and values of the text
    Index cross_layers = 0;   ///< layers that also read the visual memory
  };
  [[nodiscard]] Cost cost() const {
    Cost cost;
    const auto count = [&](const WeightMatrix& weight, Index& total) {
      total += weight.out_features * weight.in_features;
      cost.bytes += weight.bytes();
    };
    for (const auto& block : blocks_) block.for_each_weight([&](const WeightMatrix& w) { count(w, cost.stack_weights); });
    cost.self_layers = num_self_layers();
    if constexpr (kReadsImages) {
      cost.cross_layers = static_cast<Index>(cross_.size());
      for (const auto& block : cross_) block.for_each_weight([&](const WeightMatrix& w) { count(w, cost.stack_weights); });
    }
    if constexpr (requires { norm_.for_each_weight([](const WeightMatrix&) {}); }) {
      norm_.for_each_weight([&](const WeightMatrix& w) { count(w, cost.head_weights); });
    }
    count(lm_head_.weight(), cost.head_weights);
    if (config_.additional_vocab_size > 0) count(additional_head_.weight(), cost.head_weights);
    return cost;
  }

 private:
  static typename Recipe::EmbeddingNorm embedding_norm(const DecoderConfig& config, const Weights& weights) {
    if constexpr (std::is_default_constructible_v<typename Recipe::EmbeddingNorm>) {
      if (!config.embedding_norm) return {};
    }
    return {weights.scope("embed_layernorm"), config.hidden_size, config.norm_eps};
  }
  /// A final norm that is more than a norm stands with the head (BERT's transform).
  static FinalNorm final_norm(const DecoderConfig& config, const Weights& weights, const Weights& head_weights) {
    if constexpr (std::constructible_from<FinalNorm, const DecoderConfig&, const Weights&>) {
      return FinalNorm(config, head_weights);
    } else {
      return FinalNorm(weights.scope("norm"), config.hidden_size, config.norm_eps);
    }
  }
  [[nodiscard]] Linear make_head(const Weights& weights, std::string_view name, Index rows, const Embedding& tied) const {
    if (config_.head == LanguageHead::kNone) return {};
    Weights::Projection head;
    if (config_.head == LanguageHead::kTied) {
      head.weight = tied.as_head();
      head.weight.out_features = rows;  // rows of placeholders have no logits
    } else {
      const Weights::Part part[] = {{name, rows}};
      head = std::move(weights.projections(part, config_.hidden_size, Linear::Bias::kNone)[0]);
    }
    if (config_.head_bias == Linear::Bias::kRequired) head.bias = weights.vector(concat(name, "_bias"), rows);
    return Linear(std::move(head));
  }
  static bool is_in(std::span<const Index> layers, Index layer) { return std::ranges::find(layers, layer) != layers.end(); }
  [[nodiscard]] bool is_cross_layer(Index layer) const { return is_in(config_.cross_attention_layers, layer); }

  /// What self-attention needs of a forward pass beside the rows, computed once for all layers of a kind.
  struct LayerInput {
    std::span<const Sequence> sequences;
    kernels::RotaryAngles angles;
  };
  static kernels::RotaryAngles turn(const typename Recipe::Position& position_encoding, std::span<const Sequence> sequences,
                                    std::span<const Index> positions, Workspace& workspace) {
    const auto rows = static_cast<Index>(positions.size()), pairs = position_encoding.num_pairs();
    const kernels::RotaryAngles angles{workspace.matrix(rows, pairs), workspace.matrix(rows, pairs)};
    for (const Sequence& s : sequences) {
      Index length = s.length;
      if (length == 0) {
        for (const Index position : s.positions) length = std::max(length, position + 1);
      }
      position_encoding.angles(RowPositions{s.positions, s.offsets, length}, angles.rows(s.row_begin, s.rows));
    }
    return angles;
  }
  /// The same rows as sliding layers see them: no slot that lies sliding_window or more before a row's own.
  LayerInput slide(const LayerInput& full, std::span<const Index> positions, Workspace& workspace) const {
    const auto sequences = workspace.array<Sequence>(static_cast<Index>(full.sequences.size()));
    std::ranges::copy(full.sequences, sequences.begin());
    for (Sequence& s : sequences) {
      const Index first = s.cache->length() - config_.sliding_window + 1;  // the first slot that row 0 sees
      const auto cut = [&](kernels::KeyRange seen, Index row) { return kernels::KeyRange{std::max(seen.begin, first + row), seen.end}; };
      const auto visible = workspace.array<kernels::KeyRange>(s.rows);
      for (Index row = 0; row < s.rows; ++row) {
        visible[static_cast<std::size_t>(row)] = cut(s.visible[static_cast<std::size_t>(row)], row);
      }
      const auto extra = workspace.array<ExtraRange>(static_cast<Index>(s.extra_visible.size()));
      std::ranges::transform(s.extra_visible, extra.begin(), [&](const ExtraRange& e) { return ExtraRange{e.row, cut(e.keys, e.row)}; });
      s.visible = visible;
      s.extra_visible = extra;
    }
    if (!sliding_positions_) return {sequences, full.angles};
    return {sequences, turn(*sliding_positions_, full.sequences, positions, workspace)};
  }
  /// Cross-attention `index` for the sequences that have an image; for the others the layer is not there.
  template <class Observer>
  void read_images(MatrixView hidden, std::span<const Sequence> sequences, Index index, Phase phase, Workspace& workspace,
                   Observer& observe) const {
    if constexpr (kReadsImages) {
      const auto with_image = [](const Sequence& s) { return s.memory != nullptr && !s.memory->empty(); };
      const auto look = [&](ConstMatrixView branch) { observe(Stage::kCrossAttention, index, branch); };
      const auto& block = cross_[static_cast<std::size_t>(index)];
      if (std::ranges::all_of(sequences, with_image)) {
        block.forward(hidden, sequences, index, phase, workspace, look, observe);
        return;
      }
      for (Sequence alone : sequences) {
        const MatrixView rows = hidden.rows(std::exchange(alone.row_begin, 0), alone.rows);
        if (!with_image(alone)) {
          if constexpr (Cross::Empty::kRunsWithoutImage) block.forward_without_image(rows, phase, workspace);
          continue;
        }
        block.forward(rows, std::span(&alone, 1), index, phase, workspace, look, observe);
      }
    }
  }
  [[nodiscard]] Index num_self_layers() const noexcept { return static_cast<Index>(blocks_.size()); }

  void add_layer(Index i, const Weights& weights) {
    const Weights layer = weights.scope("layers", i);
    const auto add_self = [&] {
      blocks_.emplace_back(config_.attention(i), config_.feed_forward(), config_.norm_eps, layer);
    };
    if constexpr (!kReadsImages) {
      add_self();
    } else if constexpr (std::is_same_v<typename Cross::Where, InsideBlock>) {
      add_self();
      cross_.emplace_back(config_.cross_attention(i), config_.norm_eps, layer, "cross_attn_layernorm");
    } else if constexpr (std::is_same_v<typename Cross::Where, OwnLayer>) {
      if (is_cross_layer(i)) {
        cross_.emplace_back(config_.cross_attention(i), config_.feed_forward(), config_.norm_eps, layer);
      } else {
        add_self();
      }
    } else {
      if (is_cross_layer(i)) {
        cross_.emplace_back(config_.cross_attention(i), config_.feed_forward(), config_.norm_eps,
                            weights.scope("cross_layers", static_cast<Index>(cross_.size())));
      }
      add_self();
    }
  }

  struct NoBlock {
    template <class... Ts>
    explicit NoBlock(const Ts&...) {}
  };
  template <class C>
  struct CrossBlockOf {
    using type = NoBlock;
  };
  template <class P, class G, class E>
  struct CrossBlockOf<CrossAttention<P, G, E>> {
    using type = typename CrossAttention<P, G, E>::template Block<Recipe>;
  };

  DecoderConfig config_;
  Embedding embed_tokens_;       // [vocab_size or num_embeddings, hidden_size]
  Embedding additional_tokens_;  // [additional_vocab_size, hidden_size]
  typename Recipe::Position positions_;
  std::optional<typename Recipe::Position> sliding_positions_;  // of the sliding layers, where theirs are others
  std::vector<DecoderBlock<Recipe>> blocks_;                 // [layers with self-attention]
  std::vector<typename CrossBlockOf<Cross>::type> cross_;  // [layers with cross-attention]
  typename Recipe::EmbeddingNorm embedding_norm_;
  FinalNorm norm_;
  Linear lm_head_;          // [vocab_size, hidden_size]
  Linear additional_head_;  // [additional_vocab_size, hidden_size]
};

}  // namespace duet
