#include "duet/layers/attention.hpp"

#include <gtest/gtest.h>

#include "support/kernel_machine.hpp"
#include "support/reference_layers.hpp"

namespace duet::testing {
namespace layers_attention {

using kernels::KeyRange;
using reference::Layers;
using reference::Rows;
using reference::rows_of;
using reference::tiny_rows;

AttentionConfig config_for(Index heads, Index kv_heads, Linear::Bias bias = Linear::Bias::kNone) {
  AttentionConfig config;
  config.hidden_size = config.key_value_size = 20;
  config.num_attention_heads = heads;
  config.num_key_value_heads = kv_heads;
  config.head_dim = 6;
  config.scale = 0.4f;
  config.norm_eps = 1e-4f;
  config.qkv_bias = config.output_bias = bias;
  return config;
}

std::vector<KeyRange> causal(Index rows, Index begin = 0) {
  std::vector<KeyRange> result;
  for (Index i = 0; i < rows; ++i) result.push_back({0, begin + i + 1});
  return result;
}

/// Self-attention over one fresh cache, `step` rows at a time.
template <class HeadNorm>
Matrix attended(const Attention<HeadNorm>& attention, ConstMatrixView x, Index step, const kernels::RotaryAngles& angles = {},
                Phase phase = Phase::kPrefill, KeyValueFormat format = KeyValueFormat::kF32) {
  Machine machine;
  const AttentionConfig& c = attention.config();
  KvCache cache(1, x.rows(), c.num_key_value_heads, c.head_dim, format);
  Matrix out(x.rows(), c.hidden_size);
  for (Index begin = 0; begin < x.rows(); begin += step) {
    const Index rows = std::min(step, x.rows() - begin);
    const auto visible = causal(rows, begin);
    const Sequence sequence{&cache, nullptr, {}, visible, {}, 0, rows};
    const kernels::RotaryAngles part = angles.cos.empty() ? angles : kernels::RotaryAngles{angles.cos.rows(begin, rows), angles.sin.rows(begin, rows)};
    self_attention(attention, x.rows(begin, rows), std::span(&sequence, 1), 0, part, out.view().rows(begin, rows),
                   kernels::Store::kAssign, phase, machine.workspace);
    cache.advance(rows);
  }
  return out;
}

TEST(SelfAttention, AgreesWithTheReferenceForGroupsAndBiases) {
  const Matrix x = tiny_rows(9, 20);
  for (const auto& [heads, kv_heads] : {std::pair<Index, Index>{4, 4}, {4, 2}, {6, 1}}) {
    for (const auto bias : {Linear::Bias::kNone, Linear::Bias::kRequired}) {
      const TinyWeights weights;
      const Attention<> attention(config_for(heads, kv_heads, bias), Weights(weights));
      const Rows expected = Layers(weights).attention(rows_of(x), rows_of(x), causal(9), attention.config().shape());
      reference::expect_within(attended(attention, x, 9), expected);
      reference::expect_within(attended(attention, x, 1, {}, Phase::kDecode), expected);
    }
  }
}

TEST(SelfAttention, OneTensorMayHoldTheHeadsOneAfterAnother) {
  constexpr Index kHeads = 3, kDim = 6, kWidth = 20;
  const Matrix x = tiny_rows(9, kWidth);
  const TinyWeights weights;
  AttentionConfig config = config_for(kHeads, kHeads, Linear::Bias::kRequired);
  const Attention<LayerNorm> apart(config, Weights(weights));
  const Index matrix[] = {3 * kHeads * kDim, kWidth}, vector[] = {3 * kHeads * kDim};
  static_cast<void>(weights.find("qkv_proj.weight", matrix));
  static_cast<void>(weights.find("qkv_proj.bias", vector));
  const char* const kinds[] = {"q_proj", "k_proj", "v_proj"};
  for (Index row = 0; row < matrix[0]; ++row) {
    const std::string kind = kinds[row / kDim % 3];
    const Index from = row / (3 * kDim) * kDim + row % kDim;
    std::copy_n(weights.at(kind + ".weight").begin() + from * kWidth, kWidth, weights.at("qkv_proj.weight").begin() + row * kWidth);
    weights.at("qkv_proj.bias")[static_cast<std::size_t>(row)] = weights.at(kind + ".bias")[static_cast<std::size_t>(from)];
  }
  config.qkv_layout = QkvLayout::kByHead;
  const Attention<LayerNorm> together(config, Weights(weights));
  EXPECT_TRUE(test::same_bits(attended(together, x, 9), attended(apart, x, 9)));
  EXPECT_TRUE(test::same_bits(attended(together, x, 1, {}, Phase::kDecode), attended(apart, x, 1, {}, Phase::kDecode)));
  Index weights_read = 0;
  together.for_each_weight([&](const WeightMatrix& w) { weights_read += w.in_features * w.out_features; });
  EXPECT_EQ(weights_read, 4 * kHeads * kDim * kWidth);
}

TEST(SelfAttention, KeepsKeysAndValuesInAnyFormat) {
  const Matrix x = tiny_rows(9, 20);
  const TinyWeights weights;
  const Attention<> attention(config_for(4, 2), Weights(weights));
  const Layers layers(weights);
  const Rows q = layers.linear("q_proj", rows_of(x)), k = layers.linear("k_proj", rows_of(x)), v = layers.linear("v_proj", rows_of(x));
  for (const KeyValueFormat format : {KeyValueFormat::kF32, KeyValueFormat::kBF16, KeyValueFormat::kF16, KeyValueFormat::kQ8}) {
    const Index d = attention.config().head_dim;
    const Rows expected = layers.linear("o_proj", reference::attention(q, reference::stored(k, d, format), reference::stored(v, d, format),
                                                                       causal(9), attention.config().shape()));
    for (const Phase phase : {Phase::kPrefill, Phase::kDecode}) {
      const Matrix got = attended(attention, x, phase == Phase::kDecode ? 1 : 4, {}, phase, format);
      // To decode from bytes, queries and weights are rounded to 16 bits: each adds a 256th of what a byte's rounding does.
      const double more = format == KeyValueFormat::kQ8 && phase == Phase::kDecode ? 0x1p-7 : 0.0;
      reference::expect_within(got, expected, std::string(name_of(format)), 1.0 + more);
    }
  }
}

TEST(SelfAttention, NormalisesHeadsAndThenTurnsThem) {
  const TinyWeights weights;
  const Attention<RmsNorm> attention(config_for(4, 2), Weights(weights));
  const Matrix x = tiny_rows(7, 20);
  std::vector<Index> positions = {3, 4, 5, 6, 7, 8, 9};
  const std::vector<float> inv_freq = {1.0f, 0.3f};  // a part of the head's three pairs
  Matrix cos(7, 2), sin(7, 2);
  kernels::rotary_angles(positions, inv_freq, 1.0f, {cos, sin});
  const Layers layers(weights);
  const Rows expected = layers.attention(rows_of(x), rows_of(x), causal(7), attention.config().shape(), [&](const char* norm, const Rows& heads) {
    return reference::rotated(layers.rms_norm(norm, heads, 1e-4f), 6, positions, inv_freq);
  });
  reference::expect_within(attended(attention, x, 7, {cos, sin}), expected);
  reference::expect_within(attended(attention, x, 2, {cos, sin}), expected);
}

TEST(SelfAttention, NormalisesAllHeadsOfARowAtOnce) {
  const Matrix x = tiny_rows(7, 20);
  for (const Index measured : {Index{0}, Index{3}}) {
    const TinyWeights weights;
    AttentionConfig config = config_for(4, 4);
    config.head_norm_span = HeadNormSpan::kAllHeads;
    config.num_measured_heads = measured;
    const Attention<RmsNorm> attention(config, Weights(weights));
    EXPECT_EQ(weights.at("q_norm.weight").size(), 24u);
    const auto channels = static_cast<std::size_t>(6 * (measured > 0 ? measured : 4));
    const Layers layers(weights);
    const Rows expected = layers.attention(rows_of(x), rows_of(x), causal(7), config.shape(), [&](const char* norm, Rows rows) {
      for (reference::Row& row : rows) {
        // A row of the measured channels' mean has the same scale, and the weights are the row's own.
        const std::span<const float> weight = weights.at(std::string(norm) + ".weight");
        const reference::Row part(row.begin(), row.begin() + static_cast<long>(channels));
        const reference::Row normed = reference::norm(part, weight.first(channels), {}, 1e-4f, false);
        const double scale = normed[0].value / (part[0].value * static_cast<double>(weight[0])), error = normed[0].error / std::abs(normed[0].value);
        for (std::size_t j = 0; j < row.size(); ++j) {
          const double value = row[j].value * scale * static_cast<double>(weight[j]);
          row[j] = {value, std::abs(value) * error + row[j].error * std::abs(scale * static_cast<double>(weight[j]))};
        }
      }
      return rows;
    });
    reference::expect_within(attended(attention, x, 7), expected);
  }
}

TEST(SelfAttention, AddsToWhatIsThere) {
  const TinyWeights weights;
  const Attention<> attention(config_for(2, 2), Weights(weights));
  Machine machine;
  const Matrix x = tiny_rows(4, 20), before = tiny_rows(4, 20, 2);
  Matrix out = Matrix::clone(before);
  KvCache cache(1, 4, 2, 6);
  const auto visible = causal(4);
  const Sequence sequence{&cache, nullptr, {}, visible, {}, 0, 4};
  self_attention(attention, x, std::span(&sequence, 1), 0, {}, out, kernels::Store::kAdd, Phase::kPrefill, machine.workspace);
  reference::expect_within(out, reference::sum(rows_of(before), Layers(weights).attention(rows_of(x), rows_of(x), visible, attention.config().shape())));
  EXPECT_EQ(cache.length(), 0) << "the decoder counts positions once, after all layers";
}

TEST(SelfAttention, CapsScores) {
  const TinyWeights weights(1.0f);
  AttentionConfig config = config_for(4, 2);
  config.soft_cap = 0.5f;
  const Attention<> attention(config, Weights(weights));
  const Matrix x = tiny_rows(6, 20);
  reference::expect_within(attended(attention, x, 6), Layers(weights).attention(rows_of(x), rows_of(x), causal(6), config.shape()));
}

TEST(SelfAttention, TakesSlicesOfOneTensor) {
  static constexpr TensorName kNames[] = {{"q_proj", "c_attn", WeightLayout::kInOut}, {"k_proj", "c_attn", WeightLayout::kInOut},
                                          {"v_proj", "c_attn", WeightLayout::kInOut}};
  const TinyWeights fused, apart;
  const Attention<> one(config_for(2, 2, Linear::Bias::kRequired), Weights(fused).named(kNames));
  const Attention<> two(config_for(2, 2, Linear::Bias::kRequired), Weights(apart));
  const char* names[] = {"q_proj", "k_proj", "v_proj"};
  for (std::size_t part = 0; part < 3; ++part) {
    for (std::size_t o = 0; o < 12; ++o) {
      apart.at(std::string(names[part]) + ".bias")[o] = fused.at("c_attn.bias")[part * 12 + o];
      for (std::size_t i = 0; i < 20; ++i) {
        apart.at(std::string(names[part]) + ".weight")[o * 20 + i] = fused.at("c_attn.weight")[i * 36 + part * 12 + o];
      }
    }
  }
  // Biases are copied when a layer is built: build the second one again, over the changed weights.
  const Attention<> three(config_for(2, 2, Linear::Bias::kRequired), Weights(apart));
  const Matrix x = tiny_rows(5, 20);
  const Matrix got = attended(one, x, 5);
  const Rows expected = Layers(apart).attention(rows_of(x), rows_of(x), causal(5), two.config().shape());
  reference::expect_within(attended(three, x, 5), expected);
  EXPECT_EQ(fused.at("o_proj.weight"), apart.at("o_proj.weight"));
  reference::expect_within(got, expected);
}

TEST(CrossAttention, AsksRowsOfAnotherWidth) {
  for (const Index kv_heads : {4, 2}) {
    const TinyWeights weights;
    AttentionConfig config = config_for(4, kv_heads, Linear::Bias::kRequired);
    config.key_value_size = 14;
    const Attention<RmsNorm> attention(config, Weights(weights));
    Machine machine;
    const Matrix x = tiny_rows(3, 20), y = tiny_rows(70, 14, 2);  // more than a page of keys
    KeyValueStore store(70, kv_heads, 6);
    attention.memorize(y, store, machine.workspace);
    const MatrixView q = attention.project_queries(x, Phase::kPrefill, machine.workspace);
    const std::vector<KeyRange> visible = {{0, 70}, {5, 66}, {0, 0}};
    Matrix heads(3, 24), out(3, 20);
    kernels::AttentionJob jobs[] = {{q, store.pages(), visible, heads, {}}};
    attention.attend(jobs, heads, out, kernels::Store::kAssign, Phase::kPrefill, machine.workspace);
    const Layers layers(weights);
    reference::expect_within(out, layers.attention(rows_of(x), rows_of(y), visible, config.shape(), [&](const char* norm, const Rows& rows) {
      return layers.rms_norm(norm, rows, 1e-4f);
    }));
  }
}

TEST(GroupedAttention, GroupsOfAnySizesDoNotSeeOneAnother) {
  const TinyWeights weights;
  const Attention<> attention(config_for(4, 4, Linear::Bias::kRequired), Weights(weights));
  Machine machine;
  const Matrix x = tiny_rows(73, 20);
  std::vector<KeyRange> visible;
  std::vector<RowGroup> groups;
  for (const Index count : {1, 5, 67}) {
    for (Index i = 0; i < count; ++i) visible.push_back({0, count - i % 2});
  }
  for (const auto& [begin, count] : {std::pair<Index, Index>{0, 1}, {1, 5}, {6, 67}}) {
    groups.push_back({begin, count, std::span(visible).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(count))});
  }
  Matrix out(73, 20);
  grouped_attention(attention, x, groups, {}, out, kernels::Store::kAssign, machine.workspace);
  for (const RowGroup& group : groups) {
    const Rows part = rows_of(x.view().rows(group.begin, group.count));
    const std::vector<KeyRange> seen(group.visible.begin(), group.visible.end());
    reference::expect_within(out.view().rows(group.begin, group.count), Layers(weights).attention(part, part, seen, attention.config().shape()));
    Matrix alone(group.count, 20);  // the same bits without companions
    const RowGroup whole[] = {{0, group.count, group.visible}};
    grouped_attention(attention, x.view().rows(group.begin, group.count), whole, {}, alone, kernels::Store::kAssign, machine.workspace);
    EXPECT_TRUE(test::same_bits(alone, out.view().rows(group.begin, group.count)));
  }
}

TEST(Attention, VisitsItsMatrices) {
  const TinyWeights weights;
  const Attention<> attention(config_for(4, 2), Weights(weights));
  Index all = 0, of_queries = 0;
  attention.for_each_weight([&](const WeightMatrix& w) { all += w.out_features * w.in_features; });
  attention.for_each_query_weight([&](const WeightMatrix& w) { of_queries += w.out_features * w.in_features; });
  EXPECT_EQ(all, 20 * (24 + 12 + 12 + 24));
  EXPECT_EQ(of_queries, 20 * (24 + 24));
}

}  // namespace layers_attention
}  // namespace duet::testing
