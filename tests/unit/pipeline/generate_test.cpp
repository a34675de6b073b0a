#include "duet/pipeline/generate.hpp"

#include <gmock/gmock.h>

namespace duet {
namespace pipeline_generate {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// A session whose logits favour the ids of a script, one after another.
class Script {
 public:
  explicit Script(std::vector<TokenId> ids) : ids_(std::move(ids)) {}
  std::span<const float> first() { return favour(0); }
  std::span<const float> decode(TokenId id) {
    read.push_back(id);
    return favour(read.size());
  }
  std::vector<TokenId> read;

 private:
  std::span<const float> favour(std::size_t step) {
    logits_.assign(512, 0.0f);
    logits_[static_cast<std::size_t>(ids_.at(step))] = 1.0f;
    return logits_;
  }
  std::vector<TokenId> ids_;
  std::vector<float> logits_;
};

const Tokenizer& stories() {
  static const Tokenizer tokenizer = Tokenizer::load(std::string(DUET_TEST_GOLDEN_DIR) + "/stories260K");
  return tokenizer;
}
std::vector<TokenId> ids_of(std::string_view text) { return stories().encode(text, SpecialTokens::kNone); }

Reply replied(Script& script, Index most, std::vector<TokenId> eos, const Tokenizer* tokenizer, const std::vector<std::string>& stop = {},
              const PieceCallback& callback = {}) {
  Sampler greedy({}, 512, 512, {});
  return generate(script, script.first(), greedy, most, eos, tokenizer, stop, callback);
}

/// Whether `text` is whole characters.
bool is_whole(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const std::size_t length = lead < 0x80 ? 1 : lead < 0xc0 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    if (length == 0 || i + length > text.size()) return false;
    for (std::size_t k = 1; k < length; ++k) {
      if ((static_cast<unsigned char>(text[i + k]) & 0xc0) != 0x80) return false;
    }
    i += length;
  }
  return true;
}

TEST(Generate, StopsAtTheLength) {
  Script script({5, 6, 7, 8});
  const Reply reply = replied(script, 3, {2}, nullptr);
  EXPECT_THAT(reply.ids, ElementsAre(5, 6, 7));
  EXPECT_EQ(reply.reason, StopReason::kLength);
  EXPECT_THAT(script.read, ElementsAre(5, 6)) << "the last token is drawn and not read";
}

TEST(Generate, StopsAtAnyEndOfText) {
  for (const TokenId end : {2, 9}) {
    Script script({5, 6, end, 7});
    const Reply reply = replied(script, 10, {9, 2}, nullptr);
    EXPECT_THAT(reply.ids, ElementsAre(5, 6)) << "the end is no part of the reply";
    EXPECT_EQ(reply.reason, StopReason::kEndOfText);
    EXPECT_EQ(reply.end_of_text, end) << "chat models have several, and the next turn begins with this one";
    EXPECT_THAT(script.read, ElementsAre(5, 6));
  }
}

TEST(Generate, NothingIsAskedFor) {
  Script script({5});
  EXPECT_TRUE(replied(script, 0, {}, nullptr).ids.empty());
  EXPECT_TRUE(script.read.empty());
}

TEST(Generate, StopsBeforeATextThatTokensCutAcross) {
  const auto ids = ids_of("Once upon a time");
  ASSERT_GT(ids.size(), 3u);
  for (const std::string stop : {"pon", "e u", " a time", "Once", "n a t"}) {
    Script script(ids);
    std::string shown;
    const Reply reply = replied(script, static_cast<Index>(ids.size()), {2}, &stories(), {"never", stop}, [&](std::string_view piece) {
      shown += piece;
      return true;
    });
    const std::string whole = stories().decode(ids);
    EXPECT_EQ(reply.text, whole.substr(0, whole.find(stop))) << stop;
    EXPECT_EQ(shown, reply.text) << "nothing of the stop text is shown";
    EXPECT_EQ(reply.reason, StopReason::kStopText);
  }
}

TEST(Generate, ShowsWhatOnlyLookedLikeAStop) {
  const auto ids = ids_of("Once upon");
  Script script(ids);
  const Reply reply = replied(script, static_cast<Index>(ids.size()), {2}, &stories(), {"upon a time"});
  EXPECT_EQ(reply.text, stories().decode(ids));
  EXPECT_EQ(reply.reason, StopReason::kLength);
}

TEST(Generate, TheCallbackEndsTheReply) {
  const auto ids = ids_of("Once upon a time");
  Script script(ids);
  int pieces = 0;
  const Reply reply = replied(script, 100, {2}, &stories(), {}, [&](std::string_view) { return ++pieces < 2; });
  EXPECT_EQ(reply.reason, StopReason::kCallback);
  EXPECT_THAT(reply.ids, ElementsAre(ids[0], ids[1]));
  EXPECT_THAT(script.read, ElementsAre(ids[0])) << "nothing is decoded once the reply has ended";
}

TEST(Generate, StreamsWholeCharacters) {
  const std::string text = "a \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80 b";  // é € and a face: the vocabulary has bytes for them
  const auto ids = ids_of(text);
  ASSERT_GT(ids.size(), text.size() / 2);
  Script script(ids);
  std::string shown;
  const Reply reply = replied(script, static_cast<Index>(ids.size()), {2}, &stories(), {}, [&](std::string_view piece) {
    EXPECT_TRUE(is_whole(piece)) << ::testing::PrintToString(std::string(piece));
    EXPECT_FALSE(piece.empty());
    shown += piece;
    return true;
  });
  EXPECT_EQ(shown, reply.text);
  EXPECT_EQ(reply.text, stories().decode(ids));
  EXPECT_THAT(reply.text, HasSubstr("\xf0\x9f\x98\x80"));
}

TEST(Generate, ACharacterThatTheLengthCutsIsReplaced) {
  auto ids = ids_of("a\xf0\x9f\x98\x80");
  ids.pop_back();
  Script script(ids);
  const Reply reply = replied(script, static_cast<Index>(ids.size()), {2}, &stories());
  EXPECT_TRUE(is_whole(reply.text)) << ::testing::PrintToString(reply.text);
  EXPECT_EQ(reply.text, stories().decode(ids));
}

TEST(GenerationDefaults, FindTheEndOfTextWhereverItIsSaid) {
  const nlohmann::json nothing = nlohmann::json::object(), of_text = {{"text_config", {{"eos_token_id", 7}}}};
  const nlohmann::json of_decoder = {{"decoder", {{"eos_token_id", {8, 9}}}}}, generation = {{"max_new_tokens", 40}};
  const auto eos = [&](const nlohmann::json& config) { return GenerationDefaults::read(JsonView(generation, "g"), JsonView(config, "c")).eos_token_ids; };
  EXPECT_THAT(eos(of_text), ElementsAre(7));
  EXPECT_THAT(eos(of_decoder), ElementsAre(8, 9));
  EXPECT_TRUE(eos(nothing).empty());
  EXPECT_EQ(GenerationDefaults::read(JsonView(generation, "g"), JsonView(nothing, "c")).max_new_tokens, 40);
  EXPECT_EQ(GenerationDefaults::read(JsonView(nothing, "g"), JsonView(nothing, "c")).max_new_tokens, std::nullopt);
}

TEST(GenerationDefaults, ValuesOfTheWrongTypeAreErrors) {
  const nlohmann::json nothing = nlohmann::json::object();
  for (const nlohmann::json& bad : {nlohmann::json{{"do_sample", "yes"}}, nlohmann::json{{"eos_token_id", "end"}}, nlohmann::json{{"max_new_tokens", 1.5}},
                                    nlohmann::json{{"do_sample", true}, {"temperature", "hot"}}}) {
    EXPECT_THROW(static_cast<void>(GenerationDefaults::read(JsonView(bad, "g"), JsonView(nothing, "c"))), Error) << bad;
  }
}

TEST(GenerationDefaults, WishesComeFirst) {
  GenerationDefaults defaults;
  EXPECT_EQ(defaults.with({}).temperature, 0.0f);
  EXPECT_EQ(defaults.with({.top_k = 5}).temperature, 1.0f) << "to shape a distribution is to sample from it";
  EXPECT_EQ(defaults.with({.temperature = 0.0f, .top_p = 0.5f}).temperature, 0.0f);
  defaults.sampling = {.temperature = 0.7f, .top_k = 50, .top_p = 0.9f};
  const SamplingOptions wished = defaults.with({.top_p = 0.3f, .seed = 4});
  EXPECT_FLOAT_EQ(wished.temperature, 0.7f);
  EXPECT_EQ(wished.top_k, 50);
  EXPECT_FLOAT_EQ(wished.top_p, 0.3f);
  EXPECT_EQ(wished.seed, 4u);
  EXPECT_THROW(static_cast<void>(defaults.with({.top_p = 2.0f})), Error);
}

}  // namespace pipeline_generate
}  // namespace duet
