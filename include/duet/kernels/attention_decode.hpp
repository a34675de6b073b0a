#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "duet/core/workspace.hpp"
#include "duet/kernels/attention_decode_q8.hpp"
#include "duet/kernels/attention_types.hpp"
#include "duet/kernels/decode_chunk.hpp"
#include "duet/kernels/simd/dispatch.hpp"
#include "duet/kernels/simd/vec_math.hpp"

namespace duet::kernels {
inline namespace DUET_ISA_NAMESPACE {

// Attention of one row a sequence: bound by reading keys and values, so each is read from memory once for all heads of its
// group. To score, the lanes of a vector are positions, a channel's keys lying side by side; to add values, they are
// channels. Both are read block by block from end to end, as they lie, for only such runs reach the memory's full bandwidth;
// heads that do not fit into the registers find a block in the first-level cache. A row's range is cut into chunks of eight
// pages, anchored at absolute positions, which run in parallel and are put together in their order: the bits depend on the
// range alone.

/// Scores of a page's slots, for heads that share its keys.
struct PageScores {
  const AttentionShape* shape;
  KeyRange slots;  ///< that are seen
  Index heads;
  float* scores;  ///< [heads, 64]; they become weights, 0 where a slot is not seen
  float* states;  ///< [heads, state_stride]: largest score so far, sum of weights
  Index state_stride;
  float* keep;  ///< [heads]: becomes what shrinks earlier sums
};

/// Turns scores into weights. A kernel of its own, since it is the same for all formats of floats.
struct WeighKernel {
  template <class V>
  DUET_INLINE static void run(const PageScores* page) noexcept {
    for (Index h = 0; h < page->heads; ++h) {
      page->keep[h] = weigh<V>(*page->shape, page->slots, page->scores + h * kPageSize, page->states + h * page->state_stride);
    }
  }

 private:
  template <class V>
  DUET_INLINE static float weigh(const AttentionShape& shape, KeyRange slots, float* scores, float* state) noexcept {
    const V lowest(-std::numeric_limits<float>::infinity()), scale(shape.scale), cap(shape.soft_cap);
    V most = lowest;
    for (Index j = 0; j < kPageSize; j += V::kWidth) {
      V s = V::load(scores + j) * scale;
      if (shape.soft_cap > 0.0f) s = cap * tanh(s / cap);
      s = select(sees<V>(slots, j), s, lowest);
      s.store(scores + j);
      most = max(most, s);
    }
    const float before = state[0], now = std::max(before, largest(most));
    const V base(now == -std::numeric_limits<float>::infinity() ? 0.0f : now);  // never −inf from −inf
    V weights(0.0f);
    for (Index j = 0; j < kPageSize; j += V::kWidth) {
      const V p = exp_to_zero(V::load(scores + j) - base);
      p.store(scores + j);
      weights = weights + p;
    }
    float keep[V::kWidth];
    exp(V(before) - base).store(keep);
    state[0] = now;
    state[1] = std::fma(state[1], keep[0], sum(weights));
    return keep[0];
  }
};

/// Reads pages of floats.
template <class Element>
struct DecodeKernel {
  template <class V>
  DUET_INLINE static void run(const DecodeChunk* chunk) noexcept {
    for_each_page<V, DecodeKernel>(*chunk);
  }
  template <class V>
  DUET_INLINE static void read_page(const DecodeChunk& chunk, Index page, KeyRange slots, Index head, Index heads) noexcept {
    alignas(kAlignment) float weights[kPageHeads * kPageSize];
    float keep[kPageHeads];
    const KeyValuePages& kv = *chunk.kv;
    const Index stride = kv.value_width + 2;
    const float* const q = chunk.q + head * kv.head_dim;
    float* const partial = chunk.partial + head * stride;
    if (slots.begin >= kKeyBlock || slots.end <= kKeyBlock) std::fill_n(weights, heads * kPageSize, 0.0f);  // half is not read
    for (Index slot = slots.begin / kKeyBlock * kKeyBlock; slot < slots.end; slot += kKeyBlock) {
      const Element* const keys = kv.keys_of<Element>(page, chunk.kv_head) + kv.key_at(slot, 0);
      for_heads<V::kDecodeHeads>(heads, Score<V>{q, keys, kv.head_dim, weights + slot});
    }
    const PageScores scores{chunk.shape, slots, heads, weights, partial + stride - 2, stride, keep};
    chunk.weigh(&scores);
    for (Index c = 0; c < kv.value_width; c += kValueBlock) {
      const Element* const values = kv.values_of<Element>(page, chunk.kv_head) + kv.value_at(0, c);
      if (kv.value_slot_stride(c) == kValueBlock) {
        for_heads<V::kDecodeHeads>(heads, Add<V>{weights, keep, values, slots, partial + c, stride});
      } else {
        for_heads<V::kDecodeHeads>(heads, Add<V, kValueBlock / 2>{weights, keep, values, slots, partial + c, stride});
      }
    }
  }

 private:
  /// Calls work.run<H>(head) for all heads, in as few groups of at most kMost as there can be, of about one size.
  template <int kMost, class Work>
  DUET_INLINE static void for_heads(Index heads, const Work& work) noexcept {
    const Index groups = (heads + kMost - 1) / kMost, most = (heads + groups - 1) / groups;
    for (Index head = 0; head < heads; head += most) run_for<kMost>(work, head, std::min(most, heads - head));
  }
  template <int H, class Work>
  DUET_INLINE static void run_for(const Work& work, Index head, Index count) noexcept {
    if constexpr (H > 0) {
      if (count == H) return work.template run<H>(head);
      run_for<H - 1>(work, head, count);
    }
  }

  /// Scores of half a page.
  template <class V>
  struct Score {
    const float* q;
    const Element* keys;  ///< [head_dim, 32]
    Index head_dim;
    float* scores;  ///< [heads, 64]

    template <int H>
    DUET_INLINE void run(Index head) const noexcept {
      constexpr int kVectors = kKeyBlock / V::kWidth;
      const float* const queries = q + head * head_dim;
      V s[kVectors][H];
      DUET_UNROLL
      for (int i = 0; i < kVectors; ++i) {
        DUET_UNROLL
        for (int h = 0; h < H; ++h) s[i][h] = V(0.0f);
      }
      for (Index c = 0; c < head_dim; ++c) {
        V query[H];
        DUET_UNROLL
        for (int h = 0; h < H; ++h) query[h] = V(queries[h * head_dim + c]);
        DUET_UNROLL
        for (int i = 0; i < kVectors; ++i) {
          const V k = V::load(keys + c * kKeyBlock + i * V::kWidth);
          DUET_UNROLL
          for (int h = 0; h < H; ++h) s[i][h] = fma(k, query[h], s[i][h]);
        }
      }
      DUET_UNROLL
      for (int i = 0; i < kVectors; ++i) {
        DUET_UNROLL
        for (int h = 0; h < H; ++h) s[i][h].store(scores + (head + h) * kPageSize + i * V::kWidth);
      }
    }
  };

  /// o = keep · o + p · v for a block of values.
  template <class V, Index kWidth = kValueBlock>
  struct Add {
    const float* weights;  ///< [heads, 64]
    const float* keep;     ///< [heads]
    const Element* values;  ///< [64, kWidth]
    KeyRange slots;
    float* sums;  ///< [heads, stride], from the block's first channel on
    Index stride;

    template <int H>
    DUET_INLINE void run(Index head) const noexcept {
      constexpr int kVectors = kWidth / V::kWidth;
      V o[H][kVectors];
      DUET_UNROLL
      for (int h = 0; h < H; ++h) {
        DUET_UNROLL
        for (int c = 0; c < kVectors; ++c) o[h][c] = V(keep[head + h]) * V::load(sums + (head + h) * stride + c * V::kWidth);
      }
      for (Index j = slots.begin; j < slots.end; ++j) {
        V p[H];
        DUET_UNROLL
        for (int h = 0; h < H; ++h) p[h] = V(weights[(head + h) * kPageSize + j]);
        DUET_UNROLL
        for (int c = 0; c < kVectors; ++c) {
          const V v = V::load(values + j * kWidth + c * V::kWidth);
          DUET_UNROLL
          for (int h = 0; h < H; ++h) o[h][c] = fma(p[h], v, o[h][c]);
        }
      }
      DUET_UNROLL
      for (int h = 0; h < H; ++h) {
        DUET_UNROLL
        for (int c = 0; c < kVectors; ++c) o[h][c].store(sums + (head + h) * stride + c * V::kWidth);
      }
    }
  };
};

/// Puts the chunks of one row and group together, in their order.
inline void combine_chunks(const AttentionShape& shape, Index stride, const float* partials, Index num_chunks, float* out,
                           float* log_sum_exp) noexcept {
  const Index group = shape.num_attention_heads / shape.num_key_value_heads;
  for (Index head = 0; head < group; ++head) {
    const float* const first = partials + head * stride;
    float most = -std::numeric_limits<float>::infinity(), sum = 0.0f;
    for (Index c = 0; c < num_chunks; ++c) most = std::max(most, first[c * group * stride + stride - 2]);
    float* const to = out + head * shape.head_dim;
    std::fill_n(to, shape.head_dim, 0.0f);
    for (Index c = 0; c < num_chunks; ++c) {
      const float* const from = first + c * group * stride;
      const float score = from[stride - 2];
      const float factor = score == -std::numeric_limits<float>::infinity() ? 0.0f : std::exp(score - most);
      sum = std::fma(from[stride - 1], factor, sum);
      for (Index i = 0; i < shape.head_dim; ++i) to[i] += factor * from[i];
    }
    const float factor = sum == 0.0f ? 0.0f : 1.0f / sum;
    for (Index i = 0; i < shape.head_dim; ++i) to[i] *= factor;
    if (log_sum_exp != nullptr) log_sum_exp[head] = most + std::log(sum);
  }
}

/// Attention of Phase::kDecode.
inline void decode_attention(std::span<const AttentionJob> jobs, const AttentionShape& shape, Workspace& workspace) {
  const auto frame = workspace.frame();
  const Index group = shape.num_attention_heads / shape.num_key_value_heads, kv_heads = shape.num_key_value_heads;
  const auto num_chunks = [](KeyRange seen) {
    return seen.begin >= seen.end ? 0 : (seen.end - 1) / kDecodeChunk - seen.begin / kDecodeChunk + 1;
  };
  struct Row {
    const AttentionJob* job;
    Index row;
    KeyRange seen;
    Index first_chunk;  ///< number of chunks of the rows before
  };
  Index num_rows = 0;
  for (const AttentionJob& job : jobs) num_rows += job.q.rows();
  const std::span<Row> rows = workspace.array<Row>(num_rows);
  Index total = 0;
  auto next = rows.begin();
  for (const AttentionJob& job : jobs) {
    for (Index i = 0; i < job.q.rows(); ++i) {
      const KeyRange seen = job.visible[static_cast<std::size_t>(i)];
      *next++ = {&job, i, seen, total};
      total += num_chunks(seen);
    }
  }
  const Index stride = KeyValueLayout{{}, shape.head_dim}.value_width() + 2, chunk_size = group * stride;
  float* const partials = workspace.array<float>(total * kv_heads * chunk_size).data();  // [row][kv head][chunk]
  const auto partials_of = [&](const Row& row, Index kv_head) {
    return partials + (row.first_chunk * kv_heads + kv_head * num_chunks(row.seen)) * chunk_size;
  };

  const Isa isa = workspace.kernels().isa;
  const bool some_q8 = std::ranges::any_of(jobs, [](const AttentionJob& job) { return job.kv.format == KeyValueFormat::kQ8; });
  const Index heads = shape.num_attention_heads, blocks = RoundedQuery::blocks(shape.head_dim);
  RoundedQuery rounded;
  if (some_q8) {
    rounded = {workspace.array<std::int16_t>(num_rows * heads * blocks * kScaleBlock).data(),
               workspace.array<float>(num_rows * heads * blocks).data()};
    const auto round = compiled_for<RoundQueryKernel, const float*, Index, Index, float, RoundedQuery>(isa);
    for (Index i = 0; i < num_rows; ++i) {
      const Row& row = rows[static_cast<std::size_t>(i)];
      round(row.job->q.row(row.row).data(), heads, shape.head_dim, shape.scale, rounded.at(i * heads, blocks));
    }
  }
  workspace.threads().run(total * kv_heads, [&](Index task) {
    const auto after = std::ranges::upper_bound(rows, task / kv_heads, {}, &Row::first_chunk);
    const Row& row = *(after - 1);
    const Index within = task - row.first_chunk * kv_heads, chunks = num_chunks(row.seen);
    const Index kv_head = within / chunks, chunk = within % chunks;
    const Index begin = (row.seen.begin / kDecodeChunk + chunk) * kDecodeChunk;
    const DecodeChunk work{&shape, &row.job->kv, kv_head,
                           row.job->q.data() + row.row * row.job->q.stride() + kv_head * group * shape.head_dim,
                           rounded.at((&row - rows.data()) * heads + kv_head * group, blocks),
                           {std::max(row.seen.begin, begin), std::min(row.seen.end, begin + kDecodeChunk)},
                           partials_of(row, kv_head) + chunk * chunk_size,
                           compiled_for<WeighKernel, const PageScores*>(isa),
                           &workspace.kernels().quads};
    const auto kernel = with_element_of(work.kv->format, [&]<class Element>(Element) {
      using Kernel = std::conditional_t<is_scaled<Element>, DecodeBytesKernel, DecodeKernel<Element>>;
      return compiled_for<Kernel, const DecodeChunk*>(isa);
    });
    kernel(&work);
  });
  for (const Row& row : rows) {
    for (Index kv_head = 0; kv_head < kv_heads; ++kv_head) {
      const MatrixView lse = row.job->log_sum_exp;
      combine_chunks(shape, stride, partials_of(row, kv_head), num_chunks(row.seen),
                     row.job->out.data() + row.row * row.job->out.stride() + kv_head * group * shape.head_dim,
                     lse.empty() ? nullptr : lse.data() + row.row * lse.stride() + kv_head * group);
    }
  }
}

}  // namespace DUET_ISA_NAMESPACE
}  // namespace duet::kernels
