#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <type_traits>

#include "duet/core/dtype.hpp"
#include "duet/core/matrix.hpp"
#include "duet/kernels/key_value_format.hpp"

namespace duet::kernels {

/// Positions of keys in one page: the unit in which KV caches keep them and in which attention reads them.
inline constexpr Index kPageSize = 64;

/// Positions of keys, and channels of values, that lie side by side: a task reads every such block from end to end.
inline constexpr Index kKeyBlock = 32, kValueBlock = 32;

/// Channels that share a scale in KeyValueFormat::kQ8; a last block may be shorter.
inline constexpr Index kScaleBlock = 32;
static_assert(kPageSize == 2 * kKeyBlock && kScaleBlock == kValueBlock);

/// In kQ8, sixteen lanes of four bytes each, which one instruction multiplies and adds: of keys four channels of sixteen slots,
/// of values four slots of sixteen channels.
inline constexpr Index kQuad = 4, kQuadLanes = 16, kQuadBytes = kQuad * kQuadLanes;
static_assert(kKeyBlock == 2 * kQuadLanes && kValueBlock == 2 * kQuadLanes);

/// Where number i of a lane lies in quads [.., 16 lanes, 4]. The order of four is 0 2 1 3 (simd/quad_sums.hpp).
[[nodiscard]] constexpr Index place_in_quads(Index lane, Index i) noexcept {
  return i / kQuad * kQuadBytes + lane * kQuad + i % 2 * 2 + i % kQuad / 2;
}

/// Whether stored elements are multiples of a scale.
template <class Element>
inline constexpr bool is_scaled = std::is_same_v<Element, std::int8_t>;

/// Returns call(Element{}) for the type of a format's elements: float, Bf16, F16 or int8_t.
template <class Call>
constexpr decltype(auto) with_element_of(KeyValueFormat format, Call&& call) {
  switch (format) {
    case KeyValueFormat::kBF16: return call(Bf16{});
    case KeyValueFormat::kF16: return call(F16{});
    case KeyValueFormat::kQ8: return call(std::int8_t{});
    case KeyValueFormat::kF32: break;
  }
  return call(float{});
}

/// How a KV cache keeps one head's share of a page, in the order in which decoding reads it:
///
///     keys    [2, blocks of 32 channels, 32, 32]  of half a page, channel by channel: the lanes of a vector are positions,
///                                                 and scores need no sums across lanes
///     values  [blocks of 32 channels, 64, 32]     the last block padded with zeros to 16 or 32 channels
///
/// In kQ8 every block stands behind its F16 scales, [32] of keys, [64] of values, and is made of quads:
///
///     keys    [2, quads of 4 channels, 16, 4]     of 32 slots, the last quad padded with zeros
///     values  [1 or 2, 16 quads of slots, 16, 4]  of 16 or 32 channels
struct KeyValueLayout {
  KeyValueFormat format = KeyValueFormat::kF32;
  Index head_dim = 0;

  /// Channels of values, padded ones included: whole vectors of the widest kind.
  [[nodiscard]] Index value_width() const noexcept { return (head_dim + 15) / 16 * 16; }
  [[nodiscard]] Index element_bytes() const noexcept {
    return with_element_of(format, [](auto element) { return static_cast<Index>(sizeof element); });
  }
  /// Bytes of a block's scales.
  [[nodiscard]] Index key_scale_bytes() const noexcept { return format == KeyValueFormat::kQ8 ? kKeyBlock * kScaleBytes : 0; }
  [[nodiscard]] Index value_scale_bytes() const noexcept { return format == KeyValueFormat::kQ8 ? kPageSize * kScaleBytes : 0; }
  /// Channels of keys, padded ones included.
  [[nodiscard]] Index key_width() const noexcept {
    return format == KeyValueFormat::kQ8 ? (head_dim + kQuad - 1) / kQuad * kQuad : head_dim;
  }
  /// Bytes of the keys of half a page.
  [[nodiscard]] Index half_bytes() const noexcept { return kKeyBlock * key_width() * element_bytes() + num_blocks() * key_scale_bytes(); }
  /// Bytes of all, a multiple of kAlignment.
  [[nodiscard]] Index bytes() const noexcept {
    return 2 * half_bytes() + kPageSize * value_width() * element_bytes() + num_blocks() * value_scale_bytes();
  }
  /// Bytes before the first key and the first value.
  [[nodiscard]] Index first_key() const noexcept { return key_scale_bytes(); }
  [[nodiscard]] Index first_value() const noexcept { return 2 * half_bytes() + value_scale_bytes(); }

 private:
  static constexpr auto kScaleBytes = static_cast<Index>(sizeof(F16));
  [[nodiscard]] Index num_blocks() const noexcept { return (head_dim + kValueBlock - 1) / kValueBlock; }
};

/// Where keys and values lie. Serves pages of a KV cache (KeyValueLayout) and, to prefill, plain matrices of floats. In the
/// page of position j, which begins at keys[j / 64] + head · head_stride, channel c of slot s = j % 64 is element
///
///     of keys    s / 32 · key_half_stride + c / 32 · key_block_stride + c % 32 · key_channel_stride + s % 32 · key_slot_stride
///     of values  c / 32 · value_block_stride + s · value_slot_stride(c) + c % 32
///
/// and in kQ8, within the same blocks, where their quads have it.
struct KeyValuePages {
  const std::byte* const* keys = nullptr;
  const std::byte* const* values = nullptr;
  KeyValueFormat format = KeyValueFormat::kF32;
  Index head_dim = 0;
  Index head_stride = 0;  ///< bytes
  Index key_half_stride = 0, key_block_stride = 0, key_channel_stride = 0, key_slot_stride = 0;
  Index value_block_stride = 0, widest_value_stride = 0, value_width = 0;

