#include "duet/zoo/idefics1.hpp"

#include <gmock/gmock.h>

#include "support/tiny_checkpoint.hpp"

namespace duet::testing {
namespace zoo_idefics1 {

using ::testing::HasSubstr;
using Json = nlohmann::json;

TinyCheckpoint tiny() {
  Json config = tiny_llama_config(), vision = tiny_vit_config();
  vision["embed_dim"] = vision["hidden_size"];
  vision.erase("hidden_size");
  config["model_type"] = "idefics";
  config["vision_config"] = vision;
  config["num_hidden_layers"] = 2;
  config["cross_layer_interval"] = 2;
  config["additional_vocab_size"] = 2;
  config["qk_layer_norms"] = true;
  TinyCheckpoint model{config, together(tiny_clip_vision_shapes("model.vision_model."), tiny_llama_shapes("model.", ""))};
  model.shapes["model.embed_tokens.additional_embedding.weight"] = model.shapes["lm_head.additional_fc.weight"] = {2, 12};
  const std::string g = "model.gated_cross_attn_layers.0.";
  model.shapes[g + "input_layernorm.weight"] = model.shapes[g + "post_attention_layernorm.weight"] = {12};
  for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj"}) add_linear(model.shapes, g + "cross_attn." + name, 12, 12, false);
  for (const char* name : {"q_layer_norm", "k_layer_norm"}) model.shapes[g + "cross_attn." + name + ".weight"] = {6};
  for (const char* name : {"gate_proj", "up_proj"}) add_linear(model.shapes, g + "mlp." + name, 12, 20, false);
  add_linear(model.shapes, g + "mlp.down_proj", 20, 12, false);
  model.shapes[g + "alpha_cross_attn"] = model.shapes[g + "alpha_dense"] = {1};
  return model;
}
TinyCheckpoint with_resampler() {
  TinyCheckpoint model = tiny().with({{"use_resampler", true},
                                      {"perceiver_config", {{"resampler_n_latents", 3}, {"resampler_depth", 1}, {"resampler_n_heads", 2}, {"resampler_head_dim", 5}}}});
  const std::string p = "model.perceiver_resampler.", b = p + "blocks.0.";
  model.shapes[p + "latents"] = {3, 12};
  for (const char* norm : {"blocks.0.0.context_layer_norm", "blocks.0.0.latents_layer_norm", "blocks.0.1.ln", "layer_norm"}) add_norm(model.shapes, p + norm, 12);
  for (const char* name : {"q_proj", "k_proj", "v_proj"}) add_linear(model.shapes, b + "0." + name, 12, 10, false);
  add_linear(model.shapes, b + "0.output_proj", 10, 12, false);
  add_linear(model.shapes, b + "1.fc", 12, 48, false), add_linear(model.shapes, b + "1.c_proj", 48, 12, false);
  return model;
}
/// 23 stands around pictures, 24 for one.
ReferenceInputs prompt(std::vector<TokenId> ids = {3, 1, 23, 24, 23, 9, 2}) { return tiny_picture(tiny_text(std::move(ids))); }

TEST(Idefics1, ReadsThePictureBeforeARow) {
  const auto stages = tiny().run(prompt(), 2);
  EXPECT_EQ(stages.at("projected").size(), 5u * 12u);
  EXPECT_EQ(stages.at("logits").size(), 7u * 25u);
  const auto model = tiny().load();
  EXPECT_EQ(model->info().cross_attention_layers, 1);
  EXPECT_EQ(model->rules().tokens_per_image, 5);
  EXPECT_EQ(model->rules().image_token_id, 24);
  const std::vector<float> text = tiny().run(tiny_text({3, 1, 23, 24, 23, 9, 2})).at("logits"), with = stages.at("logits");
  EXPECT_TRUE(std::equal(text.begin(), text.begin() + 3 * 25, with.begin())) << "rows before the picture do not see it";
  EXPECT_NE(std::vector(text.end() - 25, text.end()), std::vector(with.end() - 25, with.end()));
}

TEST(Idefics1, WithoutAPictureGatedLayersKeepTheirMlp) {
  const auto text = [](const TinyCheckpoint& c) { return c.run(tiny_text()).at("logits"); };
  TinyCheckpoint other_gate = tiny(), other_attention = tiny();
  other_gate.shapes["model.gated_cross_attn_layers.0.alpha_dense"] = {1, 1, 12};
  EXPECT_NE(text(other_gate), text(tiny())) << "a gate may have a value for every channel";
  other_attention.shapes["model.gated_cross_attn_layers.0.alpha_cross_attn"] = {1, 1, 12};
  EXPECT_EQ(text(other_attention), text(tiny()));
}

TEST(Idefics1, MayResampleItsFeatures) {
  const auto stages = with_resampler().run(prompt(), 1);
  EXPECT_EQ(stages.at("projected").size(), 3u * 12u);
  EXPECT_EQ(with_resampler().load()->rules().tokens_per_image, 3);
  EXPECT_THAT(complaint([] { static_cast<void>(with_resampler().with({{"perceiver_config", {{"qk_layer_norms_perceiver", true}}}}).load()); }),
              HasSubstr("blocks.0.0.q_layer_norm"));
}

TEST(Idefics1Config, WrongValuesAreErrors) {
  const auto load = [](const Json& changes) { return complaint([&] { static_cast<void>(tiny().with(changes).load()); }); };
  EXPECT_THAT(load({{"cross_layer_interval", 0}}), HasSubstr("cross_layer_interval: got 0"));
  EXPECT_THAT(load({{"additional_vocab_size", -1}}), HasSubstr("-1"));
  EXPECT_THAT(complaint([] { static_cast<void>(with_resampler().with({{"perceiver_config", {{"resampler_depth", 0}}}}).load()); }),
              HasSubstr("resampler_depth: got 0"));
}

TEST(Idefics1Config, AbsentKeysAreTheReferencesDefaults) {
  const Json empty = Json::object();
  const PromptRules rules = Idefics1::rules(JsonView(empty, "config.json"));
  EXPECT_EQ(rules.image_token_id, 32001);
  EXPECT_EQ(rules.tokens_per_image, 16 * 16 + 1);
}

}  // namespace zoo_idefics1
}  // namespace duet::testing
