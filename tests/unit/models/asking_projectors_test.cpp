#include <gtest/gtest.h>

#include <vector>

#include "duet/models/perceiver.hpp"
#include "duet/fusion/projector_combinations.hpp"
#include "duet/models/q_former.hpp"
#include "duet/models/projectors.hpp"
#include "support/reference.hpp"
#include "support/reference_layers.hpp"

namespace duet::testing {
namespace models_asking_projectors {

using kernels::KeyRange;
using reference::Layers;
using reference::Rows;
using reference::rows_of;
using reference::tiny_rows;

struct FlamingoRecipe {
  using Norm = LayerNorm;
  using HeadNorm = OptionalNorm<LayerNorm>;
  using FeedForward = duet::FeedForward<kernels::Relu>;
};
struct GroupedRecipe {
  using Norm = RmsNorm;
  using HeadNorm = NoNorm;
  using FeedForward = GatedFeedForward<kernels::Silu>;
};

/// Two pictures: one of a crop of five rows, one of crops of three and four.
struct Encoded {
  explicit Encoded(Index width) : rows(tiny_rows(12, width)) {
    features.rows = rows;
    for (const Features::Crop crop : {Features::Crop{0, 0, 5, 0, 0}, Features::Crop{1, 5, 3, 0, 0}, Features::Crop{1, 8, 4, 0, 0}}) {
      features.crops.push_back(crop);
    }
    input.add_picture({});
    input.add_picture({.original = {}, .resized = {}, .num_crops = 2});
  }
  [[nodiscard]] Rows crop(std::size_t i) const { return rows_of(rows.view().rows(features.crops[i].begin, features.crops[i].count)); }

