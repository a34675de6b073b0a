#include "duet/zoo/phi3_v.hpp"

#include <gmock/gmock.h>

#include "support/tiny_checkpoint.hpp"

namespace duet::testing {
namespace zoo_phi3_v {

using ::testing::HasSubstr;
using Json = nlohmann::json;

constexpr Index kTile = 56;  // 4 x 4 patches, 2 x 2 rows of tokens

/// A picture of one tile: 2 · (4 + 2) + 1 tokens.
ReferenceInputs prompt() {
  std::vector<TokenId> ids{3, 1};
  ids.insert(ids.end(), 13, -1);
  ids.insert(ids.end(), {5, 9});
  ReferenceInputs inputs = tiny_text(std::move(ids));
  VisualInput input;
  input.add_picture({.original = {kTile, kTile}, .resized = {kTile, kTile}, .num_crops = 2, .tile_rows = 1, .tile_cols = 1, .num_tokens = 13});
  for (Index k = 0; k < 2; ++k) {
    const std::span<float> pixels = input.add_crop({kTile, kTile});
    for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<float>((i + static_cast<std::size_t>(k)) * 37 % 199) / 100.0f - 1.0f;
  }
  inputs.pixel_values = std::move(input);
  return inputs;
}

TinyCheckpoint tiny() {
  Json config = tiny_llama_config();
  config.merge_patch({{"model_type", "phi3_v"}, {"num_key_value_heads", 2}, {"img_processor", {{"name", "clip_vision_model"}, {"image_dim_out", 16}}},
                      {"embd_layer", {{"embedding_cls", "image"}, {"hd_transform_order", "sub_glb"}, {"projection_cls", "mlp"}, {"use_hd_transform", true},
                                      {"with_learnable_separator", true}}}});
  TinyCheckpoint phi{config, tiny_llama_shapes("model.", "")};
  for (const char* layer : {"model.layers.0.", "model.layers.1."}) {
    const std::string l = layer;
    for (const char* name : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj"}) phi.shapes.erase(l + name + ".weight");
    add_linear(phi.shapes, l + "self_attn.qkv_proj", 12, 36, false);
    add_linear(phi.shapes, l + "mlp.gate_up_proj", 12, 40, false);
  }
  const std::string vision = "model.vision_embed_tokens.", tower = vision + "img_processor.vision_model.";
  phi.shapes[tower + "embeddings.patch_embedding.weight"] = {16, 3, 14, 14};
  phi.shapes[tower + "embeddings.class_embedding"] = {16};
  phi.shapes[tower + "embeddings.position_embedding.weight"] = {17, 16};
  add_norm(phi.shapes, tower + "pre_layrnorm", 16);
  for (const char* layer : {"encoder.layers.0.", "encoder.layers.1."}) {
    const std::string l = tower + layer;
    for (const char* norm : {"layer_norm1", "layer_norm2"}) add_norm(phi.shapes, l + norm, 16);
    for (const char* name : {"q_proj", "k_proj", "v_proj", "out_proj"}) add_linear(phi.shapes, l + "self_attn." + name, 16, 16);
    add_linear(phi.shapes, l + "mlp.fc1", 16, 20), add_linear(phi.shapes, l + "mlp.fc2", 20, 16);
  }
  phi.shapes[vision + "sub_GN"] = {1, 1, 1, 64};
  phi.shapes[vision + "glb_GN"] = {1, 1, 64};
  add_linear(phi.shapes, vision + "img_projection.0", 64, 12), add_linear(phi.shapes, vision + "img_projection.2", 12, 12);
  return phi;
}

std::vector<float> logits(const TinyCheckpoint& checkpoint) { return checkpoint.run(prompt()).at("logits"); }

TEST(Phi3VConfig, TheTowersSizesAreThoseOfItsTensors) {
  const auto stages = tiny().run(prompt());
  EXPECT_EQ(stages.at("projected").size(), 13u * 12u);
  EXPECT_EQ(stages.at("vision_layer_out.0").size(), 2u * 17u * 16u);
  EXPECT_EQ(logits(tiny().without("/img_processor/image_dim_out")), logits(tiny()));
}

TEST(Phi3VConfig, AbsentKeysAreTheReferencesDefaults) {
  EXPECT_EQ(logits(tiny().with({{"img_processor", {{"layer_idx", -2}, {"type_feature", "patch"}}}, {"rms_norm_eps", 1e-5}, {"rope_theta", 10000.0}})), logits(tiny()));
  EXPECT_NE(logits(tiny().with({{"img_processor", {{"layer_idx", -1}}}})), logits(tiny()));
  EXPECT_EQ(logits(tiny().without("/embd_layer/hd_transform_order")), logits(tiny().with({{"embd_layer", {{"hd_transform_order", "glb_sub"}}}})));
  EXPECT_NE(logits(tiny().without("/embd_layer/hd_transform_order")), logits(tiny()));
}

TEST(Phi3VConfig, OtherEmbeddingsAreErrors) {
  const auto load = [](const char* part, const Json& changes) { return complaint([&] { static_cast<void>(tiny().with({{part, changes}}).load()); }); };
  EXPECT_THAT(load("embd_layer", {{"projection_cls", "linear"}}), HasSubstr("projection_cls: got \"linear\", expected mlp"));
  EXPECT_THAT(load("embd_layer", {{"use_hd_transform", false}}), HasSubstr("use_hd_transform: got false"));
  EXPECT_THAT(load("embd_layer", {{"with_learnable_separator", false}}), HasSubstr("with_learnable_separator: got false"));
  EXPECT_THAT(load("embd_layer", {{"hd_transform_order", "sub"}}), HasSubstr("hd_transform_order: got \"sub\", expected sub_glb or glb_sub"));
  EXPECT_THAT(load("img_processor", {{"type_feature", "cls_patch"}}), HasSubstr("type_feature: got \"cls_patch\", expected patch"));
  EXPECT_THAT(load("img_processor", {{"layer_idx", 5}}), HasSubstr("vision_feature_layer: got 5"));
}

}  // namespace zoo_phi3_v
}  // namespace duet::testing
