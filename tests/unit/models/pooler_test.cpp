#include "duet/models/pooler.hpp"

#include <gtest/gtest.h>

#include "support/kernel_machine.hpp"
#include "support/reference.hpp"
#include "support/reference_layers.hpp"

namespace duet::testing {
namespace models_pooler {

using reference::Layers;
using reference::Rows;
using reference::rows_of;

/// Two crops, of five and of three rows.
Features two_crops(Matrix& rows) { return {rows, {{0, 0, 5, 2, 2}, {1, 5, 3, 1, 3}}}; }

Rows first_rows(const Matrix& rows) {
  const Rows all = rows_of(rows);
  return {all[0], all[5]};
}

TEST(Pooler, TakesTheFirstRowAsItIsOrThroughALayer) {
  const TinyWeights weights;
  Matrix rows = reference::tiny_rows(8, 6);
  Machine machine;
  const auto pooled = [&](const Pooler& pooler) { return pooler.pool(two_crops(rows), machine.workspace); };
  reference::expect_within(pooled(Pooler()), first_rows(rows));
  const Layers layers(weights);
  const Pooler norm(LayerNorm(Weights(weights).scope("norm"), 6, 1e-5f));
  reference::expect_within(pooled(norm), layers.layer_norm("norm", first_rows(rows), 1e-5f));
  const Pooler dense(Linear(Weights(weights), "dense", 6, 4, Linear::Bias::kRequired), ActivationChoice<ConfiguredActivation>("pooler_act", "tanh"));
  reference::expect_within(pooled(dense), reference::map(layers.linear("dense", first_rows(rows)), [](double x) { return std::tanh(x); }));
}

TEST(Pooler, MayAskAllRowsOfACrop) {
  AttentionConfig attention;
  attention.hidden_size = attention.key_value_size = 6;
  attention.num_attention_heads = attention.num_key_value_heads = 2;
  attention.head_dim = 3;
  attention.scale = 0.6f;
  attention.qkv_bias = attention.output_bias = Linear::Bias::kRequired;
  const TinyWeights weights;
  const Pooler pooler(AttentionPool(attention, {6, 10, "gelu", "hidden_act", Linear::Bias::kRequired}, 1e-6f, Weights(weights)));
  Matrix rows = reference::tiny_rows(8, 6);
  Machine machine;
  const Matrix got = pooler.pool(two_crops(rows), machine.workspace);
  const Layers layers(weights);
  const Rows probe = rows_of(ConstMatrixView(weights.at("probe").data(), 1, 6));
  for (const Features::Crop& crop : two_crops(rows).crops) {
    const std::vector<kernels::KeyRange> visible{{0, crop.count}};
    const Rows x = layers.scope("self_attn").attention(probe, rows_of(rows.view().rows(crop.begin, crop.count)), visible, attention.shape());
    const Rows expected = reference::sum(x, layers.scope("mlp").feed_forward(layers.layer_norm("layernorm", x, 1e-6f), reference::gelu));
    reference::expect_within(got.view().rows(crop.picture, 1), expected);
  }
}

}  // namespace models_pooler
}  // namespace duet::testing
