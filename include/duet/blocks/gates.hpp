#pragma once

#include <cmath>
#include <concepts>

#include "duet/core/weights.hpp"
#include "duet/kernels/elementwise.hpp"

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

/// A branch of an encoder that is simply added.
class NoLayerScale {
 public:
  static constexpr bool kIdentity = true;
  NoLayerScale(const Weights&, std::string_view, Index) {}
  void apply(MatrixView, Workspace&) const noexcept {}
};

/// A branch multiplied channel by channel by a learned vector.
///
/// Source  Touvron et al. 2021, 2103.17239 (CaiT), section 2
class LayerScale {
 public:
  static constexpr bool kIdentity = false;
  /// Takes "name" [hidden_size].
  LayerScale(const Weights& weights, std::string_view name, Index hidden_size) : factors_(weights.vector(name, hidden_size)) {}
  /// branch [rows, hidden_size] = branch ∘ factors, row by row.
  void apply(MatrixView branch, Workspace& workspace) const noexcept { kernels::scale_columns(branch, factors_.data(), workspace); }

 private:
  std::vector<float> factors_;  // [hidden_size]
};

/// What multiplies the branches of an encoder's block.
template <class S>
concept BranchScale = std::constructible_from<S, const Weights&, std::string_view, Index> &&
                      requires(const S& scale, MatrixView branch, Workspace& workspace) {
                        scale.apply(branch, workspace);
                        { S::kIdentity } -> std::convertible_to<bool>;
                      };

}  // namespace duet
