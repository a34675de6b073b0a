#pragma once

#include <string>

#include "duet/io/json.hpp"
#include "duet/zoo/gemma.hpp"
#include "duet/zoo/llava.hpp"
#include "duet/zoo/persimmon.hpp"
#include "duet/zoo/vision_encoder_decoder.hpp"

namespace duet {

/// A type as a value.
template <class Family>
struct TypeTag {
  using type = Family;
};

/// The one place where a model_type in config.json becomes a type: calls use(TypeTag<Family>{}).
/// Errors  kUnsupportedModel naming what config.json says and what the zoo knows
template <class Use>
auto with_family(const JsonView& config, Use&& use) {
  const auto type = config.get_or<std::string>("model_type", "");
  const auto inner = [&](std::string_view key) {
    return config.object_or_empty(key).get_or<std::string>("model_type", "");
  };
  const auto unknown = [&](std::string_view where, const std::string& got, std::string_view known) {
    return Error(ErrorKind::kUnsupportedModel, concat("config.json: ", where), got.empty() ? "nothing" : '"' + got + '"',
                 known, got.empty() ? "is this the config.json of a transformers checkpoint?" : "Duet's zoo does not have this family");
  };
  if (type == "gpt2") return use(TypeTag<Gpt2>{});
  for (const LlamaDefaults& listed : kLlamaDefaults) {
    if (type == listed.model_type) return use(TypeTag<Llama>{});
  }
  if (type == "gemma") return use(TypeTag<Gemma>{});
  if (type == "gemma2" || type == "gemma3_text") return use(TypeTag<Gemma2>{});
  if (type == "persimmon") return use(TypeTag<Persimmon>{});
  if (type == "vit") return use(TypeTag<Vit>{});
  if (type == "clip") return use(TypeTag<Clip>{});
  if (type == "clip_vision_model") return use(TypeTag<ClipVision>{});
  if (type == "clip_text_model") return use(TypeTag<ClipText>{});
  if (type == "llava") {
    if (const auto vision = inner("vision_config"); !vision.empty() && vision != "clip_vision_model") {
      throw unknown("vision_config.model_type", vision, "clip_vision_model");
    }
    const auto text = inner("text_config");
    if (text.empty() || text == "llama") return use(TypeTag<Llava>{});
    if (text == "gpt2") return use(TypeTag<LlavaGpt2>{});
    throw unknown("text_config.model_type", text, "llama or gpt2");
  }
  if (type == "vision-encoder-decoder") {
    if (inner("decoder") != "gpt2") throw unknown("decoder.model_type", inner("decoder"), "gpt2");
    if (inner("encoder") == "vit") return use(TypeTag<VitGpt2>{});
    if (inner("encoder") == "clip_vision_model") return use(TypeTag<ClipGpt2>{});
    throw unknown("encoder.model_type", inner("encoder"), "vit or clip_vision_model");
  }
  throw unknown("model_type", type, "one of gpt2, llama, mistral, phi3, qwen2, qwen3, gemma, gemma2, gemma3_text, persimmon, vit, clip, clip_vision_model, clip_text_model, llava, vision-encoder-decoder");
}

}  // namespace duet
