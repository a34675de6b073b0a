#include "duet/zoo/persimmon.hpp"

#include <gmock/gmock.h>

#include "support/tiny_checkpoint.hpp"

namespace duet::testing {
namespace zoo_persimmon {

using ::testing::HasSubstr;
using Json = nlohmann::json;

TinyCheckpoint tiny_persimmon() {
  Json config = tiny_llama_config();
  config["model_type"] = "persimmon";
  const std::string m = "model.";
  TinyCheckpoint result{config, {{m + "embed_tokens.weight", {23, 12}}, {"lm_head.weight", {23, 12}}}};
  add_norm(result.shapes, m + "final_layernorm", 12);
  for (const char* layer : {"layers.0.", "layers.1."}) {
    const std::string l = m + layer;
    for (const char* norm : {"input_layernorm", "post_attention_layernorm"}) add_norm(result.shapes, l + norm, 12);
    for (const char* norm : {"self_attn.q_layernorm", "self_attn.k_layernorm"}) add_norm(result.shapes, l + norm, 6);
    add_linear(result.shapes, l + "self_attn.query_key_value", 12, 36);
    add_linear(result.shapes, l + "self_attn.dense", 12, 12);
    add_linear(result.shapes, l + "mlp.dense_h_to_4h", 12, 20);
    add_linear(result.shapes, l + "mlp.dense_4h_to_h", 20, 12);
  }
  return result;
}
std::vector<float> logits(const TinyCheckpoint& checkpoint) { return checkpoint.run(tiny_text()).at("logits"); }

TEST(PersimmonConfig, AbsentKeysAreTheReferencesDefaults) {
  const Json none = Json::object();
  const DecoderConfig config = read_persimmon_config(JsonView(none, "config.json"));
  EXPECT_EQ(config.vocab_size, 262144);
  EXPECT_EQ(config.num_hidden_layers, 36);
  EXPECT_EQ(config.head_dim, 64);
  EXPECT_EQ(config.intermediate_size, 16384);
  EXPECT_EQ(config.hidden_act, "relu2");
  EXPECT_FLOAT_EQ(config.rope.rope_theta, 25000.0f);
  EXPECT_FLOAT_EQ(config.rope.partial_rotary_factor, 0.5f);
  EXPECT_TRUE(config.head_norms);
  EXPECT_EQ(config.head, LanguageHead::kOwn);
}

TEST(Persimmon, RunsWithEveryTensorItHas) {
  const TinyCheckpoint checkpoint = tiny_persimmon();
  const auto before = logits(checkpoint);
  EXPECT_EQ(before.size(), 8u * 23u);
  EXPECT_TRUE(checkpoint.load()->info().unused_tensors.empty());
  for (const auto& [name, shape] : checkpoint.shapes) {
    TinyCheckpoint without = checkpoint;
    without.shapes.erase(name);
    EXPECT_THAT(complaint([&] { static_cast<void>(without.load()); }), HasSubstr(name));
  }
  EXPECT_NE(logits(checkpoint.with({{"partial_rotary_factor", 1.0}})), before);
}

TEST(Persimmon, HeadNormsMayBeOff) {
  TinyCheckpoint off = tiny_persimmon().with({{"qk_layernorm", false}});
  const auto with_unused = logits(off);
  EXPECT_NE(with_unused, logits(tiny_persimmon()));
  std::erase_if(off.shapes, [](const auto& entry) { return entry.first.find("_layernorm.") != std::string::npos && entry.first.find("self_attn") != std::string::npos; });
  EXPECT_EQ(logits(off), with_unused);
}

}  // namespace zoo_persimmon
}  // namespace duet::testing
