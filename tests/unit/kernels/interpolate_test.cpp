#include "duet/kernels/interpolate.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "support/kernel_machine.hpp"
#include "support/reference_layers.hpp"

namespace duet::testing {
namespace kernels_interpolate {

using kernels::GridSize;
using kernels::Interpolation;

std::vector<float> interpolated(const std::vector<float>& values, GridSize from, GridSize to, Interpolation kind) {
  Machine machine;
  Matrix out(to.size(), 1);
  kernels::interpolate(ConstMatrixView(values.data(), from.size(), 1), from, out, to, kind, machine.workspace);
  return {out.view().data(), out.view().data() + to.size()};
}

void expect_near(const std::vector<float>& got, const std::vector<float>& expected) {
  ASSERT_EQ(got.size(), expected.size());
  // Expected numbers have six digits; sums of 16 products of numbers up to 9 stray less than that.
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], expected[i], 1e-5) << i;
}

// What torch.nn.functional.interpolate(size=..., align_corners=False) makes of [[1, 4], [9, 2], [-3, 5]].
const std::vector<float> kValues = {1, 4, 9, 2, -3, 5};

TEST(Interpolate, IsTorchsBicubic) {
  expect_near(interpolated(kValues, {3, 2}, {4, 3}, Interpolation::kBicubic), {0.103058f, 2.284668f, 4.466278f, 7.873434f, 4.913330f, 1.953230f, 5.788487f, 4.208008f, 2.627530f, -4.649234f, 0.677002f, 6.003235f});
  expect_near(interpolated(kValues, {3, 2}, {2, 1}, Interpolation::kBicubic), {3.337891f, 2.125000f});
}

TEST(Interpolate, IsTorchsBicubicWithAntialias) {
  expect_near(interpolated(kValues, {3, 2}, {4, 3}, Interpolation::kSmoothBicubic), {0.350354f, 2.343284f, 4.336214f, 7.140145f, 4.695978f, 2.251809f, 5.220668f, 4.030870f, 2.841071f, -4.204732f, 0.764925f, 5.734585f});
  expect_near(interpolated(kValues, {3, 2}, {2, 1}, Interpolation::kSmoothBicubic), {3.730337f, 2.695024f});
}

TEST(Interpolate, IsTorchsBilinear) {
  expect_near(interpolated(kValues, {3, 2}, {4, 3}, Interpolation::kBilinear), {1.000000f, 2.500000f, 4.000000f, 6.000000f, 4.375000f, 2.750000f, 4.500000f, 3.812500f, 3.125000f, -3.000000f, 1.000000f, 5.000000f});
  expect_near(interpolated(kValues, {3, 2}, {2, 1}, Interpolation::kBilinear), {3.250000f, 2.125000f});
}

TEST(Interpolate, ToTheSameSizeIsNothing) {
  for (const auto kind : {Interpolation::kBilinear, Interpolation::kBicubic, Interpolation::kSmoothBicubic}) {
    EXPECT_EQ(interpolated(kValues, {3, 2}, {3, 2}, kind), kValues);
  }
}

TEST(Interpolate, ChannelsDoNotMix) {
  const Matrix x = reference::tiny_rows(6, 37);
  for (const auto kind : {Interpolation::kBilinear, Interpolation::kBicubic, Interpolation::kSmoothBicubic}) {
    Machine machine;
    Matrix out(20, 37);
    kernels::interpolate(x, {2, 3}, out, {5, 4}, kind, machine.workspace);
    for (Index c = 0; c < 37; ++c) {
      std::vector<float> channel;
      for (Index i = 0; i < 6; ++i) channel.push_back(x(i, c));
      const std::vector<float> alone = interpolated(channel, {2, 3}, {5, 4}, kind);
      for (Index i = 0; i < 20; ++i) EXPECT_EQ(out(i, c), alone[static_cast<std::size_t>(i)]);
    }
  }
}

}  // namespace kernels_interpolate
}  // namespace duet::testing
