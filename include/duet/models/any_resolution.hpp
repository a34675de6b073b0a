#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "duet/models/visual_input.hpp"

namespace duet {

/// The size among `candidates` in which most of a picture is left when it is scaled to fit; of equals the one that wastes least.
/// Requires  candidates not empty
/// Source    Liu et al. 2024, LLaVA-NeXT ("anyres"); the reference's select_best_resolution
inline PictureSize best_resolution(PictureSize original, std::span<const PictureSize> candidates) {
  PictureSize best = candidates.front();
  Index most = 0, least_waste = std::numeric_limits<Index>::max();
  for (const PictureSize& size : candidates) {
    const double scale = std::min(static_cast<double>(size.width) / static_cast<double>(original.width),
                                  static_cast<double>(size.height) / static_cast<double>(original.height));
    const auto scaled = [&](Index edge) { return static_cast<Index>(static_cast<double>(edge) * scale); };
    const Index left = std::min(scaled(original.width) * scaled(original.height), original.width * original.height);
    const Index waste = size.width * size.height - left;
    if (left < most || (left == most && waste >= least_waste)) continue;
    best = size;
    most = left;
    least_waste = waste;
  }
  return best;
}

/// The part of a grid of features that shows the picture and not the padding around it.
struct UnpaddedGrid {
  Index top = 0, left = 0, rows = 0, cols = 0;
};

/// What is left of [rows, cols] when the padding is gone that a picture of size `original` got on its way into them.
/// Source  the reference's unpad_image, rounding to seven digits included
inline UnpaddedGrid unpadded(PictureSize original, Index rows, Index cols) {
  const auto height = static_cast<double>(original.height), width = static_cast<double>(original.width);
  const auto whole = [](double x) { return static_cast<Index>(std::round(x * 1e7) / 1e7); };
  UnpaddedGrid grid{0, 0, rows, cols};
  if (width / height > static_cast<double>(cols) / static_cast<double>(rows)) {
    grid.top = (rows - whole(height * (static_cast<double>(cols) / width))) / 2;
    grid.rows -= 2 * grid.top;
  } else {
    grid.left = (cols - whole(width * (static_cast<double>(rows) / height))) / 2;
    grid.cols -= 2 * grid.left;
  }
  return grid;
}

/// The size to which a grid of features [rows, cols] is shrunk so that it holds about as many as `max_tiles` tiles of `tile_features`
/// do; the same size where it is not much larger. max_tiles 0: never.
/// Source  LLaVA-OneVision, Li et al. 2024, 2408.03326 ("anyres_max_9")
inline PictureSize limited_grid(Index rows, Index cols, Index max_tiles, Index tile_features) {
  if (max_tiles <= 0) return {rows, cols};
  const double ratio = std::sqrt(static_cast<double>(rows * cols) / static_cast<double>(max_tiles * tile_features));
  if (ratio <= 1.1) return {rows, cols};
  const auto shrunk = [ratio](Index edge) {  // exactly edge // ratio: a quotient may round up to a whole number
    const auto e = static_cast<double>(edge);
    return static_cast<Index>(std::round((e - std::fmod(e, ratio)) / ratio));
  };
  return {shrunk(rows), shrunk(cols)};
}

}  // namespace duet
