// What the fusion policies promise, on small random models of every placement of cross-attention.

#include <gmock/gmock.h>

#include <stdexcept>

#include "support/allocations.hpp"
#include "support/temp_folder.hpp"
#include "support/tiny_models.hpp"

namespace duet::testing {
namespace property_fusion {

using ::testing::ElementsAreArray;
using ::testing::Not;

using Vision = VisionTransformer<TinyVisionRecipe>;
using Plain = Decoder<RotaryRecipe>;
using MethodA = VisionLanguageModel<Vision, LinearProjector, Plain, EmbeddingFusion>;

template <class Cross>
using MethodB = VisionLanguageModel<Vision, LinearProjector, Decoder<RotaryRecipe, Cross>, CrossAttentionFusion>;

template <class Model>
Model build(const TinyWeights& weights, DecoderConfig config = tiny_decoder()) {
  Vision vision(tiny_vision(), Weights(weights).under("vision"));
  const ProjectorConfig projector{.input_size = 32, .output_size = 48, .projector_hidden_act = "gelu", .bias = Linear::Bias::kRequired};
  return Model(std::move(vision), LinearProjector(projector, Weights(weights).under("projector")),
               typename Model::Decoder(std::move(config), Weights(weights).under("text"), Weights(weights).under("text")));
}

template <class Model>
std::vector<float> answer(const Model& model, const Prompt& prompt, const ImageRows& rows) {
  Machine machine;
  Session<Model> session(model, machine.compute, {.max_length = 64});
  session.prefill(prompt, rows);
  return values(session.decode(9));
}

template <class Model>
ImageRows encoded(const Model& model, int seed, int threads = 1) {
  Machine machine(threads);
  return model.encode(tiny_image(seed), machine.workspace);
}

/// A prompt of 30 ids with as many placeholders as there are image tokens, or none.
Prompt with_placeholders(Index image_tokens) {
  Prompt prompt = Prompt::causal(tiny_ids(30));
  for (Index i = 0; i < image_tokens; ++i) prompt.image_rows.push_back(12 + i);
  return prompt;
}

DecoderConfig with_cross_layers(std::vector<Index> layers) {
  DecoderConfig config = tiny_decoder();
  config.cross_attention_layers = std::move(layers);
  return config;
}

template <class Cross>
void expect_gate_zero_is_text_only(const DecoderConfig& config, const std::vector<std::string>& layers) {
  const TinyWeights weights;
  for (const std::string& layer : layers) {
    for (const char* gate : {"cross_attn_attn_gate", "cross_attn_mlp_gate"}) {
      const std::string name = "text." + layer + "." + gate;
      const Index one[] = {1};
      static_cast<void>(weights.find(name, one));
      weights.at(name) = {0.0f};
    }
  }
  const auto model = build<MethodB<Cross>>(weights, config);
  const Prompt text = Prompt::causal(tiny_ids(12));
  const ImageRows rows = encoded(model, 1);
  EXPECT_THAT(answer(model, Prompt::causal(tiny_ids(12), 0, rows.rows.rows()), rows), ElementsAreArray(answer(model, text, {})));
}

TEST(CrossAttentionFusion, GateZeroEqualsTextOnly) {
  expect_gate_zero_is_text_only<CrossAttention<OwnLayer, TanhGate, AttendAllNoMlp>>(with_cross_layers({1}), {"layers.1"});
  expect_gate_zero_is_text_only<CrossAttention<BeforeLayer, TanhGate>>(with_cross_layers({0, 2}), {"cross_layers.0", "cross_layers.1"});
}

template <class Cross>
void expect_no_image_is_text_only(const DecoderConfig& config) {
  const TinyWeights weights;
  const auto model = build<MethodB<Cross>>(weights, config);
  const TextModel<Plain> alone(Plain(config, Weights(weights).under("text"), Weights(weights).under("text")));
  const Prompt prompt = Prompt::causal(tiny_ids(12));
  EXPECT_THAT(answer(model, prompt, {}), ElementsAreArray(answer(alone, prompt, {})));
}

TEST(CrossAttentionFusion, NoImageEqualsTheDecoderWithoutCrossAttention) {
  expect_no_image_is_text_only<CrossAttention<InsideBlock>>(tiny_decoder());
  expect_no_image_is_text_only<CrossAttention<BeforeLayer, TanhGate>>(with_cross_layers({0, 2}));
}

template <class Cross>
void expect_image_matters(const DecoderConfig& config) {
  const TinyWeights weights;
  const auto model = build<MethodB<Cross>>(weights, config);
  const ImageRows one = encoded(model, 1), other = encoded(model, 2);
  const Prompt prompt = Prompt::causal(tiny_ids(12), 0, one.rows.rows());
  EXPECT_THAT(answer(model, prompt, one), Not(ElementsAreArray(answer(model, prompt, other))));
  EXPECT_THAT(answer(model, prompt, one), Not(ElementsAreArray(answer(model, Prompt::causal(tiny_ids(12)), {}))));
  EXPECT_THAT(encoded(model, 1, 3).rows.view().row(9), ElementsAreArray(one.rows.view().row(9))) << "on three threads";
}

TEST(CrossAttentionFusion, LayersMayKeepTheirFeedForwardBranchWithoutAnImage) {
  const TinyWeights weights;
  using Model = MethodB<CrossAttention<BeforeLayer, TanhGate, AttendNothingKeepMlp>>;
  const auto model = build<Model>(weights, with_cross_layers({0, 2}));
  const TextModel<Plain> alone(Plain(tiny_decoder(), Weights(weights).under("text"), Weights(weights).under("text")));
  const Prompt prompt = Prompt::causal(tiny_ids(12));
  const auto without = answer(model, prompt, {});
  EXPECT_THAT(without, Not(ElementsAreArray(answer(alone, prompt, {}))));
  EXPECT_THAT(answer(model, prompt, encoded(model, 1)), ElementsAreArray(without)) << "an image that no row sees";
}

TEST(CrossAttentionFusion, TheImageReachesTheTextInEveryPlacement) {
  expect_image_matters<CrossAttention<InsideBlock>>(tiny_decoder());
  expect_image_matters<CrossAttention<OwnLayer, TanhGate, AttendAllNoMlp>>(with_cross_layers({1}));
  expect_image_matters<CrossAttention<BeforeLayer, TanhGate>>(with_cross_layers({0, 2}));
}

TEST(CrossAttentionFusion, RowsThatSeeNoImageAreNotTouchedByIt) {
  const TinyWeights weights;
  using Model = MethodB<CrossAttention<BeforeLayer, TanhGate, AttendNothing>>;
  const auto model = build<Model>(weights, with_cross_layers({1}));
  const auto last_row = [&](int seed) {
    Machine machine;
    Session<Model> session(model, machine.compute, {.max_length = 32});
    const ImageRows rows = encoded(model, seed);
    return values(session.prefill(Prompt::causal(tiny_ids(12), 0, 0), rows));
  };
  EXPECT_THAT(last_row(1), ElementsAreArray(last_row(2)));
}

TEST(EmbeddingFusion, NoImageEqualsTheDecoderAlone) {
  const TinyWeights weights;
  const auto model = build<MethodA>(weights);
  const TextModel<Plain> alone(Plain(tiny_decoder(), Weights(weights).under("text"), Weights(weights).under("text")));
  const Prompt prompt = Prompt::causal(tiny_ids(20));
  EXPECT_THAT(answer(model, prompt, {}), ElementsAreArray(answer(alone, prompt, {})));
}

TEST(EmbeddingFusion, ImageRowsOnlyAffectRowsFromTheirOwnOn) {
  const TinyWeights weights;
  const auto model = build<MethodA>(weights);
  const auto before_image = [&](int seed) {
    Machine machine;
    const ImageRows rows = encoded(model, seed);
    const Prompt prompt = with_placeholders(rows.rows.rows());
    Matrix hidden(30, 48);
    MethodA::Memory memory;
    KvCache cache = model.decoder().make_cache(30);
    model.fuse(prompt, rows, hidden, memory, machine.workspace);
    const Sequence sequence{&cache, nullptr, prompt.positions, prompt.visible, prompt.visible_images, 0, 30};
    model.decoder().forward(hidden, std::span(&sequence, 1), Phase::kPrefill, machine.workspace);
    return std::pair(values(hidden.view().row(11)), values(hidden.view().row(29)));
  };
  const auto [before_1, after_1] = before_image(1);
  const auto [before_2, after_2] = before_image(2);
  EXPECT_THAT(before_1, ElementsAreArray(before_2));
  EXPECT_THAT(after_1, Not(ElementsAreArray(after_2)));
}

/// Throws when an image is looked at.
struct ThrowingObserver {
  [[maybe_unused]] static constexpr bool kLooks = true;
  void operator()(Stage stage, Index, ConstMatrixView) const {
    if (stage == Stage::kCrossAttention) throw std::runtime_error("the observer has seen enough");
  }
};

TEST(CrossAttentionFusion, AfterAnExceptionTheMemoryIsAsItWas) {
  const TinyWeights weights;
  const auto model = build<MethodB<CrossAttention<InsideBlock>>>(weights);
  const ImageRows first = encoded(model, 1), second = encoded(model, 2);
  Machine machine;
  Session<MethodB<CrossAttention<InsideBlock>>> session(model, machine.compute, {.max_length = 64}), other(model, machine.compute, {.max_length = 64});
  const Prompt prompt = Prompt::causal(tiny_ids(5), 0, first.rows.rows()), more = Prompt::causal(tiny_ids(3), 5, first.rows.rows());
  for (auto* s : {&session, &other}) s->prefill(prompt, first);
  EXPECT_THROW(session.prefill(more, second, ThrowingObserver{}), std::runtime_error);
  EXPECT_EQ(session.length(), 5);
  for (auto* s : {&session, &other}) s->prefill(more);
  EXPECT_THAT(values(session.decode(9)), ElementsAreArray(values(other.decode(9))));
}

TEST(CrossAttentionFusion, GoesOnFromAFileWithTheSameBits) {
  using Model = MethodB<CrossAttention<InsideBlock>>;
  const test::TempFolder folder;
  const TinyWeights weights;
  const auto model = build<Model>(weights);
  const ImageRows picture = encoded(model, 1);
  const Index rows = picture.rows.rows();
  Machine machine;
  for (const KeyValueFormat format : {KeyValueFormat::kF32, KeyValueFormat::kBF16, KeyValueFormat::kF16, KeyValueFormat::kQ8}) {
    const SessionOptions options{.max_length = 64, .kv_format = format};
    Session<Model> session(model, machine.compute, options), restored(model, machine.compute, options);
    session.prefill(Prompt::causal(tiny_ids(5), 0, rows), picture);
    session.save(folder.path() / "session.safetensors");
    restored.restore(folder.path() / "session.safetensors");
    EXPECT_EQ(restored.visual_memory()->num_rows(), rows);
    EXPECT_EQ(restored.visual_memory()->format(), format);
    EXPECT_THAT(values(restored.decode(9)), ElementsAreArray(values(session.decode(9)))) << name_of(format);
    session.clear();
    session.save(folder.path() / "session.safetensors");
    restored.restore(folder.path() / "session.safetensors");
    EXPECT_TRUE(restored.visual_memory()->empty());
    EXPECT_EQ(restored.length(), 0);
  }
}

TEST(CrossAttentionFusion, DecodedRowsSeeOfTheImagesWhatTheLastRowOfThePromptDoes) {
  using Model = MethodB<CrossAttention<InsideBlock>>;
  const test::TempFolder folder;
  const TinyWeights weights;
  const auto model = build<Model>(weights);
  const ImageRows picture = encoded(model, 1);
  const Index rows = picture.rows.rows();
  Machine machine;
  const SessionOptions options{.max_length = 64};
  // The last row sees the first and the last image rows: all others might be anything.
  Prompt prompt = Prompt::causal(tiny_ids(5), 0, rows), longer = Prompt::causal(tiny_ids(6), 0, rows);
  prompt.visible_images[4] = {0, 2};
  prompt.extra_visible_images = {{4, {rows - 2, rows}}};
  longer.ids[5] = 9;
  longer.visible_images[4] = longer.visible_images[5] = {0, 2};
  longer.extra_visible_images = {{4, {rows - 2, rows}}, {5, {rows - 2, rows}}};
  Session<Model> session(model, machine.compute, options), read(model, machine.compute, options), restored(model, machine.compute, options);
  session.prefill(prompt, picture);
  session.save(folder.path() / "session.safetensors");
  restored.restore(folder.path() / "session.safetensors");
  const auto decoded = values(session.decode(9)), expected = values(read.prefill(longer, picture));
  for (std::size_t i = 0; i < decoded.size(); ++i) EXPECT_NEAR(decoded[i], expected[i], 2e-5f) << "summed in another order";
  EXPECT_THAT(values(restored.decode(9)), ElementsAreArray(decoded));
  EXPECT_THAT(values(restored.decode(8)), ElementsAreArray(values(session.decode(8))));
  session.truncate(3);  // rows that see all of the image
  const auto sees_all = values(session.decode(9));
  Prompt all = Prompt::causal(tiny_ids(4), 0, rows);
  all.ids[3] = 9;
  Session<Model> other(model, machine.compute, options);
  const auto read_all = values(other.prefill(all, picture));
  for (std::size_t i = 0; i < sees_all.size(); ++i) EXPECT_NEAR(sees_all[i], read_all[i], 2e-5f);
}

TEST(EmbeddingFusion, ImageRowsAreKeptWhereAllMayBeReadAnew) {
  const test::TempFolder folder;
  const TinyWeights weights;
  DecoderConfig config = tiny_decoder();
  config.rope = {.rope_type = "longrope", .factor = 10.0f, .original_max_position_embeddings = 32, .short_factor = {1.0f, 1.1f, 1.3f, 2.0f},
                 .long_factor = {1.5f, 3.0f, 6.0f, 20.0f}};
  const auto model = build<MethodA>(weights, config);
  const ImageRows picture = encoded(model, 1);
  Machine machine;
  Prompt prompt = with_placeholders(picture.rows.rows()), whole = Prompt::causal(tiny_ids(33));
  whole.image_rows = prompt.image_rows;
  const TokenId more[] = {4, 5, 6};
  std::copy(std::begin(more), std::end(more), whole.ids.begin() + 30);
  Session<MethodA> session(model, machine.compute, {.max_length = 64}), restored(model, machine.compute, {.max_length = 64}),
      read(model, machine.compute, {.max_length = 64});
  session.prefill(prompt, picture);
  session.save(folder.path() / "session.safetensors");
  restored.restore(folder.path() / "session.safetensors");
  for (const TokenId id : more) {
    session.decode(id);
    restored.decode(id);
  }
  const auto expected = values(read.prefill(whole, picture));
  EXPECT_THAT(values(session.logits()), ElementsAreArray(expected));
  EXPECT_THAT(values(restored.logits()), ElementsAreArray(expected));
}

TEST(EmbeddingFusion, AfterAMismatchTheSessionIsAsItWas) {
  const TinyWeights weights;
  const auto model = build<MethodA>(weights);
  const ImageRows rows = encoded(model, 1);
  Machine machine;
  Session<MethodA> session(model, machine.compute, {.max_length = 64});
  session.prefill(Prompt::causal(tiny_ids(5)));
  try {
    session.prefill(with_placeholders(3), rows);
    FAIL() << "three placeholders took ten rows";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kShapeMismatch);
    EXPECT_THAT(e.what(), ::testing::AllOf(::testing::HasSubstr("3 image placeholders"), ::testing::HasSubstr("10")));
  }
  EXPECT_EQ(session.length(), 5);
  EXPECT_THAT(values(session.decode(9)), ElementsAreArray(answer(model, Prompt::causal(tiny_ids(5)), {})));
}

template <class Model>
void expect_no_allocation_in_decode(const Model& model) {
  const ImageRows rows = encoded(model, 1);
  Machine machine(2);
  Session<Model> session(model, machine.compute, {.max_length = 64});
  Prompt prompt = with_placeholders(rows.rows.rows());
  for (auto& span : prompt.visible_images) span = {0, rows.rows.rows()};
  session.prefill(prompt, rows);
  const long before = allocation_count();
  for (TokenId id = 0; id < 30; ++id) session.decode(id);
  EXPECT_EQ(allocation_count() - before, 0);
}

TEST(Fusion, DecodeAllocatesNothingBesideAnImage) {
  const TinyWeights a, b;
  expect_no_allocation_in_decode(build<MethodA>(a));
  expect_no_allocation_in_decode(build<MethodB<CrossAttention<InsideBlock>>>(b));
}

TEST(ActivationChoice, AFixedPolicyIsHeldToTheConfig) {
  DecoderConfig config = tiny_decoder();
  config.hidden_act = "gelu";
  const TinyWeights weights;
  try {
    Plain decoder(config, Weights(weights), Weights(weights));
    FAIL() << "a SiLU model took a GELU config";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kConfigMismatch);
    EXPECT_THAT(e.what(), ::testing::AllOf(::testing::HasSubstr("\"gelu\""), ::testing::HasSubstr("silu")));
  }
}

}  // namespace property_fusion
}  // namespace duet::testing
