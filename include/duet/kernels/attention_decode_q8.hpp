#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "duet/kernels/decode_chunk.hpp"
#include "duet/kernels/simd/dispatch.hpp"
#include "duet/kernels/simd/vec_math.hpp"

namespace duet::kernels {
inline namespace DUET_ISA_NAMESPACE {

// Decoding from keys and values of eight bits multiplies whole numbers, for to make floats of them would take longer than to
// read them. Queries are rounded to sixteen bits, and so are a page's weights, relative to the largest of them, times the values'
// scales: an error of a 256th of what the stored bytes' own rounding is. Products of a block have one scale and exact sums.

/// What a rounded number of up to 32767 stands for, and its inverse, where `most` is the largest; 0 where that is (almost) none.
struct Unit {
  static constexpr float kMost = 32767.0f, kLeast = 1e-30f;
  explicit Unit(float most) noexcept : of_one(most > kLeast ? most * (1.0f / kMost) : 0.0f), inverse(most > kLeast ? kMost / most : 0.0f) {}
  float of_one, inverse;
};

struct RoundQueryKernel {
  /// Rounds heads [heads, head_dim], which are to be multiplied by `factor`.
  template <class V>
  DUET_INLINE static void run(const float* q, Index heads, Index head_dim, float factor, RoundedQuery to) noexcept {
    const Index blocks = RoundedQuery::blocks(head_dim);
    for (Index head = 0; head < heads; ++head, q += head_dim) {
      for (Index b = 0; b < blocks; ++b, to.numbers += kScaleBlock) {
        alignas(kAlignment) float block[kScaleBlock] = {};
        std::copy_n(q + b * kScaleBlock, std::min(kScaleBlock, head_dim - b * kScaleBlock), block);
        V most(0.0f), difference(0.0f);  // NaN for inf and NaN
        for (Index i = 0; i < kScaleBlock; i += V::kWidth) {
          const V x = V::load(block + i);
          most = max(most, abs(x));
          difference = difference + (x - x);
        }
        const Unit unit(largest(most));
        for (Index i = 0; i < kScaleBlock; i += V::kWidth) (V::load(block + i) * V(unit.inverse)).store(to.numbers + i);
        *to.scales++ = unit.of_one * factor + sum(difference);
      }
    }
  }
};

struct DecodeBytesKernel {
  template <class V>
  DUET_INLINE static void run(const DecodeChunk* chunk) noexcept {
    for_each_page<V, DecodeBytesKernel>(*chunk);
  }
  template <class V>
  DUET_INLINE static void read_page(const DecodeChunk& chunk, Index page, KeyRange slots, Index head, Index heads) noexcept {
    Page state;
    const KeyValuePages& kv = *chunk.kv;
    const Index stride = kv.value_width + 2;
    float* const partial = chunk.partial + head * stride;
    for (Index slot = slots.begin / kKeyBlock * kKeyBlock; slot < slots.end; slot += kKeyBlock) {
      score<V>(chunk, kv.keys_of<std::int8_t>(page, chunk.kv_head) + kv.key_block_at(slot, 0), head, heads, state, slot);
    }
    for (Index h = 0; h < heads; ++h) weigh<V>(*chunk.shape, slots, partial + h * stride + stride - 2, state, h);
    for (Index c = 0; c < kv.value_width; c += kValueBlock) add_values<V>(chunk, page, c, slots, heads, state, partial + c);
  }

 private:
  /// Of heads that go over a page together.
  struct Page {
    alignas(kAlignment) float weights[kPageHeads * kPageSize];              ///< scores, then weights relative to the page's largest
    alignas(kAlignment) std::int32_t sums[2 * kPageHeads * kQuadLanes];     ///< [2, heads, 16]
    float keep[kPageHeads], add[kPageHeads];  ///< what earlier sums, and those of this page, are multiplied by
  };
  static constexpr Index kHalfSums = kPageHeads * kQuadLanes;

  /// Sums of quads for any number of heads.
  DUET_INLINE static void sum_quads(const QuadKernels& kernels, Index heads, const std::int8_t* quads, Index count,
                                    const std::int16_t* numbers, Index stride, std::int32_t* sums) noexcept {
    static_assert(kPageHeads <= 2 * QuadKernels::kHeads);
    const Index first = heads > QuadKernels::kHeads ? heads / 2 : heads;
    kernels.sum[first - 1](quads, count, numbers, stride, sums);
    if (first < heads) kernels.sum[heads - first - 1](quads, count, numbers + first * stride, stride, sums + first * kQuadLanes);
  }

  /// Adds up scores of half a page.
  template <class V>
  DUET_INLINE static void score(const DecodeChunk& chunk, const std::int8_t* keys, Index head, Index heads, Page& page, Index slot) noexcept {
    constexpr int kVectors = kKeyBlock / V::kWidth, kHalf = kVectors / 2;
    const KeyValuePages& kv = *chunk.kv;
    const Index blocks = RoundedQuery::blocks(kv.head_dim);
    const RoundedQuery q = chunk.rounded_q.at(head, blocks);
    for (Index b = 0; b < blocks; ++b, keys += kv.key_block_stride) {
      const Index count = kv.key_quads(b * kScaleBlock), stride = blocks * kScaleBlock;
      const std::int16_t* const numbers = q.numbers + b * kScaleBlock;
      sum_quads(*chunk.quads, heads, keys, count, numbers, stride, page.sums);
      sum_quads(*chunk.quads, heads, keys + count * kQuadBytes, count, numbers, stride, page.sums + kHalfSums);
      V scales[kVectors];
      DUET_UNROLL
      for (int i = 0; i < kVectors; ++i) scales[i] = V::load(reinterpret_cast<const F16*>(keys) - kKeyBlock + i * V::kWidth);
      for (Index h = 0; h < heads; ++h) {
        const V scale(q.scales[h * blocks + b]);
        float* const to = page.weights + h * kPageSize + slot;
        DUET_UNROLL
        for (int i = 0; i < kVectors; ++i) {
          const V sums = V::load(page.sums + i / kHalf * kHalfSums + h * kQuadLanes + i % kHalf * V::kWidth);
          fma(sums, scales[i] * scale, b == 0 ? V(0.0f) : V::load(to + i * V::kWidth)).store(to + i * V::kWidth);
        }
      }
    }
  }

  /// Turns a head's scores into weights.
  template <class V>
  DUET_INLINE static void weigh(const AttentionShape& shape, KeyRange slots, float* state, Page& page, Index head) noexcept {
    constexpr float kLowest = -std::numeric_limits<float>::infinity();
    constexpr int kVectors = kPageSize / V::kWidth;
    float* const scores = page.weights + head * kPageSize;
    if (shape.soft_cap > 0.0f) {
      const V cap(shape.soft_cap);
      for (Index j = 0; j < kPageSize; j += V::kWidth) (cap * tanh(V::load(scores + j) / cap)).store(scores + j);
    }
    if (slots.begin > 0 || slots.end < kPageSize) {  // scores of a half that was not read are anything
      for (Index j = 0; j < kPageSize; j += V::kWidth) select(sees<V>(slots, j), V::load(scores + j), V(kLowest)).store(scores + j);
    }
    V most = V::load(scores);
    DUET_UNROLL
    for (int i = 1; i < kVectors; ++i) most = max(most, V::load(scores + i * V::kWidth));
    const float before = state[0], here = largest(most), now = std::max(before, here);
    const V base(here == kLowest ? 0.0f : here);  // never −inf from −inf
    V weights(0.0f);
    DUET_UNROLL
    for (int i = 0; i < kVectors; ++i) {
      const V p = exp_to_least(V::load(scores + i * V::kWidth) - base);
      p.store(scores + i * V::kWidth);
      weights = weights + p;
    }
    float less[V::kWidth] = {};  // one of the two is 1
    if (before != here) exp_to_least(V(std::min(before, here) - now)).store(less);
    page.keep[head] = before == now ? 1.0f : less[0];
    page.add[head] = here == now ? 1.0f : less[0];
    state[0] = now;
    state[1] = std::fma(state[1], page.keep[head], page.add[head] * sum(weights));
  }

  /// o = keep · o + p · v for the block of values around a channel.
  template <class V>
  DUET_INLINE static void add_values(const DecodeChunk& chunk, Index index, Index channel, KeyRange slots, Index heads, Page& page,
                                     float* o) noexcept {
    constexpr int kVectors = kPageSize / V::kWidth;
    alignas(kAlignment) std::int16_t rounded[kPageHeads * kPageSize];
    const KeyValuePages& kv = *chunk.kv;
    const Index stride = kv.value_width + 2;
    const F16* const stored = kv.value_scale(index, chunk.kv_head, 0, channel);
    V scales[kVectors], most(0.0f), all(0.0f);
    DUET_UNROLL
    for (int i = 0; i < kVectors; ++i) scales[i] = V::load(stored + i * V::kWidth);
    if (slots.begin > 0 || slots.end < kPageSize) {  // what is not seen may hold anything, and weighs 0 times 0
      DUET_UNROLL
      for (int i = 0; i < kVectors; ++i) scales[i] = select(sees<V>(slots, i * V::kWidth), scales[i], V(0.0f));
    }
    DUET_UNROLL
    for (int i = 0; i < kVectors; ++i) {
      most = max(most, scales[i]);
      all = all + scales[i];
    }
    const Unit unit(largest(most));
    const float sum_of_scales = sum(all), of_one = unit.of_one + (sum_of_scales - sum_of_scales);  // NaN where one is
    DUET_UNROLL
    for (int i = 0; i < kVectors; ++i) scales[i] = scales[i] * V(unit.inverse);
    for (Index h = 0; h < heads; ++h) {
      DUET_UNROLL
      for (int i = 0; i < kVectors; ++i) {
        (V::load(page.weights + h * kPageSize + i * V::kWidth) * scales[i]).store(rounded + h * kPageSize + i * V::kWidth);
      }
    }
    const Index first = slots.begin / kQuad, count = (slots.end + kQuad - 1) / kQuad - first;
    const std::int8_t* values = kv.values_of<std::int8_t>(index, chunk.kv_head) + kv.value_at(0, channel) + first * kQuadBytes;
    const Index width = kv.value_slot_stride(channel);
    for (Index c = 0; c < width; c += kQuadLanes, values += kPageSize * kQuadLanes, o += kQuadLanes) {
      sum_quads(*chunk.quads, heads, values, count, rounded + first * kQuad, kPageSize, page.sums);
      for (Index h = 0; h < heads; ++h) {
        const V keep(page.keep[h]), add(of_one * page.add[h]);
        DUET_UNROLL
        for (Index i = 0; i < kQuadLanes; i += V::kWidth) {
          float* const to = o + h * stride + i;
          fma(V::load(page.sums + h * kQuadLanes + i), add, keep * V::load(to)).store(to);
        }
      }
    }
  }
};

}  // namespace DUET_ISA_NAMESPACE
}  // namespace duet::kernels
