#include "duet/kernels/patchify.hpp"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace duet::kernels {
namespace {

void check(Index channels, Index height, Index width, Index patch) {
  std::vector<float> pixels(static_cast<std::size_t>(channels * height * width));
  std::iota(pixels.begin(), pixels.end(), 0.0f);
  const Index across = width / patch, down = height / patch, size = channels * patch * patch;
  Matrix wide(down * across, size + 3);
  patchify(pixels, channels, height, width, patch, wide.view().cols(1, size));
  for (Index n = 0; n < down * across; ++n) {
    for (Index i = 0; i < size; ++i) {
      const Index c = i / (patch * patch), y = n / across * patch + i / patch % patch, x = n % across * patch + i % patch;
      ASSERT_EQ(wide(n, 1 + i), pixels[static_cast<std::size_t>((c * height + y) * width + x)]) << "patch " << n << ", value " << i;
    }
    ASSERT_TRUE(wide(n, 0) == 0.0f && wide(n, 1 + size) == 0.0f) << "wrote beside its columns";
  }
}

TEST(Patchify, OrdersPatchesByRowsAndValuesByChannelRowColumn) {
  check(3, 28, 28, 14);
  check(3, 32, 16, 16);  // higher than wide
  check(1, 6, 9, 3);
  check(4, 5, 7, 1);
}

TEST(Patchify, LeavesARestOfTheImageOut) {
  check(3, 30, 29, 14);
  check(2, 7, 8, 3);
}

TEST(Patchify, AnImageSmallerThanAPatchHasNone) {
  const std::vector<float> pixels(12);
  patchify(pixels, 3, 2, 2, 4, MatrixView(nullptr, 0, 48));
}

}  // namespace
}  // namespace duet::kernels
