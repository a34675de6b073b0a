#pragma once

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "duet/core/large_pages.hpp"
#include "duet/core/matrix.hpp"
#include "duet/kernels/attention.hpp"
#include "duet/kernels/key_value_write.hpp"
#include "duet/kernels/rope.hpp"

namespace duet {

/// Keys and values of one layer, in pages of kPageSize positions: the tile that the attention kernel reads.
///
/// Storage is [chunks of at most 512 positions, layers, num_key_value_heads, pages of a chunk], each page's share of a head as
/// kernels::KeyValueLayout says: within a chunk a head is read in one run. Chunks are filled one after another, by all layers,
/// so that large pages hold no more than what was written and the rest of a chunk.
class KeyValueStore {
 public:
  KeyValueStore(Index capacity, Index num_key_value_heads, Index head_dim, KeyValueFormat format = KeyValueFormat::kF32)
      : KeyValueStore(std::move(of_layers(1, capacity, num_key_value_heads, head_dim, format).front())) {}

  /// The stores of `num_layers` layers, which share their memory.
  [[nodiscard]] static std::vector<KeyValueStore> of_layers(Index num_layers, Index capacity, Index num_key_value_heads,
                                                            Index head_dim, KeyValueFormat format) {
    const kernels::KeyValueLayout layout{format, head_dim};
    const Index num_pages = (capacity + kernels::kPageSize - 1) / kernels::kPageSize;
    const Index chunk_pages = std::clamp<Index>(num_pages, 1, 8), num_chunks = (num_pages + chunk_pages - 1) / chunk_pages;
    const Index layer_bytes = num_key_value_heads * chunk_pages * layout.bytes();  // of a chunk
    const auto memory =
        std::make_shared<const AlignedBuffer<std::byte>>(static_cast<std::size_t>(num_chunks * num_layers * layer_bytes));
    prefer_large_pages(memory->data(), memory->size());

    std::vector<KeyValueStore> stores;
    for (Index layer = 0; layer < num_layers; ++layer) {
      KeyValueStore& store = stores.emplace_back(KeyValueStore(memory, layout, num_key_value_heads, chunk_pages));
      for (Index i = 0; i < num_pages; ++i) {
        const Index chunk = i / chunk_pages;
        const std::byte* const page = memory->data() + (chunk * num_layers + layer) * layer_bytes + i % chunk_pages * layout.bytes();
        store.keys_.push_back(page + layout.first_key());
        store.values_.push_back(page + layout.first_value());
      }
    }
    return stores;
  }

  KeyValueStore(KeyValueStore&&) noexcept = default;
  KeyValueStore& operator=(KeyValueStore&&) noexcept = default;

  /// Writes k, v [n, num_key_value_heads * head_dim] at positions [begin, begin + n), rounded to the format.
  void write(Index begin, ConstMatrixView k, ConstMatrixView v, Workspace& workspace) noexcept {
    kernels::write_keys_values(pages(), begin, k, v, workspace);
  }
  [[nodiscard]] kernels::KeyValuePages pages() const noexcept {
    return kernels::KeyValuePages::of(layout_, keys_.data(), values_.data(), chunk_pages_ * layout_.bytes());
  }
  [[nodiscard]] KeyValueFormat format() const noexcept { return layout_.format; }
  [[nodiscard]] Index num_key_value_heads() const noexcept { return num_key_value_heads_; }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return keys_.size() * static_cast<std::size_t>(num_key_value_heads_ * layout_.bytes());
  }

 private:
  KeyValueStore(std::shared_ptr<const AlignedBuffer<std::byte>> memory, const kernels::KeyValueLayout& layout,
                Index num_key_value_heads, Index chunk_pages)
      : memory_(std::move(memory)), layout_(layout), num_key_value_heads_(num_key_value_heads), chunk_pages_(chunk_pages) {}

  std::shared_ptr<const AlignedBuffer<std::byte>> memory_;  // of all layers
  kernels::KeyValueLayout layout_;
  Index num_key_value_heads_, chunk_pages_;
  std::vector<const std::byte*> keys_, values_;  // [num_pages], of the first head
};

/// What a decoder remembers of the text (and, in method A, of the image rows) it has read: self-attention's keys and
/// values. Room for `capacity` positions is reserved at once; nothing is allocated afterwards.
class KvCache {
 public:
  KvCache() = default;
  KvCache(Index num_layers, Index capacity, Index num_key_value_heads, Index head_dim,
          KeyValueFormat format = KeyValueFormat::kF32)
      : layers_(KeyValueStore::of_layers(num_layers, capacity, num_key_value_heads, head_dim, format)), capacity_(capacity) {}

