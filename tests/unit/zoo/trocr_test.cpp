#include "duet/zoo/trocr.hpp"

#include <gmock/gmock.h>

#include "support/tiny_checkpoint.hpp"

namespace duet::testing {
namespace zoo_trocr {

using ::testing::HasSubstr;
using Json = nlohmann::json;

TinyCheckpoint tiny() {
  const Json decoder{{"model_type", "trocr"}, {"vocab_size", 23}, {"d_model", 8}, {"decoder_layers", 2}, {"decoder_attention_heads", 2},
                     {"decoder_ffn_dim", 16}, {"max_position_embeddings", 20}, {"cross_attention_hidden_size", 12}};
  TinyCheckpoint model{{{"model_type", "vision-encoder-decoder"}, {"encoder", tiny_vit_config()}, {"decoder", decoder}}, tiny_vit_shapes("encoder.")};
  const std::string d = "decoder.model.decoder.";
  model.shapes[d + "embed_tokens.weight"] = {23, 8};
  model.shapes[d + "embed_positions.weight"] = {22, 8};
  add_norm(model.shapes, d + "layernorm_embedding", 8);
  for (const char* layer : {"layers.0.", "layers.1."}) {
    for (const char* norm : {"self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm"}) add_norm(model.shapes, d + layer + norm, 8);
    for (const char* name : {"q_proj", "k_proj", "v_proj", "out_proj"}) {
      add_linear(model.shapes, d + layer + "self_attn." + name, 8, 8);
      add_linear(model.shapes, d + layer + "encoder_attn." + name, *name == 'k' || *name == 'v' ? 12 : 8, 8);
    }
    add_linear(model.shapes, d + layer + "fc1", 8, 16);
    add_linear(model.shapes, d + layer + "fc2", 16, 8);
  }
  return model;
}
std::vector<float> logits(const TinyCheckpoint& checkpoint) { return checkpoint.run(tiny_picture(tiny_text())).at("logits"); }

TEST(TrOcr, ReadsAPicture) {
  const auto stages = tiny().run(tiny_picture(tiny_text()), 2);
  EXPECT_EQ(stages.at("projected").size(), 5u * 12u) << "the decoder's own maps change the width";
  EXPECT_EQ(stages.at("logits").size(), 8u * 23u);
  EXPECT_EQ(tiny().load()->info().unused_tensors, std::vector<std::string>());
}

TEST(TrOcr, ReadsWithADeiT) {
  TinyCheckpoint small = tiny().with({{"encoder", {{"model_type", "deit"}}}});
  small.shapes["encoder.embeddings.distillation_token"] = {1, 1, 12};
  small.shapes["encoder.embeddings.position_embeddings"] = {1, 6, 12};
  EXPECT_EQ(small.load()->info().tokens_per_image, 6);
  EXPECT_EQ(small.run(tiny_picture(tiny_text())).at("vision_out").size(), 6u * 12u);
}

TEST(TrOcrConfig, WhereTheTextStarts) {
  EXPECT_EQ(tiny().load()->rules().decoder_start_token_id, 2);
  EXPECT_EQ(tiny().with({{"decoder", {{"decoder_start_token_id", 7}}}}).load()->rules().decoder_start_token_id, 7);
  EXPECT_EQ(tiny().with({{"decoder_start_token_id", 5}, {"decoder", {{"decoder_start_token_id", 7}}}}).load()->rules().decoder_start_token_id, 5);
}

TEST(TrOcrConfig, PositionsAreLearnedOrWaves) {
  const TinyCheckpoint waves = tiny().with({{"decoder", {{"use_learned_position_embeddings", false}}}});
  EXPECT_NE(logits(waves), logits(tiny()));
  TinyCheckpoint without = waves;
  without.shapes.erase("decoder.model.decoder.embed_positions.weight");
  EXPECT_EQ(logits(without), logits(waves));
  EXPECT_NE(logits(waves.with({{"decoder", {{"pad_token_id", 4}}}})), logits(waves)) << "positions are counted from behind the padding's";
}

TEST(TrOcrConfig, WhatIsThere) {
  TinyCheckpoint bare = tiny().with({{"decoder", {{"layernorm_embedding", false}}}});
  bare.shapes.erase("decoder.model.decoder.layernorm_embedding.weight");
  EXPECT_NE(logits(bare), logits(tiny()));
  EXPECT_NE(logits(bare.with({{"decoder", {{"scale_embedding", true}}}})), logits(bare));
  TinyCheckpoint own = tiny().with({{"decoder", {{"tie_word_embeddings", false}}}});
  EXPECT_THAT(complaint([&] { static_cast<void>(own.load()); }), HasSubstr("no tensor decoder.output_projection.weight"));
  own.shapes["decoder.output_projection.weight"] = {23, 8};
  EXPECT_NE(logits(own), logits(tiny()));
}

TEST(TrOcrConfig, WrongValuesAreErrors) {
  const auto load = [](const Json& changes) { return complaint([&] { static_cast<void>(tiny().with(changes).load()); }); };
  EXPECT_THAT(load({{"decoder", {{"decoder_attention_heads", 3}}}}), HasSubstr("decoder_attention_heads: got 3, expected a divisor"));
  EXPECT_THAT(load({{"decoder", {{"d_model", 0}}}}), HasSubstr("hidden_size"));
}

}  // namespace zoo_trocr
}  // namespace duet::testing
