#pragma once

#include <cmath>
#include <concepts>

#include "duet/core/weights.hpp"

namespace duet {

/// A cross-attention branch that is simply added (GPT-2).
class NoGate {
 public:
  NoGate(const Weights&, std::string_view) {}
  [[nodiscard]] float factor() const noexcept { return 1.0f; }
};

/// A branch multiplied by tanh of a learned scalar: at 0 the model is the text-only one (Flamingo, Mllama).
///
/// Source  Alayrac et al. 2022, 2204.14198, section 2.2
class TanhGate {
 public:
  TanhGate(const Weights& weights, std::string_view name) : factor_(std::tanh(weights.vector(name, 1)[0])) {}
  [[nodiscard]] float factor() const noexcept { return factor_; }

 private:
  float factor_;
};

/// What multiplies a cross-attention branch before it joins the text.
template <class G>
concept Gate = std::constructible_from<G, const Weights&, std::string_view> && requires(const G& gate) {
  { gate.factor() } -> std::same_as<float>;
};

}  // namespace duet
