#include "duet/kernels/norm.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "support/kernel_machine.hpp"
#include "support/reference.hpp"

namespace duet {
namespace kernels_norm {

using kernels::Isa;
using test::KernelMachine;

class NormTest : public ::testing::TestWithParam<Isa> {};

/// Rows of normal floats times `spread`, around `center`.
std::vector<float> rows_around(Index count, float center, float spread, unsigned seed) {
  auto values = test::normal_floats(count, seed);
  for (float& v : values) v = center + spread * v;
  return values;
}

TEST_P(NormTest, LayerNormAgreesWithTheReference) {
  KernelMachine machine(GetParam());
  for (const Index size : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 129, 768, 1000, 4096}) {
    for (const float center : {0.0f, 1.0f, -1000.0f}) {
      for (const float spread : {1e-3f, 1.0f, 1e6f}) {
        const auto x = rows_around(3 * size, center, spread, static_cast<unsigned>(size));
        const auto weight = test::normal_floats(size, 1), bias = test::normal_floats(size, 2);
        Matrix out(3, size);
        kernels::layer_norm({x.data(), 3, size}, weight.data(), bias.data(), 1e-5f, out, machine.workspace());
        for (Index i = 0; i < 3; ++i) {
          const std::span<const float> row(x.data() + i * size, static_cast<std::size_t>(size));
          const auto expected = reference::layer_norm(row, weight, bias, static_cast<double>(1e-5f));
          for (Index j = 0; j < size; ++j) {
            const auto at = static_cast<std::size_t>(j);
            // x − mean is all but exact; sums over the row err by a few units at most, and the result is rounded four times.
            const double unit = expected[at] - static_cast<double>(bias[at]);
            const double tolerance = 0x1p-24 * (16.0 * std::abs(unit) + 2.0 * std::abs(static_cast<double>(bias[at])) +
                                                4.0 * std::abs(static_cast<double>(weight[at])));
            ASSERT_NEAR(static_cast<double>(out(i, j)), expected[at], tolerance)
                << "size " << size << " center " << center << " spread " << spread;
          }
        }
      }
    }
  }
}

TEST_P(NormTest, LayerNormWithoutBias) {
  KernelMachine machine(GetParam());
  const auto x = test::normal_floats(100, 3), weight = test::normal_floats(100, 4);
  const std::vector<float> zeros(100, 0.0f);
  Matrix without(1, 100), with_zeros(1, 100);
  kernels::layer_norm({x.data(), 1, 100}, weight.data(), nullptr, 1e-12f, without, machine.workspace());
  kernels::layer_norm({x.data(), 1, 100}, weight.data(), zeros.data(), 1e-12f, with_zeros, machine.workspace());
  EXPECT_TRUE(test::same_bits(without, with_zeros));
}

TEST_P(NormTest, RmsNormAgreesWithTheReference) {
  KernelMachine machine(GetParam());
  for (const Index size : {1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 33, 64, 65, 576, 1000, 4096}) {
    for (const float spread : {1e-10f, 1e-3f, 1.0f, 1e12f}) {
      const auto x = rows_around(3 * size, 0.0f, spread, static_cast<unsigned>(size));
      const auto weight = test::normal_floats(size, 5);
      Matrix out(3, size);
      kernels::rms_norm({x.data(), 3, size}, weight.data(), 1e-6f, out, machine.workspace());
      for (Index i = 0; i < 3; ++i) {
        const std::span<const float> row(x.data() + i * size, static_cast<std::size_t>(size));
        const auto expected = reference::rms_norm(row, weight, static_cast<double>(1e-6f));
        for (Index j = 0; j < size; ++j) {
          const double truth = expected[static_cast<std::size_t>(j)];
          ASSERT_NEAR(static_cast<double>(out(i, j)), truth, 0x1p-24 * 16.0 * std::abs(truth)) << size << ' ' << spread;
        }
      }
    }
  }
}

TEST_P(NormTest, ConstantAndZeroRows) {
  KernelMachine machine(GetParam());
  const std::vector<float> weight(50, 2.0f), bias(50, 0.5f), constant(50, 7.25f), zeros(50, 0.0f);
  Matrix out(1, 50);
  kernels::layer_norm({constant.data(), 1, 50}, weight.data(), bias.data(), 1e-12f, out, machine.workspace());
  for (Index j = 0; j < 50; ++j) EXPECT_EQ(out(0, j), 0.5f);
  kernels::rms_norm({zeros.data(), 1, 50}, weight.data(), 1e-6f, out, machine.workspace());
  for (Index j = 0; j < 50; ++j) EXPECT_EQ(out(0, j), 0.0f);
}

TEST_P(NormTest, NaNStaysInItsRow) {
  KernelMachine machine(GetParam());
  auto x = test::normal_floats(60, 6);
  const std::vector<float> weight(20, 1.0f);
  x[25] = std::numeric_limits<float>::quiet_NaN();
  Matrix out(3, 20);
  kernels::rms_norm({x.data(), 3, 20}, weight.data(), 1e-6f, out, machine.workspace());
  for (Index j = 0; j < 20; ++j) {
    EXPECT_FALSE(std::isnan(out(0, j)) || std::isnan(out(2, j)));
    EXPECT_TRUE(std::isnan(out(1, j)));
  }
}

TEST_P(NormTest, SameBitsInPlaceStridedAloneAndOnAnyNumberOfThreads) {
  constexpr Index kRows = 90, kSize = 1001;
  const auto x = test::normal_floats(kRows * kSize, 7), weight = test::normal_floats(kSize, 8), bias = test::normal_floats(kSize, 9);
  KernelMachine one(GetParam(), 1);
  Matrix layer(kRows, kSize), rms(kRows, kSize);
  kernels::layer_norm({x.data(), kRows, kSize}, weight.data(), bias.data(), 1e-5f, layer, one.workspace());
  kernels::rms_norm({x.data(), kRows, kSize}, weight.data(), 1e-5f, rms, one.workspace());
  for (const int threads : {2, 3}) {
    KernelMachine machine(GetParam(), threads);
    Matrix strided(kRows, kSize + 7);
    const MatrixView view = strided.view().cols(3, kSize);
    copy({x.data(), kRows, kSize}, view);
    kernels::layer_norm(view, weight.data(), bias.data(), 1e-5f, view, machine.workspace());
    EXPECT_TRUE(test::same_bits(view, layer));
    copy({x.data(), kRows, kSize}, view);
    kernels::rms_norm(view, weight.data(), 1e-5f, view, machine.workspace());
    EXPECT_TRUE(test::same_bits(view, rms));
    for (Index i = 0; i < kRows; ++i) {
      for (const Index j : {Index{0}, Index{2}, kSize + 3, kSize + 6}) ASSERT_EQ(strided(i, j), 0.0f);
    }
  }
  for (Index i = 0; i < kRows; i += 13) {
    Matrix alone(1, kSize);
    kernels::layer_norm({x.data() + i * kSize, 1, kSize}, weight.data(), bias.data(), 1e-5f, alone, one.workspace());
    EXPECT_TRUE(test::same_bits(alone, layer.view().rows(i, 1)));
  }
}

INSTANTIATE_TEST_SUITE_P(All, NormTest, ::testing::ValuesIn(test::runnable_isas()),
                         [](const auto& test) { return std::string(kernels::kernel_table(test.param).name); });

}  // namespace kernels_norm
}  // namespace duet
