#include "duet/zoo/llama.hpp"

#include <gmock/gmock.h>

#include "support/tiny_checkpoint.hpp"

namespace duet::testing {
namespace zoo_llama {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Json = nlohmann::json;

DecoderConfig read(const Json& config) { return read_llama_config(JsonView(config, "config.json")); }

TinyCheckpoint tiny() { return {tiny_llama_config(), tiny_llama_shapes("model.", "")}; }

std::vector<float> logits(const TinyCheckpoint& checkpoint) { return checkpoint.run(tiny_text()).at("logits"); }

TEST(LlamaConfig, AbsentKeysAreTheReferencesDefaults) {
  const DecoderConfig config = read(Json::object());
  EXPECT_EQ(config.vocab_size, 32000);
  EXPECT_EQ(config.hidden_size, 4096);
  EXPECT_EQ(config.intermediate_size, 11008);
  EXPECT_EQ(config.num_hidden_layers, 32);
  EXPECT_EQ(config.num_attention_heads, 32);
  EXPECT_EQ(config.num_key_value_heads, 32);
  EXPECT_EQ(config.head_dim, 128);
  EXPECT_EQ(config.max_position_embeddings, 2048);
  EXPECT_FLOAT_EQ(config.norm_eps, 1e-6f);
  EXPECT_EQ(config.hidden_act, "silu");
  EXPECT_FLOAT_EQ(config.rope.rope_theta, 10000.0f);
  EXPECT_EQ(config.rope.rope_type, "default");
  EXPECT_EQ(config.head, LanguageHead::kOwn);
}

TEST(LlamaConfig, NullIsAbsent) {
  const DecoderConfig config = read({{"num_key_value_heads", nullptr}, {"head_dim", nullptr}, {"rope_scaling", nullptr}});
  EXPECT_EQ(config.num_key_value_heads, 32);
  EXPECT_EQ(config.head_dim, 128);
  EXPECT_EQ(config.rope.rope_type, "default");
}

TEST(LlamaConfig, NumbersMayBeWrittenEitherWay) {
  EXPECT_FLOAT_EQ(read({{"rope_theta", 500000}}).rope.rope_theta, 5e5f);
  EXPECT_FLOAT_EQ(read({{"rope_theta", 5e5}}).rope.rope_theta, 5e5f);
  EXPECT_FLOAT_EQ(read({{"rope_scaling", {{"type", "linear"}, {"factor", 2}}}}).rope.factor, 2.0f);
}

TEST(LlamaConfig, RopeInOldAndNewWords) {
  const Json scaling = {{"factor", 8.0}, {"low_freq_factor", 2.0}, {"high_freq_factor", 5.0}, {"original_max_position_embeddings", 64}};
  Json old_scaling = scaling, new_scaling = scaling;
  old_scaling["type"] = new_scaling["rope_type"] = "llama3";
  new_scaling["rope_theta"] = 2e4;
  for (const RopeConfig& rope : {read({{"rope_theta", 2e4}, {"rope_scaling", old_scaling}}).rope, read({{"rope_parameters", new_scaling}}).rope}) {
    EXPECT_EQ(rope.rope_type, "llama3");
    EXPECT_FLOAT_EQ(rope.rope_theta, 2e4f);
    EXPECT_FLOAT_EQ(rope.factor, 8.0f);
    EXPECT_FLOAT_EQ(rope.low_freq_factor, 2.0f);
    EXPECT_FLOAT_EQ(rope.high_freq_factor, 5.0f);
    EXPECT_EQ(rope.original_max_position_embeddings, 64);
  }
}

TEST(LlamaConfig, RopeThatIsNotKnownIsAnError) {
  const auto load = [](const Json& scaling) {
    return complaint([&] { static_cast<void>(tiny().with({{"rope_scaling", scaling}}).load()); });
  };
  EXPECT_THAT(load({{"type", "ntk"}, {"factor", 4.0}}), HasSubstr("rope_type: got \"ntk\", expected default, linear, dynamic, llama3, longrope or yarn"));
  EXPECT_THAT(load({{"factor", 4.0}}), HasSubstr("rope_type: got \"\""));
  EXPECT_THAT(load({{"type", "linear"}}), HasSubstr("rope_scaling.factor: got nothing"));
}

TEST(LlamaConfig, WrongValuesAreErrors) {
  const auto load = [](const Json& changes) { return complaint([&] { static_cast<void>(tiny().with(changes).load()); }); };
  EXPECT_THAT(load({{"num_attention_heads", 0}}), HasSubstr("num_attention_heads"));
  EXPECT_THAT(load({{"num_attention_heads", 3}, {"num_key_value_heads", 2}}), HasSubstr("a multiple of num_key_value_heads"));
  EXPECT_THAT(load({{"hidden_size", 16}}), HasSubstr("[23, 12]"));
  EXPECT_THAT(load({{"attention_bias", true}}), HasSubstr("no tensor model.layers.0.self_attn.q_proj.bias"));
  EXPECT_THAT(load({{"mlp_bias", true}}), HasSubstr("no tensor model.layers.0.mlp.gate_proj.bias"));
}

TEST(LlamaConfig, LongropeInAllItsWords) {
  const Json factors = {{"short_factor", {1.0, 2.0}}, {"long_factor", {3.0, 4.0}}};
  for (const char* type : {"su", "yarn", "longrope"}) {
    Json scaling = factors;
    scaling["type"] = type;
    const RopeConfig rope = read({{"model_type", "phi3"}, {"rope_scaling", scaling}, {"max_position_embeddings", 131072}}).rope;
    EXPECT_EQ(rope.rope_type, "longrope");
    EXPECT_EQ(rope.original_max_position_embeddings, 4096) << "Phi-3's default";
    EXPECT_FLOAT_EQ(rope.factor, 32.0f);
    EXPECT_THAT(rope.long_factor, ElementsAre(3.0f, 4.0f));
  }
  Json parameters = factors;
  parameters.update({{"rope_type", "longrope"}, {"rope_theta", 500.0}, {"original_max_position_embeddings", 64}, {"attention_factor", 1.5}});
  const RopeConfig rope = read({{"rope_parameters", parameters}, {"max_position_embeddings", 128}}).rope;
  EXPECT_FLOAT_EQ(rope.rope_theta, 500.0f);
  EXPECT_FLOAT_EQ(rope.factor, 2.0f);
  EXPECT_EQ(rope.attention_factor, 1.5f);
  // Without an original length the context is one, and a factor is said.
  const Json plain = {{"type", "longrope"}, {"short_factor", {1.0}}, {"long_factor", {1.0}}, {"factor", 3.0}};
  EXPECT_FLOAT_EQ(read({{"rope_scaling", plain}}).rope.factor, 3.0f);
  EXPECT_EQ(read({{"rope_scaling", plain}}).rope.original_max_position_embeddings, 2048);
}

TEST(LlamaConfig, YarnAndSections) {
  const RopeConfig yarn = read({{"model_type", "qwen2"}, {"max_position_embeddings", 32768},
                                {"rope_scaling", {{"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 32768}}}}).rope;
  EXPECT_EQ(yarn.rope_type, "yarn");
  EXPECT_FLOAT_EQ(yarn.factor, 4.0f);
  const RopeConfig sections = read({{"rope_scaling", {{"type", "mrope"}, {"mrope_section", {16, 24, 24}}}}}).rope;
  EXPECT_EQ(sections.rope_type, "default");
  EXPECT_THAT(sections.mrope_section, ElementsAre(16, 24, 24));
}

TEST(MistralConfig, NullIsAbsentButForTheWindow) {
  const DecoderConfig config = read({{"model_type", "mistral"}});
  EXPECT_EQ(config.num_key_value_heads, 8);
  EXPECT_EQ(config.intermediate_size, 14336);
  EXPECT_EQ(config.max_position_embeddings, 131072);
  EXPECT_EQ(config.sliding_window, 4096);
  EXPECT_EQ(config.sliding_attention_layers.size(), 32u);
  const DecoderConfig nulls = read({{"model_type", "mistral"}, {"sliding_window", nullptr}, {"num_key_value_heads", nullptr}});
  EXPECT_TRUE(nulls.sliding_attention_layers.empty());
  EXPECT_EQ(nulls.num_key_value_heads, 32);
}

TEST(QwenConfig, WindowsAreThereOnDemandFromALayerOn) {
  const Json sizes = {{"model_type", "qwen2"}, {"num_hidden_layers", 4}, {"max_window_layers", 2}, {"sliding_window", 16}};
  EXPECT_TRUE(read(sizes).sliding_attention_layers.empty());
  Json on = sizes;
  on["use_sliding_window"] = true;
  EXPECT_THAT(read(on).sliding_attention_layers, ElementsAre(2, 3));
  EXPECT_EQ(read(on).sliding_window, 16);
  on["layer_types"] = {"sliding_attention", "full_attention", "full_attention", "sliding_attention"};
  EXPECT_THAT(read(on).sliding_attention_layers, ElementsAre(0, 3));
  on["layer_types"] = {"sliding_attention"};
  EXPECT_THAT(complaint([&] { static_cast<void>(read(on)); }), HasSubstr("layer_types: got 1 types, expected num_hidden_layers, 4"));
  on["layer_types"] = {"full_attention", "full_attention", "full_attention", "linear_attention"};
  EXPECT_THAT(complaint([&] { static_cast<void>(read(on)); }), HasSubstr("layer_types[3]: got \"linear_attention\""));
}

TEST(QwenConfig, BiasesAndHeadNormsAreTheArchitectures) {
  const DecoderConfig qwen2 = read({{"model_type", "qwen2"}}), qwen3 = read({{"model_type", "qwen3"}});
  EXPECT_EQ(qwen2.qkv_bias, Linear::Bias::kRequired);
  EXPECT_EQ(qwen2.attention_output_bias, Linear::Bias::kNone);
  EXPECT_FALSE(qwen2.head_norms);
  EXPECT_EQ(qwen3.qkv_bias, Linear::Bias::kNone);
  EXPECT_TRUE(qwen3.head_norms);
  EXPECT_EQ(qwen3.head_dim, 128);
  EXPECT_EQ(qwen3.vocab_size, 151936);
  const Json biased = {{"model_type", "qwen3"}, {"attention_bias", true}};
  EXPECT_EQ(read(biased).qkv_bias, Linear::Bias::kRequired);
  EXPECT_EQ(read(biased).attention_output_bias, Linear::Bias::kRequired);
}

TEST(Qwen3, ItsHeadNormsMustBeThere) {
  TinyCheckpoint qwen = tiny().with({{"model_type", "qwen3"}, {"head_dim", 6}, {"num_key_value_heads", 2}});
  EXPECT_THAT(complaint([&] { static_cast<void>(qwen.load()); }), HasSubstr("no tensor model.layers.0.self_attn.q_norm.weight"));
  for (const char* layer : {"model.layers.0.", "model.layers.1."}) {
    for (const char* norm : {"self_attn.q_norm.weight", "self_attn.k_norm.weight"}) qwen.shapes[layer + std::string(norm)] = {6};
  }
  EXPECT_NE(logits(qwen), logits(tiny()));
  EXPECT_EQ(logits(qwen.with({{"model_type", "llama"}})), logits(tiny())) << "Llama has none, and reads none";
}

TEST(Phi3Names, FusedMatricesAreSlicesInOrder) {
  TinyCheckpoint phi = tiny().with({{"model_type", "phi3"}});
  for (const char* layer : {"model.layers.0.", "model.layers.1."}) {
    const std::string l = layer;
    for (const char* name : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj"}) phi.shapes.erase(l + name + ".weight");
    phi.shapes[l + "self_attn.qkv_proj.weight"] = {36, 12};
    phi.shapes[l + "mlp.gate_up_proj.weight"] = {40, 12};
  }
  EXPECT_EQ(logits(phi).size(), 8u * 23u);
  phi.shapes["model.layers.1.self_attn.qkv_proj.weight"] = {35, 12};
  EXPECT_THAT(complaint([&] { static_cast<void>(phi.load()); }), HasSubstr("model.layers.1.self_attn.qkv_proj.weight"));
}

TEST(LlamaRope, DynamicIsDefaultUntilThePositionsEnd) {
  const TinyCheckpoint dynamic = tiny().with({{"rope_scaling", {{"type", "dynamic"}, {"factor", 2.0}}}});
  EXPECT_EQ(logits(dynamic), logits(tiny()));
  const ReferenceInputs longer = tiny_text(std::vector<TokenId>(21, 5));
  EXPECT_THAT(complaint([&] { dynamic.run(longer); }), HasSubstr("position_ids: got 20, expected between 0 and 19"));
  EXPECT_THAT(complaint([&] { static_cast<void>(dynamic.load()->start({.max_length = 21})); }), HasSubstr("max_length: got 21"));
  EXPECT_EQ(tiny().run(longer).at("logits").size(), 21u * 23u);  // others go on
}

TEST(LlamaNames, WithAndWithoutModel) {
  EXPECT_EQ(logits(tiny().renamed({{"model.", ""}})), logits(tiny()));
}

TEST(LlamaHead, OwnOrTied) {
  TinyCheckpoint tied = tiny().with({{"tie_word_embeddings", true}});
  EXPECT_NE(logits(tied), logits(tiny()));
  const std::vector<float> with_unused_head = logits(tied);
  tied.shapes.erase("lm_head.weight");
  EXPECT_EQ(logits(tied), with_unused_head);
}

}  // namespace zoo_llama
}  // namespace duet::testing
