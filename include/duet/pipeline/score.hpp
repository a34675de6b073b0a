#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "duet/pipeline/session.hpp"

namespace duet {

namespace detail {

/// log softmax(logits)[id]
inline double log_probability(std::span<const float> logits, TokenId id) {
  const auto most = static_cast<double>(*std::ranges::max_element(logits));
  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - most);
  return static_cast<double>(logits[static_cast<std::size_t>(id)]) - most - std::log(sum);
}

/// Turns the last layer's rows into log-probabilities of the ids that follow them.
template <class Decoder>
class ScoringObserver {
 public:
  static constexpr bool kLooks = true;

  ScoringObserver(const Decoder& decoder, std::span<const TokenId> ids, Index first, Workspace& workspace, std::vector<double>& out)
      : decoder_(decoder), ids_(ids), first_(first), workspace_(workspace), out_(out) {}

  void operator()(Stage stage, Index layer, ConstMatrixView rows) {
    if (stage != Stage::kLayer || layer + 1 != decoder_.config().num_hidden_layers) return;
    constexpr Index kRows = 32;  // whose logits are in memory at once
    const Index end = std::min(seen_ + rows.rows(), static_cast<Index>(ids_.size()) - 1);
    for (Index begin = std::max(seen_, first_ - 1); begin < end; begin += kRows) {
      const Index count = std::min(kRows, end - begin);
      const auto frame = workspace_.frame();
      const MatrixView normed = workspace_.matrix(count, rows.cols()), logits = workspace_.matrix(count, decoder_.vocab_size());
      decoder_.normalize(rows.rows(begin - seen_, count), normed, workspace_);
      decoder_.logits(normed, logits, Phase::kPrefill, workspace_);
      for (Index i = 0; i < count; ++i) {
        out_.push_back(log_probability(logits.row(i), ids_[static_cast<std::size_t>(begin + i + 1)]));
      }
    }
    seen_ += rows.rows();
  }

 private:
  const Decoder& decoder_;
  std::span<const TokenId> ids_;
  Index first_, seen_ = 0;
  Workspace& workspace_;
  std::vector<double>& out_;
};

}  // namespace detail

/// How likely a model finds ids [first, prompt.size()) of a prompt, each given all before it: natural logarithms.
///
/// Requires first > 0: nothing stands before id 0
/// Errors   those of Session::prefill
/// Cost     one prefill, with the head run for every scored row
template <class Model>
[[nodiscard]] std::vector<double> token_log_probabilities(const Model& model, const Prompt& prompt, const ImageRows& rows, Index first,
                                                          const Compute& compute, SessionOptions options = {}) {
  DUET_ASSERT(first > 0, "nothing stands before the first id");
  std::vector<double> result;
  options.max_length = prompt.size();
  Session<Model> session(model, compute, options);
  Workspace workspace(compute);
  using Observer = detail::ScoringObserver<typename Model::Decoder>;
  session.prefill(prompt, rows, Observer(model.decoder(), prompt.ids, first, workspace, result));
  return result;
}

}  // namespace duet
