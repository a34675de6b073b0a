#pragma once

#include <cmath>

#include "duet/kernels/attention_types.hpp"

namespace duet::kernels {
inline namespace DUET_ISA_NAMESPACE {

/// The weights with which one row of a job reads its keys, which the attention kernel never keeps: made again from q, the keys
/// and the kernel's log-sum-exp.
///
///     out[head][j] = exp(score_j − log_sum_exp)
///
/// Shapes   out [num_attention_heads, job.visible[row].end − begin]; every row of it sums to 1
/// Requires job.log_sum_exp as the kernel left it
/// Cost     2 · head_dim FLOP per weight, on one thread: for looking, not for running
inline void attention_weights(const AttentionJob& job, const AttentionShape& shape, Index row, MatrixView out) noexcept {
  const KeyRange seen = job.visible[static_cast<std::size_t>(row)];
  const Index group = shape.num_attention_heads / shape.num_key_value_heads;
  for (Index head = 0; head < shape.num_attention_heads; ++head) {
    const float* const q = job.q.row(row).data() + head * shape.head_dim;
    for (Index j = seen.begin; j < seen.end; ++j) {
      float score = 0.0f;
      for (Index i = 0; i < shape.head_dim; ++i) score += q[i] * job.kv.key(head / group, j, i);
      score *= shape.scale;
      if (shape.soft_cap > 0.0f) score = shape.soft_cap * std::tanh(score / shape.soft_cap);
      out(head, j - seen.begin) = std::exp(score - job.log_sum_exp(row, head));
    }
  }
}

}  // namespace DUET_ISA_NAMESPACE
}  // namespace duet::kernels
