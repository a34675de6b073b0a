#include "duet/kernels/patchify.hpp"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace duet {
namespace kernels_patchify {

TEST(Patchify, GathersChannelRowColumn) {
  for (const Index channels : {1, 3}) {
    for (const Index patch : {1, 2, 7, 14}) {
      for (const auto& [grid_height, grid_width] : {std::pair<Index, Index>{1, 1}, {3, 2}, {2, 5}}) {
        for (const Index ragged : {Index{0}, patch - 1}) {  // what fills no patch is left out
          const Index height = grid_height * patch + ragged, width = grid_width * patch + ragged;
          std::vector<float> pixels(static_cast<std::size_t>(channels * height * width));
          std::iota(pixels.begin(), pixels.end(), 1.0f);
          Matrix out(grid_height * grid_width, channels * patch * patch + 3);
          const MatrixView patches = out.view().cols(1, channels * patch * patch);
          kernels::patchify(pixels, channels, height, width, patch, patches);
          for (Index c = 0; c < channels; ++c) {
            for (Index y = 0; y < grid_height * patch; ++y) {
              for (Index x = 0; x < grid_width * patch; ++x) {
                const Index row = y / patch * grid_width + x / patch;
                const Index column = (c * patch + y % patch) * patch + x % patch;
                ASSERT_EQ(patches(row, column), pixels[static_cast<std::size_t>((c * height + y) * width + x)]);
              }
            }
          }
          for (Index i = 0; i < out.rows(); ++i) ASSERT_EQ(out(i, 0) + out(i, out.cols() - 1) + out(i, out.cols() - 2), 0.0f);
        }
      }
    }
  }
}

TEST(Patchify, AConvolutionBecomesAMatmul) {
  constexpr Index kChannels = 3, kPatch = 4, kHeight = 8, kWidth = 12;
  std::vector<float> pixels(kChannels * kHeight * kWidth), kernel(kChannels * kPatch * kPatch);
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<float>(i * 7 % 11) - 5.0f;
  for (std::size_t i = 0; i < kernel.size(); ++i) kernel[i] = static_cast<float>(i * 5 % 13) - 6.0f;
  Matrix patches(6, kChannels * kPatch * kPatch);
  kernels::patchify(pixels, kChannels, kHeight, kWidth, kPatch, patches);
  for (Index gy = 0; gy < 2; ++gy) {
    for (Index gx = 0; gx < 3; ++gx) {
      float convolved = 0.0f, product = 0.0f;
      for (Index c = 0; c < kChannels; ++c) {
        for (Index y = 0; y < kPatch; ++y) {
          for (Index x = 0; x < kPatch; ++x) {
            convolved += kernel[static_cast<std::size_t>((c * kPatch + y) * kPatch + x)] *
                         pixels[static_cast<std::size_t>((c * kHeight + gy * kPatch + y) * kWidth + gx * kPatch + x)];
          }
        }
      }
      for (Index i = 0; i < patches.cols(); ++i) product += patches(gy * 3 + gx, i) * kernel[static_cast<std::size_t>(i)];
      EXPECT_EQ(product, convolved);  // small integers: exact
    }
  }
}

TEST(Patchify, PatchesMayLieCellByCell) {
  constexpr Index kPatch = 2, kCell = 2, kHeight = 8, kWidth = 12;  // 4 x 6 patches, 2 x 3 cells
  std::vector<float> pixels(kHeight * kWidth);
  std::iota(pixels.begin(), pixels.end(), 1.0f);
  Matrix rows(24, kPatch * kPatch), cells(24, kPatch * kPatch);
  kernels::patchify(pixels, 1, kHeight, kWidth, kPatch, rows);
  kernels::patchify(pixels, 1, kHeight, kWidth, {.patch_size = kPatch, .cell = kCell}, cells);
  const Index first_cells[] = {0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11, 12, 13, 18, 19};  // places row by row
  for (std::size_t k = 0; k < std::size(first_cells); ++k) {
    const auto place = kernels::place_of_patch(static_cast<Index>(k), 6, kCell);
    EXPECT_EQ(place.row * 6 + place.col, first_cells[k]);
    for (Index i = 0; i < cells.cols(); ++i) EXPECT_EQ(cells(static_cast<Index>(k), i), rows(first_cells[k], i)) << k;
  }
}

TEST(Patchify, AStillPictureFillsAllFrames) {
  constexpr Index kChannels = 3, kPatch = 2, kFrames = 3, kArea = kPatch * kPatch;
  std::vector<float> pixels(kChannels * 2 * 4);
  std::iota(pixels.begin(), pixels.end(), 1.0f);
  Matrix one(2, kChannels * kArea), film(2, kChannels * kFrames * kArea);
  kernels::patchify(pixels, kChannels, 2, 4, kPatch, one);
  kernels::patchify(pixels, kChannels, 2, 4, {.patch_size = kPatch, .frames = kFrames}, film);
  for (Index k = 0; k < 2; ++k) {
    for (Index c = 0; c < kChannels; ++c) {
      for (Index t = 0; t < kFrames; ++t) {
        for (Index i = 0; i < kArea; ++i) EXPECT_EQ(film(k, (c * kFrames + t) * kArea + i), one(k, c * kArea + i));
      }
    }
  }
}

TEST(Patchify, ChannelsMayComeLast) {
  constexpr Index kChannels = 3, kPatch = 2;
  std::vector<float> pixels(kChannels * 4 * 6);
  std::iota(pixels.begin(), pixels.end(), 1.0f);
  Matrix first(6, kChannels * kPatch * kPatch), last(6, kChannels * kPatch * kPatch);
  kernels::patchify(pixels, kChannels, 4, 6, kPatch, first);
  kernels::patchify(pixels, kChannels, 4, 6, {.patch_size = kPatch, .pixels = kernels::PixelOrder::kChannelsLast}, last);
  for (Index k = 0; k < 6; ++k) {
    for (Index c = 0; c < kChannels; ++c) {
      for (Index i = 0; i < kPatch * kPatch; ++i) EXPECT_EQ(last(k, i * kChannels + c), first(k, c * kPatch * kPatch + i));
    }
  }
}

TEST(Patchify, AnImageSmallerThanAPatchHasNone) {
  const std::vector<float> pixels(9);
  kernels::patchify(pixels, 1, 3, 3, 4, Matrix(0, 16));
}

}  // namespace kernels_patchify
}  // namespace duet
