#include "duet/blocks/gates.hpp"

#include <gtest/gtest.h>

#include "support/tiny_weights.hpp"

namespace duet::testing {
namespace {

TEST(NoGate, LetsABranchPassAndTakesNoWeight) {
  const TinyWeights weights;
  EXPECT_EQ(NoGate(Weights(weights), "gate").factor(), 1.0f);
  EXPECT_FALSE(weights.made("gate"));
}

TEST(TanhGate, IsTheTangentOfItsScalar) {
  const TinyWeights weights;
  static_cast<void>(TanhGate(Weights(weights), "gate"));
  for (const float scalar : {0.0f, 0.5f, -2.0f, 100.0f}) {
    weights.at("gate") = {scalar};
    EXPECT_EQ(TanhGate(Weights(weights), "gate").factor(), std::tanh(scalar));
  }
}

}  // namespace
}  // namespace duet::testing
