#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "duet/fusion/image_rows.hpp"
#include "duet/models/vision_transformer.hpp"

namespace duet {

/// What a preprocessed picture is known by: its size and 128 bits of hash. Not made to withstand pictures forged to collide.
struct ImageKey {
  std::uint64_t low = 0, high = 0;
  Index num_channels = 0, height = 0, width = 0;

  /// Cost  one look at every pixel
  [[nodiscard]] static ImageKey of(const VisualInput& input, Index i) noexcept {
    ImageKey key{0x9e3779b97f4a7c15u, 0xc2b2ae3d27d4eb4fu, input.num_channels, input.height, input.width};
    for (const float pixel : input.image(i)) {
      const std::uint64_t bits = std::bit_cast<std::uint32_t>(pixel);
      key.low = std::rotl(key.low ^ bits, 27) * 0x9e3779b185ebca87u;
      key.high = (key.high + bits) * 0x5851f42d4c957f2du + std::rotl(key.low, 31);
    }
    return key;
  }
  /// Of every picture of `input`, in order.
  [[nodiscard]] static std::vector<ImageKey> all_of(const VisualInput& input) {
    std::vector<ImageKey> keys;
    for (Index i = 0; i < input.num_images; ++i) keys.push_back(of(input, i));
    return keys;
  }
  friend bool operator==(const ImageKey&, const ImageKey&) = default;
};

/// Image tokens of pictures encoded before, found by content: a picture that comes again is not encoded again.
///
/// Keeps those used last, as long as their rows fit into `capacity` bytes.
class ImageCache {
 public:
  explicit ImageCache(std::size_t capacity = std::size_t{64} << 20) : capacity_(capacity) {}

  /// The rows of all images of `input`, in order; `keys` are ImageKey::all_of(input). encode(const VisualInput&) -> ImageRows is asked for one new picture at a time;
  /// a row's bits do not depend on its companions, so they are those that all at once would get.
  template <class Encode>
  [[nodiscard]] ImageRows rows(const VisualInput& input, std::span<const ImageKey> keys, Encode&& encode) {
    std::vector<ImageRows> parts;
    Index total = 0, width = 0;
    for (Index i = 0; i < input.num_images; ++i) {
      parts.push_back(rows_of(input, i, keys[static_cast<std::size_t>(i)], encode));
      total += parts.back().rows.rows();
      width = parts.back().rows.cols();
    }
    if (parts.size() == 1) return std::move(parts.front());
    ImageRows all{Matrix(total, width), {}};
    Index begin = 0;
    for (const ImageRows& part : parts) {
      copy(part.rows, all.rows.view().rows(begin, part.rows.rows()));
      for (const ImageRows::Span span : part.spans) all.spans.push_back({begin + span.begin, span.count});
      begin += part.rows.rows();
    }
    return all;
  }

  /// Bytes of the rows that are kept.
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

 private:
  struct Entry {
    ImageKey key;
    ImageRows rows;
  };
  static std::size_t size_of(const ImageRows& rows) noexcept {
    return static_cast<std::size_t>(rows.rows.rows() * rows.rows.cols()) * sizeof(float);
  }
  static ImageRows clone(const ImageRows& from) { return {Matrix::clone(from.rows), from.spans}; }

  template <class Encode>
  ImageRows rows_of(const VisualInput& input, Index i, const ImageKey& key, Encode& encode) {
    const auto known = std::ranges::find(entries_, key, &Entry::key);
    if (known != entries_.end()) {
      std::rotate(known, known + 1, entries_.end());  // the last one is the one used last
      return clone(entries_.back().rows);
    }
    const std::span<const float> pixels = input.image(i);
    ImageRows rows = encode(VisualInput{{pixels.begin(), pixels.end()}, 1, input.num_channels, input.height, input.width});
    if (size_of(rows) <= capacity_) {
      while (bytes_ + size_of(rows) > capacity_) {
        bytes_ -= size_of(entries_.front().rows);
        entries_.erase(entries_.begin());
      }
      entries_.push_back({key, clone(rows)});
      bytes_ += size_of(rows);
    }
    return rows;
  }

  std::vector<Entry> entries_;  // by use, the latest last
  std::size_t capacity_, bytes_ = 0;
};

}  // namespace duet
