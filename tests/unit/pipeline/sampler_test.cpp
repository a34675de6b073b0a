#include "duet/pipeline/sampler.hpp"

#include <gmock/gmock.h>

#include <limits>
#include <map>

#include "duet/pipeline/generate.hpp"

namespace duet {
namespace pipeline_sampler {

using ::testing::ElementsAre;
using ::testing::Each;
using ::testing::Lt;

std::map<TokenId, int> drawn(const SamplingOptions& options, const std::vector<float>& logits, int times = 4000) {
  std::map<TokenId, int> counts;
  Sampler sampler(options, static_cast<Index>(logits.size()), static_cast<Index>(logits.size()), {});
  for (int i = 0; i < times; ++i) ++counts[sampler.sample(logits)];
  return counts;
}

TEST(Sampler, GreedyTakesTheFirstOfTheLikeliest) {
  Sampler sampler({}, 4, 4, {});
  const std::vector<float> logits = {1, 5, 5, 2};
  EXPECT_EQ(sampler.sample(logits), 1);
}

TEST(Sampler, NeverDrawsSuppressedNorPaddedIds) {
  const std::vector<TokenId> suppressed = {3};
  Sampler greedy({}, 6, 4, suppressed), warm({.temperature = 2.0f}, 6, 4, suppressed);
  const std::vector<float> logits = {0, 0, 1, 9, 9, 9};
  EXPECT_EQ(greedy.sample(logits), 2);
  for (int i = 0; i < 200; ++i) EXPECT_LT(warm.sample(logits), 3);
}

TEST(Sampler, DrawsWithTheProbabilitiesOfTheSoftmax) {
  const std::vector<float> logits = {0.0f, std::log(3.0f)};
  const auto counts = drawn({.temperature = 1.0f, .seed = 5}, logits);
  EXPECT_NEAR(counts.at(1) / 4000.0, 0.75, 4 * std::sqrt(0.75 * 0.25 / 4000));  // four standard deviations
}

TEST(Sampler, TopKTopPAndMinPCutTheTail) {
  const std::vector<float> logits = {std::log(0.5f), std::log(0.3f), std::log(0.15f), std::log(0.05f)};
  EXPECT_EQ(drawn({.temperature = 1.0f, .top_k = 2}, logits).size(), 2u);
  EXPECT_EQ(drawn({.temperature = 1.0f, .top_p = 0.79f}, logits).size(), 2u);
  EXPECT_EQ(drawn({.temperature = 1.0f, .top_p = 0.81f}, logits).size(), 3u);
  EXPECT_EQ(drawn({.temperature = 1.0f, .min_p = 0.2f}, logits).size(), 3u);
}

TEST(Sampler, WhatReachesTopPAndMinPExactlyIsEnough) {
  const std::vector<float> equals = {1.0f, 1.0f};
  EXPECT_EQ(drawn({.temperature = 1.0f, .top_p = 0.5f}, equals).size(), 1u);
  EXPECT_EQ(drawn({.temperature = 1.0f, .min_p = 1.0f}, equals).size(), 2u);
}

TEST(Sampler, RepetitionPenaltyDividesPositiveAndMultipliesNegativeScores) {
  Sampler sampler({.repetition_penalty = 2.0f}, 3, 3, {});
  sampler.see(0);
  EXPECT_EQ(sampler.sample(std::vector<float>{3.0f, 2.0f, 0.0f}), 1);
  Sampler negative({.repetition_penalty = 2.0f}, 2, 2, {});
  negative.see(0);
  EXPECT_EQ(negative.sample(std::vector<float>{-1.0f, -1.5f}), 1);
}

TEST(Sampler, TheSameSeedDrawsTheSame) {
  const std::vector<float> logits(50, 0.0f);
  Sampler a({.temperature = 1.0f, .seed = 9}, 50, 50, {}), b({.temperature = 1.0f, .seed = 9}, 50, 50, {});
  for (int i = 0; i < 100; ++i) EXPECT_EQ(a.sample(logits), b.sample(logits));
}

TEST(Sampler, WhatIsNoNumberIsNotDrawn) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  std::vector<float> logits(1000, nan);  // an order with these in it would run out of bounds
  logits[700] = 1.0f;
  for (const float temperature : {0.0f, 1.0f}) {
    Sampler sampler({.temperature = temperature, .top_k = 40, .top_p = 0.9f}, 1000, 1000, {});
    EXPECT_EQ(sampler.sample(logits), 700);
    EXPECT_THROW((void)sampler.sample(std::vector<float>(1000, nan)), Error);
    EXPECT_EQ(sampler.sample(std::vector<float>{0.0f, infinity, 1.0f}), 1);
  }
  Sampler cold({.temperature = 1e-45f}, 3, 3, {});
  EXPECT_EQ(cold.sample(std::vector<float>{1.0f, 3.0f, 2.0f}), 1);
}

TEST(SamplingOptions, OutOfRangeIsAnError) {
  for (const SamplingOptions& bad : {SamplingOptions{.temperature = -1}, SamplingOptions{.top_k = -1}, SamplingOptions{.top_p = 0},
                                     SamplingOptions{.min_p = 2}, SamplingOptions{.repetition_penalty = 0}}) {
    EXPECT_THROW(bad.check(), Error);
  }
}

TEST(StopTexts, HoldBackWhatMightBeTheBeginning) {
  StopTexts stops({"END", "\n\n"});
  EXPECT_EQ(stops.push("one E"), "one ");
  EXPECT_EQ(stops.push("N"), "");
  EXPECT_EQ(stops.push("X\n"), "ENX");
  EXPECT_EQ(stops.push("two EN"), "\ntwo ");
  EXPECT_EQ(stops.push("D rest"), "");
  EXPECT_TRUE(stops.found());
  EXPECT_EQ(stops.flush(), "");
}

TEST(GenerationDefaults, ReadsTheReferencesFiles) {
  const nlohmann::json generation = {{"do_sample", true}, {"temperature", 0.7}, {"top_p", 0.9}, {"eos_token_id", {5, 6}}};
  const nlohmann::json empty = nlohmann::json::object(), config = {{"eos_token_id", 2}};
  const auto sampled = GenerationDefaults::read(JsonView(generation, "g"), JsonView(config, "c"));
  EXPECT_THAT(sampled.eos_token_ids, ElementsAre(5, 6));
  EXPECT_EQ(sampled.sampling.top_k, 50);
  EXPECT_FLOAT_EQ(sampled.sampling.temperature, 0.7f);
  const auto greedy = GenerationDefaults::read(JsonView(empty, "g"), JsonView(config, "c"));
  EXPECT_THAT(greedy.eos_token_ids, ElementsAre(2));
  for (const nlohmann::json& bad : {nlohmann::json{{"max_new_tokens", 0}}, {{"repetition_penalty", -1.0}}, {{"do_sample", true}, {"top_p", 2.0}}}) {
    EXPECT_THROW(GenerationDefaults::read(JsonView(bad, "g"), JsonView(config, "c")), Error) << bad;
  }
  EXPECT_EQ(greedy.sampling.temperature, 0.0f);
}

}  // namespace pipeline_sampler
}  // namespace duet
