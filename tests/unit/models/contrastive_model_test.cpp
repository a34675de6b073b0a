#include "duet/models/contrastive_model.hpp"

#include <gtest/gtest.h>

#include "support/kernel_machine.hpp"
#include "support/reference_layers.hpp"

namespace duet::testing {
namespace models_contrastive_model {

using reference::Layers;
using reference::Rows;
using reference::rows_of;

constexpr Index kVisionSize = 6, kTextSize = 5, kDim = 4;

/// Three features an image, its first pixel in their values.
struct FakeVision {
  template <class Observer = NoObserver>
  Features encode(const VisualInput& input, Workspace& workspace, Observer&& = {}) const {
    Features features{workspace.matrix(3 * input.num_crops(), kVisionSize), {}};
    const MatrixView rows = features.rows;
    for (Index i = 0; i < rows.rows(); ++i) {
      for (Index j = 0; j < kVisionSize; ++j) rows(i, j) = input.crop(i / 3)[0] * static_cast<float>(j + 1) - static_cast<float>(i % 3 * j * j);
    }
    for (Index i = 0; i < input.num_crops(); ++i) features.crops.push_back({i, 3 * i, 3, 1, 2});
    return features;
  }
};

/// A row knows its id and its position; nothing else.
struct FakeText {
  [[nodiscard]] Index hidden_size() const { return kTextSize; }
  [[nodiscard]] KvCache make_cache(Index capacity) const { return {0, capacity, 1, 1}; }
  void embed(std::span<const TokenId> ids, MatrixView hidden) const {
    for (Index i = 0; i < hidden.rows(); ++i) {
      for (Index j = 0; j < kTextSize; ++j) hidden(i, j) = std::sin(static_cast<float>(ids[static_cast<std::size_t>(i)] * (j + 1)));
    }
  }
  template <class Observer = NoObserver>
  void forward(MatrixView hidden, std::span<const Sequence> sequences, Phase, Workspace&, Observer&& = {}) const {
    for (const Sequence& s : sequences) {
      for (Index i = 0; i < s.rows; ++i) {
        hidden(s.row_begin + i, 0) += static_cast<float>(s.positions[static_cast<std::size_t>(i)]);
        EXPECT_EQ(s.visible[static_cast<std::size_t>(i)].end, i + 1) << "a text is causal";
      }
    }
  }
  void normalize(ConstMatrixView hidden, MatrixView out, Workspace&) const {
    for (Index i = 0; i < out.rows(); ++i) {
      for (Index j = 0; j < out.cols(); ++j) out(i, j) = 2.0f * hidden(i, j);
    }
  }
};

struct Clip {
  explicit Clip(TokenId eos)
      : model({}, TextEncoder<FakeText>({}, {.eos_token_id = eos}), {Pooler(LayerNorm(Weights(weights).scope("post_layernorm"), kVisionSize, 1e-5f)),
                       Linear(Weights(weights), "visual_projection", kVisionSize, kDim, Linear::Bias::kNone),
                       Linear(Weights(weights), "text_projection", kTextSize, kDim, Linear::Bias::kNone), 14.0f}) {}
  /// The embedding of one text whose row `at` stands for it.
  [[nodiscard]] Rows text_embedding(TokenId id, Index at) const {
    Matrix row(1, kTextSize);
    FakeText().embed(std::span(&id, 1), row);
    row(0, 0) += static_cast<float>(at);
    FakeText().normalize(row, row, machine->workspace);
    return unit(Layers(weights).linear("text_projection", rows_of(row)));
  }
  static Rows unit(Rows rows) {
    for (auto& row : rows) {
      double squares = 0.0, error = 0.0;
      for (const auto& b : row) squares += b.value * b.value;
      const double length = std::sqrt(squares);
      for (const auto& b : row) error += b.error;
      for (auto& b : row) b = {b.value / length, (b.error + error) / length + 8.0 * reference::kUnit};
    }
    return rows;
  }
  TinyWeights weights{0.5f};
  std::unique_ptr<Machine> machine = std::make_unique<Machine>();
  ContrastiveModel<FakeVision, TextEncoder<FakeText>> model;
};

TEST(ContrastiveModel, EmbedsTheFirstFeatureOfEveryImage) {
  Clip clip(9);
  EXPECT_EQ(clip.model.projection_dim(), kDim);
  EXPECT_EQ(clip.model.logit_scale(), 14.0f);
  VisualInput input;
  input.num_channels = 1;
  for (const float value : {0.5f, -2.0f}) input.add_whole({1, 1})[0] = value;
  Matrix first(2, kVisionSize);
  for (Index i = 0; i < 2; ++i) {
    for (Index j = 0; j < kVisionSize; ++j) first(i, j) = input.pixels[static_cast<std::size_t>(i)] * static_cast<float>(j + 1);
  }
  const Layers layers(clip.weights);
  const Rows expected = Clip::unit(layers.linear("visual_projection", layers.layer_norm("post_layernorm", rows_of(first), 1e-5f)));
  reference::expect_within(clip.model.embed_images(input, clip.machine->workspace), expected);
}

TEST(ContrastiveModel, ATextIsItsFirstEndOfText) {
  Clip clip(9);
  const std::vector<TokenId> ids = {1, 9, 30, 9, /**/ 40, 3, 9, 9, /**/ 5, 6, 7, 8};
  const Matrix got = clip.model.embed_texts({ids, 3}, clip.machine->workspace);
  reference::expect_within(got.view().rows(0, 1), clip.text_embedding(9, 1));
  reference::expect_within(got.view().rows(1, 1), clip.text_embedding(9, 2));
  reference::expect_within(got.view().rows(2, 1), clip.text_embedding(5, 0), "without an end, the reference's argmax gives the first row");
}

TEST(ContrastiveModel, ACheckpointThatSaysEosIsTwoMeansTheLargestId) {
  Clip clip(2);
  const std::vector<TokenId> ids = {1, 2, 30, 30, 2};
  reference::expect_within(clip.model.embed_texts({ids, 1}, clip.machine->workspace), clip.text_embedding(30, 2));
}

/// What a stack is told: how far the first row sees.
struct LookingText : FakeText {
  template <class Observer = NoObserver>
  void forward(MatrixView hidden, std::span<const Sequence> sequences, Phase, Workspace&, Observer&& = {}) const {
    hidden(0, 0) = static_cast<float>(sequences[0].visible[0].end);
  }
};

TEST(TextEncoder, MayReadInBothDirectionsAndStandForATextWithItsLastRow) {
  Machine machine;
  const std::vector<TokenId> ids = {4, 9, 1};
  const TextEncoder<LookingText> both({}, {.mask = TextEncoderConfig::Mask::kBidirectional, .eos_token_id = std::nullopt}), causal({}, {.eos_token_id = 9});
  const MatrixView rows = both.encode({ids, 1}, machine.workspace);
  EXPECT_EQ(rows(0, 0), 6.0f) << "three rows, doubled by the norm";
  EXPECT_TRUE(test::same_bits(both.pool({ids, 1}, rows), rows.rows(2, 1)));
  EXPECT_EQ(causal.encode({ids, 1}, machine.workspace)(0, 0), 2.0f);
  EXPECT_TRUE(test::same_bits(causal.pool({ids, 1}, rows), rows.rows(1, 1)));
}

TEST(ContrastiveModel, TextsDoNotSeeOneAnother) {
  Clip clip(9);
  const std::vector<TokenId> both = {4, 9, 1, 6, 2, 9};
  const Matrix together = clip.model.embed_texts({both, 2}, clip.machine->workspace);
  for (Index i = 0; i < 2; ++i) {
    const auto one = std::span(both).subspan(static_cast<std::size_t>(3 * i), 3);
    EXPECT_TRUE(test::same_bits(together.view().rows(i, 1), clip.model.embed_texts({one, 1}, clip.machine->workspace)));
  }
}

}  // namespace models_contrastive_model
}  // namespace duet::testing
