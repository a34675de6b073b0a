#pragma once

#include <type_traits>

#include "duet/layers/norms.hpp"

namespace duet {

// Where the norm of a residual branch stands.

/// x += branch(norm(x)): pre-norm (GPT-2, Llama, ViT).
struct NormBefore {};
/// x = norm(x + branch(x)): post-norm, as in the first transformers (Vaswani et al. 2017, BERT, BART).
struct NormAfter {};

/// Runs a branch, branch(input), that adds itself to `hidden`, with its norm where Order says.
///
/// Shapes    hidden [rows, hidden_size], updated in place
/// Requires  a branch that is done with its input before it adds to hidden: with NormAfter the two are one
/// Source    Xiong et al. 2020, 2002.04745 (pre-norm and post-norm)
template <class Order, class N, class Branch>
void add_residual(const N& norm, MatrixView hidden, Workspace& workspace, Branch&& branch) {
  if constexpr (std::is_same_v<Order, NormBefore>) {
    const auto frame = workspace.frame();
    const MatrixView normed = workspace.matrix(hidden.rows(), hidden.cols());  // [rows, hidden_size]
    norm.forward(hidden, normed, workspace);
    branch(ConstMatrixView(normed));
  } else {
    static_assert(std::is_same_v<Order, NormAfter>, "duet: a recipe's NormOrder is NormBefore or NormAfter.");
    branch(ConstMatrixView(hidden));
    norm.forward(hidden, hidden, workspace);
  }
}

}  // namespace duet
