#include "duet/kernels/elementwise.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "duet/kernels/kernel_table.hpp"

namespace duet::kernels {
namespace {

constexpr Index kWidths[] = {0, 1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33, 64, 100};

std::vector<Isa> supported() {
  std::vector<Isa> all;
  for (const Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512}) {
    if (supports(isa)) all.push_back(isa);
  }
  return all;
}

class ElementwiseTest : public testing::TestWithParam<Isa> {
 protected:
  Threads threads{2};
  Workspace workspace{{&kernel_table(GetParam()), &threads}};

  /// Runs change(x, y) on strided views and compares y with expected(x, y).
  template <class Change, class Expected>
  void check(Change change, Expected expected) {
    for (const Index cols : kWidths) {
      Matrix x(5, cols + 2), y(5, cols + 4);
      for (Index i = 0; i < 5; ++i) {
        for (Index j = 0; j < cols + 2; ++j) x(i, j) = static_cast<float>(i * 7 + j) * 0.25f - 3.0f;
        for (Index j = 0; j < cols + 4; ++j) y(i, j) = static_cast<float>(i - 3 * j) * 0.5f + 1.0f;
      }
      const Matrix before = Matrix::clone(y.view());
      change(ConstMatrixView(x.view().cols(1, cols)), y.view().cols(2, cols));
      for (Index i = 0; i < 5; ++i) {
        for (Index j = 0; j < cols + 4; ++j) {
          const bool inside = j >= 2 && j < cols + 2;
          EXPECT_EQ(y(i, j), inside ? expected(x(i, j - 1), before(i, j)) : before(i, j)) << cols << " columns, at " << j;
        }
      }
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Kernels, ElementwiseTest, testing::ValuesIn(supported()));

// All values are small multiples of 1/8, so every product and sum is exact.
TEST_P(ElementwiseTest, Add) {
  check([&](ConstMatrixView x, MatrixView y) { add(x, y, workspace); }, [](float x, float y) { return x + y; });
}
TEST_P(ElementwiseTest, AddScaled) {
  check([&](ConstMatrixView x, MatrixView y) { add_scaled(x, -0.5f, y, workspace); }, [](float x, float y) { return y - 0.5f * x; });
}
TEST_P(ElementwiseTest, Multiply) {
  check([&](ConstMatrixView x, MatrixView y) { multiply(x, y, workspace); }, [](float x, float y) { return x * y; });
}
TEST_P(ElementwiseTest, Scale) {
  check([&](ConstMatrixView, MatrixView y) { scale(y, 3.0f, workspace); }, [](float, float y) { return 3.0f * y; });
}

TEST(L2Normalize, MakesLengthOne) {
  for (const std::size_t count : {1u, 3u, 16u, 513u}) {
    std::vector<float> row(count);
    for (std::size_t i = 0; i < count; ++i) row[i] = static_cast<float>(i % 7) - 2.5f;
    const std::vector<float> before = row;
    l2_normalize(row);
    double squares = 0.0;
    for (const float v : row) squares += static_cast<double>(v) * static_cast<double>(v);
    EXPECT_NEAR(squares, 1.0, 1e-6);
    EXPECT_NEAR(row[count - 1] * before[0], row[0] * before[count - 1], 1e-6f);
  }
}
TEST(L2Normalize, LargeAndSmallValuesNeitherOverflowNorVanish) {
  for (const float size : {1e30f, 1e-30f}) {
    std::vector<float> row = {3.0f * size, 4.0f * size};
    l2_normalize(row);
    EXPECT_NEAR(row[0], 0.6f, 1e-6f);
    EXPECT_NEAR(row[1], 0.8f, 1e-6f);
  }
}
TEST(L2Normalize, ZerosStayZero) {
  std::vector<float> row(5, 0.0f);
  l2_normalize(row);
  for (const float v : row) EXPECT_EQ(v, 0.0f);
}

TEST(SoftmaxRow, SumsToOneAndKeepsRatios) {
  std::vector<float> row = {1000.0f, 1001.0f, 999.0f, -std::numeric_limits<float>::infinity()};
  softmax_row(row);
  EXPECT_NEAR(row[0] + row[1] + row[2], 1.0f, 1e-6f);
  EXPECT_NEAR(row[1] / row[0], std::exp(1.0f), 1e-5f);
  EXPECT_EQ(row[3], 0.0f);
}
TEST(SoftmaxRow, NothingAllowedGivesZeros) {
  std::vector<float> row(3, -std::numeric_limits<float>::infinity());
  softmax_row(row);
  for (const float v : row) EXPECT_EQ(v, 0.0f);
  softmax_row({});
}

}  // namespace
}  // namespace duet::kernels
