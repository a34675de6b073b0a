#include "duet/layers/positions.hpp"

#include <gmock/gmock.h>

#include <numbers>

#include "support/reference_layers.hpp"

namespace duet::testing {
namespace layers_positions {

/// The frequencies that a rotary embedding turns with, read off its angles at position 1.
std::vector<double> frequencies(const RopeConfig& rope, Index head_dim = 64, Index length = 2) {
  const TinyWeights none;
  const RotaryEmbedding embedding({.head_dim = head_dim, .rope = rope}, Weights(none));
  Matrix cos(1, embedding.num_pairs()), sin(1, embedding.num_pairs());
  const Index one[] = {1};
  embedding.angles({.positions = one, .length = length}, {cos, sin});
  std::vector<double> result;
  for (Index i = 0; i < embedding.num_pairs(); ++i) result.push_back(std::atan2(static_cast<double>(sin(0, i)), static_cast<double>(cos(0, i))));
  return result;
}

void expect_frequencies(const RopeConfig& rope, Index head_dim, const std::vector<double>& expected, Index length = 2) {
  const auto got = frequencies(rope, head_dim, length);
  ASSERT_EQ(got.size(), expected.size());
  // A power, a division and a sine or cosine near one, each rounded to float.
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], expected[i], 0x1p-24 * (2.0 + 8.0 * expected[i])) << i;
}

std::vector<double> powers(double theta, Index rotary_dim) {
  std::vector<double> result;
  for (Index i = 0; i < rotary_dim; i += 2) result.push_back(std::pow(theta, -static_cast<double>(i) / static_cast<double>(rotary_dim)));
  return result;
}

TEST(RotaryEmbedding, TurnsByPowersOfTheta) {
  expect_frequencies({}, 64, powers(10000.0, 64));
  expect_frequencies({.rope_theta = 500000.0f}, 128, powers(500000.0, 128));
  EXPECT_EQ(frequencies({}, 8).size(), 4u);
}

TEST(RotaryEmbedding, TurnsAPartOfTheHead) {
  expect_frequencies({.partial_rotary_factor = 0.25f}, 64, powers(10000.0, 16));
}

TEST(RotaryEmbedding, LinearScalingSlowsEveryFrequency) {
  auto expected = powers(10000.0, 32);
  for (double& f : expected) f /= 4.0;
  expect_frequencies({.rope_type = "linear", .factor = 4.0f}, 32, expected);
}

TEST(RotaryEmbedding, Llama3ScalingSlowsLongWavelengthsAlone) {
  const RopeConfig rope{.rope_theta = 500000.0f, .rope_type = "llama3", .factor = 32.0f, .low_freq_factor = 1.0f,
                        .high_freq_factor = 4.0f, .original_max_position_embeddings = 8192};
  auto expected = powers(500000.0, 64);
  int kept = 0, slowed = 0, blended = 0;
  for (double& f : expected) {
    const double wavelength = 2.0 * std::numbers::pi / f;
    if (wavelength < 8192.0 / 4.0) {
      ++kept;
    } else if (wavelength > 8192.0 / 1.0) {
      f /= 32.0;
      ++slowed;
    } else {
      const double smooth = (8192.0 / wavelength - 1.0) / (4.0 - 1.0);
      f = (1.0 - smooth) * f / 32.0 + smooth * f;
      ++blended;
    }
  }
  EXPECT_GT(std::min({kept, slowed, blended}), 0) << "every case must occur";
  expect_frequencies(rope, 64, expected);
}

/// What cos and sin are multiplied with.
double attention_factor(const RopeConfig& rope, Index head_dim) {
  const TinyWeights none;
  const RotaryEmbedding embedding({.head_dim = head_dim, .rope = rope}, Weights(none));
  Matrix cos(1, embedding.num_pairs()), sin(1, embedding.num_pairs());
  const Index zero[] = {0};
  embedding.angles({zero}, {cos, sin});
  return static_cast<double>(cos(0, 0));
}

