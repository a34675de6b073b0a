#include "duet/models/vision_transformer.hpp"

#include <gmock/gmock.h>

#include <map>

#include "support/kernel_machine.hpp"
#include "support/reference_layers.hpp"
#include "support/tiny_models.hpp"

namespace duet::testing {
namespace models_vision_transformer {

using reference::Layers;
using reference::Rows;
using reference::rows_of;

struct NormedRecipe : TinyVisionRecipe {  // CLIP's stem and ViT's output, without a class token
  using StemNorm = LayerNorm;
  using OutputNorm = LayerNorm;
  using FirstRow = NoClassToken;
};

/// Every stage of an encoder, by name.
struct Seen {
  static constexpr bool kLooks = true;
  std::map<std::pair<Stage, Index>, Matrix> stages;
  void operator()(Stage stage, Index index, ConstMatrixView rows) { stages[{stage, index}] = Matrix::clone(rows); }
};

VisualInput joined(std::initializer_list<VisualInput> parts) {
  VisualInput input;
  for (const VisualInput& part : parts) {
    for (Index i = 0; i < part.num_crops(); ++i) std::ranges::copy(part.crop(i), input.add_whole(part.crops[static_cast<std::size_t>(i)].size).begin());
  }
  return input;
}
VisualInput two_images() { return joined({tiny_image(1), tiny_image(2)}); }

/// An image of another size than the encoder was made for.
VisualInput image_of(PictureSize size, int seed) {
  VisualInput input;
  const Matrix values = reference::tiny_rows(3, size.height * size.width, seed);
  std::copy_n(values.view().data(), 3 * size.height * size.width, input.add_whole(size).begin());
  return input;
}

template <class Recipe>
Matrix encoded(const VisionConfig& config, const TinyWeights& weights, const VisualInput& input, Seen* seen = nullptr) {
  const VisionTransformer<Recipe> model(config, Weights(weights));
  Machine machine;
  const Features features = seen == nullptr ? model.encode(input, machine.workspace) : model.encode(input, machine.workspace, *seen);
  EXPECT_EQ(static_cast<Index>(features.crops.size()), input.num_crops());
  EXPECT_EQ(features.rows.cols(), model.hidden_size());
  return Matrix::clone(features.rows);
}

TEST(VisionTransformer, EmbedsClassTokenPatchesAndPositions) {
  const TinyWeights weights;
  Seen seen;
  const VisualInput input = two_images();
  encoded<TinyVisionRecipe>(tiny_vision(), weights, input, &seen);
  const auto& positions = weights.at("position_embedding");
  for (Index image = 0; image < 2; ++image) {
    Matrix patches(9, 3 * 8 * 8);
    kernels::patchify(input.crop(image), 3, 24, 24, 8, patches);
    Rows expected = Layers(weights).linear("patch_embedding", rows_of(patches));
    expected.insert(expected.begin(), reference::Row());
    for (const float value : weights.at("class_embedding")) expected.front().push_back({static_cast<double>(value), 0.0});
    expected = reference::sum(expected, rows_of(ConstMatrixView(positions.data(), 10, 32)));
    reference::expect_within(seen.stages.at({Stage::kVisionEmbeds, 0}).view().rows(10 * image, 10), expected);
  }
}

TEST(VisionTransformer, GivesTheHiddenStatesThatTheConfigNames) {
  const TinyWeights weights;
  Seen seen;
  VisionConfig config = tiny_vision();  // two blocks
  encoded<TinyVisionRecipe>(config, weights, two_images(), &seen);
  const Matrix* states[] = {&seen.stages.at({Stage::kVisionEmbeds, 0}), &seen.stages.at({Stage::kVisionLayer, 0}),
                            &seen.stages.at({Stage::kVisionLayer, 1})};
  struct Case {
    std::vector<Index> layers, states;
    Index run;
  };
  for (const Case& c : {Case{{}, {2}, 2}, Case{{-1}, {2}, 2}, Case{{-2}, {1}, 1}, Case{{0}, {0}, 0}, Case{{1, -1, 0}, {1, 2, 0}, 2}, Case{{-3, 1}, {0, 1}, 1}}) {
    for (const FeatureRows kind : {FeatureRows::kAll, FeatureRows::kPatches}) {
      config.feature_layers = c.layers;
      config.feature_rows = kind;
      const Index dropped = kind == FeatureRows::kPatches ? 1 : 0, rows = 10 - dropped;
      EXPECT_EQ((VisionTransformer<TinyVisionRecipe>(config, Weights(weights)).num_layers_run()), c.run);
      const Matrix got = encoded<TinyVisionRecipe>(config, weights, two_images());
      ASSERT_EQ(got.rows(), 2 * rows);
      for (std::size_t k = 0; k < c.states.size(); ++k) {
        const ConstMatrixView part = got.view().cols(static_cast<Index>(k) * 32, 32);
        for (Index image = 0; image < 2; ++image) {
          EXPECT_TRUE(test::same_bits(part.rows(image * rows, rows), states[c.states[k]]->view().rows(image * 10 + dropped, rows)));
        }
      }
    }
  }
}

TEST(VisionTransformer, NormalisesBeforeTheFirstAndAfterTheLastBlock) {
  VisionConfig config = tiny_vision();
  config.num_hidden_layers = 0;  // nothing between the norms
  const TinyWeights weights;
  Seen seen;
  const Matrix out = encoded<NormedRecipe>(config, weights, two_images(), &seen);
  EXPECT_FALSE(weights.made("class_embedding"));
  const Layers layers(weights);
  const Rows stem = layers.layer_norm("pre_layernorm", rows_of(seen.stages.at({Stage::kVisionEmbeds, 0})), config.layer_norm_eps);
  reference::expect_within(out, layers.layer_norm("post_layernorm", stem, config.layer_norm_eps));
  config.feature_layers = {0};  // the first block's input: after the stem, before the output norm
  reference::expect_within(encoded<NormedRecipe>(config, weights, two_images()), stem);
}

TEST(VisionTransformer, ImagesDoNotSeeOneAnother) {
  const TinyWeights weights;
  const Matrix both = encoded<TinyVisionRecipe>(tiny_vision(), weights, two_images());
  EXPECT_TRUE(test::same_bits(both.view().rows(0, 10), encoded<TinyVisionRecipe>(tiny_vision(), weights, tiny_image(1))));
  EXPECT_TRUE(test::same_bits(both.view().rows(10, 10), encoded<TinyVisionRecipe>(tiny_vision(), weights, tiny_image(2))));
}

TEST(VisionTransformer, CropsOfAnySizeAreEncodedAsIfAlone) {
  const TinyWeights weights;
  const VisualInput parts[] = {image_of({16, 40}, 1), tiny_image(3), image_of({30, 17}, 2), image_of({16, 40}, 4)};
  const auto model_input = joined({parts[0], parts[1], parts[2], parts[3]});
  const VisionTransformer<TinyVisionRecipe> model(tiny_vision(), Weights(weights));
  Machine machine;
  const Features all = model.encode(model_input, machine.workspace);
  const Index counts[] = {11, 10, 7, 11};
  Index begin = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(all.crops[i].picture, static_cast<Index>(i));
    EXPECT_EQ(all.crops[i].begin, begin);
    ASSERT_EQ(all.crops[i].count, counts[i]);
    EXPECT_TRUE(test::same_bits(all.rows.rows(begin, counts[i]), encoded<TinyVisionRecipe>(tiny_vision(), weights, parts[i])));
    begin += counts[i];
  }
  EXPECT_EQ(all.crops[2].grid_rows, 3);  // 30 x 17 pixels hold 3 x 2 patches of 8
  EXPECT_EQ(all.crops[2].grid_cols, 2);
}

TEST(VisionTransformer, ManyCropsAreEncodedInParts) {
  const TinyWeights weights;
  VisionConfig config = tiny_vision();
  config.feature_layers = {1, -1};
  VisualInput input;
  for (int i = 0; i < 250; ++i) {  // 2500 rows, more than at once
    const VisualInput image = tiny_image(i);
    std::ranges::copy(image.pixels, input.add_whole({24, 24}).begin());
  }
  const VisionTransformer<TinyVisionRecipe> model(config, Weights(weights));
  Machine machine;
  Seen seen;  // those who look see all crops together
  const Features parts = model.encode(input, machine.workspace), whole = model.encode(input, machine.workspace, seen);
  EXPECT_EQ(seen.stages.at({Stage::kVisionLayer, 1}).rows(), 2500);
  EXPECT_TRUE(test::same_bits(parts.rows, whole.rows));
}

TEST(VisionTransformer, InterpolatesPositionsOfAnotherSize) {
  const TinyWeights weights;
  Seen seen;
  const VisualInput input = image_of({16, 40}, 5);
  encoded<TinyVisionRecipe>(tiny_vision(), weights, input, &seen);
  const LearnedPatchPositions positions({32, 8, 1, {3, 3}}, Weights(weights));
  Machine machine;
  Matrix patches(10, 3 * 8 * 8);
  kernels::patchify(input.crop(0), 3, 16, 40, 8, patches);
  const ConstMatrixView table = positions.table({2, 5}, machine.workspace);
  const Rows expected = reference::sum(Layers(weights).linear("patch_embedding", rows_of(patches)), rows_of(table.rows(1, 10)));
  reference::expect_within(seen.stages.at({Stage::kVisionEmbeds, 0}).view().rows(1, 10), expected);
}

TEST(VisionTransformer, NoPicturesHaveNoFeatures) {
  const TinyWeights weights;
  EXPECT_EQ(encoded<TinyVisionRecipe>(tiny_vision(), weights, VisualInput()).rows(), 0);
}

TEST(VisionTransformer, PixelsThatHoldNoPatchAreAnError) {
  const TinyWeights weights;
  VisualInput grey;
  grey.num_channels = 1;
  grey.add_whole({24, 24});
  for (const VisualInput& input : {image_of({7, 48}, 1), grey}) {
    try {
      encoded<TinyVisionRecipe>(tiny_vision(), weights, input);
      FAIL() << "such pixels fitted an encoder of 3 x 24 x 24";
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::kShapeMismatch);
      EXPECT_THAT(e.what(), ::testing::HasSubstr("[3, 24, 24]"));
    }
  }
}

TEST(VisionConfig, SizesMustFitOneAnother) {
  const auto rejects = [](auto&& change, const char* key) {
    VisionConfig config = tiny_vision();
    change(config);
    try {
      config.check();
      ADD_FAILURE() << key;
    } catch (const Error& e) {
      EXPECT_THAT(e.where(), ::testing::HasSubstr(key));
    }
  };
  tiny_vision().check();
  rejects([](VisionConfig& c) { c.patch_size = 25; }, "patch_size");
  rejects([](VisionConfig& c) { c.patch_size = 0; }, "patch_size");
  rejects([](VisionConfig& c) { c.num_attention_heads = 5; }, "num_attention_heads");
  rejects([](VisionConfig& c) { c.hidden_size = -1; }, "hidden_size");
  rejects([](VisionConfig& c) { c.feature_layers = {3}; }, "vision_feature_layer");
  rejects([](VisionConfig& c) { c.feature_layers = {-4}; }, "vision_feature_layer");
}

}  // namespace models_vision_transformer
}  // namespace duet::testing
