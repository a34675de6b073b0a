#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

#include "duet/core/workspace.hpp"
#include "duet/kernels/attention_types.hpp"
#include "duet/kernels/key_value_floats.hpp"
#include "duet/kernels/simd/dispatch.hpp"
#include "duet/kernels/simd/vec_math.hpp"

namespace duet::kernels {
inline namespace DUET_ISA_NAMESPACE {

// Attention of many rows. The lanes of a vector are queries: a lane is one (row, head) pair, and the heads of a group are
// neighbours, so that they share every key and value that is read. A task takes 48 lanes of one key-value head and walks
// over the pages that they see:
//
//     scores   s[j][lane]  = Σ_c k[j][c] · q[c][lane]           a small matmul: broadcasts of k times vectors of q
//     weights  p[j][lane]  = exp(s[j][lane] − most[lane])       online: earlier sums shrink when the maximum grows
//     sums     o[c][lane] += Σ_j v[j][c] · p[j][lane]           a small matmul again
//
// Floats are read as they lie, scalar by scalar, and other formats are made floats a page at a time; only q is transposed,
// once a task. A lane's arithmetic depends on
// nothing but its query, its range and the pages, which are anchored at absolute positions. So a row has the same bits
// however rows are cut into calls and tasks, and whatever stands in slots that it does not see.

/// Lanes of a task: three vectors of the widest kind.
inline constexpr Index kPrefillLanes = 48;

/// What one task works on; the matrices are scratch of the thread that runs it.
struct PrefillTile {
  const AttentionJob* job;
  const AttentionShape* shape;
  Index kv_head;
  Index first_pair, num_pairs;  ///< pair p is row p / group and the key-value head's query head p % group
  float* q;                     ///< [head_dim, 48], scaled
  float* sums;                  ///< [head_dim, 48]
  float* scores;                ///< [kPageSize, 48], then weights
  float* page;                  ///< scratch of a FloatPage

  /// Floats of scratch for one thread.
  static Index scratch(const KeyValueLayout& layout) noexcept {
    return (2 * layout.head_dim + kPageSize) * kPrefillLanes + FloatPage::scratch(layout);
  }
  [[nodiscard]] Index group() const noexcept { return shape->num_attention_heads / shape->num_key_value_heads; }
  [[nodiscard]] Index row(Index lane) const noexcept { return (first_pair + lane) / group(); }
  [[nodiscard]] Index head(Index lane) const noexcept { return kv_head * group() + (first_pair + lane) % group(); }
};

/// The running softmax of every lane, and what it sees: of all keys, and of the current page's slots.
struct LaneStates {
  alignas(kAlignment) float most[kPrefillLanes];   ///< largest score so far
  alignas(kAlignment) float sum[kPrefillLanes];    ///< Σ exp(score − most)
  alignas(kAlignment) float keep[kPrefillLanes];   ///< what shrinks earlier sums
  alignas(kAlignment) float begin[kPrefillLanes];  ///< slots [begin, end) of the page
  alignas(kAlignment) float end[kPrefillLanes];
  KeyRange seen[kPrefillLanes];
  KeyRange seen_by_some{std::numeric_limits<Index>::max(), 0};
  KeyRange seen_by_all{0, std::numeric_limits<Index>::max()};
};

/// Whether every lane sees every slot that is read of a page.
enum class Cover { kWhole, kPart };

struct PageSlots {
  Index begin, end;  ///< that some lane sees
  Cover cover;
};

struct PrefillKernel {
  static constexpr Index kLanes = kPrefillLanes;

  template <class V>
  DUET_INLINE static void run(const PrefillTile* tile) noexcept {
    LaneStates lanes;
    start(*tile, lanes);
    for (Index page = lanes.seen_by_some.begin / kPageSize; page * kPageSize < lanes.seen_by_some.end; ++page) {
      const PageSlots slots = visible_slots(*tile, page * kPageSize, lanes);
      if (slots.begin >= slots.end) continue;
      const FloatPage floats = float_page<V>(tile->job->kv, page, tile->kv_head, tile->page);
      score<V>(*tile, floats, slots);
      if (tile->shape->soft_cap > 0.0f) cap_scores<V>(*tile, slots);
      if (slots.cover == Cover::kPart) hide_scores<V>(*tile, slots, lanes);
      weigh<V>(*tile, slots, lanes);
      if (slots.cover == Cover::kWhole) {
        add_values<V, Cover::kWhole>(*tile, floats, slots, lanes);
      } else {
        add_values<V, Cover::kPart>(*tile, floats, slots, lanes);
      }
    }
    finish(*tile, lanes);
  }

 private:
  static Index num_vectors(const PrefillTile& tile, Index width) noexcept { return (tile.num_pairs + width - 1) / width; }

  DUET_INLINE static void start(const PrefillTile& tile, LaneStates& lanes) noexcept {
    const Index head_dim = tile.shape->head_dim;
    std::fill_n(lanes.most, kLanes, -std::numeric_limits<float>::infinity());
    std::fill_n(lanes.sum, kLanes, 0.0f);
    std::fill_n(lanes.begin, kLanes, 0.0f);
    std::fill_n(lanes.end, kLanes, 0.0f);
    std::fill_n(tile.sums, head_dim * kLanes, 0.0f);
    std::fill_n(tile.q, head_dim * kLanes, 0.0f);
    for (Index lane = 0; lane < tile.num_pairs; ++lane) {
      const Index row = tile.row(lane);
      const float* q = tile.job->q.data() + row * tile.job->q.stride() + tile.head(lane) * head_dim;
      for (Index c = 0; c < head_dim; ++c) tile.q[c * kLanes + lane] = q[c] * tile.shape->scale;

      const KeyRange seen = lanes.seen[lane] = tile.job->visible[static_cast<std::size_t>(row)];
      KeyRange &some = lanes.seen_by_some, &all = lanes.seen_by_all;
      all = {std::max(all.begin, seen.begin), std::min(all.end, seen.end)};
      if (seen.begin < seen.end) some = {std::min(some.begin, seen.begin), std::max(some.end, seen.end)};
    }
  }

  /// Sets the lanes' shares of the page that begins at a position.
  DUET_INLINE static PageSlots visible_slots(const PrefillTile& tile, Index position, LaneStates& lanes) noexcept {
    if (lanes.seen_by_all.begin <= position && position + kPageSize <= lanes.seen_by_all.end) {
      return {0, kPageSize, Cover::kWhole};
    }
    PageSlots slots{kPageSize, 0, Cover::kPart};
    for (Index lane = 0; lane < tile.num_pairs; ++lane) {
      const Index begin = std::clamp<Index>(lanes.seen[lane].begin - position, 0, kPageSize);
      const Index end = std::clamp<Index>(lanes.seen[lane].end - position, 0, kPageSize);
      lanes.begin[lane] = static_cast<float>(begin);
      lanes.end[lane] = static_cast<float>(end);
      if (begin >= end) continue;
      slots.begin = std::min(slots.begin, begin);
      slots.end = std::max(slots.end, end);
    }
    if (lanes.seen_by_all.begin <= position + slots.begin && position + slots.end <= lanes.seen_by_all.end) {
      slots.cover = Cover::kWhole;
    }
    return slots;
  }

  /// s = k · q, for R keys and C vectors of lanes.
  template <class V, int R, int C>
  DUET_INLINE static void score_block(const float* q, const float* keys, Index slot_stride, Index channel_stride,
                                      Index head_dim, float* scores) noexcept {
    V s[R][C];
    DUET_UNROLL
    for (int r = 0; r < R; ++r) {
      DUET_UNROLL
      for (int c = 0; c < C; ++c) s[r][c] = V(0.0f);
    }
    for (Index i = 0; i < head_dim; ++i, q += kLanes, keys += channel_stride) {
      V lanes[C];
      DUET_UNROLL
      for (int c = 0; c < C; ++c) lanes[c] = V::load(q + c * V::kWidth);
      DUET_UNROLL
      for (int r = 0; r < R; ++r) {
        const V k(keys[r * slot_stride]);
        DUET_UNROLL
        for (int c = 0; c < C; ++c) s[r][c] = fma(k, lanes[c], s[r][c]);
      }
    }
    DUET_UNROLL
    for (int r = 0; r < R; ++r) {
      DUET_UNROLL
      for (int c = 0; c < C; ++c) s[r][c].store(scores + r * kLanes + c * V::kWidth);
    }
  }

  template <class V, int C>
  DUET_INLINE static void score_column(const PrefillTile& tile, const FloatPage& page, PageSlots slots, Index lane) noexcept {
    const KeyValuePages& kv = page.layout;
    const Index slot_stride = kv.key_slot_stride, channel_stride = kv.key_channel_stride, head_dim = kv.head_dim;
    for (Index j = slots.begin; j < slots.end;) {
      const float* const keys = page.keys + kv.key_at(j, 0);
      float* const scores = tile.scores + j * kLanes + lane;
      if (j % V::kBlockRows == 0 && j + V::kBlockRows <= slots.end) {  // no block of rows crosses a block of keys
        score_block<V, V::kBlockRows, C>(tile.q + lane, keys, slot_stride, channel_stride, head_dim, scores);
        j += V::kBlockRows;
      } else {
        score_block<V, 1, C>(tile.q + lane, keys, slot_stride, channel_stride, head_dim, scores);
        ++j;
      }
    }
  }

  template <class V>
  DUET_INLINE static void score(const PrefillTile& tile, const FloatPage& page, PageSlots slots) noexcept {
    Index v = 0;
    for (; v + V::kBlockVectors <= num_vectors(tile, V::kWidth); v += V::kBlockVectors) {
      score_column<V, V::kBlockVectors>(tile, page, slots, v * V::kWidth);
    }
    for (; v < num_vectors(tile, V::kWidth); ++v) score_column<V, 1>(tile, page, slots, v * V::kWidth);
  }

  /// Lanes that see slot j.
  template <class V>
  DUET_INLINE static typename V::Mask sees(const LaneStates& lanes, Index lane, Index j) noexcept {
    const V slot(static_cast<float>(j));
    return (V::load(lanes.begin + lane) <= slot) & (slot < V::load(lanes.end + lane));
  }

  template <class V>
  DUET_INLINE static void cap_scores(const PrefillTile& tile, PageSlots slots) noexcept {
    const V cap(tile.shape->soft_cap);
    for (Index lane = 0; lane < tile.num_pairs; lane += V::kWidth) {
      for (Index j = slots.begin; j < slots.end; ++j) {
        float* const score = tile.scores + j * kLanes + lane;
        (cap * tanh(V::load(score) / cap)).store(score);
      }
    }
  }

  /// −inf where a lane does not see a slot.
  template <class V>
  DUET_INLINE static void hide_scores(const PrefillTile& tile, PageSlots slots, const LaneStates& lanes) noexcept {
    const V lowest(-std::numeric_limits<float>::infinity());
    for (Index lane = 0; lane < tile.num_pairs; lane += V::kWidth) {
      for (Index j = slots.begin; j < slots.end; ++j) {
        float* const score = tile.scores + j * kLanes + lane;
        select(sees<V>(lanes, lane, j), V::load(score), lowest).store(score);
      }
    }
  }

  template <class V>
  DUET_INLINE static void weigh(const PrefillTile& tile, PageSlots slots, LaneStates& lanes) noexcept {
    const V lowest(-std::numeric_limits<float>::infinity());
    for (Index lane = 0; lane < tile.num_pairs; lane += V::kWidth) {
      float* const scores = tile.scores + lane;
      const V before = V::load(lanes.most + lane);
      V most = before;
      for (Index j = slots.begin; j < slots.end; ++j) most = max(most, V::load(scores + j * kLanes));
      // A lane that has seen nothing yet, or nothing but −inf, must not take −inf from −inf.
      const V base = select(lowest < most, most, V(0.0f));
      V sum(0.0f);
      for (Index j = slots.begin; j < slots.end; ++j) {
        const V p = exp_to_zero(V::load(scores + j * kLanes) - base);
        p.store(scores + j * kLanes);
        sum = sum + p;
      }
      const V keep = exp(before - base);
      keep.store(lanes.keep + lane);
      most.store(lanes.most + lane);
      fma(V::load(lanes.sum + lane), keep, sum).store(lanes.sum + lane);
    }
  }

  /// o = keep · o + v · p, for R channels and C vectors of lanes. Where a lane does not see a slot, its sum is left alone:
  /// a weight of 0 would not do, for the slot may hold inf or NaN.
  template <class V, Cover cover, int R, int C>
  DUET_INLINE static void add_block(const float* weights, const float* values, Index row_stride, PageSlots slots,
                                    const LaneStates& lanes, Index lane, float* sums) noexcept {
    V o[R][C];
    DUET_UNROLL
    for (int r = 0; r < R; ++r) {
      DUET_UNROLL
      for (int c = 0; c < C; ++c) {
        const V keep = V::load(lanes.keep + lane + c * V::kWidth);
        o[r][c] = keep * V::load(sums + r * kLanes + c * V::kWidth);
      }
    }
    for (Index j = slots.begin; j < slots.end; ++j) {
      V p[C];
      DUET_UNROLL
      for (int c = 0; c < C; ++c) p[c] = V::load(weights + j * kLanes + c * V::kWidth);
      DUET_UNROLL
      for (int r = 0; r < R; ++r) {
        const V v(values[j * row_stride + r]);
        DUET_UNROLL
        for (int c = 0; c < C; ++c) {
          const V next = fma(v, p[c], o[r][c]);
          if constexpr (cover == Cover::kWhole) {
            o[r][c] = next;
          } else {
            o[r][c] = select(sees<V>(lanes, lane + c * V::kWidth, j), next, o[r][c]);
          }
        }
      }
    }
    DUET_UNROLL
    for (int r = 0; r < R; ++r) {
      DUET_UNROLL
      for (int c = 0; c < C; ++c) o[r][c].store(sums + r * kLanes + c * V::kWidth);
    }
  }

  template <class V, Cover cover, int C>
  DUET_INLINE static void add_column(const PrefillTile& tile, const FloatPage& page, PageSlots slots,
                                     const LaneStates& lanes, Index lane) noexcept {
    const KeyValuePages& kv = page.layout;
    const Index head_dim = kv.head_dim;
    Index i = 0;
    for (; i + V::kBlockRows <= head_dim; i += V::kBlockRows) {
      add_block<V, cover, V::kBlockRows, C>(tile.scores + lane, page.values + kv.value_at(0, i), kv.value_slot_stride(i), slots, lanes, lane,
                                            tile.sums + i * kLanes + lane);
    }
    for (; i < head_dim; ++i) {
      add_block<V, cover, 1, C>(tile.scores + lane, page.values + kv.value_at(0, i), kv.value_slot_stride(i), slots, lanes, lane,
                                tile.sums + i * kLanes + lane);
    }
  }

  template <class V, Cover cover>
  DUET_INLINE static void add_values(const PrefillTile& tile, const FloatPage& page, PageSlots slots,
                                     const LaneStates& lanes) noexcept {
    Index v = 0;
    for (; v + V::kBlockVectors <= num_vectors(tile, V::kWidth); v += V::kBlockVectors) {
      add_column<V, cover, V::kBlockVectors>(tile, page, slots, lanes, v * V::kWidth);
    }
    for (; v < num_vectors(tile, V::kWidth); ++v) add_column<V, cover, 1>(tile, page, slots, lanes, v * V::kWidth);
  }

  DUET_INLINE static void finish(const PrefillTile& tile, const LaneStates& lanes) noexcept {
    const Index head_dim = tile.shape->head_dim;
    const MatrixView out = tile.job->out, log_sum_exp = tile.job->log_sum_exp;
    for (Index lane = 0; lane < tile.num_pairs; ++lane) {
      const Index row = tile.row(lane), head = tile.head(lane);
      const float sum = lanes.sum[lane], factor = sum == 0.0f ? 0.0f : 1.0f / sum;
      float* to = out.data() + row * out.stride() + head * head_dim;
      for (Index c = 0; c < head_dim; ++c) to[c] = tile.sums[c * kLanes + lane] * factor;
      if (!log_sum_exp.empty()) log_sum_exp(row, head) = lanes.most[lane] + std::log(sum);
    }
  }
};

/// Attention of Phase::kPrefill.
inline void prefill_attention(std::span<const AttentionJob> jobs, const AttentionShape& shape, Workspace& workspace) {
  const auto frame = workspace.frame();
  const Index group = shape.num_attention_heads / shape.num_key_value_heads;
  const auto tiles_of = [&](const AttentionJob& job) { return (job.q.rows() * group + kPrefillLanes - 1) / kPrefillLanes; };
  Index num_tasks = 0;
  for (const AttentionJob& job : jobs) num_tasks += tiles_of(job) * shape.num_key_value_heads;

  const Index num_workers = std::min<Index>(num_tasks, workspace.threads().size());
  Index scratch = 0;
  for (const AttentionJob& job : jobs) {
    scratch = std::max(scratch, PrefillTile::scratch({job.kv.format, shape.head_dim}));
  }
  float* const memory = workspace.array<float>(num_workers * scratch).data();
  const auto kernel = compiled_for<PrefillKernel, const PrefillTile*>(workspace.kernels().isa);
  std::atomic<Index> next{0};
  workspace.threads().run(num_workers, [&](Index worker) {
    float* const mine = memory + worker * scratch;
    for (Index task = next.fetch_add(1); task < num_tasks; task = next.fetch_add(1)) {
      // One head after another, so that its keys and values stay in the cache; the last rows first, because under a causal
      // mask they take longest.
      Index rest = num_tasks - 1 - task;
      const AttentionJob* job = jobs.data();
      while (rest >= tiles_of(*job) * shape.num_key_value_heads) rest -= tiles_of(*job++) * shape.num_key_value_heads;
      const Index first_pair = rest % tiles_of(*job) * kPrefillLanes;
      const PrefillTile tile{job,
                             &shape,
                             rest / tiles_of(*job),
                             first_pair,
                             std::min(kPrefillLanes, job->q.rows() * group - first_pair),
                             mine,
                             mine + shape.head_dim * kPrefillLanes,
                             mine + 2 * shape.head_dim * kPrefillLanes,
                             mine + (2 * shape.head_dim + kPageSize) * kPrefillLanes};
      kernel(&tile);
    }
  });
}

}  // namespace DUET_ISA_NAMESPACE
}  // namespace duet::kernels
