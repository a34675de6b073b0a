#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "duet/core/matrix.hpp"
#include "duet/kernels/attention.hpp"

namespace duet {

/// Keys and values of one layer, in pages of kPageSize positions: the tile that the attention kernel reads.
///
/// A page is [num_key_value_heads, kPageSize, head_dim]; pages are found through a table, so that later ones need not
/// lie beside earlier ones.
class KeyValueStore {
 public:
  KeyValueStore(Index capacity, Index num_key_value_heads, Index head_dim)
      : num_key_value_heads_(num_key_value_heads), head_dim_(head_dim) {
    const Index num_pages = (capacity + kernels::kPageSize - 1) / kernels::kPageSize;
    const Index page = num_key_value_heads * kernels::kPageSize * head_dim;
    storage_ = AlignedBuffer<float>(static_cast<std::size_t>(2 * num_pages * page));
    for (Index i = 0; i < num_pages; ++i) {
      keys_.push_back(storage_.data() + 2 * i * page);
      values_.push_back(storage_.data() + (2 * i + 1) * page);
    }
  }

  /// Writes k, v [n, num_key_value_heads * head_dim] at positions [begin, begin + n).
  void write(Index begin, ConstMatrixView k, ConstMatrixView v) noexcept {
    for (Index i = 0; i < k.rows(); ++i) {
      const auto page = static_cast<std::size_t>((begin + i) / kernels::kPageSize);
      const Index slot = (begin + i) % kernels::kPageSize;
      for (Index head = 0; head < num_key_value_heads_; ++head) {
        const Index at = (head * kernels::kPageSize + slot) * head_dim_;
        std::copy_n(k.row(i).data() + head * head_dim_, head_dim_, keys_[page] + at);
        std::copy_n(v.row(i).data() + head * head_dim_, head_dim_, values_[page] + at);
      }
    }
  }
  [[nodiscard]] kernels::KeyValuePages pages() const noexcept {
    return {keys_.data(), values_.data(), kernels::kPageSize * head_dim_, head_dim_};
  }
  [[nodiscard]] std::size_t bytes() const noexcept { return storage_.size() * sizeof(float); }

 private:
  Index num_key_value_heads_, head_dim_;
  AlignedBuffer<float> storage_;
  std::vector<float*> keys_, values_;  // [num_pages]
};

/// What a decoder remembers of the text (and, in method A, of the image rows) it has read: self-attention's keys and
/// values. Room for `capacity` positions is reserved at once; nothing is allocated afterwards.
class KvCache {
 public:
  KvCache() = default;
  KvCache(Index num_layers, Index capacity, Index num_key_value_heads, Index head_dim) : capacity_(capacity) {
    for (Index i = 0; i < num_layers; ++i) layers_.emplace_back(capacity, num_key_value_heads, head_dim);
  }

  [[nodiscard]] Index length() const noexcept { return length_; }
  [[nodiscard]] Index capacity() const noexcept { return capacity_; }
  [[nodiscard]] KeyValueStore& layer(Index i) noexcept { return layers_[static_cast<std::size_t>(i)]; }
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
/// once. Empty when there is no image.
class VisualMemory {
 public:
  VisualMemory() = default;
  VisualMemory(Index num_layers, Index num_rows, Index num_key_value_heads, Index head_dim) : num_rows_(num_rows) {
    for (Index i = 0; i < num_layers; ++i) layers_.emplace_back(num_rows, num_key_value_heads, head_dim);
  }

  [[nodiscard]] bool empty() const noexcept { return num_rows_ == 0; }
  [[nodiscard]] Index num_rows() const noexcept { return num_rows_; }
  [[nodiscard]] KeyValueStore& layer(Index i) noexcept { return layers_[static_cast<std::size_t>(i)]; }
  [[nodiscard]] const KeyValueStore& layer(Index i) const noexcept { return layers_[static_cast<std::size_t>(i)]; }
  [[nodiscard]] std::size_t bytes() const noexcept {
    std::size_t total = 0;
    for (const KeyValueStore& layer : layers_) total += layer.bytes();
    return total;
  }

 private:
  std::vector<KeyValueStore> layers_;
  Index num_rows_ = 0;
};

/// One conversation's share of a forward pass: which rows are its own and what they may see. Prefill, a chunk of it, a
/// decode step and a batch of conversations are all a list of these.
struct Sequence {
  KvCache* cache = nullptr;                         ///< rows append to it
  const VisualMemory* memory = nullptr;             ///< null or empty: no image
  std::span<const Index> positions;                 ///< [rows], for rotary or learned positions
  std::span<const kernels::KeyRange> visible;       ///< [rows], cache slots each row may see, its own included
  std::span<const kernels::KeyRange> memory_spans;  ///< [rows], rows of the memory each may see
  Index row_begin = 0;                              ///< first of this sequence's rows in hidden
  Index rows = 0;
};

}  // namespace duet
