#include "duet/layers/norms.hpp"

#include <gtest/gtest.h>

#include "support/kernel_machine.hpp"
#include "support/reference_layers.hpp"

namespace duet::testing {
namespace layers_norms {

using reference::Layers;
using reference::rows_of;
using reference::tiny_rows;

TEST(LayerNorm, TakesItsWeightAndBias) {
  const TinyWeights weights;
  const LayerNorm norm(Weights(weights).scope("norm"), 21, 1e-3f);
  Machine machine;
  const Matrix x = tiny_rows(4, 21);
  Matrix out(4, 21);
  norm.forward(x, out, machine.workspace);
  reference::expect_within(out, Layers(weights).layer_norm("norm", rows_of(x), 1e-3f));
  Matrix in_place = Matrix::clone(x);
  norm.forward(in_place, in_place, machine.workspace);
  EXPECT_TRUE(test::same_bits(in_place, out));
}

TEST(RmsNorm, TakesItsWeight) {
  const TinyWeights weights;
  const RmsNorm norm(Weights(weights).scope("norm"), 21, 1e-3f);
  EXPECT_FALSE(weights.made("norm.bias"));
  Machine machine;
  const Matrix x = tiny_rows(4, 21);
  Matrix out(4, 21);
  norm.forward(x, out, machine.workspace);
  reference::expect_within(out, Layers(weights).rms_norm("norm", rows_of(x), 1e-3f));
}

TEST(RmsNorm, MayMeasureItsFirstChannelsAlone) {
  const TinyWeights weights;
  const RmsNorm norm(Weights(weights).scope("norm"), 21, 1e-3f, 14);
  Machine machine;
  const Matrix x = tiny_rows(4, 21);
  Matrix out(4, 21);
  norm.forward(x, out, machine.workspace);
  const std::vector<float> weight = weights.at("norm.weight");
  for (Index i = 0; i < 4; ++i) {
    double squares = 0.0;
    for (Index j = 0; j < 14; ++j) squares += static_cast<double>(x(i, j)) * static_cast<double>(x(i, j));
    for (Index j = 0; j < 21; ++j) {
      const double expected = static_cast<double>(x(i, j)) / std::sqrt(squares / 14.0 + 1e-3) * static_cast<double>(weight[static_cast<std::size_t>(j)]);
      EXPECT_NEAR(static_cast<double>(out(i, j)), expected, 16.0 * reference::kUnit * std::abs(expected)) << i << ", " << j;
    }
  }
}

TEST(OptionalNorm, HandsOnWhatItsNormMeasures) {
  const TinyWeights weights;
  const Weights scope = Weights(weights).scope("norm");
  const OptionalNorm<RmsNorm> optional(scope, 21, 1e-3f, Index{14}), absent;
  const RmsNorm norm(scope, 21, 1e-3f, 14);
  Machine machine;
  Matrix x = tiny_rows(2, 21), y = Matrix::clone(x);
  const Matrix before = Matrix::clone(x);
  absent.forward(x, x, machine.workspace);
  EXPECT_TRUE(test::same_bits(x, before));
  optional.forward(x, x, machine.workspace);
  norm.forward(y, y, machine.workspace);
  EXPECT_TRUE(test::same_bits(x, y));
}

TEST(RmsNormPlusOne, StoresOffsetsFromOne) {
  const TinyWeights weights;
  const RmsNormPlusOne norm(Weights(weights).scope("norm"), 16, 1e-6f);
  Machine machine;
  const Matrix x = tiny_rows(2, 16);
  Matrix out(2, 16);
  norm.forward(x, out, machine.workspace);
  for (float& value : weights.at("norm.weight")) value += 1.0f;
  reference::expect_within(out, Layers(weights).rms_norm("norm", rows_of(x), 1e-6f));
}

TEST(NoNorm, TakesNoWeightsAndWritesNothing) {
  const TinyWeights weights;
  const NoNorm norm(Weights(weights).scope("norm"), 8, 1e-6f);
  EXPECT_FALSE(weights.made("norm.weight"));
  EXPECT_TRUE(NoNorm::kIdentity);
  Machine machine;
  Matrix out(1, 8);
  norm.forward(tiny_rows(1, 8), out, machine.workspace);
  for (const float value : out.view().row(0)) EXPECT_EQ(value, 0.0f);
}

}  // namespace layers_norms
}  // namespace duet::testing
