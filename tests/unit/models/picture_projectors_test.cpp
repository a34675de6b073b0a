#include <gtest/gtest.h>

#include <initializer_list>

#include "duet/models/average_pool_projector.hpp"
#include "duet/models/pixel_shuffle_projector.hpp"
#include "duet/models/tile_packing_projector.hpp"
#include "duet/models/tiles_and_thumbnail.hpp"
#include "support/kernel_machine.hpp"
#include "support/reference.hpp"
#include "support/reference_layers.hpp"

namespace duet::testing {
namespace models_picture_projectors {

using kernels::GridSize;
using reference::Layers;
using reference::rows_of;
using reference::tiny_rows;

/// Features of pictures, each of whose crops has this grid, as an encoder with `first_rows` rows before the patches gives them.
struct Encoded {
  VisualInput input;
  Matrix rows;
  Features features;
};
Encoded encoded(std::initializer_list<std::vector<GridSize>> pictures, Index width, Index first_rows = 0) {
  Encoded result;
  Index picture = 0, total = 0;
  for (const auto& crops : pictures) {
    result.input.add_picture({});
    result.input.pictures.back().num_crops = static_cast<Index>(crops.size());
    for (const GridSize& grid : crops) {
      result.features.crops.push_back({picture, total, first_rows + grid.size(), grid.rows, grid.cols});
      total += first_rows + grid.size();
    }
    ++picture;
  }
  result.rows = tiny_rows(total, width);
  result.features.rows = result.rows;
  return result;
}

TEST(PixelShuffleProjector, PutsSquaresOfPatchesIntoOneRow) {
  const TinyWeights weights;
  const PixelShuffleProjector projector(LinearProjector({.input_size = 20, .output_size = 7, .bias = Linear::Bias::kNone}, Weights(weights)), 2);
  EXPECT_EQ(projector.input_size(), 5);
  EXPECT_EQ(projector.output_size(), 7);
  const Encoded e = encoded({{{2, 4}}, {{4, 2}, {2, 2}}}, 5);
  Machine machine;
  const ImageRows got = projector.project(e.features, e.input, machine.workspace);
  ASSERT_EQ(got.spans.size(), 2u);
  EXPECT_EQ(got.spans[0].count, 2);
  EXPECT_EQ(got.spans[1].begin, 2);
  EXPECT_EQ(got.spans[1].count, 3);
  // The rows of features behind each image token, the first row of a square before the second.
  const Index squares[5][4] = {{0, 1, 4, 5}, {2, 3, 6, 7}, {8, 9, 10, 11}, {12, 13, 14, 15}, {16, 17, 18, 19}};
  Matrix wide(5, 20);
  for (Index i = 0; i < 5; ++i) {
    for (Index k = 0; k < 4; ++k) copy(e.features.rows.rows(squares[i][k], 1), wide.view().rows(i, 1).cols(5 * k, 5));
  }
  reference::expect_within(got.rows, Layers(weights).linear("linear", rows_of(wide)));
}

TEST(PixelShuffleProjector, MayTakeSquaresColumnByColumn) {
  const TinyWeights weights;
  const auto linear = [&] { return LinearProjector({.input_size = 20, .output_size = 7, .bias = Linear::Bias::kNone}, Weights(weights)); };
  const PixelShuffleProjector by_rows(linear(), 2), by_columns(linear(), 2, SquareOrder::kColumnByColumn);
  const Encoded e = encoded({{{4, 6}}, {{2, 2}}}, 5);
  Machine machine;
  const ImageRows rows = by_rows.project(e.features, e.input, machine.workspace), columns = by_columns.project(e.features, e.input, machine.workspace);
  for (Index y = 0; y < 2; ++y) {
    for (Index x = 0; x < 3; ++x) EXPECT_TRUE(test::same_bits(columns.rows.view().rows(x * 2 + y, 1), rows.rows.view().rows(y * 3 + x, 1))) << y << ", " << x;
  }
  EXPECT_TRUE(test::same_bits(columns.rows.view().rows(6, 1), rows.rows.view().rows(6, 1)));
}

TEST(TilesAndThumbnail, MarksTheLastCropOfEveryPicture) {
  const TinyWeights weights;
  const auto shuffle = [&] { return PixelShuffleProjector(LinearProjector({.input_size = 20, .output_size = 7, .bias = Linear::Bias::kNone}, Weights(weights)), 2); };
  const TilesAndThumbnail marked(shuffle());
  const Encoded e = encoded({{{4, 4}, {4, 4}, {2, 2}}, {{2, 4}}}, 5);
  Machine machine;
  const ImageRows got = marked.project(e.features, e.input, machine.workspace), plain = shuffle().project(e.features, e.input, machine.workspace);
  EXPECT_TRUE(test::same_bits(got.rows, plain.rows));
  EXPECT_EQ(marked.num_tokens(16), 4);
  const auto is = [](ImageRows::Span span, Index begin, Index count) { return span.begin == begin && span.count == count; };
  EXPECT_TRUE(is(got.spans[0], 0, 9) && is(got.spans[1], 9, 2));
  EXPECT_TRUE(is(got.thumbnails[0], 8, 1) && is(got.thumbnails[1], 9, 2));
  EXPECT_EQ(got.num_thumbnail_rows(), 3);
}

TEST(PixelShuffleProjector, PatchesThatMakeNoSquaresAreAnError) {
  const TinyWeights weights;
  const PixelShuffleProjector projector(LinearProjector({.input_size = 20, .output_size = 7, .bias = Linear::Bias::kNone}, Weights(weights)), 2);
  Machine machine;
  const Encoded e = encoded({{{4, 3}}}, 5);
  EXPECT_THROW(static_cast<void>(projector.project(e.features, e.input, machine.workspace)), Error);
}

TEST(AveragePoolProjector, MapsTheNormOfMeans) {
  const TinyWeights weights;
  const AveragePoolProjector<RmsNormPlusOne> projector({.input_size = 6, .output_size = 4, .bias = Linear::Bias::kNone}, 2, 1e-6f, Weights(weights));
  const Encoded e = encoded({{{4, 4}}, {{6, 6}}}, 6);
  Machine machine;
  const ImageRows got = projector.project(e.features, e.input, machine.workspace);
  ASSERT_EQ(got.spans.size(), 2u);
  EXPECT_EQ(got.spans[1].begin, 4);
  EXPECT_EQ(got.spans[1].count, 4);
  reference::Rows means;
  for (const auto& [first, k] : {std::pair<Index, Index>{0, 2}, {16, 3}}) {
    for (Index cell = 0; cell < 4; ++cell) {
      reference::Row mean(6);
      for (Index i = 0; i < k * k; ++i) {
        const Index y = cell / 2 * k + i / k, x = cell % 2 * k + i % k;
        for (std::size_t j = 0; j < 6; ++j) {
          const double part = static_cast<double>(e.rows(first + y * 2 * k + x, static_cast<Index>(j))) / static_cast<double>(k * k);
          mean[j] = {mean[j].value + part, mean[j].error + 12.0 * reference::kUnit * std::abs(part)};
        }
      }
      means.push_back(std::move(mean));
    }
  }
  std::vector<float> one_plus = weights.at("norm.weight");
  for (float& w : one_plus) w += 1.0f;
  reference::Rows normed;
  for (const auto& row : means) normed.push_back(reference::norm(row, one_plus, {}, 1e-6f, false));
  reference::expect_within(got.rows, reference::linear(normed, weights.at("linear.weight")));
  const Encoded odd = encoded({{{5, 4}}}, 6);
  EXPECT_THROW(static_cast<void>(projector.project(odd.features, odd.input, machine.workspace)), Error);
}

/// Rows as they are.
struct Same {
  Index width = 3;
  [[nodiscard]] Index input_size() const { return width; }
  [[nodiscard]] Index output_size() const { return width; }
  void project(ConstMatrixView features, MatrixView out, Workspace&) const { copy(features, out); }
};

/// A picture of this size seen whole and in tile_rows × tile_cols tiles of 4 × 4 patches.
Encoded tiled(PictureSize original, Index tile_rows, Index tile_cols, Index first_rows = 0) {
  Encoded e = encoded({std::vector<GridSize>(static_cast<std::size_t>(1 + tile_rows * tile_cols), GridSize{4, 4})}, 3, first_rows);
  e.input.pictures[0].original = original;
  e.input.pictures[0].tile_rows = tile_rows;
  e.input.pictures[0].tile_cols = tile_cols;
  return e;
}

TEST(TilePackingProjector, PutsTilesTogetherAndEndsRowsWithANewline) {
  const TinyWeights weights;
  const TilePackingProjector<Same> projector({}, 0, Weights(weights));
  const ConstMatrixView newline(weights.at("image_newline").data(), 1, 3);
  Machine machine;
  for (const Index first_rows : {0, 1}) {
    const Encoded e = tiled({400, 800}, 1, 2, first_rows);  // fills its canvas
    const ImageRows got = projector.project(e.features, e.input, machine.workspace);
    const Index whole = 16 + first_rows;
    ASSERT_EQ(got.rows.rows(), whole + 4 * 9);
    EXPECT_TRUE(test::same_bits(got.rows.view().rows(0, whole), e.features.rows.rows(0, whole)));
    for (Index y = 0; y < 4; ++y) {
      for (Index x = 0; x < 8; ++x) {
        const Index from = (1 + x / 4) * whole + first_rows + y * 4 + x % 4;
        EXPECT_TRUE(test::same_bits(got.rows.view().rows(whole + y * 9 + x, 1), e.features.rows.rows(from, 1))) << y << ' ' << x;
      }
      EXPECT_TRUE(test::same_bits(got.rows.view().rows(whole + y * 9 + 8, 1), newline));
    }
  }
}

TEST(TilePackingProjector, LeavesPaddingOut) {
  const TinyWeights weights;
  const TilePackingProjector<Same> projector({}, 0, Weights(weights));
  Machine machine;
  const Encoded e = tiled({100, 200}, 2, 2);  // of 8 rows of patches the upper and the lower two are padding
  const ImageRows got = projector.project(e.features, e.input, machine.workspace);
  ASSERT_EQ(got.rows.rows(), 16 + 4 * 9);
  EXPECT_TRUE(test::same_bits(got.rows.view().rows(16, 4), e.features.rows.rows(16 + 8, 4)));  // the third row of the first tile
}

TEST(TilePackingProjector, ShrinksWhatIsMoreThanItMayBe) {
  const TinyWeights weights;
  const TilePackingProjector<Same> projector({}, 1, Weights(weights));
  Machine machine;
  const Encoded e = tiled({100, 200}, 1, 2);
  const ImageRows got = projector.project(e.features, e.input, machine.workspace);
  // sqrt(32 / 16) = 1.41…: 4 x 8 patches become 2 x 5.
  ASSERT_EQ(got.rows.rows(), 16 + 2 * 6);
  Matrix large(32, 3), small(10, 3);
  for (Index i = 0; i < 32; ++i) copy(e.features.rows.rows(16 + i % 8 / 4 * 16 + i / 8 * 4 + i % 4, 1), large.view().rows(i, 1));
  kernels::interpolate(large, {4, 8}, small, {2, 5}, kernels::Interpolation::kBilinear, machine.workspace);
  for (Index y = 0; y < 2; ++y) EXPECT_TRUE(test::same_bits(got.rows.view().rows(16 + 6 * y, 5), small.view().rows(5 * y, 5)));
}

TEST(TilePackingProjector, APictureOfOneCropEndsWithANewline) {
  const TinyWeights weights;
  const TilePackingProjector<Same> projector({}, 0, Weights(weights));
  Machine machine;
  const Encoded e = encoded({{{4, 4}}, {{4, 4}}}, 3);
  const ImageRows got = projector.project(e.features, e.input, machine.workspace);
  ASSERT_EQ(got.spans.size(), 2u);
  EXPECT_EQ(got.spans[1].begin, 17);
  EXPECT_EQ(got.spans[1].count, 17);
  EXPECT_TRUE(test::same_bits(got.rows.view().rows(33, 1), ConstMatrixView(weights.at("image_newline").data(), 1, 3)));
}

TEST(TilePackingProjector, CropsThatAreNotThePlansAreAnError) {
  const TinyWeights weights;
  const TilePackingProjector<Same> projector({}, 0, Weights(weights));
  Machine machine;
  Encoded e = tiled({100, 200}, 1, 2);
  e.input.pictures[0].tile_rows = 2;
  EXPECT_THROW(static_cast<void>(projector.project(e.features, e.input, machine.workspace)), Error);
}

/// What the reference's _get_number_of_features counts, in whole numbers wherever that is exact.
TEST(TilePackingProjector, GivesAsManyRowsAsTheGridsSay) {
  const TinyWeights weights;
  Machine machine;
  for (const Index max_tiles : {0, 2, 9}) {
    const TilePackingProjector<Same> projector({}, max_tiles, Weights(weights));
    for (Index height = 1; height < 2000; height = height * 3 / 2 + 1) {
      for (Index width = 1; width < 2000; width = width * 4 / 3 + 1) {
        for (const auto& [tile_rows, tile_cols] : {std::pair<Index, Index>{1, 1}, {1, 2}, {2, 2}, {3, 1}}) {
          const Encoded e = tiled({height, width}, tile_rows, tile_cols);
          const UnpaddedGrid kept = unpadded({height, width}, 4 * tile_rows, 4 * tile_cols);
          const PictureSize size = limited_grid(kept.rows, kept.cols, max_tiles, 16);
          const ImageRows got = projector.project(e.features, e.input, machine.workspace);
          ASSERT_EQ(got.rows.rows(), 16 + size.height * (size.width + 1)) << height << " x " << width;
          ASSERT_EQ(got.spans[0].count, got.rows.rows());
        }
      }
    }
  }
}

}  // namespace models_picture_projectors
}  // namespace duet::testing