TEST(RotaryEmbedding, LongropeHasAFactorForEveryFrequencyAndOthersForLongSequences) {
  const RopeConfig rope{.rope_type = "longrope", .factor = 32.0f, .original_max_position_embeddings = 4096,
                        .short_factor = {1.0f, 1.5f, 2.0f, 3.0f}, .long_factor = {1.0f, 4.0f, 8.0f, 64.0f}};
  auto of_short = powers(10000.0, 8), of_long = of_short;
  for (std::size_t i = 0; i < 4; ++i) {
    of_short[i] /= static_cast<double>(rope.short_factor[i]);
    of_long[i] /= static_cast<double>(rope.long_factor[i]);
  }
  expect_frequencies(rope, 8, of_short, 4096);
  expect_frequencies(rope, 8, of_long, 4097);
  const TinyWeights none;
  EXPECT_EQ(RotaryEmbedding({.head_dim = 8, .rope = rope}, Weights(none)).switch_length(), 4096);
  EXPECT_NEAR(attention_factor(rope, 8), std::sqrt(1.0 + std::log(32.0) / std::log(4096.0)), 1e-6);
  RopeConfig other = rope;
  other.factor = 0.5f;
  EXPECT_EQ(attention_factor(other, 8), 1.0) << "not stretched";
  other.attention_factor = 1.25f;
  EXPECT_EQ(attention_factor(other, 8), 1.25);
}

TEST(RotaryEmbedding, YarnSlowsFrequenciesByHowOftenTheyTurn) {
  const RopeConfig rope{.rope_theta = 1e6f, .rope_type = "yarn", .factor = 4.0f, .original_max_position_embeddings = 32768};
  auto expected = powers(1e6, 128);
  int kept = 0, slowed = 0, blended = 0;
  const auto index = [](double turns) { return 128.0 * std::log(32768.0 / (turns * 2.0 * std::numbers::pi)) / (2.0 * std::log(1e6)); };
  const double low = std::floor(index(32.0)), high = std::ceil(index(1.0));
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    ++(ramp == 0.0 ? kept : ramp == 1.0 ? slowed : blended);
    expected[i] = expected[i] / 4.0 * ramp + expected[i] * (1.0 - ramp);
  }
  EXPECT_GT(std::min({kept, slowed, blended}), 0) << "every case must occur";
  EXPECT_NEAR(attention_factor(rope, 128), 0.1 * std::log(4.0) + 1.0, 1e-6);
  expect_frequencies(rope, 128, expected);
}

TEST(RotaryEmbedding, RowsInAGridTurnByTheirSectionsAxes) {
  const TinyWeights none;
  const RotaryEmbedding embedding({.head_dim = 12, .rope = {.mrope_section = {1, 2, 3}}}, Weights(none));
  const Index positions[] = {7, 9};
  const kernels::GridOffset offsets[] = {{0, 0}, {3, -2}};
  Matrix cos(2, 6), sin(2, 6), plain_cos(3, 6), plain_sin(3, 6);
  embedding.angles({positions, offsets}, {cos, sin});
  const Index on_axes[] = {9, 12, 7};  // of the second row: time, height, width
  embedding.angles({on_axes}, {plain_cos, plain_sin});
  const Index axes[] = {0, 1, 1, 2, 2, 2};
  for (Index pair = 0; pair < 6; ++pair) {
    EXPECT_EQ(cos(1, pair), plain_cos(axes[pair], pair)) << pair;
    EXPECT_EQ(sin(1, pair), plain_sin(axes[pair], pair)) << pair;
    EXPECT_EQ(cos(0, pair), plain_cos(2, pair)) << "at position 7 on every axis";
  }
}

TEST(RotaryEmbedding, NumbersThatMakeNoAnglesAreErrors) {
  const auto complaint = [](const RopeConfig& rope) -> std::string {
    try {
      frequencies(rope, 8);
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::kInvalidArgument);
      return e.what();
    }
    return "nothing";
  };
  using ::testing::HasSubstr;
  const RopeConfig longrope{.rope_type = "longrope", .original_max_position_embeddings = 16, .short_factor = {1, 1, 1, 1}, .long_factor = {1, 1, 1, 1}};
  EXPECT_EQ(complaint(longrope), "nothing");
  RopeConfig rope = longrope;
  rope.long_factor.pop_back();
  EXPECT_THAT(complaint(rope), HasSubstr("long_factor: got 3 numbers, expected 4 positive numbers"));
  rope = longrope;
  rope.short_factor[2] = 0.0f;
  EXPECT_THAT(complaint(rope), HasSubstr("short_factor"));
  rope = longrope;
  rope.original_max_position_embeddings = 0;
  EXPECT_THAT(complaint(rope), HasSubstr("original_max_position_embeddings"));
  EXPECT_THAT(complaint({.mrope_section = {1, 2, 2}}), HasSubstr("mrope_section: got 3 numbers with the sum 5, expected three that sum to"));
  EXPECT_THAT(complaint({.mrope_section = {2, 2}}), HasSubstr("mrope_section"));
  EXPECT_THAT(complaint({.mrope_section = {-1, 3, 2}}), HasSubstr("mrope_section"));
}

