#include "duet/models/image_classifier.hpp"

#include <gtest/gtest.h>

#include "support/reference_layers.hpp"

namespace duet::testing {
namespace {

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

TEST(ImageClassifier, MayHaveNoClassifier) {
  EXPECT_EQ(ImageClassifier<NoVision>({}, VisionHeads{}).num_labels(), 0);
}

}  // namespace
}  // namespace duet::testing
