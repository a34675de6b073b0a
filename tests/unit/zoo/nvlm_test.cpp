#include "duet/zoo/nvlm.hpp"

#include <gmock/gmock.h>

#include "support/tiny_checkpoint.hpp"

namespace duet::testing {
namespace zoo_nvlm {

using ::testing::HasSubstr;
using Json = nlohmann::json;

void add_scale_norm(Shapes& shapes, const std::string& name, Index size) { shapes[name + ".weight"] = {size}; }

/// Two layers of two heads of six channels, and `dummy` more heads.
Shapes tower_shapes(const std::string& prefix, Index dummy) {
  const std::string e = prefix + "embeddings.";
  const Index heads = 12 + 6 * dummy;
  Shapes shapes{{e + "patch_embedding.weight", {12, 3, 2, 2}}, {e + "patch_embedding.bias", {12}}, {e + "class_embedding", {1, 1, 12}},
                {e + "position_embedding", {1, 17, 12}}};
  for (const char* layer : {"encoder.layers.0.", "encoder.layers.1."}) {
    const std::string l = prefix + layer;
    add_linear(shapes, l + "attn.qkv", 12, 3 * heads, false);
    add_linear(shapes, l + "attn.proj", heads, 12);
    for (const char* norm : {"attn.q_norm", "attn.k_norm"}) add_scale_norm(shapes, l + norm, heads);
    for (const char* norm : {"norm1", "norm2"}) add_scale_norm(shapes, l + norm, 12);
    for (const char* scale : {"ls1", "ls2"}) shapes[l + scale] = {12};
    add_linear(shapes, l + "mlp.fc1", 12, 20), add_linear(shapes, l + "mlp.fc2", 20, 12);
  }
  return shapes;
}
Json tower_config() {
  return {{"model_type", "intern_vit_6b"}, {"norm_type", "rms_norm"}, {"hidden_size", 12}, {"intermediate_size", 20}, {"num_hidden_layers", 2},
          {"num_attention_heads", 2}, {"image_size", 8}, {"patch_size", 2}};
}

/// Tiles of 4 x 4 patches, four image tokens each.
TinyCheckpoint tiny(const char* type, Index dummy = 0) {
  Json text = tiny_llama_config();
  text["architectures"] = {"Qwen2ForCausalLM"};
  text["num_key_value_heads"] = 2;
  text["max_position_embeddings"] = 64;
  Json config = {{"model_type", type}, {"llm_config", text}, {"vision_config", tower_config()}, {"force_image_size", 8}, {"ps_version", "v2"},
                 {"dynamic_image_size", true}, {"use_thumbnail", true}, {"max_dynamic_patch", 3}, {"image_token_id", 20}};
  const std::string stack = "language_model.model.";
  TinyCheckpoint model{config, together(tower_shapes("vision_model.", dummy), tiny_llama_shapes(stack, "language_model."))};
  add_norm(model.shapes, "mlp1.0", 48);
  add_linear(model.shapes, "mlp1.1", 48, 20, false), add_linear(model.shapes, "mlp1.3", 20, 12, false);
  for (const char* layer : {"layers.0.", "layers.1."}) {
    for (const char* name : {"q_proj", "k_proj", "v_proj"}) model.shapes[stack + layer + "self_attn." + name + ".bias"] = {12};
  }
  if (std::string_view(type) == "NVLM_D") return model;
  model.config["tile_token_ids"] = {16, 17, 18, 19};
  model.config["cross_layer_interval"] = 2;
  if (std::string_view(type) == "NVLM_X") model.config.erase("image_token_id");
  const std::string cross = stack + "cross_layers.0.";
  for (const char* norm : {"input_layernorm", "post_attention_layernorm"}) add_scale_norm(model.shapes, cross + norm, 12);
  for (const char* name : {"q_proj", "k_proj", "v_proj"}) add_linear(model.shapes, cross + "cross_attn." + name, 12, 12);
  add_linear(model.shapes, cross + "cross_attn.o_proj", 12, 12, false);
  for (const char* name : {"gate_proj", "up_proj"}) add_linear(model.shapes, cross + "mlp." + name, 12, 20, false);
  add_linear(model.shapes, cross + "mlp.down_proj", 20, 12, false);
  for (const char* gate : {"cross_attn_attn_gate", "cross_attn_mlp_gate"}) model.shapes[cross + gate] = {1};
  return model;
}

/// A picture of two tiles and the whole of it, with tags before what the kind reads of each.
ReferenceInputs prompt(std::string_view type) {
  std::vector<TokenId> ids{3, 1};
  for (Index k = 0; k < 3; ++k) {
    ids.push_back(static_cast<TokenId>(k == 2 ? 19 : 16 + k));
    if (type == "NVLM_D" || (type == "NVLM_H" && k == 2)) ids.insert(ids.end(), 4, 20);
  }
  ids.insert(ids.end(), {5, 9});
  const PicturePlan plan{.original = {8, 16}, .resized = {8, 16}, .num_crops = 3, .tile_rows = 1, .tile_cols = 2, .num_tokens = 12};
  return tiny_crops(plan, tiny_text(std::move(ids)));
}
std::vector<float> logits(const TinyCheckpoint& checkpoint) {
  return checkpoint.run(prompt(checkpoint.config.at("model_type").get<std::string>())).at("logits");
}

class Nvlm : public ::testing::TestWithParam<const char*> {};

TEST_P(Nvlm, ReadsTilesAndTheWhole) {
  const auto stages = tiny(GetParam()).run(prompt(GetParam()), 2);
  EXPECT_EQ(stages.at("vision_layer_out.1").size(), 3u * 17u * 12u);
  EXPECT_EQ(stages.at("projected").size(), 3u * 4u * 12u);
  EXPECT_EQ(stages.contains("cross_attn_out.0"), std::string_view(GetParam()) != "NVLM_D");
  EXPECT_FALSE(stages.contains("cross_attn_out.1"));
  const auto model = tiny(GetParam()).load();
  EXPECT_EQ(model->info().tokens_per_image, 4);
  EXPECT_EQ(model->rules().tokens_per_image, 4);
  EXPECT_EQ(model->info().num_attention_heads, 2);
  EXPECT_THAT(model->info().unused_tensors, ::testing::IsEmpty());
  EXPECT_EQ(model->rules().image_token_id, std::string_view(GetParam()) == "NVLM_X" ? 19 : 20) << "of a picture X has one tag of the whole";
}

TEST_P(Nvlm, HeadsBeyondTheConfigsAreThoseThatTheTensorsHave) {
  const auto more = tiny(GetParam(), 1);
  EXPECT_THAT(more.load()->info().unused_tensors, ::testing::IsEmpty());
  EXPECT_NE(logits(more), logits(tiny(GetParam())));
}

TEST_P(Nvlm, AbsentKeysAreTheReferencesDefaults) {
  const TinyCheckpoint model = tiny(GetParam());
  const auto same = [&](const TinyCheckpoint& a, const TinyCheckpoint& b, const char* what) { EXPECT_EQ(logits(a), logits(b)) << what; };
  same(model.with({{"downsample_ratio", 0.5}, {"select_layer", -1}, {"min_dynamic_patch", 1}}), model, "of the model");
  const Json tower = {{"num_channels", 3}, {"layer_norm_eps", 1e-6}, {"hidden_act", "gelu"}, {"qkv_bias", false}, {"qk_normalization", true}};
  same(model.with({{"vision_config", tower}}), model, "of the tower");
  same(model.without("/vision_config/norm_type"), model, "of the tower's norms");
  const Json text = {{"model_type", "qwen2"}, {"rms_norm_eps", 1e-6}, {"rope_theta", 10000.0}, {"rope_scaling", {{"type", "dynamic"}, {"factor", 3.0}}}};
  same(model.with({{"llm_config", text}}), model, "of the text model, whose model_type does not matter");
  same(model.without("/ps_version"), model.with({{"ps_version", "v1"}}), "of the pixel shuffle");
  EXPECT_NE(logits(model.without("/ps_version")), logits(model));
  EXPECT_NE(logits(model.with({{"select_layer", -2}})), logits(model));
  same(model.with({{"select_layer", 2}}), model, "the last hidden state is number 2");
}

TEST_P(Nvlm, WrongValuesAreErrors) {
  const TinyCheckpoint model = tiny(GetParam());
  const auto load = [&](const Json& changes) { return complaint([&] { static_cast<void>(model.with(changes).load()); }); };
  EXPECT_THAT(load({{"downsample_ratio", 0.4}}), HasSubstr("downsample_ratio: got 0.4, expected one over a number"));
  EXPECT_THAT(load({{"downsample_ratio", 0}}), HasSubstr("downsample_ratio: got 0"));
  EXPECT_THAT(load({{"llm_config", {{"architectures", {"LlamaForCausalLM"}}}}}), HasSubstr("expected Qwen2ForCausalLM"));
  EXPECT_THAT(load({{"vision_config", {{"norm_type", "layer_norm"}}}}), HasSubstr("norm_type: got \"layer_norm\""));
  EXPECT_THAT(load({{"max_dynamic_patch", 0}}), HasSubstr("max_dynamic_patch: got 0"));
  EXPECT_THAT(load({{"min_dynamic_patch", 4}}), HasSubstr("min_dynamic_patch: got 4, expected between 1 and 3"));
  EXPECT_THAT(load({{"force_image_size", 0}}), HasSubstr("force_image_size: got 0"));
  EXPECT_THAT(load({{"vision_config", {{"num_attention_heads", 0}}}}), HasSubstr("num_attention_heads: got 0"));
  EXPECT_THAT(load({{"vision_config", {{"hidden_size", 0}}}}), HasSubstr("hidden_size: got 0"));
  EXPECT_THAT(load({{"vision_config", {{"patch_size", 0}}}}), HasSubstr("patch_size: got 0"));
  EXPECT_THAT(load({{"select_layer", 3}}), HasSubstr("got 3"));
  if (std::string_view(GetParam()) == "NVLM_D") return;
  EXPECT_THAT(load({{"cross_layer_interval", 0}}), HasSubstr("cross_layer_interval: got 0"));
  EXPECT_THAT(load({{"tile_token_ids", {16, 17}}}), HasSubstr("tile_token_ids: got 2 ids, expected 4"));
  EXPECT_THAT(complaint([&] { static_cast<void>(model.without("/tile_token_ids").load()); }), HasSubstr("tokenizer_config.json"));
}

std::string name_of(const ::testing::TestParamInfo<const char*>& info) { return info.param; }
INSTANTIATE_TEST_SUITE_P(Kinds, Nvlm, ::testing::Values("NVLM_D", "NVLM_X", "NVLM_H"), name_of);

TEST(NvlmConfig, IdsOfTokensComeFromTheTokenizerWhereConfigJsonHasNone) {
  const auto rules = [](const char* type, const Json& tokens) {
    Json config = tiny(type).config;
    config.erase("image_token_id");
    config.erase("tile_token_ids");
    const test::TempFolder folder;
    folder.write("config.json", config.dump());
    if (!tokens.is_null()) folder.write("tokenizer_config.json", Json{{"added_tokens_decoder", tokens}}.dump());
    const CheckpointFolder files(folder.path());
    return std::string_view(type) == "NVLM_D" ? NvlmD::processor(files)->rules() : NvlmX::processor(files)->rules();
  };
  const Json tags = {{"7", {{"content", "<tile_1>"}}}, {"8", {{"content", "<tile_2>"}}}, {"9", {{"content", "<tile_3>"}}},
                     {"11", {{"content", "<tile_global_thumbnail>"}}}};
  EXPECT_EQ(rules("NVLM_X", tags).image_token_id, 11);
  EXPECT_EQ(rules("NVLM_D", {{"13", {{"content", "<|vision_pad|>"}}}}).image_token_id, 13);
  EXPECT_EQ(rules("NVLM_D", tags).image_token_id, 151654) << "Qwen2.5's";
  EXPECT_EQ(rules("NVLM_D", nullptr).image_token_id, 151654);
  EXPECT_THAT(complaint([&] { rules("NVLM_D", {{"x", {{"content", "<|vision_pad|>"}}}}); }), HasSubstr("tokens under their ids"));
}

TEST(InternVit, IsATowerOfItsOwn) {
  const TinyCheckpoint whole = tiny("NVLM_D");
  TinyCheckpoint tower{tower_config(), tower_shapes("vision_model.", 0)};
  tower = tower.renamed({{"vision_model.", ""}});
  ReferenceInputs picture = prompt("NVLM_D");
  EXPECT_EQ(tower.run(picture).at("vision_out"), whole.run(picture).at("vision_out"));
  EXPECT_EQ(tower.run(picture).at("pooler_output").size(), 3u * 12u);
  EXPECT_EQ(tower.load()->info().family, "InternViT");
}

TEST(InternVit, SmallerTowersHaveLayerNormsAndNoneOfTheHeads) {
  Json config = tower_config();
  config.merge_patch({{"norm_type", "layer_norm"}, {"qk_normalization", false}, {"qkv_bias", true}});
  TinyCheckpoint tower{config, tower_shapes("", 0)};
  for (const char* layer : {"encoder.layers.0.", "encoder.layers.1."}) {
    const std::string l = layer;
    for (const char* norm : {"norm1", "norm2"}) tower.shapes[l + norm + ".bias"] = {12};
    for (const char* norm : {"attn.q_norm.weight", "attn.k_norm.weight"}) tower.shapes.erase(l + norm);
    tower.shapes[l + "attn.qkv.bias"] = {36};
  }
  EXPECT_EQ(tower.run(prompt("NVLM_D")).at("vision_out").size(), 3u * 17u * 12u);
  EXPECT_THAT(tower.load()->info().unused_tensors, ::testing::IsEmpty());
  EXPECT_THAT(complaint([&] { static_cast<void>(tower.with({{"norm_type", "batch_norm"}}).load()); }), HasSubstr("norm_type: got \"batch_norm\""));
}

}  // namespace zoo_nvlm
}  // namespace duet::testing
