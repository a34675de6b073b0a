#pragma once

#include "duet/blocks/residual.hpp"
#include "duet/kernels/elementwise.hpp"
#include "duet/layers/attention.hpp"
#include "duet/layers/feed_forward.hpp"

namespace duet {

/// One layer of a decoder, with room between its two branches for cross-attention; pre-norm (NormBefore) or post-norm
/// (NormAfter), as Recipe::NormOrder says:
///
///     x += post(attention(norm(x)));  [x += cross-attention(x)];  x += post(feed_forward(norm(x)))
///     x = norm(x + attention(x));     [x = …];                    x = norm(x + feed_forward(x))
///
/// Shapes   hidden [rows, hidden_size], updated in place: the rows of all sequences one after another
/// PostNorm normalises a branch before it is added (Gemma 2); NoNorm for most
/// Source   Radford et al. 2019 (GPT-2); Touvron et al. 2023, 2302.13971 (Llama); Devlin et al. 2018, 1810.04805 (BERT)
template <class Recipe>
class DecoderBlock {
 public:
  DecoderBlock(const AttentionConfig& attention, const FeedForwardConfig& feed_forward, float norm_eps,
               const Weights& weights)
      : attention_norm_(weights.scope("input_layernorm"), attention.hidden_size, norm_eps),
        attention_(attention, weights.scope("self_attn")),
        attention_post_norm_(weights.scope("post_self_attn_layernorm"), attention.hidden_size, norm_eps),
        feed_forward_norm_(weights.scope("post_attention_layernorm"), attention.hidden_size, norm_eps),
        feed_forward_(feed_forward, weights.scope("mlp")),
        feed_forward_post_norm_(weights.scope("post_feedforward_layernorm"), attention.hidden_size, norm_eps) {}

  /// `between(hidden)` runs after self-attention: where GPT-2's cross-attention sits. `observe` may tap the attention.
  template <class Between, class Observer = NoTaps>
  void forward(MatrixView hidden, std::span<const Sequence> sequences, Index layer, const kernels::RotaryAngles& angles,
               Phase phase, Workspace& workspace, Between&& between, Observer&& observe = {}) const {
    using Order = typename Recipe::NormOrder;
    add_residual<Order>(attention_norm_, hidden, workspace, [&](ConstMatrixView x) {
      add_branch(attention_post_norm_, hidden, workspace, [&](MatrixView out, kernels::Store store) {
        self_attention(attention_, x, sequences, layer, angles, out, store, phase, workspace, observe);
      });
    });
    between(hidden);
    add_residual<Order>(feed_forward_norm_, hidden, workspace, [&](ConstMatrixView x) {
      add_branch(feed_forward_post_norm_, hidden, workspace, [&](MatrixView out, kernels::Store store) {
        feed_forward_.forward(x, out, store, phase, workspace);
      });
    });
  }

  /// Calls visit(weight) for every matrix that a row goes through.
  template <class Visit>
  void for_each_weight(Visit&& visit) const {
    attention_.for_each_weight(visit);
    feed_forward_.for_each_weight(visit);
  }

 private:
  /// Without a post norm the branch's last matmul adds to `hidden` itself.
  template <class Branch>
  static void add_branch(const typename Recipe::PostNorm& norm, MatrixView hidden, Workspace& workspace, Branch&& branch) {
    if constexpr (Recipe::PostNorm::kIdentity) {
      branch(hidden, kernels::Store::kAdd);
    } else {
      const auto frame = workspace.frame();
      const MatrixView out = workspace.matrix(hidden.rows(), hidden.cols());
      branch(out, kernels::Store::kAssign);
      norm.forward(out, out, workspace);
      kernels::add(out, hidden, workspace);
    }
  }

  typename Recipe::Norm attention_norm_;
  Attention<typename Recipe::HeadNorm> attention_;
  typename Recipe::PostNorm attention_post_norm_;
  typename Recipe::Norm feed_forward_norm_;
  typename Recipe::FeedForward feed_forward_;
  typename Recipe::PostNorm feed_forward_post_norm_;
};

}  // namespace duet
