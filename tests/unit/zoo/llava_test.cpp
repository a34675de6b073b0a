#include "duet/zoo/llava.hpp"

#include <gmock/gmock.h>

#include "support/tiny_checkpoint.hpp"

namespace duet::testing {
namespace zoo_llava {

using ::testing::HasSubstr;
using Json = nlohmann::json;

/// A prompt with the four places of a picture's patches.
ReferenceInputs prompt(TokenId image = 20, int places = 4) {
  std::vector<TokenId> ids{3, 1};
  ids.insert(ids.end(), static_cast<std::size_t>(places), image);
  ids.insert(ids.end(), {5, 9});
  return tiny_picture(tiny_text(ids));
}

TinyCheckpoint with_text(const Json& text_config, const Shapes& text) {
  TinyCheckpoint llava{{{"model_type", "llava"}, {"image_token_index", 20}, {"vision_config", tiny_clip_vision_config()}, {"text_config", text_config}},
                       together(tiny_clip_vision_shapes("vision_tower.vision_model."), text)};
  add_linear(llava.shapes, "multi_modal_projector.linear_1", 12, 12);
  add_linear(llava.shapes, "multi_modal_projector.linear_2", 12, 12);
  return llava;
}
TinyCheckpoint tiny() { return with_text(tiny_llama_config(), tiny_llama_shapes("language_model.model.", "language_model.")); }
TinyCheckpoint tiny_with_gpt2() { return with_text(tiny_gpt2_config(), tiny_gpt2_shapes("language_model.transformer.")); }

std::vector<float> logits(const TinyCheckpoint& checkpoint) { return checkpoint.run(prompt()).at("logits"); }

TEST(LlavaConfig, AbsentKeysAreTheReferencesDefaults) {
  const TinyCheckpoint spelled = tiny().with({{"vision_feature_layer", -2}, {"vision_feature_select_strategy", "default"}, {"projector_hidden_act", "gelu"},
                                              {"multimodal_projector_bias", true}, {"text_config", {{"tie_word_embeddings", false}, {"rms_norm_eps", 1e-6}}},
                                              {"vision_config", {{"hidden_act", "quick_gelu"}}}});
  EXPECT_EQ(logits(spelled), logits(tiny()));
  EXPECT_EQ(logits(tiny().without("/text_config/model_type").without("/vision_config/model_type")), logits(tiny()));
}

TEST(LlavaConfig, WithoutAVisionConfigItIsTheFirstLlavas) {
  const std::string message = complaint([] { static_cast<void>(tiny().without("/vision_config").load()); });
  EXPECT_THAT(message, HasSubstr("got [12, 3, 4, 4], expected [1024, 588]"));
}

TEST(LlavaConfig, TheImageTokenHasTwoNames) {
  EXPECT_EQ(logits(tiny().without("/image_token_index").with({{"image_token_id", 20}})), logits(tiny()));
  EXPECT_THAT(complaint([] { static_cast<void>(tiny().with({{"image_token_id", 21}}).load()); }), HasSubstr("image_token_id: got 21, expected the same as image_token_index, 20"));
}

TEST(LlavaConfig, TheImageTokenMayLieBeyondTheVocabulary) {
  EXPECT_EQ(tiny().with({{"image_token_index", 500}}).run(prompt(500)).at("logits"), logits(tiny()));
}

TEST(LlavaConfig, TheTextConfigTiesTheHead) {
  EXPECT_NE(logits(tiny().with({{"text_config", {{"tie_word_embeddings", true}}}})), logits(tiny()));
  EXPECT_EQ(logits(tiny().with({{"tie_word_embeddings", true}})), logits(tiny()));
}

TEST(LlavaConfig, FeaturesOfAnyLayers) {
  const auto with_layer = [](const Json& layer) { return logits(tiny().with({{"vision_feature_layer", layer}})); };
  EXPECT_EQ(with_layer(1), logits(tiny()));
  EXPECT_EQ(with_layer({-2}), logits(tiny()));
  EXPECT_EQ(with_layer(-1), with_layer(2));
  EXPECT_NE(with_layer(-1), logits(tiny()));
  EXPECT_THAT(complaint([&] { with_layer(3); }), HasSubstr("vision_feature_layer: got 3, expected between -3 and 2"));
  EXPECT_THAT(complaint([&] { with_layer({1, 2}); }), HasSubstr("linear_1.weight: got [12, 12], expected [12, 24]"));
  const TinyCheckpoint full = tiny().with({{"vision_feature_select_strategy", "full"}});
  EXPECT_EQ(full.run(prompt(20, 5)).at("projected").size(), 5u * 12u);
  EXPECT_THAT(complaint([&] { full.run(prompt()); }), HasSubstr("4 image tokens, expected 5"));
}

TEST(LlavaConfig, WrongValuesAreErrors) {
  const auto load = [](const Json& changes) { return complaint([&] { static_cast<void>(tiny().with(changes).load()); }); };
  EXPECT_THAT(load({{"vision_feature_select_strategy", "some"}}), HasSubstr("vision_feature_select_strategy: got \"some\", expected default or full"));
  EXPECT_THAT(load({{"projector_hidden_act", "mish"}}), HasSubstr("projector_hidden_act"));
  EXPECT_THAT(load({{"text_config", {{"model_type", "opt"}}}}), HasSubstr("text_config.model_type: got \"opt\", expected llama, mistral, phi3, qwen2, qwen3 or gpt2"));
  EXPECT_THAT(load({{"vision_config", {{"model_type", "vit"}}}}), HasSubstr("vision_config.model_type: got \"vit\", expected clip_vision_model, siglip_vision_model or pixtral"));
  const Json no_patches{{"vision_config", {{"patch_size", 0}}}};
  EXPECT_THROW(static_cast<void>(Llava::rules(JsonView(no_patches, "config.json"))), Error) << "rules are asked for before weights are";
  TinyCheckpoint without_bias = tiny().with({{"multimodal_projector_bias", false}});
  without_bias.shapes.erase("multi_modal_projector.linear_1.bias");
  without_bias.shapes.erase("multi_modal_projector.linear_2.bias");
  EXPECT_EQ(complaint([&] { without_bias.run(prompt()); }), "");
}

TEST(LlavaNames, OldAndNew) {
  EXPECT_EQ(logits(tiny().renamed({{"language_model.model.", "model.language_model."}, {"language_model.lm_head", "lm_head"},
                                   {"vision_tower.vision_model.", "model.vision_tower."}, {"multi_modal_projector.", "model.multi_modal_projector."}})),
            logits(tiny()));
  EXPECT_EQ(logits(tiny().renamed({{"language_model.model.", "model.language_model."}, {"language_model.lm_head", "lm_head"},
                                   {"vision_tower.", "model.vision_tower."}, {"multi_modal_projector.", "model.multi_modal_projector."}})),
            logits(tiny()));
}

TEST(LlavaNames, OfGpt2OldAndNew) {
  EXPECT_EQ(logits(tiny_with_gpt2().renamed({{"language_model.transformer.", "model.language_model."}, {"vision_tower.vision_model.", "model.vision_tower."},
                                             {"multi_modal_projector.", "model.multi_modal_projector."}})),
            logits(tiny_with_gpt2()));
}

}  // namespace zoo_llava
}  // namespace duet::testing
