#include "duet/blocks/cross_attention_block.hpp"

#include <gtest/gtest.h>

#include "support/reference.hpp"
#include "support/reference_layers.hpp"

namespace duet::testing {
namespace blocks_cross_attention_block {

using kernels::KeyRange;
using reference::Layers;
using reference::Rows;
using reference::rows_of;
using reference::tiny_rows;

struct Recipe {
  using Norm = RmsNorm;
  using HeadNorm = RmsNorm;
  using FeedForward = GatedFeedForward<kernels::Silu>;
  using NormOrder = NormBefore;
};
struct PostNormRecipe : Recipe {
  using NormOrder = NormAfter;
};

constexpr float kEps = 1e-5f;
constexpr Index kImageRows = 7;

AttentionConfig attention_config() {
  AttentionConfig config;
  config.hidden_size = 18;
  config.key_value_size = 10;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 6;
  config.scale = 0.4f;
  config.norm_eps = kEps;
  return config;
}

/// What every text row may see: all, a part, nothing, and the last row.
const std::vector<KeyRange> kSpans = {{0, 7}, {2, 4}, {0, 0}, {5, 5}, {6, 7}};

bool sees_nothing(std::size_t row) { return kSpans[row].begin >= kSpans[row].end; }

/// Two sequences of the same text rows, the second with another image.
template <class Block>
Matrix run(const Block& block, const Matrix& text, const Matrix& first, const Matrix& second, Matrix* branch = nullptr) {
  Machine machine(2);
  VisualMemory memories[] = {VisualMemory(1, kImageRows, 2, 6), VisualMemory(1, kImageRows, 2, 6)};
  block.memorize(first, memories[0].layer(0), machine.workspace);
  block.memorize(second, memories[1].layer(0), machine.workspace);
  Matrix hidden(10, 18);
  copy(text, hidden.view().rows(0, 5));
  copy(text, hidden.view().rows(5, 5));
  const Sequence sequences[] = {{nullptr, &memories[0], {}, {}, kSpans, 0, 5}, {nullptr, &memories[1], {}, {}, kSpans, 5, 5}};
  block.forward(hidden, sequences, 0, Phase::kPrefill, machine.workspace, [&](ConstMatrixView seen) {
    if (branch != nullptr) *branch = Matrix::clone(seen);
  });
  return hidden;
}

/// A row that sees nothing gets a branch of zeros, or sees all image rows.
template <class EmptyRow>
Rows branch_of(const Layers& layers, const Rows& text, const Rows& image) {
  const Layers attention = layers.scope("cross_attn");
  const auto heads = [&](const char* name, const Rows& rows) { return attention.rms_norm(name, rows, kEps); };
  const Rows normed = layers.rms_norm("input_layernorm", text, kEps);
  std::vector<KeyRange> spans(kSpans.begin(), kSpans.end());
  for (std::size_t i = 0; EmptyRow::kAttendsAll && i < spans.size(); ++i) {
    if (sees_nothing(i)) spans[i] = {0, kImageRows};
  }
  const Rows branch = attention.attention(normed, image, spans, attention_config().shape(), heads);
  return branch;
}

template <class GatePolicy>
double factor(const TinyWeights& weights, const char* gate) {
  return std::is_same_v<GatePolicy, NoGate> ? 1.0 : std::tanh(static_cast<double>(weights.at(gate)[0]));
}

template <class GatePolicy, class EmptyRow>
void expect_branch() {
  const TinyWeights weights;
  const CrossAttentionBranch<Recipe, GatePolicy, EmptyRow> block(attention_config(), kEps, Weights(weights), "input_layernorm");
  const Matrix text = tiny_rows(5, 18), images[] = {tiny_rows(kImageRows, 10, 2), tiny_rows(kImageRows, 10, 3)};
  Matrix seen;
  const Matrix got = run(block, text, images[0], images[1], &seen);
  for (Index i = 0; i < 2; ++i) {
    const Rows branch = branch_of<EmptyRow>(Layers(weights), rows_of(text), rows_of(images[i]));
    reference::expect_within(seen.view().rows(5 * i, 5), branch, "before the gate");
    reference::expect_within(got.view().rows(5 * i, 5), reference::sum(rows_of(text), branch, factor<GatePolicy>(weights, "cross_attn_attn_gate")));
  }
}

template <class GatePolicy, class EmptyRow>
void expect_block() {
  const TinyWeights weights;
  const CrossAttentionBlock<Recipe, GatePolicy, EmptyRow> block(attention_config(), {18, 30, "silu"}, kEps, Weights(weights));
  const Matrix text = tiny_rows(5, 18), images[] = {tiny_rows(kImageRows, 10, 2), tiny_rows(kImageRows, 10, 3)};
  const Matrix got = run(block, text, images[0], images[1]);
  const Layers layers(weights);
  for (Index i = 0; i < 2; ++i) {
    Rows x = reference::sum(rows_of(text), branch_of<EmptyRow>(layers, rows_of(text), rows_of(images[i])),
                            factor<GatePolicy>(weights, "cross_attn_attn_gate"));
    Rows inner = layers.scope("mlp").gated_feed_forward(layers.rms_norm("post_attention_layernorm", x, kEps), reference::silu);
    for (std::size_t row = 0; EmptyRow::kAttendsAll && row < 5; ++row) {
      if (sees_nothing(row)) inner[row].assign(18, {});
    }
    x = reference::sum(x, inner, factor<GatePolicy>(weights, "cross_attn_mlp_gate"));
    reference::expect_within(got.view().rows(5 * i, 5), x);
  }
}

TEST(CrossAttentionBranch, AgreesWithTheReferenceForEveryGateAndEmptyRow) {
  expect_branch<NoGate, AttendNothing>();
  expect_branch<NoGate, AttendAllNoMlp>();
  expect_branch<TanhGate, AttendNothing>();
  expect_branch<TanhGate, AttendAllNoMlp>();
}

TEST(CrossAttentionBlock, AgreesWithTheReferenceForEveryGateAndEmptyRow) {
  expect_block<NoGate, AttendNothing>();
  expect_block<TanhGate, AttendNothing>();
  expect_block<TanhGate, AttendAllNoMlp>();
}

TEST(CrossAttentionBranch, MayHaveItsNormBehindIt) {
  const TinyWeights weights;
  const CrossAttentionBranch<PostNormRecipe, NoGate, AttendNothing> block(attention_config(), kEps, Weights(weights), "input_layernorm");
  const Matrix text = tiny_rows(5, 18), image = tiny_rows(kImageRows, 10, 2);
  const Matrix got = run(block, text, image, image);
  const Layers layers(weights), attention = layers.scope("cross_attn");
  const auto heads = [&](const char* name, const Rows& rows) { return attention.rms_norm(name, rows, kEps); };
  const Rows branch = attention.attention(rows_of(text), rows_of(image), kSpans, attention_config().shape(), heads);
  reference::expect_within(got.view().rows(0, 5), layers.rms_norm("input_layernorm", reference::sum(rows_of(text), branch), kEps));
}

TEST(CrossAttentionBlock, GatesAtZeroChangeNothing) {
  const TinyWeights weights;
  static_cast<void>(TanhGate(Weights(weights), "cross_attn_attn_gate", 18));
  static_cast<void>(TanhGate(Weights(weights), "cross_attn_mlp_gate", 18));
  weights.at("cross_attn_attn_gate") = weights.at("cross_attn_mlp_gate") = {0.0f};
  const CrossAttentionBlock<Recipe, TanhGate, AttendNothing> block(attention_config(), {18, 30, "silu"}, kEps, Weights(weights));
  const Matrix text = tiny_rows(5, 18);
  const Matrix got = run(block, text, tiny_rows(kImageRows, 10, 2), tiny_rows(kImageRows, 10, 3));
  for (Index i = 0; i < 5; ++i) {
    for (Index j = 0; j < 18; ++j) ASSERT_EQ(got(i, j), text(i, j));
  }
}

TEST(CrossAttentionBlock, CountsTheMatricesOfTextRowsAlone) {
  const TinyWeights weights;
  const CrossAttentionBlock<Recipe, NoGate, AttendNothing> block(attention_config(), {18, 30, "silu"}, kEps, Weights(weights));
  Index all = 0;
  block.for_each_weight([&](const WeightMatrix& w) { all += w.out_features * w.in_features; });
  EXPECT_EQ(all, 18 * (24 + 24) + 3 * 18 * 30);
}

}  // namespace blocks_cross_attention_block
}  // namespace duet::testing
