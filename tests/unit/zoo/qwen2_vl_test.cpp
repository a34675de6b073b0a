#include "duet/zoo/qwen2_vl.hpp"

#include <gmock/gmock.h>

#include "support/tiny_checkpoint.hpp"

namespace duet::testing {
namespace zoo_qwen2_vl {

using ::testing::HasSubstr;
using Json = nlohmann::json;

/// A picture of 3 x 2 cells and the places of their tokens.
ReferenceInputs prompt() { return tiny_picture(tiny_text({3, 21, 20, 20, 20, 20, 20, 20, 22, 5, 9}), 24, 16); }

/// Qwen2-VL, or Qwen2.5-VL.
TinyCheckpoint tiny(const std::string& type) {
  Json config = tiny_llama_config();
  config.merge_patch({{"model_type", type}, {"num_key_value_heads", 2}, {"image_token_id", 20},
                      {"rope_scaling", {{"type", "mrope"}, {"mrope_section", {1, 1, 1}}}},
                      {"vision_config", {{"depth", 2}, {"num_heads", 2}, {"patch_size", 4}}}});
  const bool is_2_5 = type == "qwen2_5_vl";
  config["vision_config"].merge_patch(is_2_5 ? Json{{"hidden_size", 8}, {"intermediate_size", 16}, {"out_hidden_size", 12}}
                                             : Json{{"embed_dim", 8}, {"mlp_ratio", 2}, {"hidden_size", 12}});
  TinyCheckpoint qwen{config, tiny_llama_shapes("model.", "")};
  for (const char* layer : {"model.layers.0.self_attn.", "model.layers.1.self_attn."}) {
    for (const char* name : {"q_proj.bias", "k_proj.bias", "v_proj.bias"}) qwen.shapes[std::string(layer) + name] = {12};
  }
  const auto norm = [&](const std::string& name) {
    qwen.shapes[name + ".weight"] = {8};
    if (!is_2_5) qwen.shapes[name + ".bias"] = {8};
  };
  qwen.shapes["visual.patch_embed.proj.weight"] = {8, 3, 2, 4, 4};
  for (const char* block : {"visual.blocks.0.", "visual.blocks.1."}) {
    const std::string b = block;
    norm(b + "norm1"), norm(b + "norm2");
    add_linear(qwen.shapes, b + "attn.qkv", 8, 24), add_linear(qwen.shapes, b + "attn.proj", 8, 8);
    for (const char* name : {"mlp.gate_proj", "mlp.up_proj"}) {
      if (is_2_5) add_linear(qwen.shapes, b + name, 8, 16);
    }
    if (!is_2_5) add_linear(qwen.shapes, b + "mlp.fc1", 8, 16);
    add_linear(qwen.shapes, b + (is_2_5 ? "mlp.down_proj" : "mlp.fc2"), 16, 8);
  }
  norm("visual.merger.ln_q");
  add_linear(qwen.shapes, "visual.merger.mlp.0", 32, 32), add_linear(qwen.shapes, "visual.merger.mlp.2", 32, 12);
  return qwen;
}

std::vector<float> logits(const TinyCheckpoint& checkpoint) { return checkpoint.run(prompt()).at("logits"); }

TEST(Qwen2VlConfig, AbsentKeysAreTheReferencesDefaults) {
  const Json both{{"rms_norm_eps", 1e-5}, {"rope_theta", 1e6}, {"hidden_act", "silu"}, {"tie_word_embeddings", false}, {"use_sliding_window", false},
                  {"vision_config", {{"in_channels", 3}, {"temporal_patch_size", 2}, {"spatial_merge_size", 2}}}};
  EXPECT_EQ(logits(tiny("qwen2_vl").with(both).with({{"vision_config", {{"hidden_act", "quick_gelu"}}}})), logits(tiny("qwen2_vl")));
  EXPECT_EQ(logits(tiny("qwen2_5_vl").with(both).with({{"vision_config", {{"hidden_act", "silu"}, {"window_size", 112}, {"fullatt_block_indexes", {7, 15, 23, 31}}}}})),
            logits(tiny("qwen2_5_vl")));
}

TEST(Qwen2VlConfig, OldAndNewSpellings) {
  for (const char* type : {"qwen2_vl", "qwen2_5_vl"}) {
    const TinyCheckpoint old = tiny(type);
    EXPECT_EQ(logits(old.with({{"rope_scaling", {{"type", "default"}, {"rope_type", "default"}}}})), logits(old));
    TinyCheckpoint nested = old;
    nested.config["text_config"] = tiny_llama_config();
    nested.config["text_config"].merge_patch({{"model_type", std::string(type) + "_text"}, {"num_key_value_heads", 2},
                                              {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 1e6}, {"mrope_section", {1, 1, 1}}}}});
    for (const char* key : {"rope_scaling", "vocab_size", "hidden_size", "num_attention_heads", "intermediate_size"}) nested.config.erase(key);
    EXPECT_EQ(logits(nested), logits(old));
    EXPECT_EQ(logits(nested.renamed({{"visual.", "model.visual."}, {"model.", "model.language_model."}})), logits(old));
  }
}

