#include "duet/zoo/dinov2.hpp"

#include <gmock/gmock.h>

#include "support/tiny_checkpoint.hpp"

namespace duet::testing {
namespace zoo_dinov2 {

using ::testing::HasSubstr;
using Json = nlohmann::json;

TinyCheckpoint tiny(const Json& changes = Json::object()) {
  Json config{{"model_type", "dinov2"}, {"hidden_size", 12}, {"mlp_ratio", 2}, {"num_hidden_layers", 2}, {"num_attention_heads", 2},
              {"image_size", 8}, {"patch_size", 4}};
  config.merge_patch(changes);
  Shapes shapes = tiny_vit_shapes("");
  for (const char* layer : {"encoder.layer.0.", "encoder.layer.1."}) {
    const std::string l = layer;
    for (const char* name : {"layernorm_before", "layernorm_after", "intermediate.dense", "output.dense"}) {
      shapes.erase(l + name + ".weight"), shapes.erase(l + name + ".bias");
    }
    for (const char* norm : {"norm1", "norm2"}) add_norm(shapes, l + norm, 12);
    for (const char* scale : {"layer_scale1.lambda1", "layer_scale2.lambda1"}) shapes[l + scale] = {12};
    if (config.value("use_swiglu_ffn", false)) {  // 24 · 2 / 3 is a multiple of 8
      add_linear(shapes, l + "mlp.weights_in", 12, 32);
      add_linear(shapes, l + "mlp.weights_out", 16, 12);
    } else {
      add_linear(shapes, l + "mlp.fc1", 12, 24);
      add_linear(shapes, l + "mlp.fc2", 24, 12);
    }
  }
  return {config, shapes};
}

TEST(Dinov2Config, AbsentKeysAreTheReferencesDefaults) {
  const Json empty = Json::object();
  const VisionConfig config = read_dinov2_config(JsonView(empty, "config.json"));
  EXPECT_EQ(config.image_size, 224);
  EXPECT_EQ(config.patch_size, 16);
  EXPECT_EQ(config.hidden_size, 768);
  EXPECT_EQ(config.intermediate_size, 3072);
  EXPECT_FLOAT_EQ(config.layer_norm_eps, 1e-6f);
  EXPECT_EQ(config.hidden_act, "gelu");
  EXPECT_THROW(static_cast<void>(read_dinov2_config(JsonView(Json{{"mlp_ratio", -1}}, "config.json"))), Error);
}

TEST(Dinov2, ThePooledRowIsTheClassTokens) {
  const auto stages = tiny().run(tiny_picture());
  const auto& rows = stages.at("last_hidden_state");
  ASSERT_EQ(rows.size(), 5u * 12u);
  EXPECT_EQ(stages.at("pooler_output"), std::vector<float>(rows.begin(), rows.begin() + 12));
}

TEST(Dinov2, ReadsPicturesOfOtherSizes) {
  EXPECT_EQ(tiny().run(tiny_picture({}, 8, 16)).at("last_hidden_state").size(), 9u * 12u);
}

TEST(Dinov2, TheLargestHasSwiglu) {
  EXPECT_EQ(complaint([] { tiny({{"use_swiglu_ffn", true}}).run(tiny_picture()); }), "");
  EXPECT_THAT(complaint([] { tiny().with({{"use_swiglu_ffn", true}}).run(tiny_picture()); }), HasSubstr("weights_in"));
}

/// With three registers.
TinyCheckpoint tiny_with_registers() {
  TinyCheckpoint result = tiny({{"model_type", "dinov2_with_registers"}, {"num_register_tokens", 3}});
  result.shapes["embeddings.register_tokens"] = {1, 3, 12};
  return result;
}

TEST(Dinov2, RegistersStandBehindTheClassTokenWithoutPositions) {
  const auto with = tiny_with_registers().run(tiny_picture()), without = tiny().run(tiny_picture());
  const auto& rows = with.at("vision_embeds");
  const auto& plain = without.at("vision_embeds");
  ASSERT_EQ(rows.size(), 8u * 12u);
  EXPECT_TRUE(std::equal(plain.begin(), plain.begin() + 12, rows.begin()));             // class token
  EXPECT_TRUE(std::equal(plain.begin() + 12, plain.end(), rows.begin() + 4 * 12));      // patches
  const auto registers = tiny_with_registers().with({{"num_register_tokens", 2}});
  EXPECT_THAT(complaint([&] { static_cast<void>(registers.load()); }), HasSubstr("register_tokens: got [1, 3, 12], expected"));
  EXPECT_EQ(with.at("last_hidden_state").size(), rows.size());
}

TEST(Dinov2, PositionsAreSmoothedForOtherSizesWhereThereAreRegisters) {
  const auto small = [](const TinyCheckpoint& checkpoint) { return checkpoint.run(tiny_picture({}, 8, 12)).at("vision_embeds"); };
  TinyCheckpoint none = tiny_with_registers().with({{"num_register_tokens", 0}});
  const auto smoothed = small(none), plain = small(tiny());
  ASSERT_EQ(smoothed.size(), plain.size());
  EXPECT_NE(smoothed, plain);
  EXPECT_EQ(none.run(tiny_picture()).at("vision_embeds"), tiny().run(tiny_picture()).at("vision_embeds"));
}

TEST(Dinov2, AClassifierBehindRegistersReadsThePatchesAlone) {
  TinyCheckpoint classifier = tiny_with_registers().with({{"num_labels", 3}}).renamed({{"classifier", "classifier"}, {"", "dinov2_with_registers."}});
  add_linear(classifier.shapes, "classifier", 24, 3);
  const auto stages = classifier.run(tiny_picture());
  EXPECT_EQ(stages.at("logits").size(), 3u);
}

TEST(Dinov2, AClassifierReadsTheClassTokenAndTheMeanOfPatches) {
  TinyCheckpoint classifier = tiny({{"num_labels", 3}}).renamed({{"classifier", "classifier"}, {"", "dinov2."}});
  add_linear(classifier.shapes, "classifier", 24, 3);
  EXPECT_EQ(classifier.run(tiny_picture()).at("logits").size(), 3u);
  classifier.shapes["classifier.weight"] = {3, 12};
  EXPECT_THAT(complaint([&] { static_cast<void>(classifier.load()); }), HasSubstr("classifier.weight: got [3, 12], expected [3, 24]"));
}

}  // namespace zoo_dinov2
}  // namespace duet::testing
