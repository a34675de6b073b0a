#include "duet/kernels/norm.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "duet/kernels/kernel_table.hpp"

namespace duet::kernels {
namespace {

constexpr Index kWidths[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 100, 768, 1000};

class NormTest : public testing::TestWithParam<Isa> {
 protected:
  Threads threads{3};
  Workspace workspace{{&kernel_table(GetParam()), &threads}};

  static Matrix random(Index rows, Index cols, float mean, float deviation) {
    std::mt19937 engine(static_cast<unsigned>(rows + 1000 * cols));
    std::normal_distribution<float> normal(mean, deviation);
    Matrix x(rows, cols);
    for (Index i = 0; i < rows; ++i) {
      for (float& value : x.view().row(i)) value = normal(engine);
    }
    return x;
  }
  static double layer_norm_at(std::span<const float> x, float weight, float bias, float eps, float value) {
    double mean = 0.0, variance = 0.0;
    for (const float v : x) mean += static_cast<double>(v);
    mean /= static_cast<double>(x.size());
    for (const float v : x) variance += (static_cast<double>(v) - mean) * (static_cast<double>(v) - mean);
    variance /= static_cast<double>(x.size());
    return (static_cast<double>(value) - mean) / std::sqrt(variance + static_cast<double>(eps)) * static_cast<double>(weight) + static_cast<double>(bias);
  }
};

std::vector<Isa> supported() {
  std::vector<Isa> all;
  for (const Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512}) {
    if (supports(isa)) all.push_back(isa);
  }
  return all;
}
INSTANTIATE_TEST_SUITE_P(Kernels, NormTest, testing::ValuesIn(supported()));

TEST_P(NormTest, LayerNormEqualsDoubles) {
  for (const Index cols : kWidths) {
    const Matrix x = random(3, cols, 0.5f, 2.0f), weight = random(1, cols, 1.0f, 0.2f), bias = random(2, cols, 0.0f, 0.5f);
    for (const bool with_bias : {true, false}) {
      Matrix out(3, cols);
      layer_norm(x.view(), weight.view().data(), with_bias ? bias.view().data() : nullptr, 1e-5f, out.view(), workspace);
      for (Index i = 0; i < 3; ++i) {
        for (Index j = 0; j < cols; ++j) {
          const double expected = layer_norm_at(x.view().row(i), weight(0, j), with_bias ? bias(0, j) : 0.0f, 1e-5f, x(i, j));
          EXPECT_NEAR(out(i, j), expected, 2e-6 * (1.0 + std::abs(expected))) << cols;
        }
      }
    }
  }
}

TEST_P(NormTest, LayerNormSurvivesALargeMean) {  // the mean of squares would have cancelled to nothing here
  const Matrix x = random(2, 768, 1000.0f, 1.0f), weight = random(1, 768, 1.0f, 0.0f);
  Matrix out(2, 768);
  layer_norm(x.view(), weight.view().data(), nullptr, 1e-5f, out.view(), workspace);
  for (Index j = 0; j < 768; ++j) {
    EXPECT_NEAR(out(0, j), layer_norm_at(x.view().row(0), 1.0f, 0.0f, 1e-5f, x(0, j)), 1e-5);
  }
}

TEST_P(NormTest, ConstantRowBecomesBias) {
  Matrix x(1, 19), weight(1, 19), bias(1, 19), out(1, 19);
  for (Index j = 0; j < 19; ++j) {
    x(0, j) = 3.25f;
    weight(0, j) = 2.0f;
    bias(0, j) = static_cast<float>(j);
  }
  layer_norm(x.view(), weight.view().data(), bias.view().data(), 1e-5f, out.view(), workspace);
  for (Index j = 0; j < 19; ++j) EXPECT_EQ(out(0, j), static_cast<float>(j));
}

TEST_P(NormTest, RmsNormEqualsDoubles) {
  for (const Index cols : kWidths) {
    const Matrix x = random(3, cols, 0.5f, 2.0f), weight = random(1, cols, 1.0f, 0.2f);
    Matrix out(3, cols);
    rms_norm(x.view(), weight.view().data(), 1e-6f, out.view(), workspace);
    for (Index i = 0; i < 3; ++i) {
      double squares = 0.0;
      for (const float v : x.view().row(i)) squares += static_cast<double>(v) * static_cast<double>(v);
      const double factor = 1.0 / std::sqrt(squares / static_cast<double>(cols) + 1e-6);
      for (Index j = 0; j < cols; ++j) {
        const double expected = static_cast<double>(x(i, j)) * factor * static_cast<double>(weight(0, j));
        EXPECT_NEAR(out(i, j), expected, 1e-6 * (1e-3 + std::abs(expected))) << cols;
      }
    }
  }
}

TEST_P(NormTest, ZerosStayZero) {
  Matrix x(1, 20), weight = random(1, 20, 1.0f, 0.1f), out = random(1, 20, 5.0f, 0.0f);
  rms_norm(x.view(), weight.view().data(), 1e-6f, out.view(), workspace);
  for (Index j = 0; j < 20; ++j) EXPECT_EQ(out(0, j), 0.0f);
}

TEST_P(NormTest, InPlaceAndStridedAndThreadedBitsAreTheSame) {
  for (const Index cols : {7, 64, 1000}) {
    const Matrix x = random(70, cols, 0.1f, 1.0f), weight = random(1, cols, 1.0f, 0.2f);
    Matrix layer(70, cols), rms(70, cols);
    layer_norm(x.view(), weight.view().data(), nullptr, 1e-5f, layer.view(), workspace);
    rms_norm(x.view(), weight.view().data(), 1e-5f, rms.view(), workspace);
    for (const int count : {1, 2, 3}) {
      Threads pool(count);
      Workspace other({&kernel_table(GetParam()), &pool});
      Matrix wide(70, cols + 5);
      const MatrixView inner = wide.view().cols(2, cols);
      copy(x.view(), inner);
      layer_norm(inner, weight.view().data(), nullptr, 1e-5f, inner, other);
      for (Index i = 0; i < 70; ++i) EXPECT_EQ(0, std::memcmp(inner.row(i).data(), layer.view().row(i).data(), static_cast<std::size_t>(cols) * 4));
      copy(x.view(), inner);
      for (Index i = 0; i < 70; ++i) rms_norm(inner.rows(i, 1), weight.view().data(), 1e-5f, inner.rows(i, 1), other);
      for (Index i = 0; i < 70; ++i) EXPECT_EQ(0, std::memcmp(inner.row(i).data(), rms.view().row(i).data(), static_cast<std::size_t>(cols) * 4));
      for (Index i = 0; i < 70; ++i) EXPECT_TRUE(wide(i, 1) == 0.0f && wide(i, cols + 2) == 0.0f) << "wrote beside its columns";
    }
  }
}

TEST_P(NormTest, NoRowsAreFine) {
  Matrix x(0, 8), weight(1, 8);
  layer_norm(x.view(), weight.view().data(), nullptr, 1e-5f, x.view(), workspace);
  rms_norm(x.view(), weight.view().data(), 1e-5f, x.view(), workspace);
}

}  // namespace
}  // namespace duet::kernels
