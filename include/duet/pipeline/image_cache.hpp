#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "duet/fusion/prompt.hpp"
#include "duet/models/visual_input.hpp"

namespace duet {

/// What a preprocessed picture is known by: its size and 128 bits of hash, of its pixels and of how its crops lie. Not made to
/// withstand pictures forged to collide.
struct ImageKey {
  std::uint64_t low = 0x9e3779b97f4a7c15u, high = 0xc2b2ae3d27d4eb4fu;
  Index num_channels = 0, height = 0, width = 0;  ///< of the picture, resized

  /// Of every picture of `input`, in order.
  /// Cost  one look at every pixel
  [[nodiscard]] static std::vector<ImageKey> all_of(const VisualInput& input) {
    std::vector<ImageKey> keys;
    for (const PicturePlan& picture : input.pictures) {
      ImageKey& key = keys.emplace_back();
      key.num_channels = input.num_channels;
      key.height = picture.resized.height;
      key.width = picture.resized.width;
      // Projectors that cut padding off look at the picture's own size.
      for (const Index number : {picture.original.height, picture.original.width, picture.tile_rows, picture.tile_cols}) {
        key.add(static_cast<std::uint64_t>(number));
      }
    }
    for (Index i = 0; i < input.num_crops(); ++i) {
      const VisualInput::Crop& crop = input.crops[static_cast<std::size_t>(i)];
      ImageKey& key = keys[static_cast<std::size_t>(crop.picture)];
      for (const Index edge : {crop.size.height, crop.size.width}) key.add(static_cast<std::uint64_t>(edge));
      for (const float pixel : input.crop(i)) key.add(std::bit_cast<std::uint32_t>(pixel));
    }
    return keys;
  }
  friend bool operator==(const ImageKey&, const ImageKey&) = default;

 private:
  void add(std::uint64_t bits) noexcept {
    low = std::rotl(low ^ bits, 27) * 0x9e3779b185ebca87u;
    high = (high + bits) * 0x5851f42d4c957f2du + std::rotl(low, 31);
  }
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
    for (Index i = 0; i < input.num_pictures(); ++i) {
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
      for (const ImageRows::Span span : part.thumbnails) all.thumbnails.push_back({begin + span.begin, span.count});
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
  static ImageRows clone(const ImageRows& from) { return {Matrix::clone(from.rows), from.spans, from.thumbnails}; }

  template <class Encode>
  ImageRows rows_of(const VisualInput& input, Index i, const ImageKey& key, Encode& encode) {
    const auto known = std::ranges::find(entries_, key, &Entry::key);
    if (known != entries_.end()) {
      std::rotate(known, known + 1, entries_.end());  // the last one is the one used last
      return clone(entries_.back().rows);
    }
    ImageRows rows = encode(input.part(i, 1));
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
