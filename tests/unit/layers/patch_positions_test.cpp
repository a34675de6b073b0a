#include "duet/layers/patch_positions.hpp"

#include <gmock/gmock.h>

#include "support/kernel_machine.hpp"
#include "support/reference.hpp"
#include "support/tiny_weights.hpp"

namespace duet::testing {
namespace layers_patch_positions {

using ::testing::ElementsAre;

TEST(LearnedPatchPositions, AreTheTableForItsOwnGrid) {
  const TinyWeights weights;
  const LearnedPatchPositions positions({8, 4, 1, {2, 3}}, Weights(weights));
  Machine machine;
  const ConstMatrixView table = positions.table({2, 3}, machine.workspace);
  EXPECT_TRUE(test::same_bits(table, ConstMatrixView(weights.at("position_embedding").data(), 7, 8)));
}

TEST(LearnedPatchPositions, AreInterpolatedForAnother) {
  const TinyWeights weights;
  const LearnedPatchPositions positions({8, 4, 1, {2, 3}}, Weights(weights));
  const ConstMatrixView learned(weights.at("position_embedding").data(), 7, 8);
  Machine machine;
  const ConstMatrixView table = positions.table({3, 2}, machine.workspace);  // as many, but not the same
  Matrix expected(6, 8);
  kernels::interpolate(learned.rows(1, 6), {2, 3}, expected, {3, 2}, kernels::Interpolation::kBicubic, machine.workspace);
  EXPECT_TRUE(test::same_bits(table.rows(0, 1), learned.rows(0, 1)));  // the class token lies nowhere
  EXPECT_TRUE(test::same_bits(table.rows(1, 6), expected));
}

TEST(BucketedPatchPositions, SpreadOverTheTable) {
  EXPECT_THAT(BucketedPatchPositions::buckets(4, 4), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(BucketedPatchPositions::buckets(2, 4), ElementsAre(0, 2));
  EXPECT_THAT(BucketedPatchPositions::buckets(1, 4), ElementsAre(0));
  EXPECT_THAT(BucketedPatchPositions::buckets(8, 4), ElementsAre(0, 0, 1, 1, 2, 2, 3, 3));
}

TEST(BucketedPatchPositions, RoundAsTheReferenceOnBoundaries) {
  // torch.bucketize(torch.arange(0, 1 - 1e-6, 1 / torch.tensor(n)), torch.arange(1 / N, 1.0, 1 / N), right=True); counted in
  // whole numbers, i of the first would lie in bucket i.
  EXPECT_THAT(BucketedPatchPositions::buckets(19, 19), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 11, 13, 14, 15, 16, 17, 18));
  EXPECT_THAT(BucketedPatchPositions::buckets(31, 31), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 16, 18, 19, 20, 20, 22, 23, 24, 24, 26, 27, 28, 28, 30));
  EXPECT_THAT(BucketedPatchPositions::buckets(41, 41), ElementsAre(0, 1, 2, 3, 4, 5, 6, 6, 8, 9, 9, 10, 12, 13, 13, 14, 16, 17, 18, 18, 20, 21, 22, 23, 24, 24, 26, 26, 27, 28, 29, 31, 31, 32, 34, 34, 36, 37, 37, 39, 39));
}

TEST(BucketedPatchPositions, TakeRowsByBothCoordinates) {
  const TinyWeights weights;
  const BucketedPatchPositions positions({8, 4, 0, {4, 4}}, Weights(weights));
  const ConstMatrixView learned(weights.at("position_embedding").data(), 16, 8);
  Machine machine;
  const ConstMatrixView table = positions.table({2, 4}, machine.workspace);
  ASSERT_EQ(table.rows(), 8);
  for (Index i = 0; i < 2; ++i) EXPECT_TRUE(test::same_bits(table.rows(4 * i, 4), learned.rows(8 * i, 4)));
}

}  // namespace layers_patch_positions
}  // namespace duet::testing
