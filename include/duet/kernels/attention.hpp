#pragma once

#include <cmath>
#include <limits>
#include <span>

#include "duet/core/workspace.hpp"
#include "duet/kernels/phase.hpp"

namespace duet::kernels {

inline constexpr Index kPageSize = 64;

struct KeyRange {
  Index begin = 0, end = 0;
};
struct AttentionShape {
  Index num_attention_heads = 0, num_key_value_heads = 0, head_dim = 0;
  float scale = 0.0f;
  float soft_cap = 0.0f;
};
struct KeyValuePages {
  const float* const* keys = nullptr;
  const float* const* values = nullptr;
  Index head_stride = 0;
  Index row_stride = 0;
};
struct AttentionJob {
  ConstMatrixView q;
  KeyValuePages kv;
  std::span<const KeyRange> visible;
  MatrixView out;
  MatrixView log_sum_exp;
};

inline void attention(std::span<const AttentionJob> jobs, const AttentionShape& shape, Phase, Workspace& workspace) {
  const Index group = shape.num_attention_heads / shape.num_key_value_heads;
  for (const AttentionJob& job : jobs) {
    workspace.threads().run(job.q.rows(), [&](Index i) {
      const KeyRange range = job.visible[static_cast<std::size_t>(i)];
      for (Index h = 0; h < shape.num_attention_heads; ++h) {
        const float* q = job.q.data() + i * job.q.stride() + h * shape.head_dim;
        float* out = job.out.data() + i * job.out.stride() + h * shape.head_dim;
        for (Index d = 0; d < shape.head_dim; ++d) out[d] = 0.0f;
        float most = -std::numeric_limits<float>::infinity(), sum = 0.0f;
        for (Index j = range.begin; j < range.end; ++j) {
          const Index at = h / group * job.kv.head_stride + j % kPageSize * job.kv.row_stride;
          const float *k = job.kv.keys[j / kPageSize] + at, *v = job.kv.values[j / kPageSize] + at;
          float score = 0.0f;
          for (Index d = 0; d < shape.head_dim; ++d) score += q[d] * k[d];
          score *= shape.scale;
          if (shape.soft_cap > 0.0f) score = shape.soft_cap * std::tanh(score / shape.soft_cap);
          const float now = std::fmax(most, score);
          const float keep = std::exp(most - now), p = std::exp(score - now);
          most = now;
          sum = sum * keep + p;
          for (Index d = 0; d < shape.head_dim; ++d) out[d] = out[d] * keep + p * v[d];
        }
        if (sum > 0.0f)
          for (Index d = 0; d < shape.head_dim; ++d) out[d] /= sum;
        if (!job.log_sum_exp.empty()) job.log_sum_exp(i, h) = most + std::log(sum);
      }
    });
  }
}

}  // namespace duet::kernels
