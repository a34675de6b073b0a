#pragma once

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "duet/kernels/attention.hpp"
#include "duet/kernels/rope.hpp"
#include "duet/layers/attention_taps.hpp"
#include "duet/layers/extra_ranges.hpp"
#include "duet/layers/kv_cache.hpp"
#include "duet/layers/linear.hpp"
#include "duet/layers/norms.hpp"

namespace duet {

/// How the maps to queries, keys and values are stored.
enum class QkvLayout : unsigned char {
  kByKind,  ///< all heads' queries, then keys, then values, or each in a tensor of their own
  kByHead,  ///< one tensor "qkv_proj": a head's query, key and value, then the next head's (Persimmon)
};

/// What a norm of queries and keys takes together.
enum class HeadNormSpan : unsigned char {
  kHead,      ///< a head's channels
  kAllHeads,  ///< all of a row (InternViT)
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
  HeadNormSpan head_norm_span = HeadNormSpan::kHead;
  Index num_measured_heads = 0;  ///< of kAllHeads: the first heads, which alone count in the mean; 0: all
  QkvLayout qkv_layout = QkvLayout::kByKind;
  Linear::Bias qkv_bias = Linear::Bias::kNone;
  Linear::Bias output_bias = Linear::Bias::kNone;

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
///          k, v [.., num_key_value_heads * head_dim]; weights q_proj, k_proj, v_proj, o_proj, which may be slices of one, or
///          qkv_proj [num_attention_heads * 3 * head_dim, hidden_size] by head, in self-attention with a key head per query head
/// HeadNorm normalises each query and key head of width head_dim, or all heads of a row at once, before any rotation (weights
///          q_norm, k_norm)
/// Source   Vaswani et al. 2017, 1706.03762; Ainslie et al. 2023, 2305.13245 (grouped queries)
template <class HeadNorm = NoNorm>
class Attention {
 public:
  Attention(const AttentionConfig& config, const Weights& weights)
      : config_(config),
        q_norm_(head_norm(config, config.num_attention_heads, weights.scope("q_norm"))),
        k_norm_(head_norm(config, config.num_key_value_heads, weights.scope("k_norm"))) {
    const Index query_size = config.num_attention_heads * config.head_dim;
    const Index key_size = config.num_key_value_heads * config.head_dim;
    if (config.qkv_layout == QkvLayout::kByHead) {
      DUET_ASSERT(query_size == key_size && config.key_value_size == config.hidden_size, "every head has its query, key and value");
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
  static HeadNorm head_norm(const AttentionConfig& config, Index num_heads, const Weights& weights) {
    if constexpr (std::is_default_constructible_v<HeadNorm>) {
      if (!config.head_norms) return {};
    }
    if constexpr (std::is_constructible_v<HeadNorm, const Weights&, Index, float, Index>) {
      const Index measured = config.num_measured_heads > 0 ? config.num_measured_heads : num_heads;
      if (config.head_norm_span == HeadNormSpan::kAllHeads) {
        return {weights, num_heads * config.head_dim, config.norm_eps, measured * config.head_dim};
      }
    }
    DUET_ASSERT(config.head_norm_span == HeadNormSpan::kHead || HeadNorm::kIdentity, "only an RmsNorm can be told what it measures");
    return {weights, config.head_dim, config.norm_eps};
  }
  [[nodiscard]] MatrixView queries_for(ConstMatrixView x, Workspace& workspace) const {
    return workspace.matrix(x.rows(), config_.num_attention_heads * config_.head_dim);
  }
  [[nodiscard]] MatrixView keys_for(ConstMatrixView y, Workspace& workspace) const {
    return workspace.matrix(y.rows(), config_.num_key_value_heads * config_.head_dim);
  }
  /// One map, whose result is dealt out.
  void project_by_head(ConstMatrixView x, const Heads& heads, Phase phase, Workspace& workspace) const {
    const auto frame = workspace.frame();
    const MatrixView all = workspace.matrix(x.rows(), qkv_[0].out_features());  // [rows, num_attention_heads * 3 * head_dim]
    qkv_[0].forward(x, all, phase, workspace);
    const Index d = config_.head_dim;
    for (Index i = 0; i < x.rows(); ++i) {
      const float* from = all.row(i).data();
      for (Index head = 0; head < config_.num_attention_heads; ++head) {
        for (const MatrixView& kind : {heads.q, heads.k, heads.v}) {
          std::copy_n(from, d, kind.row(i).data() + head * d);
          from += d;
        }
      }
    }
  }
  void prepare(const HeadNorm& norm, MatrixView x, Index num_heads, const kernels::RotaryAngles& angles,
               Workspace& workspace) const {
    if constexpr (!HeadNorm::kIdentity) {
      const bool whole = config_.head_norm_span == HeadNormSpan::kAllHeads;
      const MatrixView per_norm(x.data(), whole ? x.rows() : x.rows() * num_heads, whole ? x.cols() : config_.head_dim);
      norm.forward(per_norm, per_norm, workspace);
    }
    if (!angles.cos.empty()) kernels::rotate_halves(x, num_heads, config_.head_dim, angles, workspace);
  }

  AttentionConfig config_;
  HeadNorm q_norm_, k_norm_;
  std::vector<Linear> qkv_;  // q_proj, k_proj, v_proj, or qkv_proj
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

/// Rows of an encoder that see one another, a crop's for instance: every row sees keys of its group alone.
struct RowGroup {
  Index begin = 0, count = 0;                 ///< rows [begin, begin + count)
  std::span<const kernels::KeyRange> visible;  ///< of each row, counted from `begin` [count]
};

/// Self-attention of an encoder, without a cache: rows of one group see one another as its `visible` says. A row's bits do
/// not depend on other groups.
///
/// Shapes   x, out [rows, hidden_size]
/// Requires groups that lie one after another and cover all rows
template <class HeadNorm>
void grouped_attention(const Attention<HeadNorm>& attention, ConstMatrixView x, std::span<const RowGroup> groups,
                       const kernels::RotaryAngles& angles, MatrixView out, kernels::Store store, Workspace& workspace) {
  const auto frame = workspace.frame();
  const auto heads = attention.project(x, angles, Phase::kPrefill, workspace);
  const MatrixView attended = workspace.matrix(x.rows(), heads.q.cols());
  const auto jobs = workspace.array<kernels::AttentionJob>(static_cast<Index>(groups.size()));
  for (std::size_t g = 0; g < groups.size(); ++g) {
    const RowGroup& group = groups[g];
    const MatrixView k = heads.k.rows(group.begin, group.count), v = heads.v.rows(group.begin, group.count);
    const Index num_pages = (group.count + kernels::kPageSize - 1) / kernels::kPageSize;
    const auto keys = workspace.array<const std::byte*>(num_pages), values = workspace.array<const std::byte*>(num_pages);
    for (Index page = 0; page < num_pages; ++page) {
      keys[static_cast<std::size_t>(page)] = std::as_bytes(k.row(page * kernels::kPageSize)).data();
      values[static_cast<std::size_t>(page)] = std::as_bytes(v.row(page * kernels::kPageSize)).data();
    }
    const auto pages = kernels::KeyValuePages::plain(attention.config().head_dim, keys.data(), k.stride(), values.data(), v.stride());
    jobs[g] = {heads.q.rows(group.begin, group.count), pages, group.visible, attended.rows(group.begin, group.count), {}};
  }
  attention.attend(jobs, attended, out, store, Phase::kPrefill, workspace);
}

}  // namespace duet
