#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "duet/io/json.hpp"
#include "duet/zoo/dinov2.hpp"
#include "duet/zoo/fuyu.hpp"
#include "duet/zoo/gemma.hpp"
#include "duet/zoo/blip2.hpp"
#include "duet/zoo/gemma3.hpp"
#include "duet/zoo/idefics1.hpp"
#include "duet/zoo/idefics2.hpp"
#include "duet/zoo/idefics3.hpp"
#include "duet/zoo/llava.hpp"
#include "duet/zoo/llava_next.hpp"
#include "duet/zoo/paligemma.hpp"
#include "duet/zoo/phi3_v.hpp"
#include "duet/zoo/pixtral.hpp"
#include "duet/zoo/qwen2_vl.hpp"
#include "duet/zoo/mllama.hpp"
#include "duet/zoo/siglip.hpp"
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
  constexpr std::string_view kLlamas = "llama, mistral, phi3, qwen2 or qwen3";
  const auto is_llama = [](std::string_view text) {
    return text.empty() || std::ranges::find(kLlamaDefaults, text, &LlamaDefaults::model_type) != std::end(kLlamaDefaults);
  };
  if (type == "gpt2") return use(TypeTag<Gpt2>{});
  for (const LlamaDefaults& listed : kLlamaDefaults) {
    if (type == listed.model_type) return use(TypeTag<Llama>{});
  }
  if (type == "gemma") return use(TypeTag<Gemma>{});
  if (type == "gemma2" || type == "gemma3_text") return use(TypeTag<Gemma2>{});
  if (type == "vit") return use(TypeTag<Vit>{});
  if (type == "dinov2") {
    return config.get_or("use_swiglu_ffn", false) ? use(TypeTag<Dinov2Swiglu>{}) : use(TypeTag<Dinov2>{});
  }
  if (type == "siglip") {
    const auto architectures = config.get_or("architectures", std::vector<std::string>());
    const bool classifies = std::ranges::find(architectures, "SiglipForImageClassification") != architectures.end();
    return classifies ? use(TypeTag<SiglipVision>{}) : use(TypeTag<Siglip>{});
  }
  if (type == "siglip_vision_model") return use(TypeTag<SiglipVision>{});
  if (type == "siglip_text_model") return use(TypeTag<SiglipText>{});
  if (type == "clip") return use(TypeTag<Clip>{});
  if (type == "clip_vision_model") return use(TypeTag<ClipVision>{});
  if (type == "clip_text_model") return use(TypeTag<ClipText>{});
  if (type == "persimmon") return use(TypeTag<Persimmon>{});
  if (type == "fuyu") return use(TypeTag<Fuyu>{});
  if (type == "phi3_v") return use(TypeTag<Phi3V>{});
  if (type == "qwen2_vl") return use(TypeTag<Qwen2Vl>{});
  if (type == "qwen2_5_vl") return use(TypeTag<Qwen25Vl>{});
  if (type == "llava" && inner("vision_config") == "pixtral") {
    if (const auto text = inner("text_config"); text != "mistral") throw unknown("text_config.model_type", text, "mistral");
    return use(TypeTag<Pixtral>{});
  }
  if (type == "llava") {
    const auto vision = inner("vision_config"), text = inner("text_config");
    if (vision == "siglip_vision_model") {
      if (is_llama(text)) return use(TypeTag<SiglipLlava>{});
      throw unknown("text_config.model_type", text, kLlamas);
    }
    if (!vision.empty() && vision != "clip_vision_model") throw unknown("vision_config.model_type", vision, "clip_vision_model, siglip_vision_model or pixtral");
    if (is_llama(text)) return use(TypeTag<Llava>{});
    if (text == "gpt2") return use(TypeTag<LlavaGpt2>{});
    throw unknown("text_config.model_type", text, concat("gpt2, ", kLlamas));
  }
  if (type == "idefics") return use(TypeTag<Idefics1>{});
  if (type == "idefics2") return use(TypeTag<Idefics2>{});
  if (type == "mllama") return use(TypeTag<Mllama>{});
  if (type == "opt") return use(TypeTag<Opt>{});
  if (type == "llava_next" || type == "llava_onevision") {
    const auto vision = inner("vision_config"), text = inner("text_config");
    if (!is_llama(text)) throw unknown("text_config.model_type", text, kLlamas);
    if (vision == "siglip_vision_model" || (vision.empty() && type == "llava_onevision")) return use(TypeTag<SiglipLlavaNext>{});
    if (vision == "clip_vision_model" || vision.empty()) return use(TypeTag<LlavaNext>{});
    throw unknown("vision_config.model_type", vision, "clip_vision_model or siglip_vision_model");
  }
  if (type == "idefics3" || type == "smolvlm") return use(TypeTag<Idefics3>{});
  if (type == "paligemma") {
    const auto text = inner("text_config");
    if (text.empty() || text == "gemma") return use(TypeTag<PaliGemma>{});
    if (text == "gemma2") return use(TypeTag<PaliGemma2>{});
    throw unknown("text_config.model_type", text, "gemma or gemma2");
  }
  if (type == "gemma3") return use(TypeTag<Gemma3>{});
  if (type == "blip") return use(TypeTag<Blip>{});
  if (type == "blip-2") {
    if (const auto text = inner("text_config"); text != "opt" && !text.empty()) throw unknown("text_config.model_type", text, "opt");
    return use(TypeTag<Blip2>{});
  }
  if (type == "vision-encoder-decoder") {
    const auto vision = inner("encoder"), text = inner("decoder");
    if (text != "gpt2" && text != "trocr") throw unknown("decoder.model_type", text, "gpt2 or trocr");
    if (vision == "vit") return text == "gpt2" ? use(TypeTag<VitGpt2>{}) : use(TypeTag<VitTrOcr>{});
    if (vision == "clip_vision_model" && text == "gpt2") return use(TypeTag<ClipGpt2>{});
    throw unknown("encoder.model_type", vision, text == "gpt2" ? "vit or clip_vision_model" : "vit");
  }
  throw unknown("model_type", type,
                "one of gpt2, llama, mistral, phi3, qwen2, qwen3, gemma, gemma2, gemma3_text, vit, dinov2, siglip, siglip_vision_model, "
                "siglip_text_model, clip, clip_vision_model, clip_text_model, persimmon, fuyu, phi3_v, qwen2_vl, qwen2_5_vl, llava, llava_next, "
                "llava_onevision, idefics3, smolvlm, paligemma, gemma3, idefics, idefics2, mllama, opt, blip, blip-2, vision-encoder-decoder");
}

}  // namespace duet
