#include "duet/kernels/rope.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "duet/kernels/kernel_table.hpp"

namespace duet::kernels {
namespace {

std::vector<Isa> supported() {
  std::vector<Isa> all;
  for (const Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512}) {
    if (supports(isa)) all.push_back(isa);
  }
  return all;
}

std::vector<float> frequencies(Index half) {
  std::vector<float> all;
  for (Index i = 0; i < half; ++i) all.push_back(static_cast<float>(std::pow(10000.0, -static_cast<double>(i) / static_cast<double>(half))));
  return all;
}

struct Angles {
  Matrix cos, sin;
  Angles(std::span<const Index> positions, Index half) : cos(static_cast<Index>(positions.size()), half), sin(cos.rows(), half) {
    rotary_angles(positions, frequencies(half), 1.0f, view());
  }
  RotaryAngles view() { return {cos.view(), sin.view()}; }
};

TEST(RotaryAngles, RoundTheAngleOnceAndAreAccurateFarOut) {
  const std::vector<Index> positions = {0, 1, 2, 77, 4095, 131071};
  const std::vector<float> inv_freq = frequencies(37);
  Matrix cos(6, 37), sin(6, 37);
  rotary_angles(positions, inv_freq, 0.75f, {cos.view(), sin.view()});
  for (Index i = 0; i < 6; ++i) {
    for (Index j = 0; j < 37; ++j) {
      const float angle = static_cast<float>(positions[static_cast<std::size_t>(i)]) * inv_freq[static_cast<std::size_t>(j)];
      EXPECT_NEAR(cos(i, j), 0.75 * std::cos(static_cast<double>(angle)), 1e-7);
      EXPECT_NEAR(sin(i, j), 0.75 * std::sin(static_cast<double>(angle)), 1e-7);
    }
  }
}

class RotateTest : public testing::TestWithParam<Isa> {
 protected:
  Threads threads{2};
  Workspace workspace{{&kernel_table(GetParam()), &threads}};

  static Matrix numbers(Index rows, Index cols) {
    Matrix x(rows, cols);
    for (Index i = 0; i < rows; ++i) {
      for (Index j = 0; j < cols; ++j) x(i, j) = std::sin(static_cast<float>(i * cols + j) * 0.7f) * 3.0f;
    }
    return x;
  }
};
INSTANTIATE_TEST_SUITE_P(Kernels, RotateTest, testing::ValuesIn(supported()));

TEST_P(RotateTest, EqualsDoubles) {
  const std::vector<Index> positions = {0, 5, 1000};
  for (const Index half : {1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 20, 32, 40, 64}) {
    for (const Index rest : {0, 1, 6}) {  // dimensions beyond rotary_dim pass
      Angles angles(positions, half);
      const Index dim = 2 * half + rest, heads = 3;
      const Matrix before = numbers(3, heads * dim);
      Matrix x = Matrix::clone(before.view());
      rotate_halves(x.view(), heads, dim, angles.view(), workspace);
      for (Index i = 0; i < 3; ++i) {
        for (Index h = 0; h < heads; ++h) {
          const auto at = [&](Index d) { return static_cast<double>(before(i, h * dim + d)); };
          for (Index j = 0; j < half; ++j) {
            const double c = static_cast<double>(angles.cos(i, j)), s = static_cast<double>(angles.sin(i, j));
            EXPECT_NEAR(x(i, h * dim + j), at(j) * c - at(j + half) * s, 8e-7) << half;
            EXPECT_NEAR(x(i, h * dim + j + half), at(j + half) * c + at(j) * s, 8e-7) << half;
          }
          for (Index d = 2 * half; d < dim; ++d) EXPECT_EQ(x(i, h * dim + d), before(i, h * dim + d));
        }
      }
    }
  }
}

TEST_P(RotateTest, PositionZeroChangesNothing) {
  const std::vector<Index> positions = {0};
  Angles angles(positions, 9);
  const Matrix before = numbers(1, 36);
  Matrix x = Matrix::clone(before.view());
  rotate_halves(x.view(), 2, 18, angles.view(), workspace);
  for (Index j = 0; j < 36; ++j) EXPECT_EQ(x(0, j), before(0, j));
}

TEST_P(RotateTest, BitsDoNotDependOnCompanionsThreadsOrStride) {
  std::vector<Index> positions;
  for (Index i = 0; i < 200; ++i) positions.push_back(3 * i);
  Angles angles(positions, 20);
  const Matrix before = numbers(200, 4 * 44);
  Matrix whole = Matrix::clone(before.view());
  rotate_halves(whole.view(), 4, 44, angles.view(), workspace);
  for (const int count : {1, 3}) {
    Threads pool(count);
    Workspace other({&kernel_table(GetParam()), &pool});
    Matrix wide(200, 4 * 44 + 7);
    const MatrixView inner = wide.view().cols(3, 4 * 44);
    copy(before.view(), inner);
    for (Index i = 0; i < 200; ++i) {
      rotate_halves(inner.rows(i, 1), 4, 44, {angles.cos.view().rows(i, 1), angles.sin.view().rows(i, 1)}, other);
      EXPECT_EQ(0, std::memcmp(inner.row(i).data(), whole.view().row(i).data(), sizeof(float) * 4 * 44));
      EXPECT_TRUE(wide(i, 2) == 0.0f && wide(i, 3 + 4 * 44) == 0.0f);
    }
  }
}

}  // namespace
}  // namespace duet::kernels
