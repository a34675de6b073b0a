#include "duet/zoo/pixtral.hpp"

#include <gmock/gmock.h>

#include "support/tiny_checkpoint.hpp"

namespace duet::testing {
namespace zoo_pixtral {

using ::testing::HasSubstr;
using Json = nlohmann::json;

/// A picture of 2 x 3 patches and the places of their tokens.
ReferenceInputs prompt() { return tiny_picture(tiny_text({3, 20, 20, 20, 21, 20, 20, 20, 5, 9}), 8, 12); }

TinyCheckpoint tiny() {
  Json text = tiny_llama_config();
  text.merge_patch({{"model_type", "mistral"}, {"num_key_value_heads", 2}});
  const Json vision{{"model_type", "pixtral"}, {"hidden_size", 8}, {"intermediate_size", 16}, {"num_hidden_layers", 2}, {"num_attention_heads", 2},
                    {"image_size", 16}, {"patch_size", 4}};
  TinyCheckpoint pixtral{{{"model_type", "llava"}, {"image_token_index", 20}, {"vision_feature_layer", -1}, {"vision_feature_select_strategy", "full"},
                          {"vision_config", vision}, {"text_config", text}},
                         tiny_llama_shapes("language_model.model.", "language_model.")};
  const std::string tower = "vision_tower.";
  pixtral.shapes[tower + "patch_conv.weight"] = {8, 3, 4, 4};
  pixtral.shapes[tower + "ln_pre.weight"] = {8};
  for (const char* layer : {"transformer.layers.0.", "transformer.layers.1."}) {
    const std::string l = tower + layer;
    pixtral.shapes[l + "attention_norm.weight"] = pixtral.shapes[l + "ffn_norm.weight"] = {8};
    for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj"}) add_linear(pixtral.shapes, l + "attention." + name, 8, 8, false);
    for (const char* name : {"gate_proj", "up_proj"}) add_linear(pixtral.shapes, l + "feed_forward." + name, 8, 16, false);
    add_linear(pixtral.shapes, l + "feed_forward.down_proj", 16, 8, false);
  }
  add_linear(pixtral.shapes, "multi_modal_projector.linear_1", 8, 12);
  add_linear(pixtral.shapes, "multi_modal_projector.linear_2", 12, 12);
  return pixtral;
}

std::vector<float> logits(const TinyCheckpoint& checkpoint) { return checkpoint.run(prompt()).at("logits"); }

TEST(PixtralConfig, AbsentKeysAreTheReferencesDefaults) {
  EXPECT_EQ(logits(tiny().with({{"projector_hidden_act", "gelu"}, {"multimodal_projector_bias", true},
                                {"vision_config", {{"hidden_act", "gelu"}, {"rope_theta", 10000.0}, {"num_channels", 3}}}})),
            logits(tiny()));
  EXPECT_EQ(logits(tiny().without("/vision_feature_layer")), logits(tiny().with({{"vision_feature_layer", -2}})));
}

TEST(PixtralConfig, EveryKeyCounts) {
  for (const Json& change : {Json{{"vision_feature_layer", -2}}, Json{{"projector_hidden_act", "relu"}}, Json{{"vision_config", {{"hidden_act", "silu"}}}},
                             Json{{"vision_config", {{"rope_theta", 30.0}}}}}) {
    EXPECT_NE(logits(tiny().with(change)), logits(tiny())) << change;
  }
}

TEST(PixtralConfig, RotationMayBeNamedAnew) {
  EXPECT_EQ(logits(tiny().with({{"vision_config", {{"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 30.0}}}}}})),
            logits(tiny().with({{"vision_config", {{"rope_theta", 30.0}}}})));
}

TEST(PixtralConfig, WrongValuesAreErrors) {
  const auto load = [](const Json& changes) { return complaint([&] { static_cast<void>(tiny().with(changes).load()); }); };
  EXPECT_THAT(load({{"vision_feature_select_strategy", "default"}}), HasSubstr("vision_feature_select_strategy: got \"default\", expected full"));
  EXPECT_THAT(load({{"vision_config", {{"num_attention_heads", 3}}}}), HasSubstr("vision_config.num_attention_heads: got 3"));
  EXPECT_THAT(load({{"vision_config", {{"patch_size", 0}}}}), HasSubstr("patch_size"));
  EXPECT_THAT(load({{"vision_config", {{"hidden_size", 12}}}}), HasSubstr("got [8, 3, 4, 4], expected [12, 48]"));
  EXPECT_THAT(complaint([] { tiny().run(tiny_picture(tiny_text({3, 20}), 20, 4)); }), HasSubstr("multiples of 4 up to 16"));
}

TEST(PixtralNames, OldAndNew) {
  EXPECT_EQ(logits(tiny().renamed({{"language_model.model.", "model.language_model."}, {"language_model.lm_head", "lm_head"},
                                   {"vision_tower.", "model.vision_tower."}, {"multi_modal_projector.", "model.multi_modal_projector."}})),
            logits(tiny()));
}

}  // namespace zoo_pixtral
}  // namespace duet::testing
