#include "duet/kernels/rope.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "support/kernel_machine.hpp"

namespace duet {
namespace kernels_rope {

using kernels::Isa;
using test::KernelMachine;

class RopeTest : public ::testing::TestWithParam<Isa> {};

TEST(RotaryAngles, AreThoseOfTheRoundedProduct) {
  const std::vector<Index> positions = {0, 1, 5, 100, 8191, 131071};
  const std::vector<float> inv_freq = {1.0f, 0.31622776f, 0.01f, 1e-4f};
  Matrix cos(6, 4), sin(6, 4);
  kernels::rotary_angles(positions, inv_freq, 1.25f, {cos, sin});
  for (Index i = 0; i < 6; ++i) {
    for (Index j = 0; j < 4; ++j) {
      const float angle = static_cast<float>(positions[static_cast<std::size_t>(i)]) * inv_freq[static_cast<std::size_t>(j)];
      EXPECT_NEAR(static_cast<double>(cos(i, j)), 1.25 * std::cos(static_cast<double>(angle)), 1.25 * 0x1p-23);
      EXPECT_NEAR(static_cast<double>(sin(i, j)), 1.25 * std::sin(static_cast<double>(angle)), 1.25 * 0x1p-23);
    }
  }
}

TEST_P(RopeTest, TurnsPairsOfHalves) {
  for (const int threads : {1, 2}) {
    KernelMachine machine(GetParam(), threads);
    for (const Index head_dim : {2, 6, 8, 16, 18, 32, 64, 80, 96, 128}) {
      for (const Index pairs : {head_dim / 2, head_dim / 4, Index{0}}) {
        constexpr Index kRows = 70, kHeads = 3;
        Matrix x(kRows, kHeads * head_dim + 5);
        const auto values = test::normal_floats(kRows * x.cols(), 1);
        std::ranges::copy(values, x.view().data());
        const Matrix before = Matrix::clone(x);
        std::vector<Index> positions;
        std::vector<float> inv_freq;
        for (Index i = 0; i < kRows; ++i) positions.push_back(1000 + 3 * i);
        for (Index j = 0; j < pairs; ++j) inv_freq.push_back(std::pow(10000.0f, -static_cast<float>(j) / static_cast<float>(pairs)));
        Matrix cos(kRows, pairs), sin(kRows, pairs);
        kernels::rotary_angles(positions, inv_freq, 1.0f, {cos, sin});
        kernels::rotate_halves(x.view().cols(0, kHeads * head_dim), kHeads, head_dim, {cos, sin}, machine.workspace());
        for (Index i = 0; i < kRows; ++i) {
          for (Index c = 0; c < x.cols(); ++c) {
            const Index in_head = c % head_dim, pair = in_head % std::max<Index>(1, pairs);
            const bool turned = c < kHeads * head_dim && in_head < 2 * pairs;
            if (!turned) {
              ASSERT_EQ(x(i, c), before(i, c));
              continue;
            }
            const bool second = in_head >= pairs;
            const double self = static_cast<double>(before(i, c));
            const double other = static_cast<double>(before(i, second ? c - pairs : c + pairs));
            const double expected = self * static_cast<double>(cos(i, pair)) +
                                    (second ? 1.0 : -1.0) * other * static_cast<double>(sin(i, pair));
            ASSERT_NEAR(static_cast<double>(x(i, c)), expected, 0x1p-23 * (std::abs(self) + std::abs(other)))
                << "head_dim " << head_dim << " pairs " << pairs << " column " << c;
          }
        }
      }
    }
  }
}

TEST_P(RopeTest, ScoresDependOnTheDistanceAlone) {
  KernelMachine machine(GetParam());
  constexpr Index kDim = 64;
  const auto q = test::normal_floats(kDim, 2), k = test::normal_floats(kDim, 3);
  std::vector<float> inv_freq;
  for (Index j = 0; j < kDim / 2; ++j) inv_freq.push_back(std::pow(10000.0f, -2.0f * static_cast<float>(j) / kDim));
  const auto score = [&](Index at_q, Index at_k) {
    Matrix rows(2, kDim), cos(2, kDim / 2), sin(2, kDim / 2);
    std::ranges::copy(q, rows.view().row(0).begin());
    std::ranges::copy(k, rows.view().row(1).begin());
    const std::vector<Index> positions = {at_q, at_k};
    kernels::rotary_angles(positions, inv_freq, 1.0f, {cos, sin});
    kernels::rotate_halves(rows, 1, kDim, {cos, sin}, machine.workspace());
    double sum = 0.0;
    for (Index c = 0; c < kDim; ++c) sum += static_cast<double>(rows(0, c)) * static_cast<double>(rows(1, c));
    return sum;
  };
  for (const Index shift : {1, 10, 100}) EXPECT_NEAR(score(17 + shift, 5 + shift), score(17, 5), 1e-3);  // f32 angles
}

TEST_P(RopeTest, SameBitsAloneAndTogether) {
  KernelMachine machine(GetParam(), 3);
  constexpr Index kRows = 120, kHeads = 5, kDim = 72;
  Matrix x(kRows, kHeads * kDim), cos(kRows, kDim / 2), sin(kRows, kDim / 2);
  std::ranges::copy(test::normal_floats(kRows * x.cols(), 4), x.view().data());
  std::ranges::copy(test::normal_floats(kRows * cos.cols(), 5), cos.view().data());
  std::ranges::copy(test::normal_floats(kRows * sin.cols(), 6), sin.view().data());
  Matrix alone = Matrix::clone(x);
  kernels::rotate_halves(x, kHeads, kDim, {cos, sin}, machine.workspace());
  for (Index i = 0; i < kRows; ++i) {
    kernels::rotate_halves(alone.view().rows(i, 1), kHeads, kDim, {cos.view().rows(i, 1), sin.view().rows(i, 1)},
                           machine.workspace());
  }
  EXPECT_TRUE(test::same_bits(x, alone));
}

INSTANTIATE_TEST_SUITE_P(All, RopeTest, ::testing::ValuesIn(test::runnable_isas()),
                         [](const auto& test) { return std::string(kernels::kernel_table(test.param).name); });

}  // namespace kernels_rope
}  // namespace duet
