#pragma once

#include <span>

#include "duet/core/matrix.hpp"
#include "duet/kernels/key_value_pages.hpp"

namespace duet::kernels {

/// The keys a row sees: [begin, end). Causal, sliding, bidirectional, prefix and cross-attention masks are all one interval
/// per row. Empty when begin >= end.
struct KeyRange {
  Index begin = 0, end = 0;
};

struct AttentionShape {
  Index num_attention_heads = 0;
  Index num_key_value_heads = 0;  ///< query head h reads key-value head h / (num_attention_heads / num_key_value_heads)
  Index head_dim = 0;
  float scale = 0.0f;     ///< of q · k
  float soft_cap = 0.0f;  ///< cap · tanh(score / cap), 0: none (Gemma 2)
};

/// One sequence's share of an attention call.
struct AttentionJob {
  ConstMatrixView q;                  ///< [rows, num_attention_heads * head_dim]
  KeyValuePages kv;
  std::span<const KeyRange> visible;  ///< [rows]
  MatrixView out;                     ///< [rows, num_attention_heads * head_dim]
  MatrixView log_sum_exp;             ///< [rows, num_attention_heads] or empty
};

}  // namespace duet::kernels
