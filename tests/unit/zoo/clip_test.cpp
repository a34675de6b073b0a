#include "duet/zoo/clip.hpp"

#include <gmock/gmock.h>

#include <cmath>

#include "support/tiny_checkpoint.hpp"

namespace duet::testing {
namespace zoo_clip {

using ::testing::HasSubstr;
using Json = nlohmann::json;

/// Both towers, and texts that end with token 22.
TinyCheckpoint tiny() {
  TinyCheckpoint clip{{{"model_type", "clip"}, {"projection_dim", 6}, {"vision_config", tiny_clip_vision_config()}, {"text_config", tiny_clip_text_config()}},
                      together(tiny_clip_vision_shapes("vision_model."), tiny_clip_text_shapes("text_model."))};
  add_linear(clip.shapes, "visual_projection", 12, 6, false);
  add_linear(clip.shapes, "text_projection", 12, 6, false);
  clip.shapes["logit_scale"] = {};
  return clip;
}

ReferenceInputs some_text() { return tiny_text({3, 1, 4, 22, 5, 9}); }

TEST(ClipConfig, AbsentKeysAreTheReferencesDefaults) {
  const Json empty = Json::object();
  const VisionConfig vision = read_clip_vision_config(JsonView(empty, "config.json"));
  EXPECT_EQ(vision.image_size, 224);
  EXPECT_EQ(vision.patch_size, 32);
  EXPECT_EQ(vision.hidden_size, 768);
  EXPECT_EQ(vision.intermediate_size, 3072);
  EXPECT_EQ(vision.num_hidden_layers, 12);
  EXPECT_EQ(vision.num_attention_heads, 12);
  EXPECT_FLOAT_EQ(vision.layer_norm_eps, 1e-5f);
  EXPECT_EQ(vision.hidden_act, "quick_gelu");
  const DecoderConfig text = read_clip_text_config(JsonView(empty, "config.json"));
  EXPECT_EQ(text.vocab_size, 49408);
  EXPECT_EQ(text.hidden_size, 512);
  EXPECT_EQ(text.intermediate_size, 2048);
  EXPECT_EQ(text.num_hidden_layers, 12);
  EXPECT_EQ(text.num_attention_heads, 8);
  EXPECT_EQ(text.max_position_embeddings, 77);
  EXPECT_FLOAT_EQ(text.norm_eps, 1e-5f);
  EXPECT_EQ(text.hidden_act, "quick_gelu");
}

TEST(ClipConfig, TheOldestSpellingHoldsAlone) {
  TinyCheckpoint old = tiny();
  old.config["vision_config_dict"] = old.config["vision_config"];
  old.config["text_config_dict"] = old.config["text_config"];
  old.config["vision_config"]["num_attention_heads"] = 3;
  old.config["text_config"]["hidden_act"] = "gelu";
  EXPECT_EQ(old.run(tiny_picture(some_text())), tiny().run(tiny_picture(some_text())));
}

TEST(ClipConfig, WrongValuesAreErrors) {
  const auto load = [](const Json& changes) { return complaint([&] { static_cast<void>(tiny().with(changes).load()); }); };
  EXPECT_THAT(load({{"projection_dim", 7}}), HasSubstr("visual_projection.weight: got [6, 12], expected [7, 12]"));
  EXPECT_THAT(load({{"text_config", {{"num_attention_heads", 5}}}}), HasSubstr("text_config: num_attention_heads: got 5"));
  EXPECT_THAT(load({{"vision_config", {{"hidden_size", 24}}}}), HasSubstr("vision_model."));
}

TEST(Clip, EitherTowerRunsAlone) {
  const auto both = tiny().run(tiny_picture(some_text()));
  EXPECT_EQ(tiny().run(tiny_picture()).at("image_embeds"), both.at("image_embeds"));
  EXPECT_EQ(tiny().run(some_text()).at("text_embeds"), both.at("text_embeds"));
  EXPECT_EQ(both.at("logits_per_image"), both.at("logits_per_text"));  // one of each
}

TEST(Clip, TheTextsRowIsItsFirstEndOfTextOrItsLargestId) {
  const auto embeds = [](TokenId eos, std::vector<TokenId> ids) {
    return tiny().with({{"text_config", {{"eos_token_id", eos}}}}).run(tiny_text(std::move(ids))).at("text_embeds");
  };
  EXPECT_EQ(embeds(22, {3, 22, 4, 22}), embeds(22, {3, 22, 9, 9}));
  EXPECT_EQ(embeds(2, {3, 21, 4, 2}), embeds(2, {3, 21, 9, 9}));
  EXPECT_EQ(embeds(20, {3, 21, 4, 2}), embeds(20, {3, 7, 9, 9}));  // none: the first row
}

TEST(Clip, PaddingIsNotSeen) {
  ReferenceInputs padded = tiny_text({3, 21, 4, 9, 22});
  padded.attention_mask = {1, 1, 0, 0, 0};
  ReferenceInputs otherwise = tiny_text({3, 21, 8, 8, 22});
  otherwise.attention_mask = padded.attention_mask;
  EXPECT_EQ(tiny().run(padded).at("text_embeds"), tiny().run(otherwise).at("text_embeds"));
  padded.attention_mask = {1, 0, 1, 1, 1};
  EXPECT_THAT(complaint([&] { tiny().run(padded); }), HasSubstr("attention_mask[0]: got a mask with holes"));
}

TEST(Clip, TextsThatDoNotFitAreErrors) {
  EXPECT_THAT(complaint([] { tiny().run(tiny_text({3, 23})); }), HasSubstr("input_ids: got 23, expected between 0 and 22"));
  EXPECT_THAT(complaint([] { tiny().run(tiny_text(std::vector<TokenId>(21, 1))); }), HasSubstr("21 tokens, expected at most max_position_embeddings, 20"));
}

TEST(ClipTowers, AloneTheyAreWhatTheyAreInClip) {
  const auto both = tiny().run(tiny_picture(some_text()));
  const TinyCheckpoint text{tiny_clip_text_config(), tiny_clip_text_shapes("text_model.")};
  const auto text_alone = text.run(some_text());
  EXPECT_EQ(text_alone.at("last_hidden_state"), both.at("text_out"));
  EXPECT_EQ(text_alone.at("pooler_output"), std::vector<float>(both.at("text_out").begin() + 36, both.at("text_out").begin() + 48));
  EXPECT_EQ(text.renamed({{"text_model.", ""}}).run(some_text()), text_alone);

  const TinyCheckpoint vision{tiny_clip_vision_config(), tiny_clip_vision_shapes("vision_model.")};
  const auto vision_alone = vision.run(tiny_picture());
  EXPECT_EQ(vision_alone.at("last_hidden_state"), both.at("vision_out"));
  EXPECT_EQ(vision_alone.at("pooler_output").size(), 12u);
  EXPECT_EQ(vision.renamed({{"vision_model.", ""}}).run(tiny_picture()), vision_alone);

  const auto expect_direction = [](const std::vector<float>& embeds, const std::vector<float>& unit) {  // not yet of length one
    ASSERT_EQ(embeds.size(), unit.size());
    float length = 0.0f;
    for (const float x : embeds) length += x * x;
    for (std::size_t i = 0; i < embeds.size(); ++i) EXPECT_NEAR(embeds[i] / std::sqrt(length), unit[i], 1e-6f);
  };
  TinyCheckpoint projected = vision.with({{"projection_dim", 6}});
  add_linear(projected.shapes, "visual_projection", 12, 6, false);
  expect_direction(projected.run(tiny_picture()).at("image_embeds"), both.at("image_embeds"));
  TinyCheckpoint projected_text = text.with({{"projection_dim", 6}});
  add_linear(projected_text.shapes, "text_projection", 12, 6, false);
  expect_direction(projected_text.run(some_text()).at("text_embeds"), both.at("text_embeds"));
  EXPECT_FALSE(text_alone.contains("text_embeds"));
}

}  // namespace zoo_clip
}  // namespace duet::testing
