#include "duet/pipeline/pipeline.hpp"

#include <gmock/gmock.h>

#include "duet/pipeline/conversation.hpp"
#include "load_model.hpp"
#include "support/temp_folder.hpp"

namespace duet {
namespace pipeline_pipeline {

using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::Not;

using Turn = PromptEncoder::Turn;

const Pipeline& method_a() {
  static const Pipeline result(load_model(std::string(DUET_EXAMPLES_DIR) + "/models/scenes-a", {.threads = 1}));
  return result;
}
const Pipeline& method_b() {
  static const Pipeline result(load_model(std::string(DUET_EXAMPLES_DIR) + "/models/scenes-b", {.threads = 1}));
  return result;
}
constexpr TokenId kImage = 425, kStart = 424;  // of both checkpoints' vocabularies

/// Plans of that many pictures.
std::vector<PicturePlan> plans(const Pipeline& p, Index count) {
  return std::vector<PicturePlan>(static_cast<std::size_t>(count), p.prompts().processor().plan({48, 64}));
}
std::vector<TokenId> encode_turn(const Pipeline& p, std::optional<std::string_view> text, Index num_pictures, Turn turn) {
  return p.prompts().encode_turn(text, plans(p, num_pictures), turn);
}

std::vector<TokenId> encoded(const Pipeline& p, std::string_view text) { return p.tokenizer()->encode(text, SpecialTokens::kNone); }

TEST(EncodeTurn, PutsTheFamilysWordsAndOnePlaceholderPerImageTokenAround) {
  const PromptRules& rules = method_a().model().rules();
  ASSERT_EQ(rules.tokens_per_image, 65);
  const auto ids = encode_turn(method_a(), "what", 2, Turn::kFirst);
  EXPECT_EQ(std::ranges::count(ids, kImage), 2 * 65);
  std::vector<TokenId> words;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] != kImage || (i > 0 && ids[i - 1] != kImage)) words.push_back(ids[i]);
  }
  const std::string one = rules.image_token + rules.image_suffix;
  EXPECT_EQ(words, encoded(method_a(), rules.question_prefix + one + one + "what" + rules.question_suffix));
}

TEST(EncodeTurn, TakesATextThatSpellsItsImagesOutAsItIs) {
  const auto ids = encode_turn(method_a(), "a <image> b", 1, Turn::kFirst);
  EXPECT_EQ(std::ranges::count(ids, kImage), 65);
  EXPECT_EQ(static_cast<Index>(ids.size()), 64 + static_cast<Index>(encoded(method_a(), "a <image> b").size()));
}

TEST(EncodeTurn, MethodBBeginsWithItsStartTokenAndHasNoPlaceholders) {
  EXPECT_THAT(encode_turn(method_b(), std::nullopt, 1, Turn::kFirst), ::testing::ElementsAre(kStart));
  auto expected = encoded(method_b(), "what");
  EXPECT_EQ(encode_turn(method_b(), "what", 0, Turn::kLater), expected);
  expected.insert(expected.begin(), kStart);
  EXPECT_EQ(encode_turn(method_b(), "what", 1, Turn::kFirst), expected);
}

TEST(EncodeTurn, NothingToSayIsAnError) {
  EXPECT_THROW(static_cast<void>(encode_turn(method_a(), std::nullopt, 0, Turn::kFirst)), Error);
  EXPECT_THROW(static_cast<void>(encode_turn(method_b(), "", 0, Turn::kLater)), Error);
}

TEST(MakePrompt, NotesTheRowsOfImages) {
  const Prompt prompt = method_a().make_prompt({1, kImage, kImage, 2, kImage}, {}, {10, 10}, 0);
  EXPECT_THAT(prompt.image_rows, ::testing::ElementsAre(1, 2, 4));
  EXPECT_THAT(prompt.positions, ::testing::ElementsAre(10, 11, 12, 13, 14));
  const Prompt other = method_b().make_prompt({1, 2}, {}, {}, 65);
  EXPECT_TRUE(other.image_rows.empty());
  EXPECT_EQ(other.visible_images[1].end, 65);
}

TEST(MakePrompt, PositionsMayRunBehindRows) {
  const Prompt prompt = method_a().make_prompt({1, 2}, {}, {10, 7}, 0);
  EXPECT_THAT(prompt.positions, ::testing::ElementsAre(7, 8));
  EXPECT_EQ(prompt.visible[1].end, 12);
}

