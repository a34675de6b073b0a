#include "duet/zoo/llama.hpp"

#include <gmock/gmock.h>

#include "support/tiny_checkpoint.hpp"

namespace duet::testing {
namespace {

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
  EXPECT_THAT(load({{"type", "yarn"}, {"factor", 4.0}}), HasSubstr("rope_type: got \"yarn\", expected default, linear, dynamic or llama3"));
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

}  // namespace
}  // namespace duet::testing
