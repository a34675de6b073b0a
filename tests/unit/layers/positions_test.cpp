#include "duet/layers/positions.hpp"

#include <gmock/gmock.h>

#include <numbers>

#include "support/reference_layers.hpp"

namespace duet::testing {
namespace {

/// The frequencies that a rotary embedding turns with, read off its angles at position 1.
std::vector<double> frequencies(const RopeConfig& rope, Index head_dim = 64) {
  const TinyWeights none;
  const RotaryEmbedding embedding({.head_dim = head_dim, .rope = rope}, Weights(none));
  Matrix cos(1, embedding.num_pairs()), sin(1, embedding.num_pairs());
  const Index one[] = {1};
  embedding.angles(one, {cos, sin});
  std::vector<double> result;
  for (Index i = 0; i < embedding.num_pairs(); ++i) result.push_back(std::atan2(static_cast<double>(sin(0, i)), static_cast<double>(cos(0, i))));
  return result;
}

void expect_frequencies(const RopeConfig& rope, Index head_dim, const std::vector<double>& expected) {
  const auto got = frequencies(rope, head_dim);
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

}  // namespace
}  // namespace duet::testing
