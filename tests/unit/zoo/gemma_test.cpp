#include "duet/zoo/gemma.hpp"

#include <gmock/gmock.h>

#include "support/tiny_checkpoint.hpp"

namespace duet::testing {
namespace zoo_gemma {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Json = nlohmann::json;

DecoderConfig read(const Json& config, std::string_view type) { return read_gemma_config(JsonView(config, "config.json"), type); }

Json tiny_gemma_config(const char* type) {
  Json config = tiny_llama_config();
  config.update({{"model_type", type}, {"head_dim", 6}, {"num_key_value_heads", 2}, {"query_pre_attn_scalar", 6}});
  return config;
}
/// Four norms a layer, and those of the heads if asked for.
TinyCheckpoint tiny_gemma(const char* type) {
  TinyCheckpoint result{tiny_gemma_config(type), tiny_llama_shapes("model.", "")};
  result.shapes.erase("lm_head.weight");
  if (std::string_view(type) == "gemma") return result;
  for (const char* layer : {"model.layers.0.", "model.layers.1."}) {
    const std::string l = layer;
    result.shapes[l + "pre_feedforward_layernorm.weight"] = result.shapes[l + "post_feedforward_layernorm.weight"] = {12};
    if (std::string_view(type) == "gemma3_text") result.shapes[l + "self_attn.q_norm.weight"] = result.shapes[l + "self_attn.k_norm.weight"] = {6};
  }
  return result;
}
std::vector<float> logits(const TinyCheckpoint& checkpoint) { return checkpoint.run(tiny_text()).at("logits"); }

TEST(GemmaConfig, AbsentKeysAreTheReferencesDefaults) {
  const DecoderConfig first = read(Json::object(), "gemma"), second = read(Json::object(), "gemma2"), third = read(Json::object(), "gemma3_text");
  EXPECT_EQ(first.vocab_size, 256000);
  EXPECT_EQ(first.hidden_size, 3072);
  EXPECT_EQ(first.head_dim, 256);
  EXPECT_FLOAT_EQ(first.embedding_scale, std::sqrt(3072.0f));
  EXPECT_EQ(first.head, LanguageHead::kTied);
  EXPECT_EQ(first.hidden_act, "gelu_pytorch_tanh");
  EXPECT_FALSE(first.attention_scale);
  EXPECT_EQ(first.final_logit_softcapping, 0.0f);
  EXPECT_TRUE(first.sliding_attention_layers.empty());

  EXPECT_EQ(second.num_key_value_heads, 4);
  EXPECT_FLOAT_EQ(second.attention_scale.value(), 1.0f / 16.0f);
  EXPECT_EQ(second.attn_logit_softcapping, 50.0f);
  EXPECT_EQ(second.final_logit_softcapping, 30.0f);
  EXPECT_EQ(second.sliding_window, 4096);
  EXPECT_EQ(second.sliding_attention_layers.size(), 13u);
  EXPECT_EQ(second.sliding_attention_layers[1], 2) << "even layers slide";
  EXPECT_FALSE(second.sliding_rope);

  EXPECT_EQ(third.vocab_size, 262208);
  EXPECT_FLOAT_EQ(third.rope.rope_theta, 1e6f);
  EXPECT_FLOAT_EQ(third.sliding_rope->rope_theta, 1e4f);
  EXPECT_EQ(third.attn_logit_softcapping, 0.0f);
  EXPECT_TRUE(third.head_norms);
  EXPECT_EQ(third.sliding_attention_layers.size(), 22u);
  EXPECT_EQ(std::ranges::count(third.sliding_attention_layers, 5), 0) << "every sixth sees all";
}

TEST(GemmaConfig, NullIsNone) {
  const Json nulls = {{"attn_logit_softcapping", nullptr}, {"final_logit_softcapping", nullptr}, {"sliding_window", nullptr}};
  const DecoderConfig config = read(nulls, "gemma2");
  EXPECT_EQ(config.attn_logit_softcapping, 0.0f);
  EXPECT_EQ(config.final_logit_softcapping, 0.0f);
  EXPECT_TRUE(config.sliding_attention_layers.empty());
}

TEST(GemmaConfig, TheFirstCheckpointsMeantTheApproximation) {
  EXPECT_EQ(read({{"hidden_act", "gelu"}}, "gemma").hidden_act, "gelu_pytorch_tanh");
  EXPECT_EQ(read({{"hidden_act", "gelu"}, {"hidden_activation", nullptr}}, "gemma").hidden_act, "gelu_pytorch_tanh");
  EXPECT_EQ(read({{"hidden_act", "gelu_pytorch_tanh"}, {"hidden_activation", "gelu"}}, "gemma").hidden_act, "gelu");
  EXPECT_EQ(read({{"hidden_act", "silu"}}, "gemma").hidden_act, "silu");
}

TEST(Gemma3Config, OldAndNewWords) {
  const Json old_words = {{"num_hidden_layers", 4}, {"rope_theta", 5e5}, {"rope_local_base_freq", 2e4}, {"sliding_window_pattern", 2},
                          {"rope_scaling", {{"rope_type", "linear"}, {"factor", 8.0}}}};
  const Json new_words = {{"num_hidden_layers", 4},
                          {"layer_types", {"sliding_attention", "full_attention", "sliding_attention", "full_attention"}},
                          {"rope_parameters", {{"full_attention", {{"rope_type", "linear"}, {"factor", 8.0}, {"rope_theta", 5e5}}},
                                               {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 2e4}}}}}};
  for (const Json& words : {old_words, new_words}) {
    const DecoderConfig config = read(words, "gemma3_text");
    EXPECT_THAT(config.sliding_attention_layers, ElementsAre(0, 2));
    EXPECT_EQ(config.rope.rope_type, "linear");
    EXPECT_FLOAT_EQ(config.rope.factor, 8.0f);
    EXPECT_FLOAT_EQ(config.rope.rope_theta, 5e5f);
    EXPECT_EQ(config.sliding_rope->rope_type, "default");
    EXPECT_FLOAT_EQ(config.sliding_rope->rope_theta, 2e4f);
  }
}

