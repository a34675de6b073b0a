// NVLM-H against the two kinds that it is made of, and what a tile may change, on shared weights.

#include "duet/zoo/nvlm.hpp"

#include <gmock/gmock.h>

#include <algorithm>

#include "duet/pipeline/reference_forward.hpp"
#include "support/temp_folder.hpp"
#include "support/tiny_models.hpp"

namespace duet::testing {
namespace property_nvlm {

using ::testing::ElementsAreArray;
using ::testing::Not;

constexpr Index kRows = 4;  // image tokens of a crop
constexpr TokenId kPad = 90, kFirstTag = 91, kThumbnailTag = 94;

nlohmann::json config(const char* type) {
  const nlohmann::json text = {{"architectures", {"Qwen2ForCausalLM"}}, {"vocab_size", 97}, {"hidden_size", 48}, {"intermediate_size", 80},
                               {"num_hidden_layers", 3}, {"num_attention_heads", 6}, {"num_key_value_heads", 2}, {"max_position_embeddings", 128}};
  const nlohmann::json vision = {{"hidden_size", 32}, {"intermediate_size", 48}, {"num_hidden_layers", 2}, {"num_attention_heads", 4},
                                 {"image_size", 16}, {"patch_size", 4}};
  return {{"model_type", type}, {"llm_config", text}, {"vision_config", vision}, {"dynamic_image_size", true}, {"use_thumbnail", true},
          {"max_dynamic_patch", 3}, {"ps_version", "v2"}, {"image_token_id", kPad}, {"cross_layer_interval", 2},
          {"tile_token_ids", {kFirstTag, kFirstTag + 1, kFirstTag + 2, kThumbnailTag}}};
}

/// Keeps what the first gated layer gives each row, before its gate.
struct FirstLook {
  static constexpr bool kLooks = true;
  Matrix seen;
  void operator()(Stage stage, Index index, ConstMatrixView rows) {
    if (stage == Stage::kCrossAttention && index == 0) seen = Matrix::clone(rows);
  }
};

/// A kind's model on weights that may be shared, with its processor.
template <class Family>
struct Kind {
  using Model = typename Family::Model;
  nlohmann::json json = config(Family::kModelTypes[0].name.data());
  Model model;
  std::shared_ptr<const Processor> processor;

  explicit Kind(const TinyWeights& weights) : model(Family::load(JsonView(json, "config.json"), Weights(weights))) {
    const test::TempFolder folder;
    folder.write("config.json", json.dump());
    processor = Family::processor(CheckpointFolder(folder.path()));
  }

