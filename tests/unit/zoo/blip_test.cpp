#include "duet/zoo/blip.hpp"

#include <gmock/gmock.h>

#include "support/tiny_checkpoint.hpp"

namespace duet::testing {
namespace zoo_blip {

using ::testing::HasSubstr;
using Json = nlohmann::json;

TinyCheckpoint tiny() {
  Json vision = tiny_vit_config();
  vision["model_type"] = "blip_vision_model";
  const Json text{{"vocab_size", 23}, {"hidden_size", 8}, {"intermediate_size", 16}, {"num_hidden_layers", 2}, {"num_attention_heads", 2},
                  {"max_position_embeddings", 20}, {"bos_token_id", 5}};
  TinyCheckpoint blip{{{"model_type", "blip"}, {"vision_config", vision}, {"text_config", text}}, tiny_blip_vision_shapes("vision_model.")};
  const std::string b = "text_decoder.bert.", c = "text_decoder.cls.predictions.";
  blip.shapes[b + "embeddings.word_embeddings.weight"] = {23, 8};
  blip.shapes[b + "embeddings.position_embeddings.weight"] = {20, 8};
  add_norm(blip.shapes, b + "embeddings.LayerNorm", 8);
  for (const char* layer : {"encoder.layer.0.", "encoder.layer.1."}) {
    const std::string l = b + layer;
    for (const char* name : {"query", "key", "value"}) {
      add_linear(blip.shapes, l + "attention.self." + name, 8, 8);
      add_linear(blip.shapes, l + "crossattention.self." + name, *name == 'q' ? 8 : 12, 8);
    }
    add_linear(blip.shapes, l + "attention.output.dense", 8, 8), add_linear(blip.shapes, l + "crossattention.output.dense", 8, 8);
    add_linear(blip.shapes, l + "intermediate.dense", 8, 16), add_linear(blip.shapes, l + "output.dense", 16, 8);
    for (const char* norm : {"attention.output", "crossattention.output", "output"}) add_norm(blip.shapes, l + norm + ".LayerNorm", 8);
  }
  add_linear(blip.shapes, c + "transform.dense", 8, 8);
  add_norm(blip.shapes, c + "transform.LayerNorm", 8);
  blip.shapes[c + "bias"] = {23};
  blip.shapes[c + "decoder.weight"] = {23, 8};
  return blip;
}
std::vector<float> logits(const TinyCheckpoint& checkpoint) { return checkpoint.run(tiny_picture(tiny_text())).at("logits"); }

TEST(Blip, CaptionsAPicture) {
  const auto stages = tiny().run(tiny_picture(tiny_text()), 2);
  EXPECT_EQ(stages.at("vision_out").size(), 5u * 12u);
  EXPECT_EQ(stages.at("logits").size(), 8u * 23u);
  const auto model = tiny().load();
  EXPECT_EQ(model->info().unused_tensors, std::vector<std::string>());
  EXPECT_EQ(model->rules().picture_rows, PictureRows::kInMemory);
  EXPECT_EQ(model->rules().decoder_start_token_id, 5);
  EXPECT_EQ(model->rules().tokens_per_image, 5);
}

TEST(Blip, ItsHeadIsItsOwnWhereThereIsOne) {
  TinyCheckpoint tied = tiny();
  tied.shapes.erase("text_decoder.cls.predictions.decoder.weight");
  EXPECT_NE(logits(tied), logits(tiny()));
}

TEST(BlipConfig, AbsentKeysAreTheReferencesDefaults) {
  const Json empty = Json::object();
  const PromptRules rules = Blip::rules(JsonView(empty, "config.json"));
  EXPECT_EQ(rules.tokens_per_image, 24 * 24 + 1);
  EXPECT_EQ(rules.decoder_start_token_id, 30522);
  EXPECT_EQ(rules.end_token_id, 102);
  EXPECT_EQ(logits(tiny().with({{"text_config", {{"hidden_act", "gelu"}, {"layer_norm_eps", 1e-12}}}})), logits(tiny()));
}

TEST(BlipConfig, WrongValuesAreErrors) {
  const auto load = [](const Json& changes) { return complaint([&] { static_cast<void>(tiny().with(changes).load()); }); };
  EXPECT_THAT(load({{"text_config", {{"num_attention_heads", 3}}}}), HasSubstr("num_attention_heads: got 3, expected a divisor"));
  EXPECT_THAT(load({{"vision_config", {{"patch_size", 0}}}}), HasSubstr("vision_config.patch_size"));
}

}  // namespace zoo_blip
}  // namespace duet::testing
