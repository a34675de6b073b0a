#pragma once

#include <memory>
#include <optional>

#include "duet/pipeline/prompt_encoder.hpp"
#include "duet/pipeline/single_view_processor.hpp"

namespace duet {

/// A family's own processor where it has one; else that of a model that sees pictures whole, or of one that reads text alone.
/// Errors  kInvalidArgument, kConfigMismatch, kUnsupportedModel for what config files say
template <class Family>
std::shared_ptr<const Processor> processor_of(const CheckpointFolder& folder) {
  if constexpr (requires { Family::processor(folder); }) {
    return Family::processor(folder);
  } else if constexpr (requires(const typename Family::Model& model) { model.vision(); }) {
    return std::make_shared<const SingleViewProcessor>(Family::rules(folder.config()), folder);
  } else {
    return std::make_shared<const Processor>(Family::rules(folder.config()));
  }
}

/// How a folder's chat template words conversations, in families that have them.
template <class Family>
std::optional<ChatWording> chat_wording_of(const CheckpointFolder& folder) {
  if constexpr (requires { typename Family::Chat; }) {
    return Family::Chat::find(folder.path());
  } else {
    return std::nullopt;
  }
}

/// What a folder makes of prompts and pictures, whether it has weights or not.
/// Errors  as processor_of; those of Tokenizer::load when the tokenizer is needed
template <class Family>
PromptEncoder prompts_of(const CheckpointFolder& folder) {
  return {folder, processor_of<Family>(folder), chat_wording_of<Family>(folder)};
}

}  // namespace duet
