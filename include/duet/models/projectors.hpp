#pragma once

#include <optional>
#include <string>

#include "duet/layers/activation_choice.hpp"
#include "duet/layers/feed_forward.hpp"
#include "duet/layers/linear.hpp"
#include "duet/layers/norms.hpp"

namespace duet {

struct ProjectorConfig {
  Index input_size = 0;   ///< width of the encoder's features
  Index output_size = 0;  ///< hidden_size of the text model
  std::string projector_hidden_act = "gelu";
  Linear::Bias bias = Linear::Bias::kRequired;
  Index intermediate_size = 0;  ///< of an MLP; 0: output_size
  float norm_eps = 1e-5f;       ///< of a norm before it
};

/// image tokens = features · Wᵀ + b.
///
/// Shapes   features [n, input_size] → [n, output_size]; weights "linear"
class LinearProjector {
 public:
  LinearProjector(const ProjectorConfig& config, const Weights& weights)
      : linear_(weights, "linear", config.input_size, config.output_size, config.bias) {}

  [[nodiscard]] Index input_size() const noexcept { return linear_.in_features(); }
  [[nodiscard]] Index output_size() const noexcept { return linear_.out_features(); }
  void project(ConstMatrixView features, MatrixView out, Workspace& workspace) const {
    linear_.forward(features, out, Phase::kPrefill, workspace);
  }
  /// Calls visit(weight) for every matrix.
  template <class Visit>
  void for_each_weight(Visit&& visit) const {
    visit(linear_.weight());
  }

 private:
  Linear linear_;
};

/// A linear projection where the widths differ, nothing where they agree (VisionEncoderDecoder's enc_to_dec_proj).
class IdentityOrLinear {
 public:
  IdentityOrLinear(const ProjectorConfig& config, const Weights& weights) : size_(config.output_size) {
    if (config.input_size != config.output_size) linear_.emplace(config, weights);
  }

  [[nodiscard]] Index input_size() const noexcept { return linear_ ? linear_->input_size() : size_; }
  [[nodiscard]] Index output_size() const noexcept { return size_; }
  [[nodiscard]] bool is_identity() const noexcept { return !linear_; }
  void project(ConstMatrixView features, MatrixView out, Workspace& workspace) const {
    linear_ ? linear_->project(features, out, workspace) : copy(features, out);
  }
  template <class Visit>
  void for_each_weight(Visit&& visit) const {
    if (linear_) linear_->for_each_weight(visit);
  }

 private:
  Index size_;
  std::optional<LinearProjector> linear_;
};

/// image tokens = linear_2(act(linear_1(norm(features)))).
///
/// Shapes   features [n, input_size] → [n, output_size]; weights linear_1 [intermediate_size, input_size], linear_2, and norm
/// Source   Liu et al. 2023, 2310.03744 (LLaVA 1.5), section 3.2; the norm: Chen et al. 2024, 2404.16821 (InternVL 1.5)
template <class Activation = ConfiguredActivation, Norm InputNorm = NoNorm>
class MlpProjector {
 public:
  MlpProjector(const ProjectorConfig& config, const Weights& weights)
      : activation_("projector_hidden_act", config.projector_hidden_act),
        norm_(weights.scope("norm"), config.input_size, config.norm_eps),
        linear_1_(weights, "linear_1", config.input_size, inner_size(config), config.bias),
        linear_2_(weights, "linear_2", inner_size(config), config.output_size, config.bias) {}

  [[nodiscard]] Index input_size() const noexcept { return linear_1_.in_features(); }
  [[nodiscard]] Index output_size() const noexcept { return linear_2_.out_features(); }
  void project(ConstMatrixView features, MatrixView out, Workspace& workspace) const {
    const auto frame = workspace.frame();
    const MatrixView inner = workspace.matrix(features.rows(), linear_1_.out_features());
    if constexpr (!InputNorm::kIdentity) {
      const MatrixView normed = workspace.matrix(features.rows(), features.cols());
      norm_.forward(features, normed, workspace);
      features = normed;
    }
    linear_1_.forward(features, inner, Phase::kPrefill, workspace, activation_.function(workspace.kernels()));
    linear_2_.forward(inner, out, Phase::kPrefill, workspace);
  }
  template <class Visit>
  void for_each_weight(Visit&& visit) const {
    visit(linear_1_.weight());
    visit(linear_2_.weight());
  }

 private:
  static Index inner_size(const ProjectorConfig& config) noexcept {
    return config.intermediate_size > 0 ? config.intermediate_size : config.output_size;
  }

  ActivationChoice<Activation> activation_;
  InputNorm norm_;
  Linear linear_1_, linear_2_;
};

/// image tokens = down(act(gate(features)) ∘ up(features)): a projector that is a gated MLP (Idefics2's modality projection).
///
/// Shapes   features [n, input_size] → [n, output_size]; weights gate_proj and up_proj [intermediate_size, input_size], down_proj
template <class Activation = ConfiguredActivation>
class GatedMlpProjector {
 public:
  GatedMlpProjector(const ProjectorConfig& config, Index intermediate_size, const Weights& weights)
      : input_size_(config.input_size),
        output_size_(config.output_size),
        feed_forward_({.hidden_size = config.input_size,
                       .intermediate_size = intermediate_size,
                       .hidden_act = config.projector_hidden_act,
                       .bias = config.bias,
                       .output_size = config.output_size},
                      weights) {}

  [[nodiscard]] Index input_size() const noexcept { return input_size_; }
  [[nodiscard]] Index output_size() const noexcept { return output_size_; }
  void project(ConstMatrixView features, MatrixView out, Workspace& workspace) const {
    feed_forward_.forward(features, out, kernels::Store::kAssign, Phase::kPrefill, workspace);
  }
  template <class Visit>
  void for_each_weight(Visit&& visit) const {
    feed_forward_.for_each_weight(visit);
  }

 private:
  Index input_size_, output_size_;
  GatedFeedForward<Activation> feed_forward_;
};

}  // namespace duet
