#include "duet/zoo/vision_encoder_decoder.hpp"

#include <gmock/gmock.h>

#include "support/tiny_checkpoint.hpp"

namespace duet::testing {
namespace zoo_vision_encoder_decoder {

using ::testing::HasSubstr;
using Json = nlohmann::json;

TinyCheckpoint with_encoder(const Json& encoder_config, const Shapes& encoder) {
  return {{{"model_type", "vision-encoder-decoder"}, {"encoder", encoder_config}, {"decoder", tiny_gpt2_config()}, {"decoder_start_token_id", 7}},
          together(encoder, tiny_gpt2_shapes("decoder.transformer.", true))};
}
TinyCheckpoint tiny() { return with_encoder(tiny_vit_config(), tiny_vit_shapes("encoder.")); }
TinyCheckpoint tiny_with_clip() { return with_encoder(tiny_clip_vision_config(), tiny_clip_vision_shapes("encoder.vision_model.")); }

std::vector<float> logits(const TinyCheckpoint& checkpoint) { return checkpoint.run(tiny_picture(tiny_text())).at("logits"); }

TEST(VisionEncoderDecoderConfig, WhereTheTextStarts) {
  EXPECT_EQ(tiny().load()->rules().decoder_start_token_id, 7);
  const TinyCheckpoint without = tiny().without("/decoder_start_token_id");
  EXPECT_EQ(without.with({{"decoder", {{"decoder_start_token_id", 5}, {"bos_token_id", 4}}}}).load()->rules().decoder_start_token_id, 5);
  EXPECT_EQ(without.with({{"decoder", {{"bos_token_id", 4}}}}).load()->rules().decoder_start_token_id, 4);
  EXPECT_EQ(without.load()->rules().decoder_start_token_id, 50256);
}

TEST(VisionEncoderDecoderConfig, TheDecodersConfigTiesTheHead) {
  EXPECT_EQ(logits(tiny().with({{"tie_word_embeddings", false}})), logits(tiny()));
  TinyCheckpoint own = tiny().with({{"decoder", {{"tie_word_embeddings", false}}}});
  own.shapes["decoder.lm_head.weight"] = {23, 12};
  EXPECT_NE(logits(own), logits(tiny()));
}

TEST(VisionEncoderDecoderConfig, WhatTheDecoderAttendsToMustBeWhatTheEncoderMakes) {
  EXPECT_EQ(logits(tiny().with({{"decoder", {{"cross_attention_hidden_size", 12}}}})), logits(tiny()));
  EXPECT_THAT(complaint([] { static_cast<void>(tiny().with({{"decoder", {{"cross_attention_hidden_size", 16}}}}).load()); }),
              HasSubstr("decoder.cross_attention_hidden_size: got 16, expected the encoder's hidden_size, 12"));
}

TEST(VisionEncoderDecoderConfig, WrongValuesAreErrors) {
  const auto load = [](const Json& changes) { return complaint([&] { static_cast<void>(tiny().with(changes).load()); }); };
  EXPECT_THAT(load({{"decoder", {{"add_cross_attention", false}}}}), HasSubstr("add_cross_attention"));
  EXPECT_THAT(load({{"decoder", {{"model_type", "bert"}}}}), HasSubstr("decoder.model_type: got \"bert\", expected gpt2"));
  EXPECT_THAT(load({{"encoder", {{"model_type", "swin"}}}}), HasSubstr("encoder.model_type: got \"swin\", expected vit, deit or clip_vision_model"));
  EXPECT_THAT(load({{"encoder", {{"qkv_bias", nullptr}, {"hidden_size", 24}}}}), HasSubstr("encoder."));
}

TEST(VisionEncoderDecoder, WidthsThatDifferNeedAProjection) {
  TinyCheckpoint wide = tiny();
  wide.config["decoder"]["n_embd"] = 8;
  for (auto& [name, shape] : wide.shapes) {
    if (!name.starts_with("decoder.")) continue;
    for (Index& extent : shape) extent = extent == 23 || extent == 20 ? extent : extent * 8 / 12;
  }
  EXPECT_THAT(complaint([&] { static_cast<void>(wide.load()); }), HasSubstr("no tensor enc_to_dec_proj.weight"));
  add_linear(wide.shapes, "enc_to_dec_proj", 12, 8);
  EXPECT_EQ(wide.run(tiny_picture(tiny_text())).at("projected").size(), 5u * 8u);

  wide.shapes.erase("enc_to_dec_proj.weight"), wide.shapes.erase("enc_to_dec_proj.bias");
  wide.config["decoder"]["cross_attention_hidden_size"] = 12;  // the decoder's own maps change the width
  for (const char* layer : {"h.0.", "h.1."}) wide.shapes[std::string("decoder.transformer.") + layer + "crossattention.c_attn.weight"] = {12, 16};
  EXPECT_EQ(wide.run(tiny_picture(tiny_text())).at("projected").size(), 5u * 12u);
}

TEST(VisionEncoderDecoder, EveryBlockReadsTheImage) {
  TinyCheckpoint model = tiny();
  model.shapes.erase("decoder.transformer.h.1.crossattention.q_attn.weight");
  EXPECT_THAT(complaint([&] { static_cast<void>(model.load()); }), HasSubstr("no tensor decoder.transformer.h.1.crossattention.q_attn.weight"));
}

TEST(VisionEncoderDecoder, EveryRowOfIdsHasOneImage) {
  ReferenceInputs two_images = tiny_picture(tiny_text());
  static_cast<void>(two_images.pixel_values->add_whole({8, 8}));
  EXPECT_THAT(complaint([&] { tiny().run(two_images); }), HasSubstr("pixel_values: got 2 images, expected 1, one for each row of ids"));
}

/// What is generated behind ids with padding before them is what forward() says of the ids and the reply together.
TEST(VisionEncoderDecoder, PositionsCountThePadding) {
  const auto padded = [](std::vector<TokenId> ids) {
    ReferenceInputs inputs = tiny_picture(tiny_text(std::move(ids)));
    inputs.attention_mask.assign(inputs.input_ids.size(), 1);
    std::fill_n(inputs.attention_mask.begin(), 3, std::uint8_t{0});
    return inputs;
  };
  std::vector<TokenId> ids{0, 0, 0, 7, 3, 1};
  constexpr Index kSteps = 3, kVocab = 23;
  const std::vector<float> generated = tiny().run(padded(ids), kSteps).at("generated_logits");
  for (Index step = 0; step < kSteps; ++step) {
    const auto next = std::span(generated).subspan(static_cast<std::size_t>(step * kVocab), kVocab);
    const std::vector<float> all = tiny().run(padded(ids)).at("logits");
    EXPECT_THAT(std::vector(next.begin(), next.end()), ::testing::Pointwise(::testing::FloatNear(1e-5f), std::span(all).last(kVocab))) << step;
    ids.push_back(static_cast<TokenId>(std::ranges::max_element(next) - next.begin()));
  }
}

TEST(VisionEncoderDecoder, EncodersByEitherName) {
  EXPECT_EQ(logits(tiny_with_clip().renamed({{"encoder.vision_model.", "encoder."}})), logits(tiny_with_clip()));
}

}  // namespace zoo_vision_encoder_decoder
}  // namespace duet::testing
