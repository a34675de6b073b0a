#pragma once

#include <filesystem>
#include <memory>

#include "duet/pipeline/pipeline.hpp"
#include "duet/zoo/model_of.hpp"

namespace duet {

/// Loads a checkpoint of a family known at compile time, with tokenizer and image processor. Only this family's code is
/// compiled into the program; `load_any` (zoo/load_any.hpp) takes whatever config.json says.
///
/// Errors  kUnsupportedModel is for load_any; here a folder of another family ends in kMissingTensor or kShapeMismatch,
///         kConfigMismatch, or the errors of reading files; what is wrong with the tokenizer's is told when it is needed (Pipeline)
template <class Family>
[[nodiscard]] Pipeline load(const std::filesystem::path& folder, const LoadOptions& options = {}) {
  return Pipeline(std::make_shared<const ModelOf<Family>>(Checkpoint::open(folder), options));
}

}  // namespace duet
