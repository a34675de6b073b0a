#pragma once

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "duet/kernels/attention.hpp"
#include "duet/kernels/rope.hpp"
#include "duet/kernels/row_tasks.hpp"
#include "duet/layers/attention_taps.hpp"
#include "duet/layers/extra_ranges.hpp"
#include "duet/layers/kv_cache.hpp"
#include "duet/layers/linear.hpp"
#include "duet/layers/norms.hpp"

namespace duet {

/// How a checkpoint keeps the maps to queries, keys and values.
enum class QkvLayout : unsigned char {
  kApart,   ///< q_proj, k_proj and v_proj, or slices of one tensor in this order
  kByHead,  ///< one qkv_proj whose outputs are [num_attention_heads, 3, head_dim] (Persimmon, GPT-NeoX)
};

struct AttentionConfig {
  Index hidden_size = 0;     ///< width of x, which asks, and of the result
  Index key_value_size = 0;  ///< width of y, which is asked: hidden_size in self-attention
  Index num_attention_heads = 0;
  Index num_key_value_heads = 0;
  Index head_dim = 0;
  float scale = 0.0f;     ///< of q · k; usually 1 / sqrt(head_dim)
  float soft_cap = 0.0f;  ///< 0: none
  float norm_eps = 1e-6f;  ///< of the head norms
  bool head_norms = false;  ///< whether those are there that a recipe leaves to the checkpoint (OptionalNorm)
  Linear::Bias qkv_bias = Linear::Bias::kNone;
  Linear::Bias output_bias = Linear::Bias::kNone;
  QkvLayout qkv_layout = QkvLayout::kApart;

  [[nodiscard]] kernels::AttentionShape shape() const noexcept {
    return {num_attention_heads, num_key_value_heads, head_dim, scale, soft_cap};
  }
};

/// Multi-head attention with grouped queries. Self- and cross-attention are this one piece of code: queries come from x,
/// keys and values from y, and in self-attention y is x.
///
///     q = x · W_qᵀ,  k = y · W_kᵀ,  v = y · W_vᵀ;  out = softmax(q · kᵀ · scale) · v · W_oᵀ
///
/// Shapes   x [rows, hidden_size], y [rows, key_value_size]; q [.., num_attention_heads * head_dim],
///          k, v [.., num_key_value_heads * head_dim]; weights q_proj, k_proj, v_proj, o_proj, which may be slices of one
/// HeadNorm normalises each query and key head of width head_dim before any rotation (weights q_norm, k_norm)
/// Source   Vaswani et al. 2017, 1706.03762; Ainslie et al. 2023, 2305.13245 (grouped queries)
template <class HeadNorm = NoNorm>
class Attention {
 public:
  Attention(const AttentionConfig& config, const Weights& weights)
      : config_(config),
        q_norm_(head_norm(config, weights.scope("q_norm"))),
        k_norm_(head_norm(config, weights.scope("k_norm"))) {
    const Index query_size = config.num_attention_heads * config.head_dim;
    const Index key_size = config.num_key_value_heads * config.head_dim;
    if (config.qkv_layout == QkvLayout::kByHead) {
      DUET_ASSERT(config.num_key_value_heads == config.num_attention_heads, "every head has its own keys and values");
      qkv_ = Linear::group(weights, {{"qkv_proj", 3 * query_size}}, config.hidden_size, config.qkv_bias);
    } else if (config.key_value_size == config.hidden_size) {
      qkv_ = Linear::group(weights, {{"q_proj", query_size}, {"k_proj", key_size}, {"v_proj", key_size}},
                           config.hidden_size, config.qkv_bias);
    } else {
      qkv_ = Linear::group(weights, {{"q_proj", query_size}}, config.hidden_size, config.qkv_bias);
      for (Linear& linear : Linear::group(weights, {{"k_proj", key_size}, {"v_proj", key_size}}, config.key_value_size,
                                          config.qkv_bias)) {
        qkv_.push_back(std::move(linear));
      }
    }
    o_proj_ = Linear(weights, "o_proj", query_size, config.hidden_size, config.output_bias);
  }

  [[nodiscard]] const AttentionConfig& config() const noexcept { return config_; }

  struct Heads {
    MatrixView q;     ///< [rows, num_attention_heads * head_dim]
    MatrixView k, v;  ///< [rows, num_key_value_heads * head_dim]
  };

