// HybridFusion against the two methods that it is made of, on shared weights.

#include <gmock/gmock.h>

#include <algorithm>

#include "duet/models/tiles_and_thumbnail.hpp"
#include "support/tiny_models.hpp"

namespace duet::testing {
namespace property_hybrid {

using ::testing::Each;
using ::testing::ElementsAreArray;
using ::testing::Not;

using Vision = VisionTransformer<TinyVisionRecipe>;
using Tiled = TilesAndThumbnail<LinearProjector>;
using Text = Decoder<RotaryRecipe, CrossAttention<BeforeLayer, TanhGate>>;
using Hybrid = VisionLanguageModel<Vision, Tiled, Text, HybridFusion>;
using WithoutThumbnails = VisionLanguageModel<Vision, LinearProjector, Text, HybridFusion>;
using MethodA = VisionLanguageModel<Vision, LinearProjector, Decoder<RotaryRecipe>, EmbeddingFusion>;
using MethodB = VisionLanguageModel<Vision, LinearProjector, Text, CrossAttentionFusion>;

constexpr Index kRows = 10;  // of a crop: nine patches and the class token

template <class Model>
Model build(const TinyWeights& weights) {
  DecoderConfig config = tiny_decoder();
  config.cross_attention_layers = {0, 2};
  const Weights root(weights);
  LinearProjector projector({.input_size = 32, .output_size = 48, .projector_hidden_act = "gelu", .bias = Linear::Bias::kRequired},
                            root.under("projector"));
  return Model(Vision(tiny_vision(), root.under("vision")), typename std::remove_cvref_t<decltype(std::declval<Model>().projector())>(std::move(projector)),
               typename Model::Decoder(config, root.under("text"), root.under("text")));
}

/// One picture: crops of the tiny encoder's size, each from a seed, the thumbnail last.
VisualInput picture(std::vector<int> seeds) {
  VisualInput input;
  input.add_picture({.original = {48, 48}, .resized = {48, 48}, .num_crops = static_cast<Index>(seeds.size())});
  for (const int seed : seeds) std::ranges::copy(tiny_image(seed).pixels, input.add_crop({24, 24}).begin());
  return input;
}

template <class Model>
ImageRows encoded(const Model& model, const VisualInput& input) {
  Machine machine;
  return model.encode(input, machine.workspace);
}

/// Twenty-four ids; the thumbnail's rows from the fifth on; every row sees `seen` rows of the memory.
Prompt prompt(Index thumbnail_rows, Index memory_rows) {
  Prompt result = Prompt::causal(tiny_ids(24), 0, memory_rows);
  for (Index i = 0; i < thumbnail_rows; ++i) result.image_rows.push_back(5 + i);
  return result;
}

/// The logits of the prompt's last row, and of one more token.
template <class Model>
std::vector<float> answer(const Model& model, const Prompt& prompt, const ImageRows& rows) {
  Machine machine;
  Session<Model> session(model, machine.compute, {.max_length = 64});
  std::vector<float> result = values(session.prefill(prompt, rows));
  const std::vector<float> next = values(session.decode(9));
  result.insert(result.end(), next.begin(), next.end());
  return result;
}

/// Every row of the prompt behind the last layer.
template <class Model>
Matrix hidden_rows(const Model& model, const Prompt& prompt, const ImageRows& rows) {
  Machine machine;
  Matrix hidden(prompt.size(), 48);
  typename Model::Memory memory;
  KvCache cache = model.decoder().make_cache(prompt.size());
  model.fuse(prompt, rows, hidden, memory, machine.workspace);
  const Sequence sequence{&cache, Model::FusionPolicy::memory_of(memory), prompt.positions, prompt.visible, prompt.visible_images, 0, prompt.size()};
  model.decoder().forward(hidden, std::span(&sequence, 1), Phase::kPrefill, machine.workspace);
  return hidden;
}

void close_gates(const TinyWeights& weights) {
  for (const char* layer : {"0", "1"}) {
    for (const char* gate : {"cross_attn_attn_gate", "cross_attn_mlp_gate"}) {
      const std::string name = std::string("text.cross_layers.") + layer + "." + gate;
      const Index one[] = {1};
      static_cast<void>(weights.find(name, one));
      weights.at(name) = {0.0f};
    }
  }
}

TEST(HybridFusion, WithClosedGatesItIsMethodAOnTheThumbnail) {
  const TinyWeights weights;
  close_gates(weights);
  const auto hybrid = build<Hybrid>(weights);
  const auto method_a = build<MethodA>(weights);
  EXPECT_THAT(answer(hybrid, prompt(kRows, 2 * kRows), encoded(hybrid, picture({1, 2, 3}))),
              ElementsAreArray(answer(method_a, prompt(kRows, 0), encoded(method_a, picture({3})))));
}

TEST(HybridFusion, WithoutTilesItIsMethodA) {
  const TinyWeights weights;
  const auto hybrid = build<Hybrid>(weights);
  const auto method_a = build<MethodA>(weights);
  EXPECT_THAT(answer(hybrid, prompt(kRows, 0), encoded(hybrid, picture({3}))),
              ElementsAreArray(answer(method_a, prompt(kRows, 0), encoded(method_a, picture({3})))));
}

TEST(HybridFusion, WithoutThumbnailsItIsMethodB) {
  const TinyWeights weights;
  const auto hybrid = build<WithoutThumbnails>(weights);
  const auto method_b = build<MethodB>(weights);
  EXPECT_THAT(answer(hybrid, prompt(0, 2 * kRows), encoded(hybrid, picture({1, 2}))),
              ElementsAreArray(answer(method_b, prompt(0, 2 * kRows), encoded(method_b, picture({1, 2})))));
}

TEST(HybridFusion, TilesAndThumbnailEachReachTheText) {
  const TinyWeights weights;
  const auto model = build<Hybrid>(weights);
  const auto of = [&](std::vector<int> seeds) { return answer(model, prompt(kRows, 2 * kRows), encoded(model, picture(std::move(seeds)))); };
  const std::vector<float> one = of({1, 2, 3});
  EXPECT_THAT(of({4, 2, 3}), Not(ElementsAreArray(one)));
  EXPECT_THAT(of({1, 4, 3}), Not(ElementsAreArray(one)));
  EXPECT_THAT(of({1, 2, 4}), Not(ElementsAreArray(one)));
}

/// Rows 16 to 19 are tags of the second tile and the only ones that see it.
TEST(HybridFusion, ATileChangesWhatMaySeeItAndNothingElse) {
  const TinyWeights weights;
  const auto model = build<Hybrid>(weights);
  Prompt tagged = prompt(kRows, 0);
  for (Index i = 16; i < 24; ++i) tagged.visible_images[static_cast<std::size_t>(i)] = i < 20 ? kernels::KeyRange{kRows, 2 * kRows} : kernels::KeyRange{0, kRows};
  const auto of = [&](std::vector<int> seeds) { return hidden_rows(model, tagged, encoded(model, picture(std::move(seeds)))); };
  const Matrix one = of({1, 2, 3}), other = of({1, 4, 3});
  for (Index i = 0; i < 16; ++i) EXPECT_THAT(values(other.view().row(i)), ElementsAreArray(values(one.view().row(i)))) << "row " << i << " comes before";
  for (Index i = 16; i < 20; ++i) EXPECT_THAT(values(other.view().row(i)), Not(ElementsAreArray(values(one.view().row(i))))) << "row " << i << " sees it";

  Prompt untagged = tagged;
  for (kernels::KeyRange& range : untagged.visible_images) range = {0, kRows};
  const Matrix first = hidden_rows(model, untagged, encoded(model, picture({1, 2, 3})));
  const Matrix second = hidden_rows(model, untagged, encoded(model, picture({1, 4, 3})));
  for (Index i = 0; i < 24; ++i) EXPECT_THAT(values(second.view().row(i)), ElementsAreArray(values(first.view().row(i)))) << "nobody sees the second tile";
}

TEST(HybridFusion, TheThumbnailChangesRowsFromItsOwnOn) {
  const TinyWeights weights;
  const auto model = build<Hybrid>(weights);
  const Prompt p = prompt(kRows, 2 * kRows);
  const Matrix one = hidden_rows(model, p, encoded(model, picture({1, 2, 3}))), other = hidden_rows(model, p, encoded(model, picture({1, 2, 4})));
  for (Index i = 0; i < 5; ++i) EXPECT_THAT(values(other.view().row(i)), ElementsAreArray(values(one.view().row(i))));
  for (Index i = 5; i < 24; ++i) EXPECT_THAT(values(other.view().row(i)), Not(ElementsAreArray(values(one.view().row(i)))));
}

/// Thumbnails lie between the tiles of several pictures; both kinds keep their order.
TEST(HybridFusion, SeveralPicturesAreTakenApartInOrder) {
  const TinyWeights weights;
  const auto model = build<Hybrid>(weights);
  VisualInput two = picture({1, 2, 3});
  two.add_picture({.original = {24, 48}, .resized = {24, 48}, .num_crops = 2});
  for (const int seed : {4, 5}) std::ranges::copy(tiny_image(seed).pixels, two.add_crop({24, 24}).begin());
  const ImageRows rows = encoded(model, two);
  Machine machine;
  Matrix hidden(24, 48);
  Hybrid::Memory memory;
  Prompt p = prompt(0, 0);
  for (Index i = 0; i < 2 * kRows; ++i) p.image_rows.push_back(2 + i);
  model.fuse(p, rows, hidden, memory, machine.workspace);
  EXPECT_EQ(memory.num_rows(), 3 * kRows);
  for (Index i = 0; i < kRows; ++i) {
    EXPECT_THAT(values(hidden.view().row(2 + i)), ElementsAreArray(values(rows.rows.view().row(2 * kRows + i))));
    EXPECT_THAT(values(hidden.view().row(2 + kRows + i)), ElementsAreArray(values(rows.rows.view().row(4 * kRows + i))));
  }
  // The memory's first layer is made of the tiles' rows: those of seeds 1, 2 and 4.
  ImageRows tiles{Matrix(3 * kRows, 48), {}, {}};
  copy(rows.rows.view().rows(0, 2 * kRows), tiles.rows.view().rows(0, 2 * kRows));
  copy(rows.rows.view().rows(3 * kRows, kRows), tiles.rows.view().rows(2 * kRows, kRows));
  const VisualMemory expected = model.decoder().memorize(tiles.rows, machine.workspace);
  for (Index j = 0; j < 3 * kRows; ++j) {
    for (Index c = 0; c < 8; ++c) EXPECT_EQ(memory.layer(0).pages().key(0, j, c), expected.layer(0).pages().key(0, j, c));
  }
}

TEST(HybridFusion, PlaceholdersMustAgreeWithTheThumbnails) {
  const TinyWeights weights;
  const auto model = build<Hybrid>(weights);
  try {
    answer(model, prompt(3 * kRows - 12, 2 * kRows), encoded(model, picture({1, 2, 3})));
    FAIL() << "18 placeholders took a thumbnail of ten rows";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kShapeMismatch);
    EXPECT_THAT(e.what(), ::testing::HasSubstr("got 18 image placeholders, expected 10"));
  }
}

}  // namespace property_hybrid
}  // namespace duet::testing
