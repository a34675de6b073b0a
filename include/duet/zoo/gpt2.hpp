#pragma once

#include "duet/pipeline/chat_prompt.hpp"
#include "duet/pipeline/text_model.hpp"
#include "duet/zoo/gpt2_decoder.hpp"

namespace duet {

/// GPT-2, alone or as the text model of another family.
struct Gpt2 : Gpt2Decoder {
  static constexpr std::string_view kName = "GPT-2";
  static constexpr FamilyCard kCard{"", "", "GPT-2"};
  using Chat = ChatPrompt;
  using Model = TextModel<Decoder<Recipe>>;

  static Model load(const JsonView& config, const Weights& root) {
    if (config.get_or("add_cross_attention", false)) {
      throw Error(ErrorKind::kConfigMismatch, "config.json: add_cross_attention", "true", "false for a model that reads text alone",
                  "a GPT-2 with cross-attention is the decoder of a vision-encoder-decoder checkpoint");
    }
    return Model(load_decoder(config, root, {"transformer", ""}, ""));
  }
  static PromptRules rules(const JsonView&) { return {}; }
};

}  // namespace duet
