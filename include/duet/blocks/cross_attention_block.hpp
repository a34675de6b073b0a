#pragma once

#include <algorithm>

#include "duet/blocks/gates.hpp"
#include "duet/blocks/residual.hpp"
#include "duet/kernels/elementwise.hpp"
#include "duet/layers/attention.hpp"
#include "duet/layers/feed_forward.hpp"

namespace duet {

// What a text row gets that may see no image at all.

/// Nothing is attended to; the feed-forward branch still runs (Flamingo, GPT-2). Without any image the whole layer is not there.
struct AttendNothing {
  static constexpr bool kAttendsAll = false, kRunsWithoutImage = false;
};
/// The same, and the feed-forward branch runs without any image, too (Idefics1).
struct AttendNothingKeepMlp {
  static constexpr bool kAttendsAll = false, kRunsWithoutImage = true;
};
/// Attention to every image row, of unused tiles and padding too, and no feed-forward branch: what the reference's masks amount to
/// (Mllama).
struct AttendAllNoMlp {
  static constexpr bool kAttendsAll = true, kRunsWithoutImage = false;
};

/// Text asks, images answer: queries from the hidden rows, keys and values from a layer of the visual memory.
///
///     x += gate · attention(norm(x), memory), or, post-norm, x = norm(x + gate · attention(x, memory))
///
/// Shapes   hidden [rows, hidden_size], updated in place; memory of layer `index` holds [num_image_rows] keys and values
/// Source   Vaswani et al. 2017, 1706.03762, section 3.2.3; gates: Alayrac et al. 2022, 2204.14198
template <class Recipe, Gate GatePolicy, class EmptyRow>
class CrossAttentionBranch {
 public:
  CrossAttentionBranch(const AttentionConfig& config, float norm_eps, const Weights& layer, std::string_view norm_name)
      : norm_(layer.scope(norm_name), config.hidden_size, norm_eps),
        attention_(config, layer.scope("cross_attn")),
        gate_(layer, "cross_attn_attn_gate", config.hidden_size) {}

  /// The keys and values of image rows [n, key_value_size].
  void memorize(ConstMatrixView rows, KeyValueStore& store, Workspace& workspace) const {
    attention_.memorize(rows, store, workspace);
  }

  /// `look(branch)` sees the attention's output [rows, hidden_size] before the gate; `observe` may tap the attention.
  template <class Look, class Observer = NoTaps>
  void forward(MatrixView hidden, std::span<const Sequence> sequences, Index index, Phase phase, Workspace& workspace,
               Look&& look, Observer&& observe = {}) const {
    add_residual<typename Recipe::NormOrder>(norm_, hidden, workspace, [&](ConstMatrixView x) {
      const auto frame = workspace.frame();
      const MatrixView q = attention_.project_queries(x, phase, workspace);
      const MatrixView attended = workspace.matrix(q.rows(), q.cols());
      const MatrixView branch = workspace.matrix(x.rows(), x.cols());  // [rows, hidden_size]
      const auto jobs = workspace.array<kernels::AttentionJob>(static_cast<Index>(sequences.size()));
      const auto extras = workspace.array<std::span<const ExtraRange>>(static_cast<Index>(sequences.size()));
      for (std::size_t i = 0; i < sequences.size(); ++i) {
        const Sequence& s = sequences[i];
        const MatrixView rows = q.rows(s.row_begin, s.rows);
        std::span<const kernels::KeyRange> spans = s.memory_spans;
        extras[i] = s.extra_memory;
        if constexpr (EmptyRow::kAttendsAll) spans = all_where_none(s, workspace);
        jobs[i] = {rows, s.memory->layer(index).pages(), spans, attended.rows(s.row_begin, s.rows), {}};
      }
      attention_.attend(jobs, extras, attended, branch, kernels::Store::kAssign, phase, workspace,
                        AttentionTaps(observe, AttentionKind::kCross, index));
      look(ConstMatrixView(branch));
      gate_.apply(branch, workspace);
      kernels::add(branch, hidden, workspace);
    });
  }

  /// Calls visit(weight) for every matrix that a text row goes through: not those of keys and values, which images do.
  template <class Visit>
  void for_each_weight(Visit&& visit) const {
    attention_.for_each_query_weight(visit);
  }

 private:
  static std::span<const kernels::KeyRange> all_where_none(const Sequence& s, Workspace& workspace) {
    const auto spans = workspace.array<kernels::KeyRange>(s.rows);
    std::ranges::transform(s.memory_spans, spans.begin(), [&](const kernels::KeyRange& span) {
      return span.begin < span.end ? span : kernels::KeyRange{0, s.memory->num_rows()};
    });
    return spans;
  }

  typename Recipe::Norm norm_;
  Attention<typename Recipe::HeadNorm> attention_;
  GatePolicy gate_;
};

/// A whole layer that reads the image: the cross-attention branch and a feed-forward branch of its own, both gated.
template <class Recipe, Gate GatePolicy, class EmptyRow>
class CrossAttentionBlock {
 public:
  CrossAttentionBlock(const AttentionConfig& attention, const FeedForwardConfig& feed_forward, float norm_eps,
                      const Weights& weights)
      : branch_(attention, norm_eps, weights, "input_layernorm"),
        norm_(weights.scope("post_attention_layernorm"), attention.hidden_size, norm_eps),
        feed_forward_(feed_forward, weights.scope("mlp")),
        gate_(weights, "cross_attn_mlp_gate", attention.hidden_size) {}

  void memorize(ConstMatrixView rows, KeyValueStore& store, Workspace& workspace) const {
    branch_.memorize(rows, store, workspace);
  }

  template <class Look, class Observer = NoTaps>
  void forward(MatrixView hidden, std::span<const Sequence> sequences, Index index, Phase phase, Workspace& workspace,
               Look&& look, Observer&& observe = {}) const {
    branch_.forward(hidden, sequences, index, phase, workspace, look, observe);
    feed_forward(hidden, phase, workspace, [&](MatrixView branch) {
      for (const Sequence& s : sequences) {
        for (Index i = 0; EmptyRow::kAttendsAll && i < s.rows; ++i) {
          const kernels::KeyRange span = s.memory_spans[static_cast<std::size_t>(i)];
          if (span.begin >= span.end) std::ranges::fill(branch.row(s.row_begin + i), 0.0f);
        }
      }
    });
  }
  /// What is left of the layer for rows without any image.
  void forward_without_image(MatrixView hidden, Phase phase, Workspace& workspace) const {
    feed_forward(hidden, phase, workspace, [](MatrixView) {});
  }

  template <class Visit>
  void for_each_weight(Visit&& visit) const {
    branch_.for_each_weight(visit);
    feed_forward_.for_each_weight(visit);
  }

 private:
  /// `change(branch)` may change the branch [rows, hidden_size] before the gate.
  template <class Change>
  void feed_forward(MatrixView hidden, Phase phase, Workspace& workspace, Change&& change) const {
    add_residual<typename Recipe::NormOrder>(norm_, hidden, workspace, [&](ConstMatrixView x) {
      const auto frame = workspace.frame();
      const MatrixView branch = workspace.matrix(x.rows(), x.cols());  // [rows, hidden_size]
      feed_forward_.forward(x, branch, kernels::Store::kAssign, phase, workspace);
      change(branch);
      gate_.apply(branch, workspace);
      kernels::add(branch, hidden, workspace);
    });
  }

  CrossAttentionBranch<Recipe, GatePolicy, EmptyRow> branch_;
  typename Recipe::Norm norm_;
  typename Recipe::FeedForward feed_forward_;
  GatePolicy gate_;
};

}  // namespace duet