  /// q, k and v of the same rows, in one parallel region; q and k normalised and turned. `angles` may be empty.
  [[nodiscard]] Heads project(ConstMatrixView x, const kernels::RotaryAngles& angles, Phase phase,
                              Workspace& workspace) const {
    const Heads heads{queries_for(x, workspace), keys_for(x, workspace), keys_for(x, workspace)};
    if (config_.qkv_layout == QkvLayout::kByHead) {
      project_by_head(x, heads, phase, workspace);
    } else {
      const kernels::MatmulJob jobs[] = {qkv_[0].job(heads.q), qkv_[1].job(heads.k), qkv_[2].job(heads.v)};
      kernels::matmul(x, jobs, phase, workspace);
    }
    prepare(q_norm_, heads.q, config_.num_attention_heads, angles, workspace);
    prepare(k_norm_, heads.k, config_.num_key_value_heads, angles, workspace);
    return heads;
  }
  /// q alone, for cross-attention, which has no positions.
  [[nodiscard]] MatrixView project_queries(ConstMatrixView x, Phase phase, Workspace& workspace) const {
    const MatrixView q = queries_for(x, workspace);
    qkv_[0].forward(x, q, phase, workspace);
    prepare(q_norm_, q, config_.num_attention_heads, {}, workspace);
    return q;
  }
  /// Writes the keys and values of y [rows, key_value_size] to `store` from position 0.
  void memorize(ConstMatrixView y, KeyValueStore& store, Workspace& workspace) const {
    const auto frame = workspace.frame();
    const MatrixView k = keys_for(y, workspace), v = keys_for(y, workspace);
    const kernels::MatmulJob jobs[] = {qkv_[1].job(k), qkv_[2].job(v)};
    kernels::matmul(y, jobs, Phase::kPrefill, workspace);
    prepare(k_norm_, k, config_.num_key_value_heads, {}, workspace);
    store.write(0, k, v, workspace);
  }

  /// out (+)= attention(jobs) · W_oᵀ + b_o, the jobs' rows lying one after another in `heads`. `extras` [jobs] may be empty.
  template <class Observer>
  void attend(std::span<kernels::AttentionJob> jobs, std::span<const std::span<const ExtraRange>> extras, ConstMatrixView heads,
              MatrixView out, kernels::Store store, Phase phase, Workspace& workspace, const AttentionTaps<Observer>& taps) const {
    taps.prepare(jobs, config_.shape(), workspace);
    attention_over_ranges(jobs, extras, config_.shape(), phase, workspace);
    taps.show(jobs, config_.shape());
    o_proj_.forward(heads, out, phase, workspace, nullptr, store);
  }
  void attend(std::span<kernels::AttentionJob> jobs, ConstMatrixView heads, MatrixView out, kernels::Store store, Phase phase,
              Workspace& workspace) const {
    const NoTaps nobody;
    attend(jobs, {}, heads, out, store, phase, workspace, AttentionTaps(nobody, AttentionKind::kSelf, 0));
  }

  /// Calls visit(weight) for every matrix.
  template <class Visit>
  void for_each_weight(Visit&& visit) const {
    for (const Linear& linear : qkv_) visit(linear.weight());
    visit(o_proj_.weight());
  }
  template <class Visit>
  void for_each_query_weight(Visit&& visit) const {
    visit(qkv_[0].weight());
    visit(o_proj_.weight());
  }

 private:
  static HeadNorm head_norm(const AttentionConfig& config, const Weights& weights) {
    if constexpr (std::is_default_constructible_v<HeadNorm>) {
      if (!config.head_norms) return {};
    }
    return {weights, config.head_dim, config.norm_eps};
  }
  [[nodiscard]] MatrixView queries_for(ConstMatrixView x, Workspace& workspace) const {
    return workspace.matrix(x.rows(), config_.num_attention_heads * config_.head_dim);
  }
  [[nodiscard]] MatrixView keys_for(ConstMatrixView y, Workspace& workspace) const {
    return workspace.matrix(y.rows(), config_.num_key_value_heads * config_.head_dim);
  }
  /// One matmul, whose outputs are then sorted.
  void project_by_head(ConstMatrixView x, const Heads& heads, Phase phase, Workspace& workspace) const {
    const auto frame = workspace.frame();
    const MatrixView fused = workspace.matrix(x.rows(), qkv_[0].out_features());  // [rows, num_attention_heads * 3 * head_dim]
    qkv_[0].forward(x, fused, phase, workspace);
    const Index head_dim = config_.head_dim;
    kernels::for_each_row(x.rows(), fused.cols(), workspace, [&](Index i) {
      const float* from = fused.row(i).data();
      for (Index head = 0; head < config_.num_attention_heads; ++head) {
        for (const MatrixView& to : {heads.q, heads.k, heads.v}) {
          std::copy_n(from, head_dim, to.row(i).data() + head * head_dim);
          from += head_dim;
        }
      }
    });
  }
  void prepare(const HeadNorm& norm, MatrixView x, Index num_heads, const kernels::RotaryAngles& angles,
               Workspace& workspace) const {
    if constexpr (!HeadNorm::kIdentity) {
      const MatrixView per_head(x.data(), x.rows() * num_heads, config_.head_dim);
      norm.forward(per_head, per_head, workspace);
    }
    if (!angles.cos.empty()) kernels::rotate_halves(x, num_heads, config_.head_dim, angles, workspace);
  }

