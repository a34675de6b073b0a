#include "duet/zoo/idefics2.hpp"

#include <gmock/gmock.h>

#include "support/tiny_checkpoint.hpp"

namespace duet::testing {
namespace zoo_idefics2 {

using ::testing::HasSubstr;
using Json = nlohmann::json;

TinyCheckpoint tiny() {
  Json text = tiny_llama_config();
  text["model_type"] = "mistral";
  text["num_key_value_heads"] = 2;
  text["hidden_size"] = 12;
  const Json perceiver{{"resampler_n_latents", 3}, {"resampler_depth", 1}, {"resampler_n_heads", 4}, {"num_key_value_heads", 2}, {"resampler_head_dim", 5}};
  TinyCheckpoint model{{{"model_type", "idefics2"}, {"image_token_id", 20}, {"vision_config", tiny_siglip_vision_config()}, {"perceiver_config", perceiver}, {"text_config", text}},
                       together(tiny_siglip_vision_shapes("model.vision_model."), tiny_llama_shapes("model.text_model.", ""))};
  const std::string c = "model.connector.", p = c + "perceiver_resampler.", l = p + "layers.0.";
  for (const char* name : {"gate_proj", "up_proj"}) {
    add_linear(model.shapes, c + "modality_projection." + name, 12, 20, false);
    add_linear(model.shapes, l + "mlp." + name, 12, 48, false);
  }
  add_linear(model.shapes, c + "modality_projection.down_proj", 20, 12, false);
  add_linear(model.shapes, l + "mlp.down_proj", 48, 12, false);
  model.shapes[p + "latents"] = {3, 12};
  for (const char* norm : {"layers.0.input_context_norm", "layers.0.input_latents_norm", "layers.0.post_attention_layernorm", "norm"}) {
    model.shapes[p + norm + std::string(".weight")] = {12};
  }
  add_linear(model.shapes, l + "self_attn.q_proj", 12, 20, false), add_linear(model.shapes, l + "self_attn.o_proj", 20, 12, false);
  for (const char* name : {"k_proj", "v_proj"}) add_linear(model.shapes, l + "self_attn." + name, 12, 10, false);
  return model;
}
ReferenceInputs prompt(Index height = 8, Index width = 8) { return tiny_picture(tiny_text({3, 19, 20, 20, 20, 19, 9}), height, width); }

TEST(Idefics2, APictureOfAnySizeBecomesAFixedNumberOfRows) {
  for (const Index width : {8, 12, 4}) {
    const auto stages = tiny().run(prompt(8, width), 1);
    EXPECT_EQ(stages.at("vision_out").size(), static_cast<std::size_t>(2 * (width / 4) * 12));
    EXPECT_EQ(stages.at("projected").size(), 3u * 12u);
    EXPECT_EQ(stages.at("logits").size(), 7u * 23u);
  }
  EXPECT_EQ(tiny().load()->info().unused_tensors, std::vector<std::string>());
  EXPECT_EQ(tiny().load()->rules().tokens_per_image, 3);
}

TEST(Idefics2Config, AbsentKeysAreTheReferencesDefaults) {
  EXPECT_EQ(tiny().with({{"perceiver_config", {{"rms_norm_eps", 1e-6}, {"hidden_act", "silu"}}}}).run(prompt()), tiny().run(prompt()));
  const Json empty = Json::object();
  const PromptRules rules = Idefics2::rules(JsonView(empty, "config.json"));
  EXPECT_EQ(rules.image_token_id, 32001);
  EXPECT_EQ(rules.tokens_per_image, 64);
}

TEST(Idefics2Config, WrongValuesAreErrors) {
  const auto load = [](const Json& changes) { return complaint([&] { static_cast<void>(tiny().with(changes).load()); }); };
  EXPECT_THAT(load({{"perceiver_config", {{"resampler_n_heads", 3}}}}), HasSubstr("resampler_n_heads: got 3, expected a multiple of num_key_value_heads, 2"));
  EXPECT_THAT(load({{"perceiver_config", {{"resampler_n_latents", 4}}}}), HasSubstr("latents"));
}

}  // namespace zoo_idefics2
}  // namespace duet::testing
