#include "duet/models/projectors.hpp"

#include <gtest/gtest.h>

#include "support/kernel_machine.hpp"
#include "support/reference.hpp"
#include "support/reference_layers.hpp"

namespace duet::testing {
namespace models_projectors {

using reference::Layers;
using reference::rows_of;
using reference::tiny_rows;

template <class P>
Matrix projected(const P& projector, ConstMatrixView features) {
  Machine machine;
  Matrix out(features.rows(), projector.output_size());
  projector.project(features, out, machine.workspace);
  return out;
}

TEST(LinearProjector, IsALinearMap) {
  for (const auto bias : {Linear::Bias::kNone, Linear::Bias::kRequired}) {
    const TinyWeights weights;
    const LinearProjector projector({.input_size = 14, .output_size = 9, .projector_hidden_act = "", .bias = bias}, Weights(weights));
    EXPECT_EQ(projector.input_size(), 14);
    const Matrix features = tiny_rows(5, 14);
    reference::expect_within(projected(projector, features), Layers(weights).linear("linear", rows_of(features)));
  }
}

TEST(IdentityOrLinear, ProjectsWhereTheWidthsDiffer) {
  const TinyWeights weights;
  const IdentityOrLinear same({.input_size = 8, .output_size = 8, .projector_hidden_act = ""}, Weights(weights));
  EXPECT_TRUE(same.is_identity());
  EXPECT_EQ(same.input_size(), 8);
  EXPECT_FALSE(weights.made("linear.weight"));
  const Matrix features = tiny_rows(3, 8);
  EXPECT_TRUE(test::same_bits(projected(same, features), features));
  const IdentityOrLinear other({.input_size = 8, .output_size = 6, .projector_hidden_act = ""}, Weights(weights));
  EXPECT_FALSE(other.is_identity());
  reference::expect_within(projected(other, features), Layers(weights).linear("linear", rows_of(features)));
}

TEST(MlpProjector, HasTwoLayersAndTheConfiguredActivation) {
  const std::pair<const char*, double (*)(double)> acts[] = {{"gelu", reference::gelu}, {"silu", reference::silu}};
  for (const auto& [name, function] : acts) {
    const TinyWeights weights;
    const MlpProjector<> projector({.input_size = 14, .output_size = 9, .projector_hidden_act = name}, Weights(weights));
    const Matrix features = tiny_rows(5, 14);
    const auto inner = reference::map(Layers(weights).linear("linear_1", rows_of(features)), function);
    reference::expect_within(projected(projector, features), Layers(weights).linear("linear_2", inner));
  }
  const TinyWeights weights;
  EXPECT_THROW((MlpProjector<kernels::Gelu>({.input_size = 4, .output_size = 4, .projector_hidden_act = "relu"}, Weights(weights))), Error);
}

TEST(MlpProjector, MayNormaliseFirstAndHaveAWidthOfItsOwn) {
  const TinyWeights weights;
  const MlpProjector<kernels::Gelu, LayerNorm> projector(
      {.input_size = 14, .output_size = 9, .bias = Linear::Bias::kNone, .intermediate_size = 11, .norm_eps = 1e-3f}, Weights(weights));
  EXPECT_EQ(projector.input_size(), 14);
  EXPECT_EQ(projector.output_size(), 9);
  const Matrix features = tiny_rows(5, 14), before = Matrix::clone(features);
  const Layers layers(weights);
  const auto inner = reference::map(layers.linear("linear_1", layers.layer_norm("norm", rows_of(features), 1e-3f)), reference::gelu);
  EXPECT_EQ(inner[0].size(), 11u);
  reference::expect_within(projected(projector, features), layers.linear("linear_2", inner));
  EXPECT_TRUE(test::same_bits(features, before));
}

}  // namespace models_projectors
}  // namespace duet::testing