  [[nodiscard]] Index length() const noexcept { return length_; }
  [[nodiscard]] Index capacity() const noexcept { return capacity_; }
  [[nodiscard]] Index num_layers() const noexcept { return static_cast<Index>(layers_.size()); }
  [[nodiscard]] KeyValueStore& layer(Index i) noexcept { return layers_[static_cast<std::size_t>(i)]; }
  [[nodiscard]] const KeyValueStore& layer(Index i) const noexcept { return layers_[static_cast<std::size_t>(i)]; }
  /// Counts `n` positions, written to every layer, as read.
  void advance(Index n) noexcept { length_ += n; }
  /// Forgets all positions from `length` on.
  void truncate(Index length) noexcept { length_ = std::min(length_, length); }
  [[nodiscard]] std::size_t bytes() const noexcept {
    std::size_t total = 0;
    for (const KeyValueStore& layer : layers_) total += layer.bytes();
    return total;
  }

 private:
  std::vector<KeyValueStore> layers_;
  Index length_ = 0, capacity_ = 0;
};

/// What a decoder remembers of the images in method B: cross-attention's keys and values of every image row, computed
/// once. Empty when there is no image. A copy shares them.
class VisualMemory {
 public:
  explicit VisualMemory(KeyValueFormat format = KeyValueFormat::kF32) noexcept : format_(format) {}
  VisualMemory(Index num_layers, Index num_rows, Index num_key_value_heads, Index head_dim,
               KeyValueFormat format = KeyValueFormat::kF32)
      : layers_(std::make_shared<std::vector<KeyValueStore>>(
            KeyValueStore::of_layers(num_layers, num_rows, num_key_value_heads, head_dim, format))),
        num_rows_(num_rows),
        format_(format) {}

  /// How the images of this memory, and those that take their place, are kept.
  [[nodiscard]] KeyValueFormat format() const noexcept { return format_; }
  [[nodiscard]] bool empty() const noexcept { return num_rows_ == 0; }
  [[nodiscard]] Index num_rows() const noexcept { return num_rows_; }
  [[nodiscard]] Index num_layers() const noexcept { return layers_ ? static_cast<Index>(layers_->size()) : 0; }
  [[nodiscard]] KeyValueStore& layer(Index i) noexcept { return (*layers_)[static_cast<std::size_t>(i)]; }
  [[nodiscard]] const KeyValueStore& layer(Index i) const noexcept { return (*layers_)[static_cast<std::size_t>(i)]; }
  [[nodiscard]] std::size_t bytes() const noexcept {
    std::size_t total = 0;
    for (Index i = 0; i < num_layers(); ++i) total += layer(i).bytes();
    return total;
  }

 private:
  std::shared_ptr<std::vector<KeyValueStore>> layers_;
  Index num_rows_ = 0;
  KeyValueFormat format_ = KeyValueFormat::kF32;
};

/// A range of keys that a row sees beside its first one.
struct ExtraRange {
  Index row = 0;  ///< of those that the range lies with
  kernels::KeyRange keys;
};

/// Of extra ranges in the order of their rows, those of rows [begin, end).
[[nodiscard]] inline std::span<const ExtraRange> of_rows(std::span<const ExtraRange> extras, Index begin, Index end) noexcept {
  const auto first = std::ranges::lower_bound(extras, begin, {}, &ExtraRange::row);
  return {first, std::ranges::lower_bound(first, extras.end(), end, {}, &ExtraRange::row)};
}

/// One conversation's share of a forward pass: which rows are its own and what they may see. Prefill, a chunk of it, a
/// decode step and a batch of conversations are all a list of these.
///
/// Requires the ranges of a row not to overlap, and extra ranges in the order of their rows
struct Sequence {
  KvCache* cache = nullptr;                              ///< rows append to it
  const VisualMemory* memory = nullptr;                  ///< null or empty: no image
  std::span<const Index> positions = {};                 ///< [rows], for rotary or learned positions
  std::span<const kernels::KeyRange> visible = {};       ///< [rows], cache slots each row may see, its own included
  std::span<const kernels::KeyRange> memory_spans = {};  ///< [rows], rows of the memory each may see
  Index row_begin = 0;                                   ///< first of this sequence's rows in hidden
  Index rows = 0;
  std::span<const kernels::GridOffset> offsets = {};  ///< [rows], places in a picture's grid, or empty
  std::span<const ExtraRange> extra_visible = {};     ///< further cache slots, for rows that see more than one range
  std::span<const ExtraRange> extra_memory = {};      ///< further rows of the memory
  Index length = 0;  ///< 1 + the furthest position of what is read together with these rows; 0: of these rows alone
};

}  // namespace duet
