#include "duet/blocks/decoder_block.hpp"

#include <gtest/gtest.h>

#include "support/reference.hpp"
#include "support/reference_layers.hpp"

namespace duet::testing {
namespace blocks_decoder_block {

using kernels::KeyRange;
using reference::Layers;
using reference::Rows;
using reference::rows_of;
using reference::tiny_rows;

struct Llama {
  using Norm = RmsNorm;
  using HeadNorm = NoNorm;
  using PostNorm = NoNorm;
  using FeedForward = GatedFeedForward<kernels::Silu>;
  using NormOrder = NormBefore;
};
struct Bert : Llama {
  using NormOrder = NormAfter;
};
struct Gemma : Llama {  // norms of heads, and of branches before they are added
  using HeadNorm = RmsNorm;
  using PostNorm = RmsNorm;
};

constexpr float kEps = 1e-5f;
const std::vector<Index> kPositions = {0, 1, 2, 3, 4, 5};
const std::vector<float> kFrequencies = {1.0f, 0.2f, 0.05f};

AttentionConfig attention_config() {
  AttentionConfig config;
  config.hidden_size = config.key_value_size = 18;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 6;
  config.scale = 0.4f;
  config.norm_eps = kEps;
  return config;
}

/// Six causal rows through one block, `between` in its middle.
template <class Recipe, class Between>
Matrix run(const TinyWeights& weights, ConstMatrixView x, Between&& between) {
  const DecoderBlock<Recipe> block(attention_config(), {18, 30, "silu"}, kEps, Weights(weights));
  Machine machine;
  KvCache cache(1, 6, 2, 6);
  std::vector<KeyRange> visible;
  for (Index i = 0; i < 6; ++i) visible.push_back({0, i + 1});
  const Sequence sequence{&cache, nullptr, kPositions, visible, {}, 0, 6};
  Matrix cos(6, 3), sin(6, 3), hidden = Matrix::clone(x);
  kernels::rotary_angles(kPositions, kFrequencies, 1.0f, {cos, sin});
  block.forward(hidden, std::span(&sequence, 1), 0, {cos, sin}, Phase::kPrefill, machine.workspace, between);
  return hidden;
}

template <class Recipe>
Rows expected(const TinyWeights& weights, Rows x, double between = 1.0) {
  constexpr bool kGemma = !Recipe::PostNorm::kIdentity;
  const Layers layers(weights);
  std::vector<KeyRange> visible;
  for (Index i = 0; i < 6; ++i) visible.push_back({0, i + 1});
  const auto post = [&](const char* name, const Rows& branch) { return kGemma ? layers.rms_norm(name, branch, kEps) : branch; };
  const auto heads = [&](const char* name, const Rows& rows) {
    const Rows normed = kGemma ? layers.scope("self_attn").rms_norm(name, rows, kEps) : rows;
    return reference::rotated(normed, 6, kPositions, kFrequencies);
  };
  if constexpr (std::is_same_v<typename Recipe::NormOrder, NormAfter>) {
    x = reference::sum(x, layers.scope("self_attn").attention(x, x, visible, attention_config().shape(), heads));
    x = layers.rms_norm("input_layernorm", x, kEps);
    x = reference::sum(x, layers.scope("mlp").gated_feed_forward(x, reference::silu));
    return layers.rms_norm("post_attention_layernorm", x, kEps);
  }
  const Rows seen = layers.rms_norm("input_layernorm", x, kEps);
  x = reference::sum(x, post("post_self_attn_layernorm", layers.scope("self_attn").attention(seen, seen, visible, attention_config().shape(), heads)));
  x = reference::map(x, [between](double value) { return between * value; }, std::abs(between));
  const Rows inner = layers.rms_norm("post_attention_layernorm", x, kEps);
  return reference::sum(x, post("post_feedforward_layernorm", layers.scope("mlp").gated_feed_forward(inner, reference::silu)));
}

TEST(DecoderBlock, AgreesWithTheReference) {
  const TinyWeights llama, gemma;
  const Matrix x = tiny_rows(6, 18);
  const auto nothing = [](MatrixView) {};
  const Matrix without = run<Llama>(llama, x, nothing), with = run<Gemma>(gemma, x, nothing);
  reference::expect_within(without, expected<Llama>(llama, rows_of(x)), "without post norms");
  reference::expect_within(with, expected<Gemma>(gemma, rows_of(x)), "with post norms");
}

TEST(DecoderBlock, MayHaveItsNormsBehindItsBranches) {
  const TinyWeights weights;
  const Matrix x = tiny_rows(6, 18);
  const Matrix got = run<Bert>(weights, x, [](MatrixView) {});
  reference::expect_within(got, expected<Bert>(weights, rows_of(x)));
}

TEST(DecoderBlock, LeavesRoomBetweenItsBranches) {
  const TinyWeights weights;
  const Matrix x = tiny_rows(6, 18);
  const Matrix got = run<Llama>(weights, x, [](MatrixView hidden) { hidden.eigen() *= 3.0f; });
  reference::expect_within(got, expected<Llama>(weights, rows_of(x), 3.0));
}

TEST(DecoderBlock, VisitsItsMatrices) {
  const TinyWeights weights;
  const DecoderBlock<Llama> block(attention_config(), {18, 30, "silu"}, kEps, Weights(weights));
  Index all = 0;
  block.for_each_weight([&](const WeightMatrix& w) { all += w.out_features * w.in_features; });
  EXPECT_EQ(all, 18 * (24 + 12 + 12 + 24) + 3 * 18 * 30);
}

}  // namespace blocks_decoder_block
}  // namespace duet::testing
