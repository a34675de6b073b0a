// Looking at attention: what is seen is what was computed, and looking changes nothing.

#include <gmock/gmock.h>

#include "duet/pipeline/image_attention.hpp"
#include "support/tiny_models.hpp"

namespace duet::testing {
namespace property_attention_taps {

using ::testing::ElementsAreArray;
using ::testing::FloatNear;
using ::testing::Pointwise;

using MethodA = VisionLanguageModel<VisionTransformer<TinyVisionRecipe>, LinearProjector, Decoder<RotaryRecipe>, EmbeddingFusion>;
using MethodB = VisionLanguageModel<VisionTransformer<TinyVisionRecipe>, LinearProjector,
                                    Decoder<RotaryRecipe, CrossAttention<InsideBlock>>, CrossAttentionFusion>;

template <class Model>
Model tiny_model(const TinyWeights& weights) {
  const Weights root(weights);
  ProjectorConfig projector;
  projector.input_size = 32;
  projector.output_size = 48;
  return {VisionTransformer<TinyVisionRecipe>(tiny_vision(), root.under("vision")), LinearProjector(projector, root.under("projector")),
          {tiny_decoder(), root.under("text"), root.under("text")}};
}

/// Puts every tapped row together again, values weighted by the weights, and compares with what the kernel made.
struct Checker {
  [[maybe_unused]] static constexpr bool kLooks = false;
  static constexpr bool kTapsAttention = true;
  int self = 0, cross = 0;

  void operator()(Stage, Index, ConstMatrixView) const noexcept {}
  void tap(const AttentionTap& tap) {
    ++(tap.kind == AttentionKind::kSelf ? self : cross);
    const auto& [num_heads, num_kv_heads, head_dim, scale, cap] = tap.shape;
    for (Index row = 0; row < tap.job.q.rows(); ++row) {
      const kernels::KeyRange seen = tap.job.visible[static_cast<std::size_t>(row)];
      Matrix weights(num_heads, seen.end - seen.begin);
      kernels::attention_weights(tap.job, tap.shape, row, weights);
      for (Index head = 0; head < num_heads; ++head) {
        // Roundings of some hundred terms below one.
        EXPECT_NEAR(weights.eigen().row(head).sum(), 1.0f, 1e-5f);
        std::vector<float> sum(static_cast<std::size_t>(head_dim));
        for (Index j = seen.begin; j < seen.end; ++j) {
          for (Index i = 0; i < head_dim; ++i) {
            sum[static_cast<std::size_t>(i)] += weights(head, j - seen.begin) * tap.job.kv.value(head / (num_heads / num_kv_heads), j, i);
          }
        }
        const auto made = tap.job.out.row(row).subspan(static_cast<std::size_t>(head * head_dim), static_cast<std::size_t>(head_dim));
        EXPECT_THAT(values(made), Pointwise(FloatNear(1e-5f), sum));
      }
    }
  }
};

template <class Model>
Prompt prompt_for(const ImageRows& rows) {
  constexpr bool kMemory = Model::Decoder::kReadsImages;
  Prompt prompt = Prompt::causal(tiny_ids(90), 0, kMemory ? rows.rows.rows() : 0);
  for (Index i = 0; !kMemory && i < rows.rows.rows(); ++i) prompt.image_rows.push_back(2 + i);
  return prompt;
}

template <class Model>
void expect_taps_change_nothing(int self_taps, int cross_taps) {
  const TinyWeights weights;
  const auto model = tiny_model<Model>(weights);
  Machine machine(2);
  Session<Model> plain(model, machine.compute, {.max_length = 120, .prefill_chunk = 40});
  Session<Model> tapped(model, machine.compute, {.max_length = 120, .prefill_chunk = 40});
  const ImageRows rows = model.encode(tiny_image(1), machine.workspace);
  const Prompt prompt = prompt_for<Model>(rows);
  Checker checker;
  const auto expected = values(plain.prefill(prompt, rows));
  EXPECT_THAT(values(tapped.prefill(prompt, rows, checker)), ElementsAreArray(expected));
  EXPECT_EQ(checker.self, self_taps);
  EXPECT_EQ(checker.cross, cross_taps);
  for (const TokenId id : {3, 14, 15}) {
    const auto next = values(plain.decode(id));
    EXPECT_THAT(values(tapped.decode(id, checker)), ElementsAreArray(next));
  }
}

TEST(AttentionTaps, SeeTheKernelsWorkAndChangeNothing) {
  expect_taps_change_nothing<MethodA>(9, 0);  // three layers, three chunks
  expect_taps_change_nothing<MethodB>(9, 9);
}

TEST(ImageAttention, KeepsTheLastRowsWeightsOnTheImage) {
  const TinyWeights weights;
  const auto model = tiny_model<MethodB>(weights);
  Machine machine(1);
  Session<MethodB> session(model, machine.compute, {.max_length = 120});
  const ImageRows rows = model.encode(tiny_image(1), machine.workspace);
  std::vector<Index> keys;
  for (Index i = 0; i < rows.rows.rows(); ++i) keys.push_back(i);
  ImageAttention attention(AttentionKind::kCross, keys);
  session.prefill(prompt_for<MethodB>(rows), rows, attention);
  ASSERT_EQ(attention.num_layers(), 3);
  ASSERT_EQ(attention.num_heads(), 6);
  const Matrix before = Matrix::clone(attention.layer(0));
  for (Index head = 0; head < 6; ++head) EXPECT_NEAR(attention.layer(2).eigen().row(head).sum(), 1.0f, 1e-5f);
  session.decode(5, attention);
  EXPECT_GT((before.eigen() - attention.layer(0).eigen()).cwiseAbs().maxCoeff(), 0.0f) << "another row, other weights";
}

}  // namespace property_attention_taps
}  // namespace duet::testing