TEST(RotaryEmbedding, AnUnknownScalingIsAnError) {
  try {
    frequencies({.rope_type = "mystery"});
    FAIL() << "a mystery was taken";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kUnsupportedModel);
    EXPECT_THAT(e.what(), ::testing::AllOf(::testing::HasSubstr("rope_type"), ::testing::HasSubstr("mystery")));
  }
}

TEST(RotaryEmbedding, LeavesTheEmbeddingsAlone) {
  const TinyWeights none;
  const RotaryEmbedding embedding({.head_dim = 8, .rope = {}}, Weights(none));
  Matrix hidden(1, 4);
  const Index position[] = {3};
  embedding.embed(position, hidden);
  EXPECT_THAT(hidden.view().row(0), ::testing::Each(0.0f));
}

TEST(LearnedPositions, AddTheRowOfEachPosition) {
  for (const Index size : {7, 256, 300}) {  // wider than the chunks in which rows are read
    const TinyWeights weights;
    const LearnedPositions positions({.hidden_size = size, .max_position_embeddings = 12, .rope = {}}, Weights(weights));
    EXPECT_EQ(positions.num_pairs(), 0);
    const auto& table = weights.at("embed_positions.weight");
    const Matrix before = reference::tiny_rows(3, size);
    Matrix hidden = Matrix::clone(before);
    const Index at[] = {11, 0, 5};
    positions.embed(at, hidden);
    for (Index i = 0; i < 3; ++i) {
      for (Index j = 0; j < size; ++j) ASSERT_EQ(hidden(i, j), before(i, j) + table[static_cast<std::size_t>(at[i] * size + j)]);
    }
  }
}

TEST(LearnedPositions, MayKeepRowsBeforeTheFirstPositions) {
  const TinyWeights weights;
  const LearnedPositions positions({.hidden_size = 6, .max_position_embeddings = 5, .rope = {}, .offset = 2}, Weights(weights));
  EXPECT_EQ(positions.num_positions(), 5);
  const auto& table = weights.at("embed_positions.weight");
  ASSERT_EQ(table.size(), 7u * 6u);
  Matrix hidden(2, 6);
  const Index at[] = {0, 4};
  positions.embed(at, hidden);
  for (Index i = 0; i < 2; ++i) {
    for (Index j = 0; j < 6; ++j) EXPECT_EQ(hidden(i, j), table[static_cast<std::size_t>((at[i] + 2) * 6 + j)]);
  }
}

TEST(LearnedOrSinusoidalPositions, AreTheOnesThatTheConfigNames) {
  const TinyWeights weights;
  PositionConfig config{.hidden_size = 7, .max_position_embeddings = 5, .rope = {}, .offset = 2};
  const LearnedPositions learned(config, Weights(weights));
  const LearnedOrSinusoidalPositions same(config, Weights(weights));
  EXPECT_EQ(same.num_positions(), 5);
  const Index at[] = {3};
  Matrix one(1, 7), other(1, 7);
  learned.embed(at, one);
  same.embed(at, other);
  EXPECT_EQ(values(one.view().row(0)), values(other.view().row(0)));

  const TinyWeights none;
  config.table = PositionTable::kSinusoidal;
  const LearnedOrSinusoidalPositions waves(config, Weights(none));
  EXPECT_FALSE(none.made("embed_positions.weight"));
  EXPECT_EQ(waves.num_positions(), std::numeric_limits<Index>::max());
  Matrix hidden(1, 7);
  waves.embed(at, hidden);
  for (Index i = 0; i < 3; ++i) {
    const double angle = 5.0 * std::pow(10000.0, -static_cast<double>(i) / 2.0);
    EXPECT_NEAR(hidden(0, i), std::sin(angle), 1e-6);
    EXPECT_NEAR(hidden(0, 3 + i), std::cos(angle), 1e-6);
  }
  EXPECT_EQ(hidden(0, 6), 0.0f) << "an odd width leaves its last channel alone";
}

}  // namespace layers_positions
}  // namespace duet::testing
