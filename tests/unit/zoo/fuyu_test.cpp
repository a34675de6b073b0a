#include "duet/zoo/fuyu.hpp"

#include <gmock/gmock.h>

#include "support/tiny_checkpoint.hpp"

namespace duet::testing {
namespace zoo_fuyu {

using ::testing::HasSubstr;
using Json = nlohmann::json;

/// A picture of 2 x 3 patches, row by row.
ReferenceInputs prompt() { return tiny_picture(tiny_text({20, 20, 20, 21, 20, 20, 20, 21, 1, 5, 9}), 8, 12); }

Json persimmon_config() {
  Json config = tiny_llama_config();
  config["model_type"] = "persimmon";
  return config;
}
Shapes persimmon_shapes(const std::string& prefix, const std::string& head) {
  Shapes shapes{{prefix + "embed_tokens.weight", {23, 12}}, {head + "lm_head.weight", {23, 12}}};
  add_norm(shapes, prefix + "final_layernorm", 12);
  for (const char* layer : {"layers.0.", "layers.1."}) {
    const std::string l = prefix + layer;
    for (const char* norm : {"input_layernorm", "post_attention_layernorm"}) add_norm(shapes, l + norm, 12);
    for (const char* norm : {"self_attn.q_layernorm", "self_attn.k_layernorm"}) add_norm(shapes, l + norm, 6);
    add_linear(shapes, l + "self_attn.query_key_value", 12, 36), add_linear(shapes, l + "self_attn.dense", 12, 12);
    add_linear(shapes, l + "mlp.dense_h_to_4h", 12, 20), add_linear(shapes, l + "mlp.dense_4h_to_h", 20, 12);
  }
  return shapes;
}

TinyCheckpoint fuyu() {
  TinyCheckpoint result{{{"model_type", "fuyu"}, {"image_token_id", 20}, {"image_size", 16}, {"patch_size", 4}, {"text_config", persimmon_config()}},
                        persimmon_shapes("language_model.model.", "language_model.")};
  add_linear(result.shapes, "vision_embed_tokens", 48, 12);
  return result;
}

std::vector<float> logits(const TinyCheckpoint& checkpoint) { return checkpoint.run(prompt()).at("logits"); }

TEST(FuyuConfig, AbsentKeysAreTheReferencesDefaults) {
  EXPECT_EQ(logits(fuyu().with({{"num_channels", 3},
                                {"text_config", {{"layer_norm_eps", 1e-5}, {"hidden_act", "relu2"}, {"rope_theta", 25000.0}, {"partial_rotary_factor", 0.5},
                                                 {"qk_layernorm", true}, {"tie_word_embeddings", false}}}})),
            logits(fuyu()));
}

TEST(FuyuConfig, WithoutATextConfigItsKeysStandAtTheTop) {
  TinyCheckpoint flat = fuyu().without("/text_config");
  const Json text = persimmon_config();
  for (const auto& [key, value] : text.items()) {
    if (key != "model_type") flat.config[key] = value;
  }
  EXPECT_EQ(logits(flat), logits(fuyu()));
}

TEST(FuyuConfig, EveryKeyCounts) {
  for (const Json& change : {Json{{"layer_norm_eps", 0.1}}, Json{{"hidden_act", "relu"}}, Json{{"rope_theta", 30.0}, {"partial_rotary_factor", 1.0}},
                             Json{{"partial_rotary_factor", 1.0}}, Json{{"qk_layernorm", false}}, Json{{"tie_word_embeddings", true}}}) {
    EXPECT_NE(logits(fuyu().with({{"text_config", change}})), logits(fuyu())) << change;
  }
  EXPECT_EQ(logits(fuyu().with({{"text_config", {{"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 30.0}, {"partial_rotary_factor", 1.0}}}}}})),
            logits(fuyu().with({{"text_config", {{"rope_theta", 30.0}, {"partial_rotary_factor", 1.0}}}})));
}

TEST(FuyuConfig, WrongValuesAreErrors) {
  const auto load = [](const Json& changes) { return complaint([&] { static_cast<void>(fuyu().with(changes).load()); }); };
  EXPECT_THAT(load({{"patch_size", 5}}), HasSubstr("vision_embed_tokens.weight: got [12, 48], expected [12, 75]"));
  EXPECT_THAT(load({{"patch_size", -1}}), HasSubstr("patch_size: got -1"));
  EXPECT_THAT(load({{"text_config", {{"num_attention_heads", 5}}}}), HasSubstr("num_attention_heads: got 5, expected a divisor of hidden_size, 12"));
}

TEST(FuyuNames, OldAndNew) {
  EXPECT_EQ(logits(fuyu().renamed({{"language_model.model.", "model.language_model."}, {"language_model.lm_head", "lm_head"},
                                   {"vision_embed_tokens", "model.vision_embed_tokens"}})),
            logits(fuyu()));
}

}  // namespace zoo_fuyu
}  // namespace duet::testing
