#pragma once

#include <algorithm>
#include <span>

#include "duet/core/matrix.hpp"

namespace duet::kernels {

/// How the pixels of a patch lie in its row.
enum class PixelOrder : unsigned char {
  kChannelsFirst,  ///< channel, row, column: as a convolution reads them
  kChannelsLast,   ///< row, column, channel (Fuyu)
};

/// How an image's patches become rows.
struct PatchLayout {
  Index patch_size = 0;
  Index cell = 1;    ///< patches lie cell by cell, each of cell x cell of them; 1: row by row
  Index frames = 1;  ///< how often a channel's pixels of a patch stand in its row: a still picture as a film (Qwen2-VL)
  PixelOrder pixels = PixelOrder::kChannelsFirst;
};

/// A patch's place in the grid.
struct PatchPlace {
  Index row = 0, col = 0;
};
/// The k-th patch of a grid whose cells of cell x cell patches lie row by row, as the patches in each of them do.
[[nodiscard]] inline PatchPlace place_of_patch(Index k, Index grid_cols, Index cell) noexcept {
  const Index per_cell = cell * cell, cells_per_row = grid_cols / cell, nth = k / per_cell, inside = k % per_cell;
  return {nth / cells_per_row * cell + inside / cell, nth % cells_per_row * cell + inside % cell};
}

/// Cuts an image into patches, one a row: a convolution whose stride is its kernel becomes a matmul over these rows.
///
///     out[k][((c · frames + t) · p + y) · p + x] = pixels[c][row · p + y][col · p + x],  row and col the place of patch k
///
/// or, channels last, out[k][(y · p + x) · channels + c].
///
/// Shapes   pixels [channels, height, width]; out [(height / p) * (width / p), channels * frames * p * p], p = patch_size
/// Requires a grid of whole cells; one frame of channels last. Of height and width nothing: what does not fill a patch at the
///          right and lower edge is left out, as the convolution does
/// Cost     copies every pixel once, in runs of p floats
/// Source   Dosovitskiy et al. 2021, 2010.11929, section 3.1
inline void patchify(std::span<const float> pixels, Index channels, Index height, Index width, const PatchLayout& layout,
                     MatrixView out) noexcept {
  const Index p = layout.patch_size, grid_width = width / p;
  [[maybe_unused]] const Index grid_height = height / p;
  DUET_ASSERT(static_cast<Index>(pixels.size()) == channels * height * width, "pixels of another size than said");
  DUET_ASSERT(out.rows() == grid_height * grid_width, "one row per patch");
  DUET_ASSERT(out.cols() == channels * layout.frames * p * p, "one column per pixel of a patch");
  DUET_ASSERT(grid_height % layout.cell == 0 && grid_width % layout.cell == 0, "a grid of whole cells");
  DUET_ASSERT(layout.pixels == PixelOrder::kChannelsFirst || layout.frames == 1, "frames come with channels first");
  for (Index k = 0; k < out.rows(); ++k) {
    const PatchPlace place = place_of_patch(k, grid_width, layout.cell);
    float* const row = out.row(k).data();
    for (Index c = 0; c < channels; ++c) {
      const float* from = pixels.data() + (c * height + place.row * p) * width + place.col * p;
      if (layout.pixels == PixelOrder::kChannelsLast) {
        for (Index y = 0; y < p; ++y, from += width) {
          for (Index x = 0; x < p; ++x) row[(y * p + x) * channels + c] = from[x];
        }
        continue;
      }
      float* const first = row + c * layout.frames * p * p;
      for (Index y = 0; y < p; ++y, from += width) std::copy_n(from, p, first + y * p);
      for (Index t = 1; t < layout.frames; ++t) std::copy_n(first, p * p, first + t * p * p);
    }
  }
}
/// The same of patches row by row.
inline void patchify(std::span<const float> pixels, Index channels, Index height, Index width, Index patch_size,
                     MatrixView out) noexcept {
  patchify(pixels, channels, height, width, PatchLayout{.patch_size = patch_size}, out);
}

}  // namespace duet::kernels