TEST(Qwen2VlConfig, TheHeadMayBeTied) {
  EXPECT_NE(logits(tiny("qwen2_vl").with({{"tie_word_embeddings", true}})), logits(tiny("qwen2_vl")));
}

TEST(Qwen2VlConfig, SectionsSayWhatTurnsByRowAndColumn) {
  const auto with_sections = [](std::vector<Index> sections) {
    return tiny("qwen2_vl").with({{"rope_scaling", {{"mrope_section", std::move(sections)}}}});
  };
  EXPECT_NE(logits(with_sections({3, 0, 0})), logits(tiny("qwen2_vl")));
  EXPECT_NE(logits(with_sections({1, 2, 0})), logits(with_sections({1, 0, 2})));
  EXPECT_THAT(complaint([&] { static_cast<void>(with_sections({1, 1, 2}).load()); }), HasSubstr("mrope_section"));
}

TEST(Qwen25VlConfig, WindowsHoldInAllLayersButThoseThatSeeAll) {
  const TinyCheckpoint everywhere = tiny("qwen2_5_vl"), windows = everywhere.with({{"vision_config", {{"window_size", 8}}}});
  EXPECT_NE(logits(windows), logits(everywhere));
  const auto seeing_all = [&](std::vector<Index> layers) { return logits(windows.with({{"vision_config", {{"fullatt_block_indexes", std::move(layers)}}}})); };
  EXPECT_NE(seeing_all({1}), logits(windows));
  EXPECT_NE(seeing_all({1}), logits(everywhere));
  // In another order, sums round otherwise.
  const std::vector<float> all = seeing_all({0, 1}), expected = logits(everywhere);
  for (std::size_t i = 0; i < all.size(); ++i) EXPECT_NEAR(all[i], expected[i], 1e-4);
}

TEST(Qwen2VlConfig, WrongValuesAreErrors) {
  const auto load = [](const char* type, const Json& changes) { return complaint([&] { static_cast<void>(tiny(type).with({{"vision_config", changes}}).load()); }); };
  EXPECT_THAT(load("qwen2_vl", {{"num_heads", 3}}), HasSubstr("num_attention_heads: got 3"));
  EXPECT_THAT(load("qwen2_vl", {{"mlp_ratio", -1}}), HasSubstr("mlp_ratio: got -1"));
  EXPECT_THAT(load("qwen2_vl", {{"patch_size", 0}}), HasSubstr("patch_size"));
  EXPECT_THAT(load("qwen2_vl", {{"hidden_size", 16}}), HasSubstr("mlp.2.weight: got [12, 32], expected [16, 32]"));
  EXPECT_THAT(load("qwen2_5_vl", {{"window_size", 7}}), HasSubstr("window_size: got 7, expected at least 8"));
}

}  // namespace zoo_qwen2_vl
}  // namespace duet::testing
