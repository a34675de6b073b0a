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
