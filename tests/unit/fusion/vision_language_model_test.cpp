#include "duet/fusion/vision_language_model.hpp"

#include <gmock/gmock.h>

#include "support/reference_layers.hpp"

namespace duet::testing {
namespace fusion_vision_language_model {

using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

/// Two features an image, each its first pixel and which of the two it is.
struct FakeVision {
  [[nodiscard]] Index hidden_size() const { return 2; }
  template <class Observer = NoObserver>
  [[nodiscard]] Features encode(const VisualInput& input, Workspace& workspace, Observer&& = {}) const {
    Features features{workspace.matrix(2 * input.num_crops(), 2), {}};
    const MatrixView rows = features.rows;
    for (Index i = 0; i < rows.rows(); ++i) {
      rows(i, 0) = input.crop(i / 2)[0];
      rows(i, 1) = static_cast<float>(i % 2);
    }
    for (Index i = 0; i < input.num_crops(); ++i) features.crops.push_back({input.crops[static_cast<std::size_t>(i)].picture, 2 * i, 2, 1, 2});
    return features;
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
VisualInput three_images() {
  VisualInput input;
  input.num_channels = 1;
  for (const float value : {0.1f, 0.2f, 0.3f}) input.add_whole({1, 1})[0] = value;
  return input;
}

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

TEST(VisionLanguageModel, CropsOfOnePictureShareItsSpan) {
  const TinyWeights weights;
  const Model model({}, projection(weights, 2, 2), {});
  VisualInput input;
  input.num_channels = 1;
  input.add_whole({1, 1})[0] = 0.1f;
  input.add_picture({});
  for (const float value : {0.2f, 0.3f}) input.add_crop({1, 1})[0] = value;
  Machine machine;
  const ImageRows rows = model.encode(input, machine.workspace);
  ASSERT_EQ(rows.spans.size(), 2u);
  EXPECT_EQ(rows.spans[1].begin, 2);
  EXPECT_EQ(rows.spans[1].count, 4);
}

/// The two features of every crop of a picture, summed.
struct SumProjector {
  [[nodiscard]] Index input_size() const { return 2; }
  [[nodiscard]] Index output_size() const { return 2; }
  [[nodiscard]] ImageRows project(const Features& features, const VisualInput& input, Workspace&) const {
    ImageRows result{Matrix(input.num_pictures(), 2), {}};
    for (Index i = 0; i < input.num_pictures(); ++i) {
      result.spans.push_back({i, 1});
      std::ranges::fill(result.rows.view().row(i), 0.0f);
    }
    for (const Features::Crop& crop : features.crops) {
      for (Index j = 0; j < crop.count; ++j) result.rows(crop.picture, 0) += features.rows(crop.begin + j, 0);
    }
    return result;
  }
};

TEST(VisionLanguageModel, AProjectorMayTakePicturesWhole) {
  const VisionLanguageModel<FakeVision, SumProjector, FakeDecoder, EmbeddingFusion> model({}, {}, {});
  Machine machine;
  const ImageRows rows = model.encode(three_images(), machine.workspace);
  ASSERT_EQ(rows.spans.size(), 3u);
  EXPECT_THAT(rows.rows.view().row(2), ElementsAreArray({0.6f, 0.0f}));
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

}  // namespace fusion_vision_language_model
}  // namespace duet::testing
