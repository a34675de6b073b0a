#pragma once

#include "duet/kernels/attention_decode.hpp"
#include "duet/kernels/attention_prefill.hpp"
#include "duet/kernels/attention_types.hpp"
#include "duet/kernels/phase.hpp"

namespace duet::kernels {
inline namespace DUET_ISA_NAMESPACE {

/// Multi-head attention of every row of every job to the keys it sees, all jobs in one parallel region:
///
///     score_j = scale · q · k_j, then cap · tanh(score_j / cap) if capped;  out = Σ_j softmax(score)_j v_j
///     log_sum_exp = log Σ_j exp(score_j)
///
/// A row that sees nothing becomes zero, with log_sum_exp −inf. Slots that a row does not see are not read, or do not
/// matter to it whatever they hold. A row's bits depend on its query, its range and the keys and values in it, and on the
/// phase; not on threads, neighbouring rows or other jobs.
///
/// Shapes   see AttentionJob
/// Requires num_attention_heads a multiple of num_key_value_heads; out distinct from q, keys and values; to decode, pages of
///          a KV cache
/// Cost     4 · head_dim · num_attention_heads FLOP per row and key. Scratch in the workspace: to prefill,
///          48 · (2 · head_dim + 64) floats per thread, and a page's floats where it holds none; to decode,
///          num_attention_heads · (value_width + 2) floats per row and 512 keys, and for kQ8 a copy of q in 16 bits
/// Source   Vaswani et al. 2017, 1706.03762; online softmax: Milakov and Gimelshein 2018, 1805.02867; tiles: Dao et al. 2022,
///          2205.14135; chunks of keys in parallel: Dao et al. 2023, "Flash-Decoding"
inline void attention(std::span<const AttentionJob> jobs, const AttentionShape& shape, Phase phase, Workspace& workspace) {
  DUET_ASSERT(shape.num_key_value_heads > 0 && shape.num_attention_heads % shape.num_key_value_heads == 0,
              "query heads are shared out evenly among key-value heads");
  for ([[maybe_unused]] const AttentionJob& job : jobs) {
    DUET_ASSERT(job.q.cols() == shape.num_attention_heads * shape.head_dim, "q holds all heads");
    DUET_ASSERT(job.out.rows() == job.q.rows() && job.out.cols() == job.q.cols(), "out has q's shape");
    DUET_ASSERT(job.kv.head_dim == shape.head_dim, "keys are as wide as queries");
    DUET_ASSERT(phase == Phase::kPrefill || job.kv.key_slot_stride == 1, "decoding reads keys channel by channel");
    DUET_ASSERT(static_cast<Index>(job.visible.size()) == job.q.rows(), "one range of keys per row");
  }
  phase == Phase::kPrefill ? prefill_attention(jobs, shape, workspace) : decode_attention(jobs, shape, workspace);
}

}  // namespace DUET_ISA_NAMESPACE
}  // namespace duet::kernels
