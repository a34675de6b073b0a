#pragma once

#include <algorithm>

#include "duet/kernels/decode_chunk.hpp"
#include "duet/kernels/simd/dispatch.hpp"

namespace duet::kernels {
inline namespace DUET_ISA_NAMESPACE {

// Decoding from keys and values of eight bits multiplies whole numbers, for to make floats of them would take longer than to
// read them: queries, and a page's weights times the values' scales, are rounded to sixteen bits, whose error is a 256th of
// what the stored bytes' own rounding is. Products of a block have one scale and exact sums.

/// to [count] = x / unit, rounded to numbers of up to 32767; returns the unit. What is no number becomes any.
template <class V, Index count>
DUET_INLINE float round_to_16_bits(const float* x, std::int16_t* to) noexcept {
  V most(0.0f);
  DUET_UNROLL
  for (Index i = 0; i < count; i += V::kWidth) most = max(abs(V::load(x + i)), most);
  constexpr float kLeast = 1e-30f;  // below it, the factor would be infinite
  const float largest_x = largest(most);
  const V factor(largest_x > kLeast ? 32767.0f / largest_x : 0.0f);
  DUET_UNROLL
  for (Index i = 0; i < count; i += V::kWidth) (V::load(x + i) * factor).store(to + i);
  return largest_x > kLeast ? largest_x * (1.0f / 32767.0f) : 0.0f;
}

struct RoundQueryKernel {
  template <class V>
  DUET_INLINE static void run(const float* q, Index heads, Index head_dim, RoundedQuery to) noexcept {
    const Index blocks = RoundedQuery::blocks(head_dim);
    for (Index head = 0; head < heads; ++head, q += head_dim) {
      for (Index b = 0; b < blocks; ++b) {
        alignas(kAlignment) float block[kScaleBlock] = {};
        const Index count = std::min(kScaleBlock, head_dim - b * kScaleBlock);
        std::copy_n(q + b * kScaleBlock, count, block);
        float difference = 0.0f;  // NaN for inf and NaN
        for (Index c = 0; c < count; ++c) difference += block[c] - block[c];
        const Index at = head * blocks + b;
        to.scales[at] = round_to_16_bits<V, kScaleBlock>(block, to.numbers + at * kScaleBlock) + difference;
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
    alignas(kAlignment) float weights[kPageHeads * kPageSize];
    float keep[kPageHeads];
    const KeyValuePages& kv = *chunk.kv;
    const Index stride = kv.value_width + 2;
    float* const partial = chunk.partial + head * stride;
    if (slots.begin >= kKeyBlock || slots.end <= kKeyBlock) std::fill_n(weights, heads * kPageSize, 0.0f);  // half is not read
    for (Index slot = slots.begin / kKeyBlock * kKeyBlock; slot < slots.end; slot += kKeyBlock) {
      const std::int8_t* const keys = kv.keys_of<std::int8_t>(page, chunk.kv_head) + kv.key_block_at(slot, 0);
      score<V>(chunk, keys, head, heads, weights + slot);
    }
    const PageScores scores{chunk.shape, slots, heads, weights, partial + stride - 2, stride, keep};
    chunk.weigh(&scores);
    for (Index c = 0; c < kv.value_width; c += kValueBlock) {
      add_values<V>(chunk, page, c, slots, weights, keep, heads, partial + c);
    }
  }

 private:
  /// Sums of quads for any number of heads, in as few groups as there can be, of about one size.
  DUET_INLINE static void sum_quads(const QuadKernels& kernels, Index heads, const std::int8_t* quads, Index count,
                              const std::int16_t* numbers, Index stride, std::int32_t* sums) noexcept {
    constexpr Index kMost = QuadKernels::kHeads;
    const Index groups = (heads + kMost - 1) / kMost, most = (heads + groups - 1) / groups;
    for (Index head = 0; head < heads; head += most) {
      kernels.sum[std::min(most, heads - head) - 1](quads, count, numbers + head * stride, stride, sums + head * kQuadLanes);
    }
  }

  /// Scores [heads, 64] of half a page.
  template <class V>
  DUET_INLINE static void score(const DecodeChunk& chunk, const std::int8_t* keys, Index head, Index heads, float* scores) noexcept {
    alignas(kAlignment) std::int32_t sums[kPageHeads * kQuadLanes];
    const KeyValuePages& kv = *chunk.kv;
    const Index blocks = RoundedQuery::blocks(kv.head_dim);
    const RoundedQuery q = chunk.rounded_q.at(head, blocks);
    for (Index b = 0; b < blocks; ++b, keys += kv.key_block_stride) {
      const Index count = kv.key_quads(b * kScaleBlock);
      for (Index half = 0; half < 2; ++half) {
        sum_quads(*chunk.quads, heads, keys + half * count * kQuadBytes, count, q.numbers + b * kScaleBlock, blocks * kScaleBlock, sums);
        DUET_UNROLL
        for (Index i = 0; i < kQuadLanes; i += V::kWidth) {
          const Index slot = half * kQuadLanes + i;
          const V key_scale = V::load(reinterpret_cast<const F16*>(keys) - kKeyBlock + slot);
          for (Index h = 0; h < heads; ++h) {
            float* const to = scores + h * kPageSize + slot;
            const V before = b == 0 ? V(0.0f) : V::load(to);
            fma(V::load(sums + h * kQuadLanes + i), key_scale * V(q.scales[h * blocks + b]), before).store(to);
          }
        }
      }
    }
  }

  /// o = keep · o + p · v for the block of values around a channel.
  template <class V>
  DUET_INLINE static void add_values(const DecodeChunk& chunk, Index page, Index channel, KeyRange slots, const float* weights,
                                     const float* keep, Index heads, float* o) noexcept {
    alignas(kAlignment) float scales[kPageSize], scaled[kPageSize];
    alignas(kAlignment) std::int16_t rounded[kPageHeads * kPageSize];
    alignas(kAlignment) std::int32_t sums[kPageHeads * kQuadLanes];
    float units[kPageHeads];
    const KeyValuePages& kv = *chunk.kv;
    const Index stride = kv.value_width + 2;
    // What is not seen may hold anything, and weighs 0 times 0.
    const F16* const stored = kv.value_scale(page, chunk.kv_head, 0, channel);
    V difference(0.0f);  // NaN for inf and NaN
    for (Index j = 0; j < kPageSize; j += V::kWidth) {
      const V s = select(sees<V>(slots, j), V::load(stored + j), V(0.0f));
      s.store(scales + j);
      difference = difference + (s - s);
    }
    const float not_a_number = sum(difference);
    for (Index h = 0; h < heads; ++h) {
      for (Index j = 0; j < kPageSize; j += V::kWidth) (V::load(weights + h * kPageSize + j) * V::load(scales + j)).store(scaled + j);
      units[h] = round_to_16_bits<V, kPageSize>(scaled, rounded + h * kPageSize) + not_a_number;
    }
    const Index first = slots.begin / kQuad, count = (slots.end + kQuad - 1) / kQuad - first;
    const std::int8_t* values = kv.values_of<std::int8_t>(page, chunk.kv_head) + kv.value_at(0, channel) + first * kQuadBytes;
    for (Index c = 0; c < kv.value_slot_stride(channel); c += kQuadLanes, values += kPageSize * kQuadLanes) {
      sum_quads(*chunk.quads, heads, values, count, rounded + first * kQuad, kPageSize, sums);
      for (Index h = 0; h < heads; ++h) {
        DUET_UNROLL
        for (Index i = 0; i < kQuadLanes; i += V::kWidth) {
          float* const to = o + h * stride + c + i;
          fma(V::load(sums + h * kQuadLanes + i), V(units[h]), V(keep[h]) * V::load(to)).store(to);
        }
      }
    }
  }
};

}  // namespace DUET_ISA_NAMESPACE
}  // namespace duet::kernels
