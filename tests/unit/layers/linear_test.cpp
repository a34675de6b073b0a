#include "duet/layers/linear.hpp"

#include <gtest/gtest.h>

#include "duet/kernels/activation.hpp"
#include "support/kernel_machine.hpp"
#include "support/reference.hpp"
#include "support/reference_layers.hpp"

namespace duet::testing {
namespace layers_linear {

using reference::Layers;
using reference::rows_of;
using reference::tiny_rows;

TEST(Linear, MultipliesAndAddsItsBias) {
  for (const auto bias : {Linear::Bias::kNone, Linear::Bias::kRequired}) {
    const TinyWeights weights;
    const Linear linear(Weights(weights), "fc", 19, 7, bias);
    EXPECT_EQ(linear.in_features(), 19);
    EXPECT_EQ(linear.out_features(), 7);
    EXPECT_EQ(weights.made("fc.bias"), bias == Linear::Bias::kRequired);
    Machine machine;
    for (const Phase phase : {Phase::kPrefill, Phase::kDecode}) {
      const Matrix x = tiny_rows(5, 19);
      Matrix out(5, 7);
      linear.forward(x, out, phase, machine.workspace);
      reference::expect_within(out, Layers(weights).linear("fc", rows_of(x)));
    }
  }
}

TEST(Linear, ActivatesAndAddsToWhatIsThere) {
  const TinyWeights weights;
  const Linear linear(Weights(weights), "fc", 12, 9, Linear::Bias::kRequired);
  Machine machine;
  const Matrix x = tiny_rows(3, 12), before = tiny_rows(3, 9, 2);
  Matrix out = Matrix::clone(before);
  linear.forward(x, out, Phase::kPrefill, machine.workspace, kernels::activation_function<kernels::Silu>(machine.workspace.kernels()),
                 kernels::Store::kAdd);
  reference::expect_within(out, reference::sum(rows_of(before), reference::map(Layers(weights).linear("fc", rows_of(x)), reference::silu)));
}

TEST(Linear, ReadsSlicesAndTransposedWeightsWhereTheyLie) {
  static constexpr TensorName kNames[] = {{"q", "fused", WeightLayout::kInOut}, {"k", "fused", WeightLayout::kInOut}};
  const TinyWeights weights;
  const auto maps = Linear::group(Weights(weights).named(kNames), {{"q", 6}, {"k", 4}}, 8, Linear::Bias::kRequired);
  ASSERT_EQ(maps.size(), 2u);
  const auto& stored = weights.at("fused.weight");  // [8, 10]
  EXPECT_EQ(reinterpret_cast<const float*>(maps[1].weight().data), stored.data() + 6);
  Machine machine;
  const Matrix x = tiny_rows(2, 8);
  Matrix out(2, 4);
  maps[1].forward(x, out, Phase::kPrefill, machine.workspace);
  std::vector<float> turned;
  for (std::size_t o = 6; o < 10; ++o) {
    for (std::size_t i = 0; i < 8; ++i) turned.push_back(stored[i * 10 + o]);
  }
  reference::expect_within(out, reference::linear(rows_of(x), turned, std::span(weights.at("fused.bias")).subspan(6)));
}

TEST(Linear, JobsShareOneMatmul) {
  const TinyWeights weights;
  const Linear a(Weights(weights), "a", 10, 5, Linear::Bias::kRequired), b(Weights(weights), "b", 10, 3, Linear::Bias::kNone);
  Machine machine;
  const Matrix x = tiny_rows(4, 10);
  Matrix a_alone(4, 5), b_alone(4, 3), a_out(4, 5), b_out(4, 3);
  a.forward(x, a_alone, Phase::kDecode, machine.workspace);
  b.forward(x, b_alone, Phase::kDecode, machine.workspace);
  const kernels::MatmulJob jobs[] = {a.job(a_out), b.job(b_out)};
  kernels::matmul(x, jobs, Phase::kDecode, machine.workspace);
  EXPECT_TRUE(test::same_bits(a_out, a_alone));
  EXPECT_TRUE(test::same_bits(b_out, b_alone));
}

}  // namespace layers_linear
}  // namespace duet::testing
