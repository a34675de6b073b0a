#pragma once

#include "duet/zoo/prompts_of.hpp"
#include "duet/zoo/with_model.hpp"

namespace duet {

/// prompts_of whatever family config.json says. Instantiates every family: for one unit of a program, as load_any.
/// Errors  kUnsupportedModel, and those of prompts_of
inline PromptEncoder prompts_any(const CheckpointFolder& folder) {
  return with_family(folder.config(), [&](auto tag) { return prompts_of<typename decltype(tag)::type>(folder); });
}

/// The processor alone: needs no tokenizer.
/// Errors  kUnsupportedModel, and those of processor_of
inline std::shared_ptr<const Processor> processor_any(const CheckpointFolder& folder) {
  return with_family(folder.config(), [&](auto tag) { return processor_of<typename decltype(tag)::type>(folder); });
}

}  // namespace duet
