#pragma once

#include "duet/fusion/vision_language_model.hpp"
#include "duet/zoo/clip.hpp"
#include "duet/zoo/gpt2_decoder.hpp"
#include "duet/zoo/trocr.hpp"
#include "duet/zoo/vit.hpp"

namespace duet {

/// A vision encoder and a text decoder with cross-attention in every block: captioning and reading of text as encoder-decoder.
/// Method B. `VisionFamily` is Vit or ClipVision, `TextFamily` Gpt2Decoder or TrOcr.
///
/// Source  Li et al. 2021, 2109.10282 (TrOCR); the reference's VisionEncoderDecoderModel
template <class VisionFamily, class TextFamily>
struct VisionEncoderDecoderOf {
  static constexpr std::string_view kName = "VisionEncoderDecoder";
  static constexpr auto kModelTypes = [] {
    auto types = VisionFamily::kModelTypes;
    for (ModelType& type : types) type = {"vision-encoder-decoder", {{{"encoder", type.name}, {"decoder", TextFamily::kModelTypes[0].name}}}};
    return types;
  }();
  static constexpr FamilyCard kCard{"ViT, DeiT, CLIP", "linear where widths differ", "GPT-2, TrOCR"};
  using TextDecoder = Decoder<typename TextFamily::Recipe, CrossAttention<InsideBlock>>;
  using Model = VisionLanguageModel<VisionTransformer<typename VisionFamily::Recipe>, IdentityOrLinear, TextDecoder, CrossAttentionFusion>;

  static Model load(const JsonView& config, const Weights& root) {
    const JsonView decoder_config = config.at("decoder");
    if (!decoder_config.get_or("add_cross_attention", true)) {
      throw Error(ErrorKind::kConfigMismatch, "config.json: decoder.add_cross_attention", "false", "true",
                  "without it the decoder cannot see the image");
    }
    auto vision = load_vision(config.at("encoder"), root);
    DecoderConfig sizes = TextFamily::read_config(decoder_config);
    const Index memory_size = decoder_config.get_or<Index>("cross_attention_hidden_size", 0);
    if (memory_size > 0 && memory_size != vision.hidden_size()) {
      throw Error(ErrorKind::kConfigMismatch, "config.json: decoder.cross_attention_hidden_size", std::to_string(memory_size),
                  concat("the encoder's hidden_size, ", vision.hidden_size()));
    }
    ProjectorConfig projector;
    projector.input_size = vision.hidden_size();
    // With cross_attention_hidden_size the decoder's own key and value maps change the width, and nothing is projected.
    projector.output_size = memory_size > 0 ? vision.hidden_size() : sizes.hidden_size;
    sizes.cross_attention_hidden_size = memory_size;
    IdentityOrLinear projection(projector, root.named(kProjectionNames));
    TextDecoder decoder = TextFamily::load_inside_encoder_decoder(std::move(sizes), root);
    return {std::move(vision), std::move(projection), std::move(decoder)};
  }

  static PromptRules rules(const JsonView& config) {
    PromptRules rules;
    rules.picture_rows = PictureRows::kInMemory;
    rules.tokens_per_image = VisionTransformer<typename VisionFamily::Recipe>::num_features(VisionFamily::read_config(config.at("encoder")));
    rules.decoder_start_token_id = config.get_or<TokenId>("decoder_start_token_id", TextFamily::start_token_id(config.at("decoder")));
    return rules;
  }

 private:
  static constexpr TensorName kProjectionNames[] = {{"linear", "enc_to_dec_proj"}};

  static VisionTransformer<typename VisionFamily::Recipe> load_vision(const JsonView& config, const Weights& root) {
    return VisionFamily::load_encoder(VisionFamily::read_config(config), root, {"encoder.vision_model", "encoder"});
  }
};

using VitGpt2 = VisionEncoderDecoderOf<Vit, Gpt2Decoder>;
using ClipGpt2 = VisionEncoderDecoderOf<ClipVision, Gpt2Decoder>;
using VitTrOcr = VisionEncoderDecoderOf<Vit, TrOcr>;

}  // namespace duet