  /// Pages of a KV cache: `keys` and `values` point to the first ones of each page.
  [[nodiscard]] static KeyValuePages of(const KeyValueLayout& layout, const std::byte* const* keys, const std::byte* const* values,
                                        Index head_stride) noexcept {
    const Index element = layout.element_bytes();
    return {keys,
            values,
            layout.format,
            layout.head_dim,
            head_stride,
            layout.half_bytes() / element,
            kKeyBlock * kScaleBlock + layout.key_scale_bytes() / element,
            kKeyBlock,
            1,
            kPageSize * kValueBlock + layout.value_scale_bytes() / element,
            kValueBlock,
            layout.value_width()};
  }
  /// Matrices of floats [positions, heads * head_dim], rows `key_stride` and `value_stride` floats apart: a page is 64 rows.
  [[nodiscard]] static KeyValuePages plain(Index head_dim, const std::byte* const* keys, Index key_stride,
                                           const std::byte* const* values, Index value_stride) noexcept {
    const auto head_stride = head_dim * static_cast<Index>(sizeof(float));
    return {keys,       values, KeyValueFormat::kF32, head_dim,    head_stride,  kKeyBlock * key_stride, kScaleBlock, 1,
            key_stride, kValueBlock, value_stride, std::numeric_limits<Index>::max()};
  }

  [[nodiscard]] Index key_at(Index slot, Index channel) const noexcept {
    if (format == KeyValueFormat::kQ8) {
      return key_block_at(slot, channel) + slot % kKeyBlock / kQuadLanes * key_quads(channel) * kQuadBytes +
             place_in_quads(slot % kQuadLanes, channel % kScaleBlock);
    }
    return slot / kKeyBlock * key_half_stride + channel / kScaleBlock * key_block_stride +
           channel % kScaleBlock * key_channel_stride + slot % kKeyBlock * key_slot_stride;
  }
  /// Of the block around a key, its first element.
  [[nodiscard]] Index key_block_at(Index slot, Index channel) const noexcept {
    return slot / kKeyBlock * key_half_stride + channel / kScaleBlock * key_block_stride;
  }
  /// In kQ8: quads that hold a slot's channels in the block around `channel`.
  [[nodiscard]] Index key_quads(Index channel) const noexcept {
    return (std::min(kScaleBlock, head_dim - channel / kScaleBlock * kScaleBlock) + kQuad - 1) / kQuad;
  }
  /// Channels of values side by side in the block around `channel`, padded ones included.
  [[nodiscard]] Index value_slot_stride(Index channel) const noexcept {
    return std::min(widest_value_stride, value_width - channel / kValueBlock * kValueBlock);
  }
  [[nodiscard]] Index value_at(Index slot, Index channel) const noexcept {
    if (format == KeyValueFormat::kQ8) {
      return channel / kValueBlock * value_block_stride + channel % kValueBlock / kQuadLanes * kPageSize * kQuadLanes +
             place_in_quads(channel % kQuadLanes, slot);
    }
    return channel / kValueBlock * value_block_stride + slot * value_slot_stride(channel) + channel % kValueBlock;
  }

  /// One head's elements within the page.
  template <class Element>
  [[nodiscard]] const Element* keys_of(Index page, Index head) const noexcept {
    return reinterpret_cast<const Element*>(keys[page] + head * head_stride);
  }
  template <class Element>
  [[nodiscard]] const Element* values_of(Index page, Index head) const noexcept {
    return reinterpret_cast<const Element*>(values[page] + head * head_stride);
  }
  /// In kQ8: the scale of a slot's keys, or values, around `channel`; those of the slots of its block lie side by side.
  [[nodiscard]] const F16* key_scale(Index page, Index head, Index slot, Index channel) const noexcept {
    const std::int8_t* const block = keys_of<std::int8_t>(page, head) + key_block_at(slot, channel);
    return reinterpret_cast<const F16*>(block) - kKeyBlock + slot % kKeyBlock;
  }
  [[nodiscard]] const F16* value_scale(Index page, Index head, Index slot, Index channel) const noexcept {
    const std::int8_t* const block = values_of<std::int8_t>(page, head) + channel / kValueBlock * value_block_stride;
    return reinterpret_cast<const F16*>(block) - kPageSize + slot;
  }

  /// Channel `channel` of position j's key and value: for looking, not for running.
  [[nodiscard]] float key(Index head, Index j, Index channel) const noexcept {
    const Index page = j / kPageSize, slot = j % kPageSize;
    return with_element_of(format, [&]<class Element>(Element) {
      const Element stored = keys_of<Element>(page, head)[key_at(slot, channel)];
      if constexpr (is_scaled<Element>) {
        return static_cast<float>(stored) * duet::to_float(*key_scale(page, head, slot, channel));
      } else {
        return duet::to_float(stored);
      }
    });
  }
  [[nodiscard]] float value(Index head, Index j, Index channel) const noexcept {
    const Index page = j / kPageSize, slot = j % kPageSize;
    return with_element_of(format, [&]<class Element>(Element) {
      const Element stored = values_of<Element>(page, head)[value_at(slot, channel)];
      if constexpr (is_scaled<Element>) {
        return static_cast<float>(stored) * duet::to_float(*value_scale(page, head, slot, channel));
      } else {
        return duet::to_float(stored);
      }
    });
  }
};

}  // namespace duet::kernels
