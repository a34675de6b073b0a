#include "duet/zoo/mllama.hpp"

#include <gmock/gmock.h>

#include "support/tiny_checkpoint.hpp"

namespace duet::testing {
namespace zoo_mllama {

using ::testing::HasSubstr;
using Json = nlohmann::json;

constexpr Index kRows = 2 * 5;  // of a picture: two tiles of a class token and four patches

TinyCheckpoint tiny() {
  Json text = tiny_llama_config();
  text["model_type"] = "mllama_text_model";
  text["num_hidden_layers"] = 3;
  text["num_key_value_heads"] = 1;
  text["cross_attention_layers"] = {1};
  const Json vision{{"image_size", 8}, {"patch_size", 4}, {"hidden_size", 12}, {"intermediate_size", 20}, {"num_hidden_layers", 2}, {"num_global_layers", 1},
                    {"attention_heads", 2}, {"max_num_tiles", 2}, {"intermediate_layers_indices", {0, 1}}, {"supported_aspect_ratios", {{1, 1}, {1, 2}, {2, 1}}}};
  TinyCheckpoint model{{{"model_type", "mllama"}, {"image_token_index", 23}, {"text_config", text}, {"vision_config", vision}}, {}};
  Shapes& shapes = model.shapes;
  const std::string t = "language_model.model.", v = "vision_model.";
  shapes[t + "embed_tokens.weight"] = {31, 12};
  shapes[t + "norm.weight"] = {12};
  shapes["language_model.lm_head.weight"] = {23, 12};
  for (const char* layer : {"layers.0.", "layers.1.", "layers.2."}) {
    const std::string l = t + layer, attention = l + (l == t + "layers.1." ? "cross_attn." : "self_attn.");
    shapes[l + "input_layernorm.weight"] = shapes[l + "post_attention_layernorm.weight"] = {12};
    for (const char* name : {"q_proj", "o_proj"}) add_linear(shapes, attention + name, 12, 12, false);
    for (const char* name : {"k_proj", "v_proj"}) add_linear(shapes, attention + name, 12, 6, false);
    for (const char* name : {"gate_proj", "up_proj"}) add_linear(shapes, l + "mlp." + name, 12, 20, false);
    add_linear(shapes, l + "mlp.down_proj", 20, 12, false);
  }
  for (const char* name : {"q_norm", "k_norm"}) shapes[t + "layers.1.cross_attn." + name + ".weight"] = {6};
  for (const char* gate : {"cross_attn_attn_gate", "cross_attn_mlp_gate"}) shapes[t + "layers.1." + gate] = {1};
  add_linear(shapes, "multi_modal_projector", 36, 12);
  shapes[v + "class_embedding"] = {12};
  shapes[v + "patch_embedding.weight"] = {12, 3, 4, 4};
  shapes[v + "gated_positional_embedding.embedding"] = {5, 12};
  shapes[v + "gated_positional_embedding.tile_embedding.weight"] = {4, kRows * 12};
  for (const char* name : {"pre_tile_positional_embedding.", "post_tile_positional_embedding."}) shapes[v + name + "embedding.weight"] = {4, 2 * 12};
  for (const char* name : {"gated_positional_embedding.", "pre_tile_positional_embedding.", "post_tile_positional_embedding."}) shapes[v + name + "gate"] = {1};
  for (const char* norm : {"layernorm_pre", "layernorm_post"}) add_norm(shapes, v + norm, 12);
  for (const char* layer : {"transformer.layers.0.", "transformer.layers.1.", "global_transformer.layers.0."}) {
    const std::string l = v + layer;
    for (const char* norm : {"input_layernorm", "post_attention_layernorm"}) add_norm(shapes, l + norm, 12);
    for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj"}) add_linear(shapes, l + "self_attn." + name, 12, 12, false);
    add_linear(shapes, l + "mlp.fc1", 12, 20), add_linear(shapes, l + "mlp.fc2", 20, 12);
  }
  for (const char* gate : {"gate_attn", "gate_ffn"}) shapes[v + "global_transformer.layers.0." + gate] = {1};
  return model;
}

/// Ids and pictures on canvases of these grids.
ReferenceInputs prompt(std::vector<TokenId> ids, const std::vector<std::array<Index, 2>>& grids) {
  ReferenceInputs inputs = tiny_text(std::move(ids));
  VisualInput input;
  for (const auto& [rows, cols] : grids) {
    input.add_picture({.original = {}, .resized = {}, .num_crops = rows * cols, .tile_rows = rows, .tile_cols = cols, .num_tokens = kRows});
    for (Index t = 0; t < 2; ++t) {
      const std::span<float> pixels = input.add_crop({8, 8});
      for (std::size_t i = 0; i < pixels.size() && t < rows * cols; ++i) {
        pixels[i] = static_cast<float>((i * 37 + static_cast<std::size_t>(input.num_crops()) * 11) % 199) / 100.0f - 1.0f;
      }
    }
  }
  inputs.pixel_values = std::move(input);
  return inputs;
}
/// The logits of row i.
std::vector<float> row(const std::vector<float>& logits, std::size_t i) {
  return {logits.begin() + static_cast<long>(23 * i), logits.begin() + static_cast<long>(23 * (i + 1))};
}

TEST(Mllama, ReadsItsPictures) {
  const auto stages = tiny().run(prompt({1, 23, 4, 9}, {{1, 2}}), 2);
  EXPECT_EQ(stages.at("vision_out").size(), static_cast<std::size_t>(kRows * 36));
  EXPECT_EQ(stages.at("projected").size(), static_cast<std::size_t>(kRows * 12));
  EXPECT_EQ(stages.at("logits").size(), 4u * 23u) << "the image token has an embedding and no logit";
  const auto model = tiny().load();
  EXPECT_EQ(model->info().unused_tensors, std::vector<std::string>());
  EXPECT_EQ(model->info().self_attention_layers, 2);
  EXPECT_EQ(model->info().cross_attention_layers, 1);
  EXPECT_EQ(model->rules().picture_rows, PictureRows::kInMemory);
  EXPECT_EQ(model->rules().tokens_per_image, kRows);
}

TEST(Mllama, RowsSeeTheUsedTilesOfTheLastPictures) {
  const auto logits = [](std::vector<TokenId> ids, const std::vector<std::array<Index, 2>>& grids) {
    return tiny().run(prompt(std::move(ids), grids)).at("logits");
  };
  const std::vector<float> one = logits({23, 4, 9}, {{1, 2}}), two = logits({23, 4, 23, 9}, {{1, 2}, {1, 1}});
  EXPECT_EQ(row(one, 1), row(two, 1)) << "a row before the second picture does not see it";
  const std::vector<float> run = logits({23, 23, 9}, {{1, 1}, {1, 2}}), last = logits({23, 5, 23, 9}, {{1, 1}, {1, 2}});
  EXPECT_NE(row(run, 2), row(last, 3));
}

TEST(Mllama, WithoutPicturesTheLayersThatReadThemAreNotThere) {
  const std::vector<TokenId> ids{3, 1, 4, 1, 5, 9, 2, 23};
  const auto with = tiny().run(prompt(ids, {{1, 1}})), without = tiny().run(tiny_text(ids));
  EXPECT_TRUE(with.contains("cross_attn_out.0"));
  EXPECT_FALSE(without.contains("cross_attn_out.0"));
  EXPECT_EQ(without.at("layer_out.1"), without.at("layer_out.0"));
  EXPECT_NE(with.at("layer_out.1"), with.at("layer_out.0"));
}

TEST(Mllama, NamesOfNewerVersions) {
  const TinyCheckpoint renamed = tiny().renamed({{"language_model.model.", "model.language_model."}, {"language_model.lm_head", "lm_head"},
                                                 {"vision_model.", "model.vision_model."}, {"multi_modal_projector", "model.multi_modal_projector"}});
  const ReferenceInputs inputs = prompt({1, 23, 4}, {{2, 1}});
  EXPECT_EQ(renamed.run(inputs), tiny().run(inputs));
}

TEST(MllamaConfig, AbsentKeysAreTheReferencesDefaults) {
  const Json empty = Json::object();
  const PromptRules rules = Mllama::rules(JsonView(empty, "config.json"));
  EXPECT_EQ(rules.image_token_id, 128256);
  EXPECT_EQ(rules.tokens_per_image, 4 * (32 * 32 + 1));
  const ReferenceInputs inputs = prompt({1, 23, 4}, {{2, 1}});
  EXPECT_EQ(tiny().without("/vision_config/supported_aspect_ratios").run(inputs), tiny().run(inputs));
}

TEST(MllamaConfig, WrongValuesAreErrors) {
  const auto load = [](const Json& changes) { return complaint([&] { static_cast<void>(tiny().with(changes).load()); }); };
  EXPECT_THAT(load({{"vision_config", {{"intermediate_layers_indices", {7}}}}}), HasSubstr("intermediate_layers_indices: got 7, expected between 0 and 2"));
  EXPECT_THAT(load({{"vision_config", {{"supported_aspect_ratios", {{1}}}}}}), HasSubstr("supported_aspect_ratios"));
  EXPECT_THAT(load({{"vision_config", {{"max_num_tiles", 0}}}}), HasSubstr("max_num_tiles"));
  EXPECT_THAT(load({{"vision_config", {{"patch_size", 3}}}}), HasSubstr("patch_size: got 3, expected a divisor of image_size, 8"));
  EXPECT_THAT(complaint([] { tiny().run(prompt({23, 23}, {{1, 1}})); }), HasSubstr("one for each picture"));
}

}  // namespace zoo_mllama
}  // namespace duet::testing
