#pragma once

#include <span>
#include <vector>

#include "duet/core/matrix.hpp"

namespace duet {

/// Edges in pixels.
struct PictureSize {
  Index height = 0, width = 0;
  friend bool operator==(const PictureSize&, const PictureSize&) = default;
};

/// What one picture becomes: known from its size, before a pixel is read.
struct PicturePlan {
  PictureSize original;                ///< as it came, upright
  PictureSize resized;                 ///< what is cut into tiles, padding included; the crop itself where nothing is cut
  Index num_crops = 1;                 ///< rectangles that the encoder reads: tiles, perhaps a view of the whole
  Index tile_rows = 0, tile_cols = 0;  ///< the grid of tiles; 0: not cut
  Index num_tokens = 0;                ///< image tokens: rows that come out of the projector
};

/// What preprocessing hands to an encoder: pictures, each as one or more rectangles of pixels.
struct VisualInput {
  struct Crop {
    Index picture = 0;
    PictureSize size;
    std::size_t begin = 0;  ///< its first value among the pixels
  };

  std::vector<float> pixels;  ///< of all crops one after another, each [num_channels, height, width]
  Index num_channels = 3;
  std::vector<Crop> crops;  ///< picture by picture
  std::vector<PicturePlan> pictures;

  [[nodiscard]] bool empty() const noexcept { return pictures.empty(); }
  [[nodiscard]] Index num_pictures() const noexcept { return static_cast<Index>(pictures.size()); }
  [[nodiscard]] Index num_crops() const noexcept { return static_cast<Index>(crops.size()); }

  /// [num_channels, height, width] of crop i.
  [[nodiscard]] std::span<const float> crop(Index i) const noexcept {
    const Crop& c = crops[static_cast<std::size_t>(i)];
    return std::span(pixels).subspan(c.begin, static_cast<std::size_t>(num_channels * c.size.height * c.size.width));
  }
  /// Begins a picture, whose crops are added next.
  void add_picture(const PicturePlan& plan) { pictures.push_back(plan); }
  /// Adds a crop to the last picture; its pixels are to be written.
  std::span<float> add_crop(PictureSize size) {
    const auto count = static_cast<std::size_t>(num_channels * size.height * size.width);
    crops.push_back({num_pictures() - 1, size, pixels.size()});
    pixels.resize(pixels.size() + count);
    return std::span(pixels).last(count);
  }
  /// Adds a picture that is one crop.
  std::span<float> add_whole(PictureSize size) {
    add_picture({.original = size, .resized = size});
    return add_crop(size);
  }
  /// Puts pictures without crops before the others.
  void put_before(std::span<const PicturePlan> plans) {
    pictures.insert(pictures.begin(), plans.begin(), plans.end());
    for (Crop& crop : crops) crop.picture += static_cast<Index>(plans.size());
  }
  /// The pictures from `first` on, `count` of them.
  [[nodiscard]] VisualInput part(Index first, Index count) const {
    VisualInput result;
    result.num_channels = num_channels;
    const auto add_pictures = [&](Index wanted) {
      while (result.num_pictures() < wanted) result.add_picture(pictures[static_cast<std::size_t>(first + result.num_pictures())]);
    };
    for (Index i = 0; i < num_crops(); ++i) {
      const Crop& c = crops[static_cast<std::size_t>(i)];
      if (c.picture < first || c.picture >= first + count) continue;
      add_pictures(c.picture - first + 1);
      const std::span<const float> from = crop(i);
      std::copy(from.begin(), from.end(), result.add_crop(c.size).begin());
    }
    add_pictures(count);  // those without crops
    return result;
  }
};

/// Encoder rows of all crops, one after another, and where each crop's lie.
struct Features {
  struct Crop {
    Index picture = 0;
    Index begin = 0, count = 0;          ///< its rows
    Index grid_rows = 0, grid_cols = 0;  ///< the patches among them, which are the last ones, row by row
  };
  MatrixView rows;  ///< [rows, hidden_size]
  std::vector<Crop> crops;

  /// The first row of every crop, its class token's where the encoder has one [crops, hidden_size].
  [[nodiscard]] Matrix first_rows() const {
    Matrix first(static_cast<Index>(crops.size()), rows.cols());
    for (std::size_t i = 0; i < crops.size(); ++i) {
      copy(rows.rows(crops[i].begin, 1), first.view().rows(static_cast<Index>(i), 1));
    }
    return first;
  }
};

}  // namespace duet
