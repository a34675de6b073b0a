#pragma once

#include <algorithm>
#include <array>
#include <limits>

#include "duet/core/dtype.hpp"
#include "duet/kernels/attention_types.hpp"
#include "duet/kernels/simd/attributes.hpp"
#include "duet/kernels/simd/quad_sums.hpp"

namespace duet::kernels {
inline namespace DUET_ISA_NAMESPACE {

// What decoding from pages of floats and from pages of bytes have in common.

inline constexpr Index kDecodeChunk = 8 * kPageSize;
inline constexpr Index kPageHeads = 8;  ///< heads that go over a page together: their scores stay on the stack

/// Query heads in whole numbers of sixteen bits, as products with keys of eight want them.
struct RoundedQuery {
  std::int16_t* numbers = nullptr;  ///< [heads, blocks of 32 channels, 32], zeros beyond the last channel
  float* scales = nullptr;          ///< [heads, blocks]: what one of them stands for

  [[nodiscard]] RoundedQuery at(Index head, Index blocks) const noexcept {
    return {numbers + head * blocks * kScaleBlock, scales + head * blocks};
  }
  static Index blocks(Index head_dim) noexcept { return (head_dim + kScaleBlock - 1) / kScaleBlock; }
};

struct PageScores;

/// A chunk of one row's keys, for one key-value head's group of query heads.
struct DecodeChunk {
  const AttentionShape* shape;
  const KeyValuePages* kv;
  Index kv_head;
  const float* q;          ///< [group, head_dim]
  RoundedQuery rounded_q;  ///< of the group, for keys in kQ8
  KeyRange keys;           ///< within the chunk
  float* partial;          ///< [group, value_width + 2]: unnormalised sums, largest score, sum of weights
  void (*weigh)(const PageScores*) noexcept;  ///< for keys of floats
  const QuadKernels* quads;

  [[nodiscard]] Index group() const noexcept { return shape->num_attention_heads / shape->num_key_value_heads; }
};

/// Clears a chunk's results, and calls Kernel::read_page<V>(chunk, page, slots, head, heads) for every page and for heads that go
/// over it together.
template <class V, class Kernel>
DUET_INLINE void for_each_page(const DecodeChunk& chunk) noexcept {
  const Index stride = chunk.kv->value_width + 2;
  for (Index head = 0; head < chunk.group(); ++head) {
    float* const partial = chunk.partial + head * stride;
    std::fill_n(partial, stride, 0.0f);
    partial[stride - 2] = -std::numeric_limits<float>::infinity();
  }
  const KeyRange keys = chunk.keys;
  for (Index page = keys.begin / kPageSize; page * kPageSize < keys.end; ++page) {
    const Index begin = std::max<Index>(0, keys.begin - page * kPageSize);
    const Index end = std::min(kPageSize, keys.end - page * kPageSize);
    for (Index head = 0; head < chunk.group(); head += kPageHeads) {
      Kernel::template read_page<V>(chunk, page, {begin, end}, head, std::min(kPageHeads, chunk.group() - head));
    }
  }
}

/// Which of the slots from `slot` on are in a range.
template <class V>
DUET_INLINE typename V::Mask sees(KeyRange slots, Index slot) noexcept {
  static constexpr auto kSlots = [] {
    std::array<float, kPageSize> numbers{};
    for (std::size_t j = 0; j < kPageSize; ++j) numbers[j] = static_cast<float>(j);
    return numbers;
  }();
  const V number = V::load(kSlots.data() + slot);
  return (V(static_cast<float>(slots.begin)) <= number) & (number < V(static_cast<float>(slots.end)));
}

}  // namespace DUET_ISA_NAMESPACE
}  // namespace duet::kernels
