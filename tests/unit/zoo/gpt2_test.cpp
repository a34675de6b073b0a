#include "duet/zoo/gpt2.hpp"

#include <gmock/gmock.h>

#include "support/tiny_checkpoint.hpp"

namespace duet::testing {
namespace zoo_gpt2 {

using ::testing::HasSubstr;

DecoderConfig read(const nlohmann::json& config) { return read_gpt2_config(JsonView(config, "config.json")); }

TinyCheckpoint tiny() { return {tiny_gpt2_config(), tiny_gpt2_shapes("transformer.")}; }

std::vector<float> logits(const TinyCheckpoint& checkpoint) { return checkpoint.run(tiny_text()).at("logits"); }

TEST(Gpt2Config, AbsentKeysAreTheReferencesDefaults) {
  const DecoderConfig config = read(nlohmann::json::object());
  EXPECT_EQ(config.vocab_size, 50257);
  EXPECT_EQ(config.max_position_embeddings, 1024);
  EXPECT_EQ(config.hidden_size, 768);
  EXPECT_EQ(config.num_hidden_layers, 12);
  EXPECT_EQ(config.num_attention_heads, 12);
  EXPECT_EQ(config.intermediate_size, 3072);
  EXPECT_EQ(config.hidden_act, "gelu_new");
  EXPECT_FLOAT_EQ(config.norm_eps, 1e-5f);
  EXPECT_EQ(config.head, LanguageHead::kTied);
  EXPECT_FLOAT_EQ(config.attention(1).scale, 0.125f);
}

TEST(Gpt2Config, ScalesOfAttention) {
  EXPECT_FLOAT_EQ(read({{"scale_attn_weights", false}}).attention(1).scale, 1.0f);
  EXPECT_FLOAT_EQ(read({{"scale_attn_by_inverse_layer_idx", true}}).attention(3).scale, 0.125f / 4.0f);
  EXPECT_FLOAT_EQ(read({{"scale_attn_by_inverse_layer_idx", true}}).cross_attention(3).scale, 0.125f / 4.0f);
}

TEST(Gpt2Config, SizesHaveTwoNames) {
  const DecoderConfig config = read({{"hidden_size", 24}, {"num_hidden_layers", 3}, {"num_attention_heads", 4}, {"max_position_embeddings", 7}});
  EXPECT_EQ(config.hidden_size, 24);
  EXPECT_EQ(config.num_hidden_layers, 3);
  EXPECT_EQ(config.head_dim, 6);
  EXPECT_EQ(config.max_position_embeddings, 7);
  EXPECT_EQ(read({{"n_embd", 24}, {"hidden_size", 24}}).hidden_size, 24);
  EXPECT_THAT(complaint([] { read({{"n_embd", 24}, {"hidden_size", 36}}); }), HasSubstr("config.json: hidden_size: got 36, expected the same as n_embd, 24"));
}

TEST(Gpt2Config, WrongValuesAreErrors) {
  EXPECT_THAT(complaint([] { read({{"n_head", 7}}); }), HasSubstr("n_head: got 7, expected a divisor of n_embd, 768"));
  EXPECT_THAT(complaint([] { read({{"n_head", 0}}); }), HasSubstr("n_head"));
  EXPECT_THAT(complaint([] { read({{"n_layer", "two"}}); }), HasSubstr("n_layer"));
  EXPECT_THAT(complaint([] { static_cast<void>(tiny().with({{"activation_function", "gelu_10"}}).load()); }), HasSubstr("activation_function: got \"gelu_10\""));
  EXPECT_THAT(complaint([] { static_cast<void>(tiny().with({{"add_cross_attention", true}}).load()); }), HasSubstr("add_cross_attention"));
}

TEST(Gpt2Names, WithAndWithoutTransformer) {
  EXPECT_EQ(logits(tiny().renamed({{"transformer.", ""}})), logits(tiny()));
}

TEST(Gpt2Names, BuffersOfOldCheckpointsAreIgnored) {
  TinyCheckpoint old = tiny();
  old.shapes["transformer.h.0.attn.bias"] = {1, 1, 20, 20};
  old.shapes["transformer.h.0.attn.masked_bias"] = {1};
  EXPECT_EQ(logits(old), logits(tiny()));
  EXPECT_THAT(old.load()->info().unused_tensors, ::testing::IsEmpty());
}

TEST(Gpt2Head, OwnOrTied) {
  TinyCheckpoint own = tiny().with({{"tie_word_embeddings", false}});
  EXPECT_THAT(complaint([&] { static_cast<void>(own.load()); }), HasSubstr("no tensor lm_head.weight"));
  own.shapes["lm_head.weight"] = {23, 12};
  EXPECT_NE(logits(own), logits(tiny()));
}

TEST(Gpt2Activations, SeveralNamesOfOneFunction) {
  const auto with = [](const char* name) { return logits(tiny().with({{"activation_function", name}})); };
  EXPECT_EQ(with("gelu_new"), logits(tiny()));
  for (const char* name : {"gelu_pytorch_tanh", "gelu_fast", "gelu_accurate"}) EXPECT_EQ(with(name), with("gelu_new")) << name;
  EXPECT_EQ(with("gelu_python"), with("gelu"));
  EXPECT_EQ(with("swish"), with("silu"));
  for (const char* name : {"gelu", "quick_gelu", "silu", "relu", "relu2", "relu6", "leaky_relu", "sigmoid", "tanh", "linear"}) {
    EXPECT_NE(with(name), with("gelu_new")) << name;
  }
}

}  // namespace zoo_gpt2
}  // namespace duet::testing
