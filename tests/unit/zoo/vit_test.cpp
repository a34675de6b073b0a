#include "duet/zoo/vit.hpp"

#include <gmock/gmock.h>

#include <cmath>

#include "support/tiny_checkpoint.hpp"

namespace duet::testing {
namespace zoo_vit {

using ::testing::HasSubstr;
using Json = nlohmann::json;

VisionConfig read(const Json& config) { return read_vit_config(JsonView(config, "config.json")); }

TinyCheckpoint tiny(const std::string& prefix = "") { return {tiny_vit_config(), tiny_vit_shapes(prefix)}; }

std::vector<float> hidden(const TinyCheckpoint& checkpoint) { return checkpoint.run(tiny_picture()).at("final_norm"); }

TEST(VitConfig, AbsentKeysAreTheReferencesDefaults) {
  const VisionConfig config = read(Json::object());
  EXPECT_EQ(config.image_size, 224);
  EXPECT_EQ(config.patch_size, 16);
  EXPECT_EQ(config.num_channels, 3);
  EXPECT_EQ(config.hidden_size, 768);
  EXPECT_EQ(config.intermediate_size, 3072);
  EXPECT_EQ(config.num_hidden_layers, 12);
  EXPECT_EQ(config.num_attention_heads, 12);
  EXPECT_FLOAT_EQ(config.layer_norm_eps, 1e-12f);
  EXPECT_EQ(config.hidden_act, "gelu");
  EXPECT_EQ(config.qkv_bias, Linear::Bias::kRequired);
}

TEST(VitConfig, ImagesNeedNotBeSquare) {
  EXPECT_EQ(hidden(tiny().with({{"image_size", {8, 8}}, {"patch_size", {4, 4}}})), hidden(tiny()));
  const TinyCheckpoint wide{tiny_vit_config(), tiny_vit_shapes("", 6)};
  EXPECT_EQ(wide.with({{"image_size", {8, 12}}}).run(tiny_picture({}, 8, 12)).at("final_norm").size(), 7u * 12u);
  // Of another size, with positions between those that there are.
  EXPECT_EQ(wide.with({{"image_size", {12, 8}}}).run(tiny_picture({}, 8, 12)).at("final_norm").size(), 7u * 12u);
}

TEST(VitConfig, WrongValuesAreErrors) {
  const auto load = [](const Json& changes) { return complaint([&] { static_cast<void>(tiny().with(changes).load()); }); };
  EXPECT_THAT(load({{"image_size", {8, 8, 8}}}), HasSubstr("image_size: got [8,8,8], expected a number or [height, width]"));
  EXPECT_THAT(load({{"image_size", {8, 0}}}), HasSubstr("image_size: got 0, expected between 1 and 65536"));
  EXPECT_THAT(load({{"patch_size", {4, 2}}}), HasSubstr("patch_size: got 4 x 2, expected square patches"));
  EXPECT_THAT(load({{"num_attention_heads", 5}}), HasSubstr("num_attention_heads: got 5"));
  EXPECT_THAT(load({{"hidden_act", "laplace"}}), HasSubstr("hidden_act"));
}

TEST(VitNames, OldOnesWithAndWithoutPrefixAndNewOnes) {
  EXPECT_EQ(hidden(tiny("").renamed({{"", "vit."}})), hidden(tiny()));
  TinyCheckpoint renewed = tiny();
  renewed.stored_name = [](std::string name) {
    for (const auto& [from, to] : {std::pair<std::string, std::string>{"encoder.layer.", "layers."}, {"attention.attention.query", "attention.q_proj"},
                                   {"attention.attention.key", "attention.k_proj"}, {"attention.attention.value", "attention.v_proj"},
                                   {"attention.output.dense", "attention.o_proj"}, {"intermediate.dense", "mlp.fc1"}, {"output.dense", "mlp.fc2"}}) {
      if (const auto at = name.find(from); at != std::string::npos) name.replace(at, from.size(), to);
    }
    return name;
  };
  EXPECT_EQ(hidden(renewed), hidden(tiny()));
}

TEST(VitHeads, TheClassifierHasAsManyLabelsAsTheConfigNames) {
  TinyCheckpoint classifier = tiny();
  const auto with_labels = [&](Index count, const Json& changes) {
    add_linear(classifier.shapes, "classifier", 12, count);
    return classifier.with(changes).run(tiny_picture()).at("logits").size();
  };
  EXPECT_EQ(with_labels(2, Json::object()), 2u);
  EXPECT_EQ(with_labels(4, {{"num_labels", 4}}), 4u);
  EXPECT_EQ(with_labels(3, {{"id2label", {{"0", "a"}, {"1", "b"}, {"2", "c"}}}}), 3u);
  EXPECT_THAT(complaint([&] { with_labels(3, {{"num_labels", 4}}); }), HasSubstr("classifier.weight"));
}

TEST(VitHeads, ThePoolerIsADenseLayerWithAnActivation) {
  TinyCheckpoint pooling = tiny();
  add_linear(pooling.shapes, "pooler.dense", 12, 12);
  const auto pooled = pooling.run(tiny_picture()).at("pooler_output");
  ASSERT_EQ(pooled.size(), 12u);
  const auto before = pooling.with({{"pooler_act", "linear"}}).run(tiny_picture()).at("pooler_output");
  for (std::size_t i = 0; i < pooled.size(); ++i) EXPECT_NEAR(pooled[i], std::tanh(before[i]), 1e-6f);
  EXPECT_THAT(pooling.load()->info().unused_tensors, ::testing::IsEmpty());
  EXPECT_EQ(tiny().run(tiny_picture()).count("pooler_output"), 0u);
}

TinyCheckpoint tiny_deit() {
  TinyCheckpoint result = tiny().with({{"model_type", "deit"}});
  result.shapes["embeddings.distillation_token"] = {1, 1, 12};
  result.shapes["embeddings.position_embeddings"] = {1, 6, 12};
  return result;
}

TEST(DeiT, HasASecondTokenBehindTheClassToken) {
  const auto rows = tiny_deit().run(tiny_picture()).at("last_hidden_state");
  EXPECT_EQ(rows.size(), 6u * 12u);
  EXPECT_EQ(tiny_deit().renamed({{"", "deit."}}).run(tiny_picture()).at("last_hidden_state"), rows);
  TinyCheckpoint without = tiny_deit();
  without.shapes.erase("embeddings.distillation_token");
  EXPECT_THAT(complaint([&] { static_cast<void>(without.load()); }), HasSubstr("distillation_token"));
}

}  // namespace zoo_vit
}  // namespace duet::testing
