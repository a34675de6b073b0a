#pragma once

#include <initializer_list>
#include <utility>
#include <vector>

#include "duet/core/weights.hpp"
#include "duet/kernels/matmul.hpp"

namespace duet {

/// The largest width of a part that a config may ask for: far beyond any model, and small enough that products of two
/// widths, and of a width with the vocabulary or the context stay in 64 bits.
inline constexpr Index kLargestWidth = Index{1} << 24;

/// y = x · Wᵀ + b.
///
/// Shapes   x [rows, in_features] → y [rows, out_features]; weight [out_features, in_features] as stored, bias optional
/// Errors   the constructor throws Error{kMissingTensor, kShapeMismatch, kUnsupportedDtype}
/// Cost     2 · rows · in_features · out_features FLOP; reads every weight once
class Linear {
 public:
  using Bias = Weights::Bias;

  Linear() = default;
  explicit Linear(Weights::Projection projection) : weight_(projection.weight), bias_(std::move(projection.bias)) {}
  /// Takes "name.weight" and, if required, "name.bias".
  Linear(const Weights& weights, std::string_view name, Index in_features, Index out_features, Bias bias)
      : Linear(std::move(
            weights.projections(std::initializer_list<Weights::Part>{{name, out_features}}, in_features, bias)[0])) {}

  /// Several maps of the same input, so that they can be slices of one fused tensor.
  [[nodiscard]] static std::vector<Linear> group(const Weights& weights, std::initializer_list<Weights::Part> parts,
                                                 Index in_features, Bias bias) {
    std::vector<Linear> result;
    for (Weights::Projection& projection : weights.projections(parts, in_features, bias)) {
      result.emplace_back(std::move(projection));
    }
    return result;
  }

  [[nodiscard]] Index in_features() const noexcept { return weight_.in_features; }
  [[nodiscard]] Index out_features() const noexcept { return weight_.out_features; }
  [[nodiscard]] const WeightMatrix& weight() const noexcept { return weight_; }

  /// This map as one job of a matmul, for maps that share an input and so one parallel region.
  [[nodiscard]] kernels::MatmulJob job(MatrixView out, kernels::ActivationFn activation = nullptr,
                                       kernels::Store store = kernels::Store::kAssign) const noexcept {
    return {weight_, bias_.empty() ? nullptr : bias_.data(), activation, out, store};
  }
  /// out (+)= activation(x · Wᵀ + b).
  void forward(ConstMatrixView x, MatrixView out, Phase phase, Workspace& workspace,
               kernels::ActivationFn activation = nullptr, kernels::Store store = kernels::Store::kAssign) const {
    const kernels::MatmulJob only[] = {job(out, activation, store)};
    kernels::matmul(x, only, phase, workspace);
  }
  /// x · Wᵀ + b as a matrix of its own [rows, out_features], for the few rows of a head.
  [[nodiscard]] Matrix map(ConstMatrixView x, Phase phase, Workspace& workspace) const {
    Matrix result(x.rows(), out_features());
    forward(x, result, phase, workspace);
    return result;
  }

 private:
  WeightMatrix weight_;      // [out_features, in_features]
  std::vector<float> bias_;  // [out_features] or empty
};

}  // namespace duet
