#include "duet/models/image_classifier.hpp"

#include <gtest/gtest.h>

#include "support/reference_layers.hpp"

namespace duet::testing {
namespace models_image_classifier {

struct NoVision {};

TEST(ImageClassifier, ReadsTheFirstRowOfEveryImage) {
  const TinyWeights weights;
  const ImageClassifier<NoVision> model({}, {.classifier = Linear(Weights(weights), "classifier", 6, 3, Linear::Bias::kRequired), .pooler = {}, .projection = {}});
  EXPECT_EQ(model.num_labels(), 3);
  Machine machine;
  Matrix features = reference::tiny_rows(10, 6);  // two images of five rows
  Matrix first(2, 6);
  copy(features.view().rows(0, 1), first.view().rows(0, 1));
  copy(features.view().rows(5, 1), first.view().rows(1, 1));
  reference::expect_within(model.classify({features, {{0, 0, 5, 2, 2}, {1, 5, 5, 2, 2}}}, machine.workspace), reference::Layers(weights).linear("classifier", reference::rows_of(first)));
}

TEST(ImageClassifier, MayReadMeans) {
  Matrix rows = reference::tiny_rows(7, 2);  // a class token and three patches, a class token and two
  const Features features{rows, {{0, 0, 4, 1, 3}, {1, 4, 3, 2, 1}}};
  const auto mean = [&](Index begin, Index count) {
    Matrix result(1, 2);
    for (Index j = 0; j < 2; ++j) {
      double sum = 0.0;
      for (Index i = 0; i < count; ++i) sum += static_cast<double>(rows(begin + i, j));
      result(0, j) = static_cast<float>(sum / static_cast<double>(count));
    }
    return result;
  };
  Machine machine;
  for (const ClassifierInput input : {ClassifierInput::kMean, ClassifierInput::kFirstAndPatches}) {
    const bool all = input == ClassifierInput::kMean;
    const TinyWeights weights;
    VisionHeads heads;
    heads.classifier.emplace(Weights(weights), "classifier", all ? 2 : 4, 3, Linear::Bias::kRequired);
    heads.classifier_input = input;
    const ImageClassifier<NoVision> model({}, std::move(heads));
    Matrix expected(2, all ? 2 : 4);
    for (const Features::Crop& crop : features.crops) {
      const MatrixView row = expected.view().rows(crop.picture, 1);
      if (!all) copy(rows.view().rows(crop.begin, 1), row.cols(0, 2));
      copy(all ? mean(crop.begin, crop.count) : mean(crop.begin + 1, crop.count - 1), row.cols(all ? 0 : 2, 2));
    }
    reference::expect_within(model.classify(features, machine.workspace), reference::Layers(weights).linear("classifier", reference::rows_of(expected)));
  }
}

TEST(ImageClassifier, MayHaveNoClassifier) {
  EXPECT_EQ(ImageClassifier<NoVision>({}, VisionHeads{}).num_labels(), 0);
}

}  // namespace models_image_classifier
}  // namespace duet::testing
