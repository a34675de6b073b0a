#include "duet/layers/grid_rotation.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace duet {
namespace layers_grid_rotation {

/// The angle of pair `i` of a head of 8 channels, for the patch (row, col).
double angle(GridFrequencies which, double theta, Index row, Index col, Index i) {
  const bool by_row = i < 2;
  const auto power = static_cast<double>(which == GridFrequencies::kShared ? 4 * (i % 2) : 4 * (i % 2) + (by_row ? 0 : 2));
  return static_cast<double>(by_row ? row : col) * std::pow(theta, -power / 8.0);
}

TEST(GridRotation, HalfOfThePairsTurnsByTheRowTheOthersByTheColumn) {
  const Index rows[] = {0, 0, 3, 17, 40}, cols[] = {0, 5, 2, 60, 1};
  for (const GridFrequencies which : {GridFrequencies::kShared, GridFrequencies::kAlternating}) {
    const GridRotation rotation(8, 100.0f, which);
    ASSERT_EQ(rotation.num_pairs(), 4);
    Matrix cos(5, 4), sin(5, 4);
    rotation.angles(rows, cols, {cos, sin});
    for (Index k = 0; k < 5; ++k) {
      for (Index i = 0; i < 4; ++i) {
        const double expected = angle(which, 100.0, rows[k], cols[k], i);
        const double bound = 0x1p-22 * (1.0 + std::abs(expected));  // of a frequency and an angle rounded to float
        EXPECT_NEAR(static_cast<double>(cos(k, i)), std::cos(expected), bound);
        EXPECT_NEAR(static_cast<double>(sin(k, i)), std::sin(expected), bound);
      }
    }
  }
}

TEST(GridRotation, NumbersMustMakeAngles) {
  const auto rejects = [](Index head_dim, float theta) {
    try {
      const GridRotation rotation(head_dim, theta, GridFrequencies::kShared);
    } catch (const Error& e) {
      return e.kind() == ErrorKind::kInvalidArgument;
    }
    return false;
  };
  EXPECT_FALSE(rejects(4, 1.0f));
  EXPECT_TRUE(rejects(6, 100.0f));
  EXPECT_TRUE(rejects(0, 100.0f));
  EXPECT_TRUE(rejects(8, 0.0f));
  EXPECT_TRUE(rejects(8, std::numeric_limits<float>::quiet_NaN()));
  EXPECT_TRUE(rejects(8, std::numeric_limits<float>::infinity()));
}

}  // namespace layers_grid_rotation
}  // namespace duet
