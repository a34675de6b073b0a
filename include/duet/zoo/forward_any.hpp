#pragma once

#include <vector>

#include "duet/pipeline/reference_forward.hpp"
#include "duet/zoo/model_of.hpp"
#include "duet/zoo/with_model.hpp"

namespace duet {

/// reference_forward of a model that load_any made. It stands apart from AnyModel because it compiles every part a second
/// time, with a recorder of stages, which a program that only generates should not pay for. As load_any, for one unit.
///
/// Errors  kInvalidArgument, kShapeMismatch for inputs that the model does not take; kUnsupportedModel for a model that is
///         not of its folder's family
inline std::vector<NamedTensor> forward_any(const AnyModel& model, const ReferenceInputs& inputs, Index max_new_tokens,
                                             KeyValueFormat kv_format = KeyValueFormat::kF32) {
  return with_family(model.folder().config(), [&](auto tag) -> std::vector<NamedTensor> {
    using Family = typename decltype(tag)::type;
    if (const auto* typed = dynamic_cast<const ModelOf<Family>*>(&model)) {
      return reference_forward(typed->model(), inputs, max_new_tokens, model.rules(), model.compute(), kv_format);
    }
    throw Error(ErrorKind::kUnsupportedModel, "a model's forward", "a model of a type of its own",
                concat("one of the family ", Family::kName));
  });
}

}  // namespace duet
