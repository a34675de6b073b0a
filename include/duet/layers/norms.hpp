#pragma once

#include <concepts>
#include <optional>
#include <utility>
#include <vector>

#include "duet/core/weights.hpp"
#include "duet/kernels/norm.hpp"

namespace duet {

/// (x − mean) / sqrt(var + eps) · weight + bias, var being the biased variance of the row (Ba et al. 2016, 1607.06450).
class LayerNorm {
 public:
  static constexpr bool kIdentity = false;
  LayerNorm(const Weights& weights, Index size, float eps)
      : weight_(weights.vector("weight", size)), bias_(weights.vector("bias", size)), eps_(eps) {}

  /// Shapes  x, out [rows, size]; out may be x
  void forward(ConstMatrixView x, MatrixView out, Workspace& workspace) const {
    kernels::layer_norm(x, weight_.data(), bias_.data(), eps_, out, workspace);
  }

 private:
  std::vector<float> weight_, bias_;  // [size]
  float eps_;
};

/// x / sqrt(mean(x²) + eps) · weight (Zhang and Sennrich 2019, 1910.07467).
class RmsNorm {
 public:
  static constexpr bool kIdentity = false;
  RmsNorm(const Weights& weights, Index size, float eps) : RmsNorm(weights, size, eps, size) {}
  /// With the mean of the first `measured` values alone, by which all are scaled.
  RmsNorm(const Weights& weights, Index size, float eps, Index measured)
      : weight_(weights.vector("weight", size)), eps_(eps), measured_(measured) {}

  /// Shapes  x, out [rows, size]; out may be x
  void forward(ConstMatrixView x, MatrixView out, Workspace& workspace) const {
    kernels::rms_norm(x, weight_.data(), eps_, out, measured_, workspace);
  }

 protected:
  std::vector<float> weight_;  // [size]
  float eps_;
  Index measured_;
};

/// RmsNorm whose stored weight is an offset from one (Gemma).
class RmsNormPlusOne : public RmsNorm {
 public:
  RmsNormPlusOne(const Weights& weights, Index size, float eps) : RmsNorm(weights, size, eps) {
    for (float& value : weight_) value += 1.0f;
  }
};

/// The absent norm: for slots that most families leave empty. Takes no weights.
class NoNorm {
 public:
  static constexpr bool kIdentity = true;
  NoNorm(const Weights&, Index, float) {}
  void forward(ConstMatrixView, MatrixView, Workspace&) const noexcept {}
};

/// A norm that some checkpoints of a kind have and others lack: default-made, it is absent and changes nothing.
template <class N>
class OptionalNorm {
 public:
  static constexpr bool kIdentity = false;
  OptionalNorm() = default;
  template <class... More>
    requires std::constructible_from<N, const Weights&, Index, float, More...>
  OptionalNorm(const Weights& weights, Index size, float eps, More... more) : norm_(std::in_place, weights, size, eps, more...) {}

  /// In place.
  void forward([[maybe_unused]] ConstMatrixView x, MatrixView out, Workspace& workspace) const {
    DUET_ASSERT(x.data() == out.data(), "an absent norm leaves what is in place");
    if (norm_) norm_->forward(out, out, workspace);
  }

 private:
  std::optional<N> norm_;
};

/// What a slot for a norm accepts.
template <class N>
concept Norm = std::constructible_from<N, const Weights&, Index, float> &&
               requires(const N& norm, ConstMatrixView x, MatrixView out, Workspace& workspace) {
                 norm.forward(x, out, workspace);
                 { N::kIdentity } -> std::convertible_to<bool>;
               };

}  // namespace duet
