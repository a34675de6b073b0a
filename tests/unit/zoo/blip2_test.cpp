#include "duet/zoo/blip2.hpp"

#include <gmock/gmock.h>

#include "support/tiny_checkpoint.hpp"

namespace duet::testing {
namespace zoo_blip2 {

using ::testing::HasSubstr;
using Json = nlohmann::json;

Json tiny_opt_config() {
  return {{"model_type", "opt"}, {"vocab_size", 23}, {"hidden_size", 8}, {"ffn_dim", 16}, {"num_hidden_layers", 2}, {"num_attention_heads", 2},
          {"max_position_embeddings", 20}, {"word_embed_proj_dim", 8}};
}
Shapes tiny_opt_shapes(const std::string& prefix) {
  Shapes shapes{{prefix + "embed_tokens.weight", {23, 8}}, {prefix + "embed_positions.weight", {22, 8}}};
  add_norm(shapes, prefix + "final_layer_norm", 8);
  for (const char* layer : {"layers.0.", "layers.1."}) {
    const std::string l = prefix + layer;
    for (const char* norm : {"self_attn_layer_norm", "final_layer_norm"}) add_norm(shapes, l + norm, 8);
    for (const char* name : {"q_proj", "k_proj", "v_proj", "out_proj"}) add_linear(shapes, l + "self_attn." + name, 8, 8);
    add_linear(shapes, l + "fc1", 8, 16), add_linear(shapes, l + "fc2", 16, 8);
  }
  return shapes;
}
TinyCheckpoint tiny_opt() { return {tiny_opt_config(), tiny_opt_shapes("model.decoder.")}; }

TinyCheckpoint tiny() {
  const Json q_former{{"encoder_hidden_size", 12}, {"hidden_size", 10}, {"intermediate_size", 14}, {"num_hidden_layers", 3}, {"num_attention_heads", 2}};
  TinyCheckpoint blip{{{"model_type", "blip-2"}, {"image_token_index", 20}, {"num_query_tokens", 3}, {"vision_config", tiny_vit_config()},
                       {"qformer_config", q_former}, {"text_config", tiny_opt_config()}},
                      together(tiny_blip_vision_shapes("vision_model."), tiny_opt_shapes("language_model.model.decoder."))};
  blip.shapes["query_tokens"] = {1, 3, 10};
  add_norm(blip.shapes, "qformer.layernorm", 10);
  for (const std::string layer : {"0", "1", "2"}) {
    const std::string l = "qformer.encoder.layer." + layer + ".";
    for (const char* kind : {"attention.", "crossattention."}) {
      const bool cross = *kind == 'c';
      if (cross && layer == "1") continue;
      for (const char* name : {"query", "key", "value"}) add_linear(blip.shapes, l + kind + "attention." + name, cross && *name != 'q' ? 12 : 10, 10);
      add_linear(blip.shapes, l + kind + "output.dense", 10, 10);
      add_norm(blip.shapes, l + kind + "output.LayerNorm", 10);
    }
    add_linear(blip.shapes, l + "intermediate_query.dense", 10, 14), add_linear(blip.shapes, l + "output_query.dense", 14, 10);
    add_norm(blip.shapes, l + "output_query.LayerNorm", 10);
  }
  add_linear(blip.shapes, "language_projection", 10, 8);
  return blip;
}
ReferenceInputs prompt() { return tiny_picture(tiny_text({20, 20, 20, 2, 5, 9})); }

TEST(Blip2, QueriesTakeTheirPlacesInThePrompt) {
  const auto stages = tiny().run(prompt(), 2);
  EXPECT_EQ(stages.at("projected").size(), 3u * 8u);
  EXPECT_EQ(stages.at("logits").size(), 6u * 23u);
  EXPECT_EQ(tiny().load()->info().unused_tensors, std::vector<std::string>());
  EXPECT_THAT(complaint([] { tiny().run(tiny_picture(tiny_text({20, 20, 2}))); }), HasSubstr("image tokens"));
}

TEST(Blip2, NamesOfNewerVersions) {
  const TinyCheckpoint renamed = tiny().renamed({{"language_model.model.", "model.language_model."}, {"vision_model.", "model.vision_model."},
                                                 {"qformer.", "model.qformer."}, {"query_tokens", "model.query_tokens"},
                                                 {"language_projection", "model.language_projection"}});
  EXPECT_EQ(renamed.run(prompt()), tiny().run(prompt()));
}

TEST(Blip2Config, AbsentKeysAreTheReferencesDefaults) {
  EXPECT_EQ(tiny().with({{"qformer_config", {{"cross_attention_frequency", 2}, {"layer_norm_eps", 1e-12}}}, {"vision_config", {{"qkv_bias", true}}}}).run(prompt()),
            tiny().run(prompt()));
  const Json empty = Json::object();
  EXPECT_EQ(Blip2::rules(JsonView(empty, "config.json")).tokens_per_image, 32);
}

TEST(Blip2Config, WrongValuesAreErrors) {
  const auto load = [](const Json& changes) { return complaint([&] { static_cast<void>(tiny().with(changes).load()); }); };
  EXPECT_THAT(load({{"qformer_config", {{"use_qformer_text_input", true}}}}), HasSubstr("use_qformer_text_input"));
  EXPECT_THAT(load({{"qformer_config", {{"num_attention_heads", 3}}}}), HasSubstr("qformer_config.num_attention_heads: got 3"));
  EXPECT_THAT(load({{"qformer_config", {{"encoder_hidden_size", 11}}}}), HasSubstr("11"));
}

TEST(Opt, IsALanguageModelOfItsOwn) {
  const auto logits = [](const TinyCheckpoint& c) { return c.run(tiny_text()).at("logits"); };
  EXPECT_EQ(logits(tiny_opt()).size(), 8u * 23u);
  EXPECT_EQ(logits(tiny_opt().renamed({{"model.decoder.", "decoder."}})), logits(tiny_opt()));
  TinyCheckpoint own = tiny_opt().with({{"tie_word_embeddings", false}});
  own.shapes["lm_head.weight"] = {23, 8};
  EXPECT_NE(logits(own), logits(tiny_opt()));
}

TEST(OptConfig, KindsWithOtherPartsAreRefused) {
  const auto load = [](const Json& changes) { return complaint([&] { static_cast<void>(tiny_opt().with(changes).load()); }); };
  EXPECT_THAT(load({{"do_layer_norm_before", false}}), HasSubstr("do_layer_norm_before: got false, expected true"));
  EXPECT_THAT(load({{"word_embed_proj_dim", 4}}), HasSubstr("word_embed_proj_dim: got 4"));
  EXPECT_THAT(load({{"num_attention_heads", 3}}), HasSubstr("num_attention_heads: got 3, expected a divisor"));
}

}  // namespace zoo_blip2
}  // namespace duet::testing
