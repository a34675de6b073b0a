#include "duet/models/patch_windows.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "duet/kernels/patchify.hpp"

namespace duet {
namespace models_patch_windows {

struct Order {
  std::vector<Index> order;
  std::vector<kernels::KeyRange> windows;
};
Order order_of(Index rows, Index cols, Index cell, Index edge) {
  const auto n = static_cast<std::size_t>(rows * cols);
  Order result{std::vector<Index>(n), std::vector<kernels::KeyRange>(n)};
  order_by_windows(rows, cols, cell, edge, result.order, result.windows);
  return result;
}

TEST(PatchWindows, WithoutThemTheOrderIsThatOfTheCells) {
  const Order plain = order_of(4, 6, 2, 0);
  for (std::size_t k = 0; k < 24; ++k) {
    EXPECT_EQ(plain.order[k], static_cast<Index>(k));
    EXPECT_EQ(plain.windows[k].begin, 0);
    EXPECT_EQ(plain.windows[k].end, 24);
  }
}

TEST(PatchWindows, PatchesSeeThoseOfTheirWindowAndNoOthers) {
  for (const auto& [rows, cols, cell, edge] : {std::array<Index, 4>{4, 6, 2, 2}, {10, 6, 2, 2}, {6, 10, 1, 4}, {2, 2, 2, 5}, {9, 9, 3, 1}}) {
    const Order got = order_of(rows, cols, cell, edge);
    std::vector<Index> sorted = got.order;
    std::ranges::sort(sorted);
    for (std::size_t k = 0; k < sorted.size(); ++k) ASSERT_EQ(sorted[k], static_cast<Index>(k));  // every patch once
    const auto window_of = [&, cols = cols, cell = cell, edge = edge](std::size_t k) {
      const auto place = kernels::place_of_patch(got.order[k], cols, cell);
      return std::pair(place.row / (cell * edge), place.col / (cell * edge));
    };
    for (std::size_t k = 0; k < sorted.size(); ++k) {
      for (std::size_t other = 0; other < sorted.size(); ++other) {
        const bool sees = got.windows[k].begin <= static_cast<Index>(other) && static_cast<Index>(other) < got.windows[k].end;
        ASSERT_EQ(sees, window_of(k) == window_of(other));
      }
      const bool goes_on = k > 0 && window_of(k) == window_of(k - 1);
      ASSERT_TRUE(!goes_on || got.order[k - 1] < got.order[k]);  // cells stay in their order
    }
  }
}

}  // namespace models_patch_windows
}  // namespace duet