TEST(Gemma, EveryGenerationRunsAndHasItsNorms) {
  for (const char* type : {"gemma", "gemma2", "gemma3_text"}) {
    TinyCheckpoint checkpoint = tiny_gemma(type);
    const auto before = logits(checkpoint);
    EXPECT_EQ(before.size(), 8u * 23u) << type;
    EXPECT_EQ(logits(checkpoint.renamed({{"model.", ""}})), before) << type;
    for (const auto& [name, shape] : tiny_gemma(type).shapes) {
      if (name.find("norm") == std::string::npos) continue;
      TinyCheckpoint without = checkpoint;
      without.shapes.erase(name);
      EXPECT_THAT(complaint([&] { static_cast<void>(without.load()); }), HasSubstr(name)) << type;
    }
  }
}

TEST(Gemma, SoftCapsWindowsAndScalesReachTheModel) {
  const TinyCheckpoint second = tiny_gemma("gemma2");
  const auto before = logits(second);
  EXPECT_NE(logits(second.with({{"attn_logit_softcapping", 0.5}})), before);
  EXPECT_NE(logits(second.with({{"final_logit_softcapping", 0.5}})), before);
  EXPECT_NE(logits(second.with({{"sliding_window", 2}})), before);
  EXPECT_NE(logits(second.with({{"query_pre_attn_scalar", 24}})), before);
  const TinyCheckpoint third = tiny_gemma("gemma3_text");
  EXPECT_NE(logits(third.with({{"rope_local_base_freq", 10.0}})), logits(third));
  EXPECT_NE(logits(third.with({{"sliding_window", 2}})), logits(third));
}

}  // namespace zoo_gemma
}  // namespace duet::testing
