#pragma once

#include <cmath>
#include <concepts>
#include <vector>

#include "duet/core/weights.hpp"
#include "duet/kernels/elementwise.hpp"

namespace duet {

/// A branch that is simply added (GPT-2, ViT).
class NoGate {
 public:
  static constexpr bool kIdentity = true;
  NoGate(const Weights&, std::string_view, Index) {}
  void apply(MatrixView, Workspace&) const noexcept {}
};

/// A branch multiplied by tanh of a learned scalar, or of a vector channel by channel: at 0 the model is the one without the
/// branch (Flamingo, Mllama, Idefics).
///
/// Source  Alayrac et al. 2022, 2204.14198, section 2.2
class TanhGate {
 public:
  static constexpr bool kIdentity = false;
  /// Takes "name" [1] or [hidden_size].
  TanhGate(const Weights& weights, std::string_view name, Index hidden_size)
      : factors_(weights.vector(name, weights.size(name) == 1 ? 1 : hidden_size)) {
    for (float& factor : factors_) factor = std::tanh(factor);
  }
  /// branch [rows, hidden_size] *= tanh(alpha).
  void apply(MatrixView branch, Workspace& workspace) const noexcept {
    factors_.size() == 1 ? kernels::scale(branch, factors_[0], workspace) : kernels::scale_columns(branch, factors_.data(), workspace);
  }

 private:
  std::vector<float> factors_;  // [1] or [hidden_size]
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

/// What multiplies a branch before it joins the rows it was made of.
template <class G>
concept Gate = std::constructible_from<G, const Weights&, std::string_view, Index> &&
               requires(const G& gate, MatrixView branch, Workspace& workspace) {
                 gate.apply(branch, workspace);
                 { G::kIdentity } -> std::convertible_to<bool>;
               };

}  // namespace duet
