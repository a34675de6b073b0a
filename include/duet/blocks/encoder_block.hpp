#pragma once

#include "duet/layers/attention.hpp"
#include "duet/layers/feed_forward.hpp"

namespace duet {

/// One layer of a bidirectional encoder, pre-norm:
///
///     x += attention(norm(x));  x += feed_forward(norm(x))
///
/// Shapes   hidden [groups * group_rows, hidden_size], updated in place; rows of one group (an image) see one another
/// Source   Dosovitskiy et al. 2021, 2010.11929, equations 2 and 3
template <class Recipe>
class EncoderBlock {
 public:
  EncoderBlock(const AttentionConfig& attention, const FeedForwardConfig& feed_forward, float norm_eps,
               const Weights& weights)
      : attention_norm_(weights.scope("input_layernorm"), attention.hidden_size, norm_eps),
        attention_(attention, weights.scope("self_attn")),
        feed_forward_norm_(weights.scope("post_attention_layernorm"), attention.hidden_size, norm_eps),
        feed_forward_(feed_forward, weights.scope("mlp")) {}

  void forward(MatrixView hidden, Index group_rows, std::span<const kernels::KeyRange> visible,
               const kernels::RotaryAngles& angles, Workspace& workspace) const {
    const auto frame = workspace.frame();
    const MatrixView normed = workspace.matrix(hidden.rows(), hidden.cols());  // [rows, hidden_size]
    attention_norm_.forward(hidden, normed, workspace);
    grouped_attention(attention_, normed, group_rows, visible, angles, hidden, kernels::Store::kAdd, workspace);
    feed_forward_norm_.forward(hidden, normed, workspace);
    feed_forward_.forward(normed, hidden, kernels::Store::kAdd, Phase::kPrefill, workspace);
  }
  /// Calls visit(weight) for every matrix.
  template <class Visit>
  void for_each_weight(Visit&& visit) const {
    attention_.for_each_weight(visit);
    feed_forward_.for_each_weight(visit);
  }

 private:
  typename Recipe::Norm attention_norm_;
  Attention<typename Recipe::HeadNorm> attention_;
  typename Recipe::Norm feed_forward_norm_;
  typename Recipe::FeedForward feed_forward_;
};

}  // namespace duet