  /// The prompt of `ids` with one picture's crops, each from a seed, the whole of it last.
  [[nodiscard]] Prompt prompt(std::vector<TokenId> ids, Index crops) const {
    const bool all = processor->rules().picture_rows == PictureRows::kInMemory;
    Prompt result = Prompt::causal(std::move(ids), 0, (all ? crops : crops - 1) * kRows);
    const PicturePlan plan{.original = {16, 16}, .resized = {16, 16}, .num_crops = crops, .num_tokens = crops * kRows};
    processor->arrange(result, {&plan, crops > 0 ? 1u : 0u});
    return result;
  }
  [[nodiscard]] ImageRows rows(const std::vector<int>& seeds) const {
    Machine machine;
    VisualInput input;
    input.add_picture({.original = {16, 16}, .resized = {16, 16}, .num_crops = static_cast<Index>(seeds.size())});
    for (const int seed : seeds) {
      const VisualInput image = tiny_image(seed);
      std::copy_n(image.pixels.begin(), 3 * 16 * 16, input.add_crop({16, 16}).begin());
    }
    return model.encode(input, machine.workspace);
  }
  /// The logits of the prompt's last row, and of two more tokens.
  [[nodiscard]] std::vector<float> answer(const Prompt& prompt, const ImageRows& rows) const {
    Machine machine;
    Session<Model> session(model, machine.compute, {.max_length = 64});
    std::vector<float> result = values(session.prefill(prompt, rows));
    for (const TokenId id : {9, 4}) {
      const std::vector<float> next = values(session.decode(id));
      result.insert(result.end(), next.begin(), next.end());
    }
    return result;
  }
  [[nodiscard]] Matrix first_look(const Prompt& prompt, const ImageRows& rows) const {
    FirstLook look;
    Machine machine;
    Session<Model> session(model, machine.compute, {.max_length = 64});
    session.prefill(prompt, rows, look);
    return std::move(look.seen);
  }
};
using D = Kind<NvlmD>;
using X = Kind<NvlmX>;
using H = Kind<NvlmH>;

/// Text, tags of `tiles` tiles, the tag of the whole with `pads` rows behind it, text.
std::vector<TokenId> ids(Index tiles, Index pads) {
  std::vector<TokenId> result{3, 14, 15};
  for (Index k = 0; k < tiles; ++k) result.push_back(static_cast<TokenId>(kFirstTag + k));
  result.push_back(kThumbnailTag);
  result.insert(result.end(), static_cast<std::size_t>(pads), kPad);
  result.insert(result.end(), {5, 26, 53});
  return result;
}

void close_gates(const TinyWeights& weights) {
  for (const char* layer : {"0", "1"}) {
    for (const char* gate : {"cross_attn_attn_gate", "cross_attn_mlp_gate"}) {
      const Index one[] = {1};
      const std::string name = concat("language_model.model.cross_layers.", layer, ".", gate);
      static_cast<void>(weights.find(name, one));
      weights.at(name) = {0.0f};
    }
  }
}

TEST(Nvlm, WithClosedGatesTheHybridIsMethodAOnTheThumbnail) {
  const TinyWeights weights;
  close_gates(weights);
  const H hybrid(weights);
  const D method_a(weights);
  const std::vector<float> expected = method_a.answer(method_a.prompt(ids(2, kRows), 1), method_a.rows({3}));
  EXPECT_THAT(hybrid.answer(hybrid.prompt(ids(2, kRows), 3), hybrid.rows({1, 2, 3})), ElementsAreArray(expected));
}

TEST(Nvlm, TheHybridOfAPictureInOneCropIsMethodA) {
  const TinyWeights weights;
  const H hybrid(weights);
  const D method_a(weights);
  const std::vector<float> expected = method_a.answer(method_a.prompt(ids(0, kRows), 1), method_a.rows({3}));
  EXPECT_THAT(hybrid.answer(hybrid.prompt(ids(0, kRows), 1), hybrid.rows({3})), ElementsAreArray(expected));
}

TEST(Nvlm, WithoutAThumbnailTheHybridIsMethodB) {
  const TinyWeights weights;
  const H hybrid(weights);
  const X method_b(weights);
  ImageRows rows = hybrid.rows({1, 2, 3});
  EXPECT_EQ(rows.num_thumbnail_rows(), kRows);
  rows.thumbnails.clear();
  const Prompt prompt = method_b.prompt(ids(2, 0), 3);
  EXPECT_THAT(hybrid.answer(prompt, rows), ElementsAreArray(method_b.answer(prompt, method_b.rows({1, 2, 3}))));
}

TEST(Nvlm, WithClosedGatesMethodBIsTheTextModel) {
  const TinyWeights weights;
  close_gates(weights);
  const X method_b(weights);
  const D text(weights);
  const std::vector<float> expected = text.answer(text.prompt(ids(2, 0), 0), {});
  EXPECT_THAT(method_b.answer(method_b.prompt(ids(2, 0), 3), method_b.rows({1, 2, 3})), ElementsAreArray(expected));
}

TEST(Nvlm, WithoutPicturesAllKindsAreTheTextModel) {
  const TinyWeights weights;
  const std::vector<TokenId> words{3, 14, 15, 9, 26};
  const D d(weights);
  const X x(weights);
  const H h(weights);
  const std::vector<float> expected = d.answer(d.prompt(words, 0), {});
  EXPECT_THAT(x.answer(Prompt::causal(words), {}), ElementsAreArray(expected));
  EXPECT_THAT(h.answer(Prompt::causal(words), {}), ElementsAreArray(expected));
}

/// Every kind's tags see their own crop, text behind the picture all that is in memory, text before it nothing.
template <class K>
void expect_own_tiles(const K& kind, const std::vector<TokenId>& words, Index in_memory) {
  const Prompt prompt = kind.prompt(words, 3);
  const Index first_tag = 3, after = first_tag + 3;
  const Matrix before = kind.first_look(prompt, kind.rows({1, 2, 3}));
  ASSERT_EQ(before.rows(), prompt.size());
  for (Index crop = 0; crop < 3; ++crop) {
    std::vector<int> seeds{1, 2, 3};
    seeds[static_cast<std::size_t>(crop)] = 7;
    const Matrix changed = kind.first_look(prompt, kind.rows(seeds));
    for (Index i = 0; i < prompt.size(); ++i) {
      const bool is_pad = words[static_cast<std::size_t>(i)] == kPad;  // of the whole, whose rows are themselves changed
      const bool sees = crop < in_memory ? i == first_tag + crop || i >= after || (in_memory == 2 && i == first_tag + 2) : is_pad;
      EXPECT_EQ(values(changed.view().row(i)) != values(before.view().row(i)), sees) << "crop " << crop << ", row " << i;
    }
  }
}
TEST(Nvlm, ATileChangesWhatMaySeeItAndNothingElse) {
  const TinyWeights weights;
  expect_own_tiles(X(weights), ids(2, 0), 3);
  expect_own_tiles(H(weights), ids(2, kRows), 2);
}

TEST(Nvlm, EveryCropReachesTheAnswer) {
  const TinyWeights weights;
  const auto expect = [](const auto& kind, const std::vector<TokenId>& words) {
    const Prompt prompt = kind.prompt(words, 3);
    const std::vector<float> one = kind.answer(prompt, kind.rows({1, 2, 3}));
    for (const std::vector<int>& other : {std::vector<int>{7, 2, 3}, {1, 7, 3}, {1, 2, 7}}) {
      EXPECT_THAT(kind.answer(prompt, kind.rows(other)), Not(ElementsAreArray(one)));
    }
  };
  std::vector<TokenId> all{3};
  for (Index k = 0; k < 3; ++k) all.insert(all.end(), {static_cast<TokenId>(12 + k), kPad, kPad, kPad, kPad});
  expect(D(weights), all);
  expect(X(weights), ids(2, 0));
  expect(H(weights), ids(2, kRows));
}

/// The gated layers' memory is the same however a prompt is cut.
TEST(Nvlm, ChunksChangeNothing) {
  const TinyWeights weights;
  const H hybrid(weights);
  const Prompt prompt = hybrid.prompt(ids(2, kRows), 3);
  const ImageRows rows = hybrid.rows({1, 2, 3});
  const std::vector<float> expected = hybrid.answer(prompt, rows);
  for (const Index chunk : {1, 3, 5}) {
    Machine machine;
    Session<NvlmH::Model> session(hybrid.model, machine.compute, {.max_length = 64, .prefill_chunk = chunk});
    EXPECT_THAT(values(session.prefill(prompt, rows)), ElementsAreArray(expected.begin(), expected.begin() + 97)) << chunk;
  }
}

}  // namespace property_nvlm
}  // namespace duet::testing
