#pragma once

#include <utility>
#include <vector>

#include "duet/io/json.hpp"
#include "duet/zoo/blip.hpp"
#include "duet/zoo/blip2.hpp"
#include "duet/zoo/dinov2.hpp"
#include "duet/zoo/fuyu.hpp"
#include "duet/zoo/gemma.hpp"
#include "duet/zoo/gemma3.hpp"
#include "duet/zoo/idefics1.hpp"
#include "duet/zoo/idefics2.hpp"
#include "duet/zoo/idefics3.hpp"
#include "duet/zoo/llava.hpp"
#include "duet/zoo/llava_next.hpp"
#include "duet/zoo/mllama.hpp"
#include "duet/zoo/nvlm.hpp"
#include "duet/zoo/paligemma.hpp"
#include "duet/zoo/phi3_v.hpp"
#include "duet/zoo/pixtral.hpp"
#include "duet/zoo/qwen2_vl.hpp"
#include "duet/zoo/siglip.hpp"
#include "duet/zoo/vision_encoder_decoder.hpp"

namespace duet {

/// A type as a value.
template <class Family>
struct TypeTag {
  using type = Family;
};

/// Families, in the order in which they are asked whether a config is theirs.
template <class... Families>
struct FamilyList {};

/// Every family that Duet has.
using Zoo = FamilyList<
    // text
    Gpt2, Llama, Gemma, Gemma2, Opt, Persimmon,
    // pictures
    Vit, Dinov2, Dinov2Swiglu, Dinov2Registers, Dinov2SwigluRegisters, SiglipVision, ClipVision,
    IdeficsTower, PixtralVision, Qwen2VlTower, Qwen25VlTower, MllamaTower, InternVit, InternVitLayerNorm,
    // both, side by side
    Clip, ClipText, Siglip, SiglipText,
    // method A
    Llava, LlavaGpt2, SiglipLlava, LlavaNext, SiglipLlavaNext, Pixtral, Idefics2, Idefics3, PaliGemma, PaliGemma2, Gemma3, Qwen2Vl, Qwen25Vl, Phi3V,
    Fuyu, Blip2, NvlmD,
    // method B
    VitGpt2, ClipGpt2, VitTrOcr, Blip, Mllama, Idefics1, NvlmX,
    // both methods at once
    NvlmH>;

/// Whether a family is the one that config.json names.
template <class Family>
bool takes(const JsonView& config) {
  if constexpr (requires { Family::takes(config); }) {
    if (!Family::takes(config)) return false;
  }
  return detail::takes(config, Family::kModelTypes);
}

namespace detail {

template <class Use, class... All, class First, class... Rest>
auto with_first(const JsonView& config, FamilyList<All...> all, FamilyList<First, Rest...>, Use&& use) {
  if (takes<First>(config)) return use(TypeTag<First>{});
  if constexpr (sizeof...(Rest) > 0) {
    return with_first(config, all, FamilyList<Rest...>{}, std::forward<Use>(use));
  } else {
    std::vector<ModelType> known;
    (known.insert(known.end(), All::kModelTypes.begin(), All::kModelTypes.end()), ...);
    throw unknown_model(config, known);
  }
}

}  // namespace detail

/// The one place where a model_type in config.json becomes a type: calls use(TypeTag<Family>{}) for the first family of `List`
/// that takes the config. A program with families of its own hands in a list of its own.
/// Errors  kUnsupportedModel naming what config.json says and what the list knows
template <class List = Zoo, class Use>
auto with_family(const JsonView& config, Use&& use) {
  return detail::with_first(config, List{}, List{}, std::forward<Use>(use));
}

}  // namespace duet
