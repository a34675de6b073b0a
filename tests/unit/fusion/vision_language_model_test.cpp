#include "duet/fusion/vision_language_model.hpp"

#include <gmock/gmock.h>

#include "support/reference_layers.hpp"

namespace duet::testing {
namespace {

using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

/// Two features an image, each its first pixel and which of the two it is.
struct FakeVision {
  [[nodiscard]] Index hidden_size() const { return 2; }
  template <class Observer = NoObserver>
  [[nodiscard]] Features encode(const VisualInput& input, Workspace& workspace, Observer&& = {}) const {
    const MatrixView rows = workspace.matrix(2 * input.num_images, 2);
    for (Index i = 0; i < rows.rows(); ++i) {
      rows(i, 0) = input.image(i / 2)[0];
      rows(i, 1) = static_cast<float>(i % 2);
    }
    return {rows, 2};
  }
};
struct FakeDecoder {
  static constexpr bool kReadsImages = false;
  Index size = 2;
  void embed(std::span<const TokenId> ids, MatrixView hidden) const {
    for (Index i = 0; i < hidden.rows(); ++i) std::ranges::fill(hidden.row(i), static_cast<float>(ids[static_cast<std::size_t>(i)]));
  }
  void forward(MatrixView, std::span<const Sequence>, Phase, Workspace&) const {}
  [[nodiscard]] Index hidden_size() const { return size; }
};
using Model = VisionLanguageModel<FakeVision, IdentityOrLinear, FakeDecoder, EmbeddingFusion>;

IdentityOrLinear projection(const TinyWeights& weights, Index input, Index output) {
  return {{.input_size = input, .output_size = output, .projector_hidden_act = ""}, Weights(weights)};
}
VisualInput three_images() { return {.pixels = {0.1f, 0.2f, 0.3f}, .num_images = 3, .num_channels = 1, .height = 1, .width = 1}; }

TEST(VisionLanguageModel, EncodesEveryImageIntoItsSpan) {
  const TinyWeights weights;
  const Model model({}, projection(weights, 2, 2), {});
  Machine machine;
  const ImageRows rows = model.encode(three_images(), machine.workspace);
  ASSERT_EQ(rows.spans.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(rows.spans[i].begin, 2 * static_cast<Index>(i));
    EXPECT_EQ(rows.spans[i].count, 2);
    EXPECT_THAT(rows.rows.view().row(rows.spans[i].begin + 1), ElementsAreArray({three_images().pixels[i], 1.0f}));
  }
}

TEST(VisionLanguageModel, FusesTextAndImages) {
  const TinyWeights weights;
  const Model model({}, projection(weights, 2, 2), {});
  Machine machine;
  Prompt prompt = Prompt::causal({9, 50, 50, 50, 50, 50, 50});
  prompt.image_rows = {1, 2, 3, 4, 5, 6};
  Matrix hidden(7, 2);
  Model::Memory memory;
  model.fuse(prompt, model.encode(three_images(), machine.workspace), hidden, memory, machine.workspace);
  EXPECT_THAT(hidden.view().row(0), ElementsAreArray({9.0f, 9.0f}));
  EXPECT_THAT(hidden.view().row(6), ElementsAreArray({0.3f, 1.0f}));
}

TEST(VisionLanguageModel, ItsPartsMustFitOneAnother) {
  const TinyWeights weights;
  const auto rejects = [&](Index input, Index output, const char* where) {
    try {
      const Model model({}, projection(weights, input, output), {});
      ADD_FAILURE() << where;
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::kShapeMismatch);
      EXPECT_THAT(e.where(), HasSubstr(where));
    }
  };
  rejects(5, 5, "projector input");
  rejects(2, 6, "projector output");
}

}  // namespace
}  // namespace duet::testing