  AttentionConfig config_;
  HeadNorm q_norm_, k_norm_;
  std::vector<Linear> qkv_;  // q_proj, k_proj, v_proj; or qkv_proj alone
  Linear o_proj_;
};

/// Causal self-attention of a decoder: the rows' keys and values join their sequence's cache, then every row attends to
/// the cache slots it may see. out (+)= result.
///
/// Shapes   x, out [rows, hidden_size], the rows of all sequences one after another
template <class HeadNorm, class Observer = NoTaps>
void self_attention(const Attention<HeadNorm>& attention, ConstMatrixView x, std::span<const Sequence> sequences,
                    Index layer, const kernels::RotaryAngles& angles, MatrixView out, kernels::Store store, Phase phase,
                    Workspace& workspace, Observer&& observe = {}) {
  const auto frame = workspace.frame();
  const auto heads = attention.project(x, angles, phase, workspace);
  const MatrixView attended = workspace.matrix(x.rows(), heads.q.cols());
  const auto jobs = workspace.array<kernels::AttentionJob>(static_cast<Index>(sequences.size()));
  const auto extras = workspace.array<std::span<const ExtraRange>>(static_cast<Index>(sequences.size()));
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const Sequence& s = sequences[i];
    extras[i] = s.extra_visible;
    KeyValueStore& store_of_layer = s.cache->layer(layer);
    store_of_layer.write(s.cache->length(), heads.k.rows(s.row_begin, s.rows), heads.v.rows(s.row_begin, s.rows), workspace);
    jobs[i] = {heads.q.rows(s.row_begin, s.rows), store_of_layer.pages(), s.visible, attended.rows(s.row_begin, s.rows), {}};
  }
  attention.attend(jobs, extras, attended, out, store, phase, workspace, AttentionTaps(observe, AttentionKind::kSelf, layer));
}

/// Self-attention of an encoder, without a cache: `group_rows` rows at a time see one another as `visible` says.
///
/// Shapes   x, out [groups * group_rows, hidden_size]; visible [group_rows], the same for every group
template <class HeadNorm>
void grouped_attention(const Attention<HeadNorm>& attention, ConstMatrixView x, Index group_rows,
                       std::span<const kernels::KeyRange> visible, const kernels::RotaryAngles& angles, MatrixView out,
                       kernels::Store store, Workspace& workspace) {
  const auto frame = workspace.frame();
  const auto heads = attention.project(x, angles, Phase::kPrefill, workspace);
  const MatrixView attended = workspace.matrix(x.rows(), heads.q.cols());
  const Index groups = group_rows == 0 ? 0 : x.rows() / group_rows;
  const Index num_pages = (group_rows + kernels::kPageSize - 1) / kernels::kPageSize;
  const auto jobs = workspace.array<kernels::AttentionJob>(groups);
  for (Index g = 0; g < groups; ++g) {
    const MatrixView k = heads.k.rows(g * group_rows, group_rows), v = heads.v.rows(g * group_rows, group_rows);
    const auto keys = workspace.array<const std::byte*>(num_pages), values = workspace.array<const std::byte*>(num_pages);
    for (Index page = 0; page < num_pages; ++page) {
      keys[static_cast<std::size_t>(page)] = std::as_bytes(k.row(page * kernels::kPageSize)).data();
      values[static_cast<std::size_t>(page)] = std::as_bytes(v.row(page * kernels::kPageSize)).data();
    }
    const auto pages = kernels::KeyValuePages::plain(attention.config().head_dim, keys.data(), k.stride(), values.data(), v.stride());
    jobs[static_cast<std::size_t>(g)] = {heads.q.rows(g * group_rows, group_rows), pages, visible,
                                         attended.rows(g * group_rows, group_rows), {}};
  }
  attention.attend(jobs, attended, out, store, Phase::kPrefill, workspace);
}

}  // namespace duet
