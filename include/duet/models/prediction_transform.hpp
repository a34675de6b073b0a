#pragma once

#include "duet/layers/activation_choice.hpp"
#include "duet/layers/linear.hpp"
#include "duet/layers/norms.hpp"
#include "duet/models/decoder_config.hpp"

namespace duet {

/// What BERT's head does before its logits: out = norm(act(dense(x))).
///
/// Shapes   x, out [rows, hidden_size]; weights "transform.dense" [hidden_size, hidden_size] and "transform.norm"; out may be x
/// Source   Devlin et al. 2018, 1810.04805
class PredictionTransform {
 public:
  static constexpr bool kIdentity = false;

  PredictionTransform(const DecoderConfig& config, const Weights& weights)
      : activation_(config.hidden_act_key, config.hidden_act),
        dense_(weights, "transform.dense", config.hidden_size, config.hidden_size, Linear::Bias::kRequired),
        norm_(weights.scope("transform.norm"), config.hidden_size, config.norm_eps) {}

  /// Few rows at a time, of which a prompt has one.
  void forward(ConstMatrixView x, MatrixView out, Workspace& workspace) const {
    const auto frame = workspace.frame();
    const MatrixView inner = workspace.matrix(x.rows(), x.cols());
    dense_.forward(x, inner, Phase::kDecode, workspace, activation_.function(workspace.kernels()));
    norm_.forward(inner, out, workspace);
  }
  /// Calls visit(weight) for every matrix.
  template <class Visit>
  void for_each_weight(Visit&& visit) const {
    visit(dense_.weight());
  }

 private:
  ActivationChoice<ConfiguredActivation> activation_;
  Linear dense_;
  LayerNorm norm_;
};

}  // namespace duet
