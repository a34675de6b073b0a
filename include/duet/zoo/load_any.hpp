#pragma once

#include <memory>

#include "duet/zoo/model_of.hpp"
#include "duet/zoo/with_model.hpp"

namespace duet {

/// Loads whatever config.json says, if the zoo, or a list of one's own, knows it. Instantiates every family: a program of several
/// units includes this header in one of them, and pipeline/any_model.hpp elsewhere.
///
/// Errors  kUnsupportedModel, kFileNotReadable, kMalformedFile, kMissingTensor, kShapeMismatch, kConfigMismatch …
template <class List = Zoo>
std::shared_ptr<const AnyModel> load_any(const std::filesystem::path& folder, const LoadOptions& options = {}) {
  CheckpointFolder files(folder);
  // The family first: an unknown one deserves its own message, whatever else the folder lacks.
  return with_family<List>(files.config(), [&](auto tag) -> std::shared_ptr<const AnyModel> {
    using Family = typename decltype(tag)::type;
    return std::make_shared<const ModelOf<Family>>(Checkpoint::open(folder), options);
  });
}

}  // namespace duet
