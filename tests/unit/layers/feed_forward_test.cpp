#include "duet/layers/feed_forward.hpp"

#include <gmock/gmock.h>

#include "support/kernel_machine.hpp"
#include "support/reference.hpp"
#include "support/reference_layers.hpp"

namespace duet::testing {
namespace layers_feed_forward {

using reference::Layers;
using reference::Rows;
using reference::rows_of;
using reference::tiny_rows;

FeedForwardConfig config_for(std::string act, Linear::Bias bias = Linear::Bias::kNone) {
  return {.hidden_size = 12, .intermediate_size = 30, .hidden_act = std::move(act), .bias = bias};
}

template <class Layer>
Matrix run(const Layer& layer, ConstMatrixView x, Phase phase = Phase::kPrefill) {
  Machine machine;
  Matrix out(x.rows(), 12);
  layer.forward(x, out, kernels::Store::kAssign, phase, machine.workspace);
  return out;
}

TEST(FeedForward, AgreesWithTheReference) {
  for (const auto bias : {Linear::Bias::kNone, Linear::Bias::kRequired}) {
    const TinyWeights weights;
    const FeedForward<kernels::Gelu> layer(config_for("gelu", bias), Weights(weights));
    const Matrix x = tiny_rows(5, 12);
    for (const Phase phase : {Phase::kPrefill, Phase::kDecode}) {
      reference::expect_within(run(layer, x, phase), Layers(weights).feed_forward(rows_of(x), reference::gelu));
    }
  }
}

TEST(GatedFeedForward, AgreesWithTheReference) {
  for (const auto bias : {Linear::Bias::kNone, Linear::Bias::kRequired}) {
    const TinyWeights weights;
    const GatedFeedForward<kernels::Silu> layer(config_for("silu", bias), Weights(weights));
    const Matrix x = tiny_rows(5, 12);
    for (const Phase phase : {Phase::kPrefill, Phase::kDecode}) {
      reference::expect_within(run(layer, x, phase), Layers(weights).gated_feed_forward(rows_of(x), reference::silu));
    }
  }
}

TEST(GatedFeedForward, GateAndUpMayBeHalvesOfOneTensor) {
  static constexpr TensorName kNames[] = {{"gate_proj", "gate_up_proj"}, {"up_proj", "gate_up_proj"}};
  const TinyWeights fused, apart;
  const GatedFeedForward<kernels::Silu> one(config_for("silu"), Weights(fused).named(kNames)), two(config_for("silu"), Weights(apart));
  const auto& both = fused.at("gate_up_proj.weight");
  std::copy(both.begin(), both.begin() + 30 * 12, apart.at("gate_proj.weight").begin());
  std::copy(both.begin() + 30 * 12, both.end(), apart.at("up_proj.weight").begin());
  const Matrix x = tiny_rows(3, 12);
  EXPECT_TRUE(test::same_bits(run(one, x), run(two, x)));
}

TEST(FeedForward, AddsToWhatIsThere) {
  const TinyWeights weights;
  const FeedForward<kernels::Relu> layer(config_for("relu"), Weights(weights));
  Machine machine;
  const Matrix x = tiny_rows(2, 12), before = tiny_rows(2, 12, 2);
  Matrix out = Matrix::clone(before);
  layer.forward(x, out, kernels::Store::kAdd, Phase::kPrefill, machine.workspace);
  reference::expect_within(out, reference::sum(rows_of(before), Layers(weights).feed_forward(rows_of(x), reference::relu)));
}

TEST(FeedForward, TakesTheActivationThatTheConfigNames) {
  const TinyWeights weights;
  const Matrix x = tiny_rows(2, 12);
  const std::pair<const char*, double (*)(double)> known[] = {{"gelu", reference::gelu}, {"gelu_new", reference::gelu_tanh},
                                                              {"quick_gelu", reference::quick_gelu}, {"silu", reference::silu},
                                                              {"relu", reference::relu}};
  for (const auto& [name, function] : known) {
    const FeedForward<> layer(config_for(name), Weights(weights));
    reference::expect_within(run(layer, x), Layers(weights).feed_forward(rows_of(x), function), name);
  }
  try {
    const FeedForward<> layer(config_for("mystery"), Weights(weights));
    FAIL() << "an unknown activation was taken";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kConfigMismatch);
    EXPECT_THAT(e.what(), ::testing::AllOf(::testing::HasSubstr("hidden_act"), ::testing::HasSubstr("mystery")));
  }
}

TEST(FeedForward, VisitsEveryMatrix) {
  const TinyWeights weights;
  Index plain = 0, gated = 0;
  FeedForward<kernels::Relu>(config_for("relu"), Weights(weights).scope("a")).for_each_weight([&](const WeightMatrix& w) {
    plain += w.out_features * w.in_features;
  });
  GatedFeedForward<kernels::Relu>(config_for("relu"), Weights(weights).scope("b")).for_each_weight([&](const WeightMatrix& w) {
    gated += w.out_features * w.in_features;
  });
  EXPECT_EQ(plain, 2 * 12 * 30);
  EXPECT_EQ(gated, 3 * 12 * 30);
}

}  // namespace layers_feed_forward
}  // namespace duet::testing
