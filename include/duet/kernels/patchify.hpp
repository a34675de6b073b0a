#pragma once

#include <algorithm>
#include <span>

#include "duet/core/matrix.hpp"

namespace duet::kernels {

/// Cuts an image into patches, one a row: a convolution whose stride is its kernel becomes a matmul over these rows.
///
///     out[gy · grid_width + gx][(c · p + y) · p + x] = pixels[c][gy · p + y][gx · p + x]
///
/// Shapes   pixels [channels, height, width]; out [(height / p) * (width / p), channels * p * p], p = patch_size
/// Requires nothing of height and width: what does not fill a patch at the right and lower edge is left out, as the
///          convolution does
/// Cost     copies every pixel once, in runs of p floats
/// Source   Dosovitskiy et al. 2021, 2010.11929, section 3.1
inline void patchify(std::span<const float> pixels, Index channels, Index height, Index width, Index patch_size,
                     MatrixView out) noexcept {
  const Index grid_height = height / patch_size, grid_width = width / patch_size;
  DUET_ASSERT(static_cast<Index>(pixels.size()) == channels * height * width, "pixels of another size than said");
  DUET_ASSERT(out.rows() == grid_height * grid_width, "one row per patch");
  DUET_ASSERT(out.cols() == channels * patch_size * patch_size, "one column per pixel of a patch");
  for (Index gy = 0; gy < grid_height; ++gy) {
    for (Index gx = 0; gx < grid_width; ++gx) {
      float* to = out.row(gy * grid_width + gx).data();
      for (Index c = 0; c < channels; ++c) {
        const float* from = pixels.data() + (c * height + gy * patch_size) * width + gx * patch_size;
        for (Index y = 0; y < patch_size; ++y, from += width, to += patch_size) std::copy_n(from, patch_size, to);
      }
    }
  }
}

}  // namespace duet::kernels
