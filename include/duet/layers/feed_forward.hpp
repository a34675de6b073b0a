#pragma once

#include <string>

#include "duet/kernels/elementwise.hpp"
#include "duet/layers/activation_choice.hpp"
#include "duet/layers/linear.hpp"

namespace duet {

struct FeedForwardConfig {
  Index hidden_size = 0;
  Index intermediate_size = 0;
  std::string hidden_act;
  std::string_view hidden_act_key = "hidden_act";  ///< where config.json says so, for errors
  Linear::Bias bias = Linear::Bias::kNone;
  Index output_size = 0;  ///< width of what comes out; 0: hidden_size

  [[nodiscard]] Index out_features() const noexcept { return output_size > 0 ? output_size : hidden_size; }
};

/// out += down(act(up(x))): the plain transformer MLP.
///
/// Shapes   x [rows, hidden_size], out [rows, output_size]; weights up_proj [intermediate_size, hidden_size],
///          down_proj [output_size, intermediate_size]
/// Cost     4 · rows · hidden_size · intermediate_size FLOP; scratch rows · intermediate_size floats
/// Source   Vaswani et al. 2017, 1706.03762, section 3.3
template <class Activation = ConfiguredActivation>
class FeedForward {
 public:
  FeedForward(const FeedForwardConfig& config, const Weights& weights)
      : activation_(config.hidden_act_key, config.hidden_act),
        up_proj_(weights, "up_proj", config.hidden_size, config.intermediate_size, config.bias),
        down_proj_(weights, "down_proj", config.intermediate_size, config.out_features(), config.bias) {}

  void forward(ConstMatrixView x, MatrixView out, kernels::Store store, Phase phase, Workspace& workspace) const {
    const auto frame = workspace.frame();
    const MatrixView inner = workspace.matrix(x.rows(), up_proj_.out_features());  // [rows, intermediate_size]
    up_proj_.forward(x, inner, phase, workspace, activation_.function(workspace.kernels()));
    down_proj_.forward(inner, out, phase, workspace, nullptr, store);
  }

  template <class Visit>
  void for_each_weight(Visit&& visit) const {
    visit(up_proj_.weight());
    visit(down_proj_.weight());
  }

 private:
  ActivationChoice<Activation> activation_;
  Linear up_proj_, down_proj_;
};

/// out += down(act(gate(x)) ∘ up(x)): SwiGLU, GeGLU and their kin.
///
/// Shapes   as FeedForward, with gate_proj of up_proj's shape; both may be slices of one gate_up_proj
/// Cost     6 · rows · hidden_size · intermediate_size FLOP; scratch 2 · rows · intermediate_size floats
/// Source   Shazeer 2020, 2002.05202
template <class Activation = ConfiguredActivation>
class GatedFeedForward {
 public:
  GatedFeedForward(const FeedForwardConfig& config, const Weights& weights)
      : activation_(config.hidden_act_key, config.hidden_act),
        gate_up_(Linear::group(weights, {{"gate_proj", config.intermediate_size}, {"up_proj", config.intermediate_size}},
                               config.hidden_size, config.bias)),
        down_proj_(weights, "down_proj", config.intermediate_size, config.out_features(), config.bias) {}

  void forward(ConstMatrixView x, MatrixView out, kernels::Store store, Phase phase, Workspace& workspace) const {
    const auto frame = workspace.frame();
    const MatrixView gate = workspace.matrix(x.rows(), down_proj_.in_features());  // [rows, intermediate_size]
    const MatrixView up = workspace.matrix(x.rows(), down_proj_.in_features());    // [rows, intermediate_size]
    const kernels::MatmulJob jobs[] = {gate_up_[0].job(gate, activation_.function(workspace.kernels())), gate_up_[1].job(up)};
    kernels::matmul(x, jobs, phase, workspace);
    kernels::multiply(up, gate, workspace);
    down_proj_.forward(gate, out, phase, workspace, nullptr, store);
  }

  template <class Visit>
  void for_each_weight(Visit&& visit) const {
    for (const Linear& linear : gate_up_) visit(linear.weight());
    visit(down_proj_.weight());
  }

 private:
  ActivationChoice<Activation> activation_;
  std::vector<Linear> gate_up_;
  Linear down_proj_;
};

}  // namespace duet
