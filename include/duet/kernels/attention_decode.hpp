#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "duet/core/workspace.hpp"
#include "duet/kernels/attention_types.hpp"
#include "duet/kernels/simd/dispatch.hpp"
#include "duet/kernels/simd/vec_math.hpp"

namespace duet::kernels {
inline namespace DUET_ISA_NAMESPACE {

// Attention of one row a sequence: bound by reading keys and values, so each is read from memory once for all heads of its
// group. The lanes of a vector are channels. A row's range is cut into chunks of eight pages, anchored at absolute positions,
// which run in parallel and are put together in their order: the bits depend on the range alone.

inline constexpr Index kDecodeChunk = 8 * kPageSize;

/// A chunk of one row's keys, for one key-value head's group of query heads.
struct DecodeChunk {
  const AttentionShape* shape;
  const KeyValuePages* kv;
  Index kv_head;
  const float* q;   ///< [group, head_dim]
  KeyRange keys;    ///< within the chunk
  float* partial;   ///< [group, head_dim + 2]: unnormalised sums, largest score, sum of weights

  [[nodiscard]] Index group() const noexcept { return shape->num_attention_heads / shape->num_key_value_heads; }
};

struct DecodeKernel {
  static constexpr Index kHeads = 8;  ///< heads that go over a page together: their scores stay on the stack

  template <class V>
  DUET_INLINE static void run(const DecodeChunk* chunk) noexcept {
    const Index stride = chunk->shape->head_dim + 2;
    for (Index head = 0; head < chunk->group(); ++head) {
      float* const partial = chunk->partial + head * stride;
      std::fill_n(partial, stride, 0.0f);
      partial[stride - 2] = -std::numeric_limits<float>::infinity();
    }
    const KeyRange keys = chunk->keys;
    for (Index page = keys.begin / kPageSize; page * kPageSize < keys.end; ++page) {
      const Index begin = std::max<Index>(0, keys.begin - page * kPageSize);
      const Index end = std::min(kPageSize, keys.end - page * kPageSize);
      for (Index head = 0; head < chunk->group(); head += kHeads) {
        read_page<V>(*chunk, page, {begin, end}, head, std::min(kHeads, chunk->group() - head));
      }
    }
  }

 private:
  template <class V>
  DUET_INLINE static void read_page(const DecodeChunk& chunk, Index page, KeyRange slots, Index head, Index heads) noexcept {
    alignas(kAlignment) float weights[kHeads * kPageSize];
    float keep[kHeads];
    const KeyValuePages& kv = *chunk.kv;
    const Index head_dim = chunk.shape->head_dim, stride = head_dim + 2;
    const float* const keys = kv.keys[page] + chunk.kv_head * kv.head_stride;
    const float* const values = kv.values[page] + chunk.kv_head * kv.head_stride;
    // While values are read, the next page's keys are on their way; while keys are read, this page's values.
    const bool first_pass = head == 0, more_pages = (page + 1) * kPageSize < chunk.keys.end;
    const float* next_keys = first_pass && more_pages ? kv.keys[page + 1] + chunk.kv_head * kv.head_stride : nullptr;
    const float* const q = chunk.q + head * head_dim;
    float* const partial = chunk.partial + head * stride;

    std::fill_n(weights, heads * kPageSize, 0.0f);
    Index j = slots.begin;
    for (; j + 4 <= slots.end; j += 4) {
      if (first_pass) prefetch_rows<4>(values + j * kv.row_stride, kv.row_stride, head_dim);
      score<V, 4, V::kDecodeSums / 4>(q, heads, keys + j * kv.row_stride, kv.row_stride, head_dim, weights + j);
    }
    for (; j < slots.end; ++j) score<V, 1, 1>(q, heads, keys + j * kv.row_stride, kv.row_stride, head_dim, weights + j);
    for (Index h = 0; h < heads; ++h) {
      keep[h] = weigh<V>(*chunk.shape, slots, weights + h * kPageSize, partial + h * stride + head_dim);
    }
    add_heads<V, 4>(weights, keep, heads, values, kv.row_stride, slots, head_dim, partial, next_keys);
  }

  /// Scores of R keys for H heads.
  template <class V, int R, int H>
  DUET_INLINE static void score_block(const float* q, const float* keys, Index row_stride, Index head_dim,
                                      float* scores) noexcept {
    V s[R][H];
    DUET_UNROLL
    for (int r = 0; r < R; ++r) {
      DUET_UNROLL
      for (int h = 0; h < H; ++h) s[r][h] = V(0.0f);
    }
    Index i = 0;
    for (; i + V::kWidth <= head_dim; i += V::kWidth) {
      V query[H];
      DUET_UNROLL
      for (int h = 0; h < H; ++h) query[h] = V::load(q + h * head_dim + i);
      DUET_UNROLL
      for (int r = 0; r < R; ++r) {
        const V k = V::load(keys + r * row_stride + i);
        DUET_UNROLL
        for (int h = 0; h < H; ++h) s[r][h] = fma(k, query[h], s[r][h]);
      }
    }
    if (const Index n = head_dim - i; n > 0) {
      DUET_UNROLL
      for (int h = 0; h < H; ++h) {
        const V query = V::load_first(q + h * head_dim + i, n);
        DUET_UNROLL
        for (int r = 0; r < R; ++r) s[r][h] = fma(V::load_first(keys + r * row_stride + i, n), query, s[r][h]);
      }
    }
    DUET_UNROLL
    for (int h = 0; h < H; ++h) {
      if constexpr (R == 4) {
        store_sums(s[0][h], s[1][h], s[2][h], s[3][h], scores + h * kPageSize);
      } else {
        DUET_UNROLL
        for (int r = 0; r < R; ++r) scores[h * kPageSize + r] = sum(s[r][h]);
      }
    }
  }

  /// Scores of R keys for all heads, H at a time and then fewer.
  template <class V, int R, int H>
  DUET_INLINE static void score(const float* q, Index heads, const float* keys, Index row_stride, Index head_dim,
                                float* scores) noexcept {
    for (; heads >= H; heads -= H, q += H * head_dim, scores += H * kPageSize) {
      score_block<V, R, H>(q, keys, row_stride, head_dim, scores);
    }
    if constexpr (H > 1) score<V, R, H / 2>(q, heads, keys, row_stride, head_dim, scores);
  }

  /// Turns a page's scores of one head into weights, 0 where a slot is not seen. state: largest score so far, sum of
  /// weights. Returns what shrinks earlier sums.
  template <class V>
  DUET_INLINE static float weigh(const AttentionShape& shape, KeyRange slots, float* scores, float* state) noexcept {
    static constexpr auto kSlots = [] {
      std::array<float, kPageSize> numbers{};
      for (std::size_t j = 0; j < kPageSize; ++j) numbers[j] = static_cast<float>(j);
      return numbers;
    }();
    const V lowest(-std::numeric_limits<float>::infinity()), scale(shape.scale), cap(shape.soft_cap);
    const V begin(static_cast<float>(slots.begin)), end(static_cast<float>(slots.end));
    V most = lowest;
    for (Index j = 0; j < kPageSize; j += V::kWidth) {
      V s = V::load(scores + j) * scale;
      if (shape.soft_cap > 0.0f) s = cap * tanh(s / cap);
      const V slot = V::load(kSlots.data() + j);
      s = select((begin <= slot) & (slot < end), s, lowest);
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

  /// o = keep · o + p · v, for H heads and C vectors of channels.
  template <class V, int H, int C>
  DUET_INLINE static void add_block(const float* weights, const float* keep, const float* values, Index row_stride,
                                    KeyRange slots, Index partial_stride, float* partial, const float* next_keys) noexcept {
    V o[H][C];
    DUET_UNROLL
    for (int h = 0; h < H; ++h) {
      DUET_UNROLL
      for (int c = 0; c < C; ++c) o[h][c] = V(keep[h]) * V::load(partial + h * partial_stride + c * V::kWidth);
    }
    for (Index j = slots.begin; j < slots.end; ++j) {
      if (next_keys != nullptr) prefetch_rows<1>(next_keys + j * row_stride, row_stride, partial_stride - 2);
      V p[H];
      DUET_UNROLL
      for (int h = 0; h < H; ++h) p[h] = V(weights[h * kPageSize + j]);
      DUET_UNROLL
      for (int c = 0; c < C; ++c) {
        const V v = V::load(values + j * row_stride + c * V::kWidth);
        DUET_UNROLL
        for (int h = 0; h < H; ++h) o[h][c] = fma(p[h], v, o[h][c]);
      }
    }
    DUET_UNROLL
    for (int h = 0; h < H; ++h) {
      DUET_UNROLL
      for (int c = 0; c < C; ++c) o[h][c].store(partial + h * partial_stride + c * V::kWidth);
    }
  }

  /// All channels of H heads, C vectors at a time and then fewer.
  template <class V, int H, int C>
  DUET_INLINE static void add_channels(const float* weights, const float* keep, const float* values, Index row_stride,
                                       KeyRange slots, Index head_dim, Index i, float* partial,
                                       const float* next_keys) noexcept {
    const Index stride = head_dim + 2;
    for (; i + C * V::kWidth <= head_dim; i += C * V::kWidth, next_keys = nullptr) {
      add_block<V, H, C>(weights, keep, values + i, row_stride, slots, stride, partial + i, next_keys);
    }
    if constexpr (C > 1) {
      add_channels<V, H, C / 2>(weights, keep, values, row_stride, slots, head_dim, i, partial, next_keys);
    } else if (const Index n = head_dim - i; n > 0) {
      for (int h = 0; h < H; ++h) {
        V o = V(keep[h]) * V::load_first(partial + h * stride + i, n);
        for (Index j = slots.begin; j < slots.end; ++j) {
          o = fma(V(weights[h * kPageSize + j]), V::load_first(values + j * row_stride + i, n), o);
        }
        o.store_first(partial + h * stride + i, n);
      }
    }
  }

  /// All heads, H at a time and then fewer.
  template <class V, int H>
  DUET_INLINE static void add_heads(const float* weights, const float* keep, Index heads, const float* values,
                                    Index row_stride, KeyRange slots, Index head_dim, float* partial,
                                    const float* next_keys) noexcept {
    for (; heads >= H; heads -= H, next_keys = nullptr) {
      add_channels<V, H, V::kDecodeSums / H>(weights, keep, values, row_stride, slots, head_dim, 0, partial, next_keys);
      weights += H * kPageSize, keep += H, partial += H * (head_dim + 2);
    }
    if constexpr (H > 1) add_heads<V, H / 2>(weights, keep, heads, values, row_stride, slots, head_dim, partial, next_keys);
  }
};

/// Puts the chunks of one row and group together, in their order.
inline void combine_chunks(const AttentionShape& shape, const float* partials, Index num_chunks, float* out,
                           float* log_sum_exp) noexcept {
  const Index group = shape.num_attention_heads / shape.num_key_value_heads, stride = shape.head_dim + 2;
  for (Index head = 0; head < group; ++head) {
    const float* const first = partials + head * stride;
    float most = -std::numeric_limits<float>::infinity(), sum = 0.0f;
    for (Index c = 0; c < num_chunks; ++c) most = std::max(most, first[c * group * stride + shape.head_dim]);
    float* const to = out + head * shape.head_dim;
    std::fill_n(to, shape.head_dim, 0.0f);
    for (Index c = 0; c < num_chunks; ++c) {
      const float* const from = first + c * group * stride;
      const float score = from[shape.head_dim];
      const float factor = score == -std::numeric_limits<float>::infinity() ? 0.0f : std::exp(score - most);
      sum = std::fma(from[shape.head_dim + 1], factor, sum);
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
  const Index chunk_size = group * (shape.head_dim + 2);
  float* const partials = workspace.array<float>(total * kv_heads * chunk_size).data();  // [row][kv head][chunk]
  const auto partials_of = [&](const Row& row, Index kv_head) {
    return partials + (row.first_chunk * kv_heads + kv_head * num_chunks(row.seen)) * chunk_size;
  };

  const auto kernel = compiled_for<DecodeKernel, const DecodeChunk*>(workspace.kernels().isa);
  workspace.threads().run(total * kv_heads, [&](Index task) {
    const auto after = std::ranges::upper_bound(rows, task / kv_heads, {}, &Row::first_chunk);
    const Row& row = *(after - 1);
    const Index within = task - row.first_chunk * kv_heads, chunks = num_chunks(row.seen);
    const Index kv_head = within / chunks, chunk = within % chunks;
    const Index begin = (row.seen.begin / kDecodeChunk + chunk) * kDecodeChunk;
    const DecodeChunk work{&shape, &row.job->kv, kv_head,
                           row.job->q.data() + row.row * row.job->q.stride() + kv_head * group * shape.head_dim,
                           {std::max(row.seen.begin, begin), std::min(row.seen.end, begin + kDecodeChunk)},
                           partials_of(row, kv_head) + chunk * chunk_size};
    kernel(&work);
  });
  for (const Row& row : rows) {
    for (Index kv_head = 0; kv_head < kv_heads; ++kv_head) {
      const MatrixView lse = row.job->log_sum_exp;
      combine_chunks(shape, partials_of(row, kv_head), num_chunks(row.seen),
                     row.job->out.data() + row.row * row.job->out.stride() + kv_head * group * shape.head_dim,
                     lse.empty() ? nullptr : lse.data() + row.row * lse.stride() + kv_head * group);
    }
  }
}

}  // namespace DUET_ISA_NAMESPACE
}  // namespace duet::kernels