  Matrix rows;
  Features features;
  VisualInput input;
};

void expect_spans(const ImageRows& got, Index rows_per_crop) {
  ASSERT_EQ(got.spans.size(), 2u);
  EXPECT_EQ(got.spans[0].begin, 0);
  EXPECT_EQ(got.spans[0].count, rows_per_crop);
  EXPECT_EQ(got.spans[1].begin, rows_per_crop);
  EXPECT_EQ(got.spans[1].count, 2 * rows_per_crop);
}

Rows learned(const TinyWeights& weights, const std::string& name, Index rows, Index cols) {
  return rows_of(ConstMatrixView(weights.at(name).data(), rows, cols));
}

PerceiverConfig perceiver_config(Index key_value_heads, const char* hidden_act) {
  PerceiverConfig config;
  config.hidden_size = 12;
  config.num_latents = 3;
  config.depth = 2;
  config.num_attention_heads = 4;
  config.num_key_value_heads = key_value_heads;
  config.head_dim = 5;
  config.intermediate_size = 20;
  config.hidden_act = hidden_act;
  return config;
}

/// What a crop becomes, naively.
template <class NormRows, class Prepare, class FeedForwardRows>
Rows resampled(const TinyWeights& weights, const PerceiverConfig& config, const Rows& context, NormRows&& norm, Prepare&& prepare,
               FeedForwardRows&& feed_forward) {
  const Layers layers(weights);
  Rows x = learned(weights, "latents", 3, 12);
  const kernels::AttentionShape shape{config.num_attention_heads, config.num_key_value_heads, config.head_dim,
                                      1.0f / std::sqrt(static_cast<float>(config.head_dim)), 0.0f};
  for (const char* index : {"0", "1"}) {
    const Layers layer = layers.scope("layers").scope(index);
    const Rows asking = norm(layer, "latents_norm", x);
    Rows asked = norm(layer, "context_norm", context);
    asked.insert(asked.end(), asking.begin(), asking.end());
    const std::vector<KeyRange> all(3, KeyRange{0, static_cast<Index>(asked.size())});
    const Layers attention = layer.scope("self_attn");
    x = reference::sum(x, attention.attention(asking, asked, all, shape, [&](const char* name, const Rows& heads) { return prepare(attention, name, heads); }));
    x = reference::sum(x, feed_forward(layer.scope("mlp"), norm(layer, "post_attention_layernorm", x)));
  }
  return norm(layers, "norm", x);
}

TEST(Perceiver, MakesAFixedNumberOfRowsOfEveryCrop) {
  const TinyWeights weights;
  PerceiverConfig config = perceiver_config(4, "relu");
  config.head_norms = true;
  const Perceiver<FlamingoRecipe> perceiver(config, Weights(weights));
  const Encoded e(12);
  Machine machine(2);
  const ImageRows got = perceiver.project(e.features, e.input, machine.workspace);
  expect_spans(got, 3);
  const auto norm = [&](const Layers& l, const char* name, const Rows& x) { return l.layer_norm(name, x, config.norm_eps); };
  for (std::size_t i = 0; i < 3; ++i) {
    const Rows expected = resampled(weights, config, e.crop(i), norm, norm,
                                    [](const Layers& mlp, const Rows& x) { return mlp.feed_forward(x, reference::relu); });
    reference::expect_within(got.rows.view().rows(static_cast<Index>(3 * i), 3), expected, "crop " + std::to_string(i));
  }
}

TEST(Perceiver, MayShareKeysAmongHeadsAndHaveNoHeadNorms) {
  const TinyWeights weights;
  const PerceiverConfig config = perceiver_config(2, "silu");
  const Perceiver<GroupedRecipe> perceiver(config, Weights(weights));
  EXPECT_FALSE(weights.made("layers.0.self_attn.q_norm.weight"));
  const Encoded e(12);
  Machine machine;
  const ImageRows got = perceiver.project(e.features, e.input, machine.workspace);
  const auto norm = [&](const Layers& l, const char* name, const Rows& x) { return l.rms_norm(name, x, config.norm_eps); };
  const Rows expected = resampled(weights, config, e.crop(2), norm, [](const Layers&, const char*, const Rows& heads) { return heads; },
                                  [](const Layers& mlp, const Rows& x) { return mlp.gated_feed_forward(x, reference::silu); });
  reference::expect_within(got.rows.view().rows(6, 3), expected);
}

TEST(Perceiver, TellsWhatACropCosts) {
  const TinyWeights weights;
  const Perceiver<GroupedRecipe> perceiver(perceiver_config(2, "silu"), Weights(weights));
  EXPECT_EQ(perceiver.num_tokens(50), 3);
  const double latents = 3.0 * 2 * (2 * 12 * 20 + 3 * 240), asked = 53.0 * 2 * 2 * 12 * 10, attention = 3.0 * 2 * 53 * 20 * 2;
  EXPECT_EQ(perceiver.multiply_adds(50), latents + asked + attention);
}

TEST(Perceiver, RefusesSizesThatCannotBe) {
  const TinyWeights weights;
  PerceiverConfig config = perceiver_config(3, "silu");
  EXPECT_THROW(Perceiver<GroupedRecipe>(config, Weights(weights)), Error);
  config = perceiver_config(2, "silu");
  config.num_latents = 0;
  EXPECT_THROW(Perceiver<GroupedRecipe>(config, Weights(weights)), Error);
}

QFormerConfig q_former_config() {
  QFormerConfig config;
  config.encoder_hidden_size = 10;
  config.num_query_tokens = 3;
  config.hidden_size = 12;
  config.intermediate_size = 20;
  config.num_hidden_layers = 3;
  config.num_attention_heads = 4;
  config.cross_attention_frequency = 2;
  config.layer_norm_eps = 1e-5f;
  config.output_size = 7;
  return config;
}

TEST(QFormer, AsksTheFeaturesInEverySecondLayer) {
  const TinyWeights weights;
  const QFormerConfig config = q_former_config();
  const QFormer q_former(config, Weights(weights));
  EXPECT_FALSE(weights.made("layers.1.cross_attn.q_proj.weight"));
  const Encoded e(10);
  Machine machine(2);
  const ImageRows got = q_former.project(e.features, e.input, machine.workspace);
  expect_spans(got, 3);
  const Layers layers(weights);
  const kernels::AttentionShape shape{4, 4, 3, 1.0f / std::sqrt(3.0f), 0.0f};
  for (std::size_t i = 0; i < 3; ++i) {
    const Rows features = e.crop(i);
    const std::vector<KeyRange> queries(3, KeyRange{0, 3}), rows(3, KeyRange{0, static_cast<Index>(features.size())});
    Rows x = layers.layer_norm("norm", learned(weights, "query_tokens", 3, 12), 1e-5f);
    for (const int index : {0, 1, 2}) {
      const Layers layer = layers.scope("layers").scope(std::to_string(index));
      x = layer.layer_norm("input_layernorm", reference::sum(x, layer.scope("self_attn").attention(x, x, queries, shape)), 1e-5f);
      if (index != 1) {
        x = layer.layer_norm("cross_attn_layernorm", reference::sum(x, layer.scope("cross_attn").attention(x, features, rows, shape)), 1e-5f);
      }
      x = layer.layer_norm("post_attention_layernorm", reference::sum(x, layer.scope("mlp").feed_forward(x, reference::gelu)), 1e-5f);
    }
    reference::expect_within(got.rows.view().rows(static_cast<Index>(3 * i), 3), layers.linear("language_projection", x), "crop " + std::to_string(i));
  }
}

TEST(QFormer, TellsWhatACropCosts) {
  const TinyWeights weights;
  const QFormer q_former(q_former_config(), Weights(weights));
  EXPECT_EQ(q_former.num_tokens(50), 3);
  // Three queries through three layers and two that read; fifty features through the keys and values of two.
  const double queries = 3.0 * (3 * (4 * 144 + 2 * 240) + 2 * 2 * 144 + 12 * 7), features = 50.0 * 2 * 2 * 120;
  const double attention = 3.0 * 2 * 12 * (3 * 3 + 2 * 50);
  EXPECT_EQ(q_former.multiply_adds(50), queries + features + attention);
}

TEST(QFormer, RefusesSizesThatCannotBe) {
  const TinyWeights weights;
  QFormerConfig config = q_former_config();
  config.num_attention_heads = 5;
  EXPECT_THROW(QFormer(config, Weights(weights)), Error);
  config = q_former_config();
  config.cross_attention_frequency = 0;
  EXPECT_THROW(QFormer(config, Weights(weights)), Error);
}

TEST(OptionalProjector, WithoutOneTheFeaturesAreTheImageTokens) {
  const OptionalProjector<Perceiver<FlamingoRecipe>> none(12);
  EXPECT_EQ(none.output_size(), 12);
  const Encoded e(12);
  Machine machine;
  const ImageRows got = none.project(e.features, e.input, machine.workspace);
  ASSERT_EQ(got.rows.rows(), 12);
  for (Index i = 0; i < 12; ++i) EXPECT_EQ(values(got.rows.view().row(i)), values(e.rows.view().row(i)));
  ASSERT_EQ(got.spans.size(), 2u);
  EXPECT_EQ(got.spans[1].begin, 5);
  EXPECT_EQ(got.spans[1].count, 7);
}

TEST(ProjectorChain, IsOneBehindTheOther) {
  const TinyWeights weights, other;
  ProjectorConfig config{.input_size = 10, .output_size = 12, .projector_hidden_act = "silu", .bias = Linear::Bias::kNone};
  const GatedMlpProjector<ConfiguredActivation> first(config, 14, Weights(weights));
  const Perceiver<GroupedRecipe> second(perceiver_config(2, "silu"), Weights(other));
  const ProjectorChain<GatedMlpProjector<ConfiguredActivation>, Perceiver<GroupedRecipe>> chain(
      GatedMlpProjector<ConfiguredActivation>(config, 14, Weights(weights)), Perceiver<GroupedRecipe>(perceiver_config(2, "silu"), Weights(other)));
  const Encoded e(10);
  Machine machine;
  Matrix projected(12, 12);
  first.project(e.rows, projected, machine.workspace);
  reference::expect_within(projected, Layers(weights).gated_feed_forward(rows_of(e.rows), reference::silu));
  Features between = e.features;
  between.rows = projected;
  const ImageRows expected = second.project(between, e.input, machine.workspace), got = chain.project(e.features, e.input, machine.workspace);
  for (Index i = 0; i < 9; ++i) EXPECT_EQ(values(got.rows.view().row(i)), values(expected.rows.view().row(i)));

  config.output_size = 8;
  EXPECT_THROW((ProjectorChain<GatedMlpProjector<ConfiguredActivation>, Perceiver<GroupedRecipe>>(
                   GatedMlpProjector<ConfiguredActivation>(config, 14, Weights(TinyWeights())),
                   Perceiver<GroupedRecipe>(perceiver_config(2, "silu"), Weights(TinyWeights())))),
               Error);
}

}  // namespace models_asking_projectors
}  // namespace duet::testing
