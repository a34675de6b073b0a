#pragma once

#include "duet/blocks/gates.hpp"
#include "duet/layers/attention.hpp"
#include "duet/layers/feed_forward.hpp"

namespace duet {

/// One layer of a bidirectional encoder, pre-norm:
///
///     x += scale(attention(norm(x)));  x += scale(feed_forward(norm(x)))
///
/// Shapes   hidden [rows, hidden_size], updated in place; rows of one group (an image) see one another
/// Recipe   Norm, HeadNorm, FeedForward, and Scale of the two branches (weights attention_scale, feed_forward_scale)
/// Source   Dosovitskiy et al. 2021, 2010.11929, equations 2 and 3
template <class Recipe>
class EncoderBlock {
  using Scale = typename Recipe::Scale;

 public:
  EncoderBlock(const AttentionConfig& attention, const FeedForwardConfig& feed_forward, float norm_eps,
               const Weights& weights)
      : attention_norm_(weights.scope("input_layernorm"), attention.hidden_size, norm_eps),
        attention_(attention, weights.scope("self_attn")),
        attention_scale_(weights, "attention_scale", attention.hidden_size),
        feed_forward_norm_(weights.scope("post_attention_layernorm"), attention.hidden_size, norm_eps),
        feed_forward_(feed_forward, weights.scope("mlp")),
        feed_forward_scale_(weights, "feed_forward_scale", attention.hidden_size) {}

  /// `angles` turn queries and keys [rows, pairs]; empty where the encoder does not rotate.
  void forward(MatrixView hidden, std::span<const RowGroup> groups, const kernels::RotaryAngles& angles, Workspace& workspace) const {
    const auto frame = workspace.frame();
    const MatrixView normed = workspace.matrix(hidden.rows(), hidden.cols());  // [rows, hidden_size]
    attention_norm_.forward(hidden, normed, workspace);
    add(attention_scale_, hidden, workspace, [&](MatrixView out, kernels::Store store) {
      grouped_attention(attention_, normed, groups, angles, out, store, workspace);
    });
    feed_forward_norm_.forward(hidden, normed, workspace);
    add(feed_forward_scale_, hidden, workspace, [&](MatrixView out, kernels::Store store) {
      feed_forward_.forward(normed, out, store, Phase::kPrefill, workspace);
    });
  }
  /// Calls visit(weight) for every matrix.
  template <class Visit>
  void for_each_weight(Visit&& visit) const {
    attention_.for_each_weight(visit);
    feed_forward_.for_each_weight(visit);
  }

 private:
  /// hidden += scale(branch); without a scale the branch's last matmul adds.
  template <class Branch>
  static void add(const Scale& scale, MatrixView hidden, Workspace& workspace, Branch&& branch) {
    if constexpr (Scale::kIdentity) {
      branch(hidden, kernels::Store::kAdd);
    } else {
      const MatrixView out = workspace.matrix(hidden.rows(), hidden.cols());
      branch(out, kernels::Store::kAssign);
      scale.apply(out, workspace);
      kernels::add(out, hidden, workspace);
    }
  }

  typename Recipe::Norm attention_norm_;
  Attention<typename Recipe::HeadNorm> attention_;
  Scale attention_scale_;
  typename Recipe::Norm feed_forward_norm_;
  typename Recipe::FeedForward feed_forward_;
  Scale feed_forward_scale_;
};

}  // namespace duet
