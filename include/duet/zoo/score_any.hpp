#pragma once

#include <vector>

#include "duet/pipeline/score.hpp"
#include "duet/zoo/model_of.hpp"
#include "duet/zoo/with_model.hpp"

namespace duet {

/// token_log_probabilities of a model that load_any made; apart from AnyModel for the same reason as forward_any.
///
/// Errors  kUnsupportedModel for a model that writes no text, or is not of its folder's family; those of Session::prefill
[[nodiscard]] inline std::vector<double> score_any(const AnyModel& model, const Prompt& prompt, const ImageRows& rows, Index first,
                                                   SessionOptions options = {}) {
  return with_family(model.folder().config(), [&](auto tag) -> std::vector<double> {
    using Family = typename decltype(tag)::type;
    if constexpr (requires(const typename Family::Model& m) { m.decoder().make_cache(1); }) {
      if (const auto* typed = dynamic_cast<const ModelOf<Family>*>(&model)) {
        return token_log_probabilities(typed->model(), prompt, rows, first, model.compute(), options);
      }
    }
    throw Error(ErrorKind::kUnsupportedModel, "perplexity", concat("a model of the family ", Family::kName), "a language model of the zoo");
  });
}

}  // namespace duet
