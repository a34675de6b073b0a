#pragma once

#include <algorithm>
#include <span>

#include "duet/kernels/attention_types.hpp"

namespace duet {

/// Patches window by window, so that those that see one another lie together and what a patch sees is one range. Windows of
/// edge x edge cells tile the grid from its upper left corner, those at the right and lower edge being smaller; cells lie row by
/// row within a window, and the patches of a cell stay together. Without windows (edge 0) the order is that of the cells.
///
/// Shapes   order, windows [patches] of a grid of grid_rows x grid_cols patches, cells of cell x cell of them
/// order    place k holds patch order[k] of the patches cell by cell
/// windows  the places that place k sees
/// Source   Bai et al. 2025, 2502.13923 (Qwen2.5-VL), section 2.1.1
inline void order_by_windows(Index grid_rows, Index grid_cols, Index cell, Index edge, std::span<Index> order,
                             std::span<kernels::KeyRange> windows) noexcept {
  const Index rows = grid_rows / cell, cols = grid_cols / cell, per_cell = cell * cell;  // of cells
  const Index height = edge > 0 ? std::min(edge, rows) : rows, width = edge > 0 ? std::min(edge, cols) : cols;
  std::size_t k = 0;
  for (Index y = 0; y < rows; y += height) {
    for (Index x = 0; x < cols; x += width) {
      const std::size_t begin = k;
      for (Index row = y; row < std::min(rows, y + height); ++row) {
        for (Index col = x; col < std::min(cols, x + width); ++col) {
          for (Index i = 0; i < per_cell; ++i) order[k++] = (row * cols + col) * per_cell + i;
        }
      }
      std::fill(windows.begin() + static_cast<Index>(begin), windows.begin() + static_cast<Index>(k),
                kernels::KeyRange{static_cast<Index>(begin), static_cast<Index>(k)});
    }
  }
}

}  // namespace duet
