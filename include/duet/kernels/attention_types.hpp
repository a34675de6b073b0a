#pragma once

#include <span>

#include "duet/core/matrix.hpp"
#include "duet/kernels/simd/attributes.hpp"

namespace duet::kernels {

/// Positions of keys in one page: the unit in which KV caches keep them and in which attention reads them.
inline constexpr Index kPageSize = 64;

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

/// Where keys and values lie: key j of head h begins at keys[j / 64] + h · head_stride + (j % 64) · row_stride, values
/// likewise. Serves pages [num_key_value_heads, 64, head_dim] of a KV cache and plain matrices alike.
struct KeyValuePages {
  const float* const* keys = nullptr;
  const float* const* values = nullptr;
  Index head_stride = 0;
  Index row_stride = 0;
};

/// One sequence's share of an attention call.
struct AttentionJob {
  ConstMatrixView q;                  ///< [rows, num_attention_heads * head_dim]
  KeyValuePages kv;
  std::span<const KeyRange> visible;  ///< [rows]
  MatrixView out;                     ///< [rows, num_attention_heads * head_dim]
  MatrixView log_sum_exp;             ///< [rows, num_attention_heads] or empty
};

inline namespace DUET_ISA_NAMESPACE {

/// Starts to fetch the values that belong to the keys being read: they lie elsewhere, where no hardware looks ahead.
template <int kRows>
DUET_INLINE void prefetch_rows(const float* rows, Index row_stride, Index head_dim) noexcept {
  constexpr Index kLine = static_cast<Index>(kAlignment / sizeof(float));
  for (int r = 0; r < kRows; ++r) {
    for (Index i = 0; i < head_dim; i += kLine) __builtin_prefetch(rows + r * row_stride + i);
  }
}

}  // namespace DUET_ISA_NAMESPACE
}  // namespace duet::kernels