TEST(PromptTail, KeepsWhatRowsSeeAndCountsThemAnew) {
  Prompt prompt = Prompt::causal({1, 2, 3, 4});
  prompt.image_rows = {1, 3};
  prompt.extra_visible = {{1, {5, 6}}, {2, {7, 9}}};
  prompt.offsets.resize(4);
  prompt.offsets[2] = {1, 2};
  const Prompt tail = prompt.tail(2);
  EXPECT_THAT(tail.ids, ::testing::ElementsAre(3, 4));
  EXPECT_THAT(tail.positions, ::testing::ElementsAre(2, 3));
  EXPECT_EQ(tail.visible[0].end, 3);
  EXPECT_THAT(tail.image_rows, ::testing::ElementsAre(1));
  ASSERT_EQ(tail.extra_visible.size(), 1u);
  EXPECT_EQ(tail.extra_visible[0].row, 0);
  EXPECT_EQ(tail.extra_visible[0].keys.end, 9);
  EXPECT_EQ(tail.offsets[0].dx, 2);
}

TEST(MakePrompt, APlaceholderBeyondTheVocabularyNeedsNoRowOfIt) {
  const Prompt prompt = method_a().make_prompt({kImage}, {}, {}, 0);
  EXPECT_THAT(prompt.ids, Each(::testing::Lt(method_a().model().info().vocab_size)));
}

TEST(MakeSampler, NeverDrawsAPlaceholder) {
  std::vector<float> logits(static_cast<std::size_t>(method_a().model().info().vocab_size), 0.0f);
  logits[static_cast<std::size_t>(kImage)] = 50.0f;
  Sampler greedy = method_a().make_sampler({}), warm = method_a().make_sampler({.temperature = 2.0f});
  EXPECT_NE(greedy.sample(logits), kImage);
  for (int i = 0; i < 100; ++i) EXPECT_NE(warm.sample(logits), kImage);
}

TEST(Preprocess, StacksImages) {
  const Image image = Image::open(std::string(DUET_EXAMPLES_DIR) + "/scenes/bundled/00001.png");
  const Image images[] = {image, image};
  const VisualInput one = method_a().prompts().preprocess(std::span(images).first(1)), two = method_a().prompts().preprocess(images);
  EXPECT_EQ(two.num_pictures(), 2);
  EXPECT_EQ(two.crops[1].size, (PictureSize{64, 64}));
  ASSERT_EQ(two.pixels.size(), 2 * one.pixels.size());
  EXPECT_TRUE(std::ranges::equal(two.crop(1), one.pixels));
  EXPECT_THAT(one.pixels, Not(Each(one.pixels.front())));
}

TEST(Pipeline, SaysWhatIsMissingWhenItIsNeeded) {
  const Pipeline bare(load_model(std::string(DUET_TEST_GOLDEN_DIR) + "/llama-0", {.threads = 1}));
  const Image picture = Image::from_rgb(std::vector<std::uint8_t>(3), 1, 1);
  const auto message = [](auto&& call) -> std::string {
    try {
      call();
    } catch (const Error& e) {
      return e.what();
    }
    return "nothing was thrown";
  };
  EXPECT_THAT(message([&] { static_cast<void>(bare.prompts().encode_turn("hello", {}, Turn::kFirst)); }), HasSubstr("tokenizer.json"));
  EXPECT_THAT(message([&] { static_cast<void>(bare.prompts().plans({&picture, 1})); }), HasSubstr("text alone"));
}

TEST(Pipeline, ABrokenTokenizerIsToldWhenItIsNeeded) {
  const test::TempFolder folder;
  for (const char* file : {"config.json", "model.safetensors"}) {
    std::filesystem::copy_file(std::filesystem::path(DUET_TEST_GOLDEN_DIR) / "llama-0" / file, folder.path() / file);
  }
  folder.write("tokenizer.json", R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}})");
  const auto message = [](const auto& call) -> std::string {
    try {
      call();
    } catch (const Error& e) {
      return e.what();
    }
    return "nothing was thrown";
  };
  for (const TokenizerReading reading : {TokenizerReading::kInBackground, TokenizerReading::kWhenNeeded}) {
    const Pipeline pipeline(load_model(folder.path(), {.threads = 1}), reading);
    const std::string problem = message([&] { static_cast<void>(pipeline.tokenizer()); });
    EXPECT_THAT(problem, HasSubstr("tokenizer.json: model.merges[0]: got \"b\""));
    EXPECT_EQ(message([&] { static_cast<void>(pipeline.prompts().encode_turn("a", {}, Turn::kFirst)); }), problem);
    const auto vocab_size = static_cast<std::size_t>(pipeline.model().info().vocab_size);
    EXPECT_EQ(pipeline.model().start({.max_length = 8})->prefill(Prompt::causal({1, 2}), {}).size(), vocab_size);
    Conversation chat(pipeline, {.max_length = 8});
    chat.user_ids({1, 2, 3});
    for (int i = 0; i < 2; ++i) {
      EXPECT_EQ(message([&] { static_cast<void>(chat.reply({.max_new_tokens = 1})); }), problem);
      EXPECT_EQ(chat.session().length(), 0) << "as it was before the call";
    }
    EXPECT_THAT(message([&] { static_cast<void>(chat.reply({.temperature = -1.0f})); }), HasSubstr("temperature"));
  }
}

}  // namespace pipeline_pipeline
}  // namespace duet
