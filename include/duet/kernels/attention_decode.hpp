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
// group. To score, the lanes of a vector are positions, a channel's keys lying side by side; to add values, they are
// channels. Both are read block by block from end to end, as they lie, for only such runs reach the memory's full bandwidth;
// heads that do not fit into the registers find a block in the first-level cache. A row's range is cut into chunks of eight
// pages, anchored at absolute positions, which run in parallel and are put together in their order: the bits depend on the
// range alone.

inline constexpr Index kDecodeChunk = 8 * kPageSize;

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

/// A chunk of one row's keys, for one key-value head's group of query heads.
struct DecodeChunk {
  const AttentionShape* shape;
  const KeyValuePages* kv;
  Index kv_head;
  const float* q;   ///< [group, head_dim]
  KeyRange keys;    ///< within the chunk
  float* partial;   ///< [group, value_width + 2]: unnormalised sums, largest score, sum of weights
  void (*weigh)(const PageScores*) noexcept;

  [[nodiscard]] Index group() const noexcept { return shape->num_attention_heads / shape->num_key_value_heads; }
};

/// Turns scores into weights. A kernel of its own, since it is the same for all formats.
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
};

template <class Element>
struct DecodeKernel {
  static constexpr Index kHeads = 8;  ///< heads that go over a page together: their scores stay on the stack

  template <class V>
  DUET_INLINE static void run(const DecodeChunk* chunk) noexcept {
    const Index stride = chunk->kv->value_width + 2;
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
    const Index stride = kv.value_width + 2;
    const float* const q = chunk.q + head * kv.head_dim;
    float* const partial = chunk.partial + head * stride;
    if (slots.begin >= kKeyBlock || slots.end <= kKeyBlock) std::fill_n(weights, heads * kPageSize, 0.0f);  // half is not read
    for (Index slot = slots.begin / kKeyBlock * kKeyBlock; slot < slots.end; slot += kKeyBlock) {
      const Keys keys{kv.keys_of<Element>(page, chunk.kv_head) + kv.key_at(slot, 0), kv.key_block_stride, kv.head_dim};
      for_heads<V::kDecodeHeads>(heads, Score<V>{q, keys, weights + slot});
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

  /// Keys of half a page.
  struct Keys {
    const Element* elements;  ///< [blocks, 32 channels, 32]
    Index block_stride;
    Index head_dim;
  };

  /// Scores of half a page; channels that share a scale are summed before they are scaled.
  template <class V>
  struct Score {
    const float* q;
    Keys keys;
    float* scores;  ///< [heads, 64]

    template <int H>
    DUET_INLINE void run(Index head) const noexcept {
      constexpr int kVectors = kKeyBlock / V::kWidth;
      const Index step = is_scaled<Element> ? kScaleBlock : keys.head_dim;
      const float* const queries = q + head * keys.head_dim;
      const Element* block = keys.elements;
      for (Index begin = 0; begin < keys.head_dim; begin += step, block += keys.block_stride) {
        V s[kVectors][H];
        DUET_UNROLL
        for (int i = 0; i < kVectors; ++i) {
          DUET_UNROLL
          for (int h = 0; h < H; ++h) s[i][h] = V(0.0f);
        }
        const Index count = std::min(step, keys.head_dim - begin);
        for (Index c = 0; c < count; ++c) {
          V query[H];
          DUET_UNROLL
          for (int h = 0; h < H; ++h) query[h] = V(queries[h * keys.head_dim + begin + c]);
          DUET_UNROLL
          for (int i = 0; i < kVectors; ++i) {
            const V k = V::load(block + c * kKeyBlock + i * V::kWidth);
            DUET_UNROLL
            for (int h = 0; h < H; ++h) s[i][h] = fma(k, query[h], s[i][h]);
          }
        }
        DUET_UNROLL
        for (int i = 0; i < kVectors; ++i) {
          DUET_UNROLL
          for (int h = 0; h < H; ++h) {
            float* const to = scores + (head + h) * kPageSize + i * V::kWidth;
            if constexpr (is_scaled<Element>) {
              const V scale = V::load(reinterpret_cast<const F16*>(block) - kKeyBlock + i * V::kWidth);
              s[i][h] = fma(scale, s[i][h], begin == 0 ? V(0.0f) : V::load(to));
            }
            s[i][h].store(to);
          }
        }
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
        V p[H], scale;
        DUET_UNROLL
        for (int h = 0; h < H; ++h) p[h] = V(weights[(head + h) * kPageSize + j]);
        if constexpr (is_scaled<Element>) scale = V::broadcast(reinterpret_cast<const F16*>(values) - kPageSize + j);
        DUET_UNROLL
        for (int c = 0; c < kVectors; ++c) {
          V v = V::load(values + j * kWidth + c * V::kWidth);
          if constexpr (is_scaled<Element>) v = v * scale;
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
  workspace.threads().run(total * kv_heads, [&](Index task) {
    const auto after = std::ranges::upper_bound(rows, task / kv_heads, {}, &Row::first_chunk);
    const Row& row = *(after - 1);
    const Index within = task - row.first_chunk * kv_heads, chunks = num_chunks(row.seen);
    const Index kv_head = within / chunks, chunk = within % chunks;
    const Index begin = (row.seen.begin / kDecodeChunk + chunk) * kDecodeChunk;
    const DecodeChunk work{&shape, &row.job->kv, kv_head,
                           row.job->q.data() + row.row * row.job->q.stride() + kv_head * group * shape.head_dim,
                           {std::max(row.seen.begin, begin), std::min(row.seen.end, begin + kDecodeChunk)},
                           partials_of(row, kv_head) + chunk * chunk_size,
                           compiled_for<WeighKernel, const PageScores*>(isa)};
    const auto kernel = with_element_of(
        work.kv->format, [&]<class Element>(Element) { return compiled_for<DecodeKernel<Element>, const DecodeChunk*>(isa); });
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
