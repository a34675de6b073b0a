#include "duet/blocks/gates.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <optional>

#include "support/reference_layers.hpp"
#include "support/tiny_weights.hpp"

namespace duet::testing {
namespace blocks_gates {

using reference::tiny_rows;

/// What a gate makes of rows of a branch.
template <class G>
Matrix passed(const G& gate, const Matrix& branch) {
  Machine machine;
  Matrix result = Matrix::clone(branch);
  gate.apply(result, machine.workspace);
  return result;
}

TEST(NoGate, LetsABranchPassAndTakesNoWeight) {
  const TinyWeights weights;
  const Matrix branch = tiny_rows(3, 18);
  const Matrix got = passed(NoGate(Weights(weights), "gate", 18), branch);
  for (Index i = 0; i < 3; ++i) {
    for (Index j = 0; j < 18; ++j) EXPECT_EQ(got(i, j), branch(i, j));
  }
  EXPECT_FALSE(weights.made("gate"));
}

TEST(TanhGate, MultipliesByTheTangentOfItsScalar) {
  const TinyWeights weights;
  static_cast<void>(TanhGate(Weights(weights), "gate", 18));
  const Matrix branch = tiny_rows(3, 18);
  for (const float scalar : {0.0f, 0.5f, -2.0f, 100.0f}) {
    weights.at("gate") = {scalar};
    const Matrix got = passed(TanhGate(Weights(weights), "gate", 18), branch);
    for (Index i = 0; i < 3; ++i) {
      for (Index j = 0; j < 18; ++j) EXPECT_EQ(got(i, j), std::tanh(scalar) * branch(i, j));
    }
  }
}

/// A source with one tensor.
struct OneTensor {
  std::vector<float> values;
  std::vector<Index> shape;
  [[nodiscard]] std::optional<TensorView> find(std::string_view, std::span<const Index>) const {
    return TensorView{std::as_bytes(std::span(values)).data(), DType::kF32, shape};
  }
  [[nodiscard]] bool contains(std::string_view) const { return true; }
  [[nodiscard]] std::string where(std::string_view) const { return "here"; }
};

TEST(TanhGate, MayHaveAValueForEveryChannel) {
  OneTensor source{{}, {1, 1, 18}};
  for (Index j = 0; j < 18; ++j) source.values.push_back(static_cast<float>(j) / 8.0f - 1.0f);
  const Matrix branch = tiny_rows(3, 18), got = passed(TanhGate(Weights(source), "gate", 18), branch);
  for (Index i = 0; i < 3; ++i) {
    for (Index j = 0; j < 18; ++j) EXPECT_EQ(got(i, j), std::tanh(source.values[static_cast<std::size_t>(j)]) * branch(i, j));
  }
  source.shape = {1, 1, 12}, source.values.resize(12);
  EXPECT_THROW(TanhGate(Weights(source), "gate", 18), Error);
}

}  // namespace blocks_gates
}  // namespace duet::testing
