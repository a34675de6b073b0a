#include "duet/kernels/elementwise.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "support/kernel_machine.hpp"
#include "support/reference.hpp"

namespace duet {
namespace kernels_elementwise {

using kernels::Isa;
using test::KernelMachine;

constexpr float kInf = std::numeric_limits<float>::infinity();

class ElementwiseTest : public ::testing::TestWithParam<Isa> {};

TEST_P(ElementwiseTest, EverySizeAndStride) {
  for (const int threads : {1, 3}) {
    KernelMachine machine(GetParam(), threads);
    for (const Index cols : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 3000}) {
      constexpr Index kRows = 20;
      const auto x = test::normal_floats(kRows * (cols + 2), 1), before = test::normal_floats(kRows * (cols + 1), 2);
      const ConstMatrixView from(x.data(), kRows, cols, cols + 2);
      const auto check = [&](auto&& operation, auto&& expected) {
        auto y = before;
        operation(MatrixView(y.data(), kRows, cols, cols + 1));
        for (Index i = 0; i < kRows; ++i) {
          for (Index j = 0; j <= cols; ++j) {
            const float was = before[static_cast<std::size_t>(i * (cols + 1) + j)];
            const double want = j == cols ? static_cast<double>(was) : expected(static_cast<double>(from.data()[i * (cols + 2) + j]), static_cast<double>(was));
            const float got = y[static_cast<std::size_t>(i * (cols + 1) + j)];
            if (j == cols) {
              ASSERT_EQ(got, was);
            } else {
              ASSERT_NEAR(static_cast<double>(got), want, 0x1p-23 * (std::abs(want) + 1.0)) << cols;
            }
          }
        }
      };
      Workspace& workspace = machine.workspace();
      check([&](MatrixView y) { kernels::add(from, y, workspace); }, [](double a, double b) { return a + b; });
      check([&](MatrixView y) { kernels::add_scaled(from, -0.5f, y, workspace); }, [](double a, double b) { return b - 0.5 * a; });
      check([&](MatrixView y) { kernels::multiply(from, y, workspace); }, [](double a, double b) { return a * b; });
      check([&](MatrixView y) { kernels::scale(y, 3.0f, workspace); }, [](double, double b) { return 3.0 * b; });
    }
  }
}

TEST_P(ElementwiseTest, AddIsOneRounding) {
  KernelMachine machine(GetParam());
  const auto x = test::normal_floats(1000, 3);
  auto y = test::normal_floats(1000, 4);
  const auto before = y;
  kernels::add({x.data(), 1, 1000}, {y.data(), 1, 1000}, machine.workspace());
  for (std::size_t i = 0; i < y.size(); ++i) ASSERT_EQ(y[i], x[i] + before[i]);
}

TEST_P(ElementwiseTest, AFactorOfZeroLeavesTheOther) {  // a closed gate: the text-only model, bit by bit
  KernelMachine machine(GetParam());
  const auto x = test::normal_floats(99, 5);
  auto y = test::normal_floats(99, 6);
  const auto before = y;
  kernels::add_scaled({x.data(), 1, 99}, 0.0f, {y.data(), 1, 99}, machine.workspace());
  EXPECT_EQ(y, before);
}

INSTANTIATE_TEST_SUITE_P(All, ElementwiseTest, ::testing::ValuesIn(test::runnable_isas()),
                         [](const auto& test) { return std::string(kernels::kernel_table(test.param).name); });

TEST(L2Normalize, GivesLengthOne) {
  for (const float factor : {1e-30f, 1.0f, 1e30f}) {
    auto row = test::normal_floats(100, 7);
    for (float& v : row) v *= factor;
    kernels::l2_normalize(row);
    double squares = 0.0;
    for (const float v : row) squares += static_cast<double>(v) * static_cast<double>(v);
    EXPECT_NEAR(squares, 1.0, 1e-6);
  }
  std::vector<float> zeros(5, 0.0f);
  kernels::l2_normalize(zeros);
  for (const float v : zeros) EXPECT_EQ(v, 0.0f);
}

TEST(SoftmaxRow, AgreesWithTheReference) {
  for (const float spread : {1e-3f, 1.0f, 100.0f, 1e30f}) {
    auto row = test::normal_floats(321, 8);
    for (float& v : row) v *= spread;
    std::vector<double> scores(row.begin(), row.end());
    const auto expected = reference::softmax(scores);
    kernels::softmax_row(row);
    double sum = 0.0;
    for (std::size_t i = 0; i < row.size(); ++i) {
      // score − largest is rounded: a relative error of the weight as large as the difference's own.
      EXPECT_NEAR(static_cast<double>(row[i]), expected[i], expected[i] * 0x1p-23 * (4.0 + 10.0 * static_cast<double>(spread)) + 1e-45);
      sum += static_cast<double>(row[i]);
    }
    EXPECT_NEAR(sum, 1.0, 1e-6);
  }
}

TEST(SoftmaxRow, MinusInfinityHasNoShare) {
  std::vector<float> row = {-kInf, 1.0f, 1.0f, -kInf};
  kernels::softmax_row(row);
  EXPECT_EQ(row, (std::vector<float>{0.0f, 0.5f, 0.5f, 0.0f}));
  std::vector<float> nothing(3, -kInf);
  kernels::softmax_row(nothing);
  EXPECT_EQ(nothing, std::vector<float>(3, 0.0f));
  std::vector<float> empty;
  kernels::softmax_row(empty);
}

}  // namespace kernels_elementwise
}  // namespace duet
