#include "duet/zoo/idefics3.hpp"

#include <gmock/gmock.h>

#include "support/tiny_checkpoint.hpp"

namespace duet::testing {
namespace zoo_idefics3 {

using ::testing::HasSubstr;
using Json = nlohmann::json;

/// Crops of 2 x 2 patches, each of which becomes one row.
TinyCheckpoint tiny() {
  TinyCheckpoint idefics{{{"model_type", "idefics3"}, {"image_token_id", 20}, {"vision_config", tiny_siglip_vision_config()}, {"text_config", tiny_llama_config()}},
                         together(tiny_siglip_vision_shapes("model.vision_model."), tiny_llama_shapes("model.text_model.", ""))};
  idefics.config["vision_config"]["model_type"] = "idefics3_vision";
  add_linear(idefics.shapes, "model.connector.modality_projection.proj", 48, 12, false);
  return idefics;
}
/// A picture of five crops, and so many places for its rows.
ReferenceInputs prompt(int places = 5) {
  std::vector<TokenId> ids{3, 1};
  ids.insert(ids.end(), static_cast<std::size_t>(places), 20);
  ids.insert(ids.end(), {5, 9});
  return tiny_crops({.original = {16, 16}, .resized = {16, 16}, .num_crops = 5, .tile_rows = 2, .tile_cols = 2, .num_tokens = 5}, tiny_text(ids));
}

TEST(Idefics3, EveryCropBringsItsRows) {
  const auto stages = tiny().run(prompt(), 2);
  EXPECT_EQ(stages.at("projected").size(), 5u * 12u);
  EXPECT_EQ(stages.at("logits").size(), 9u * 23u);
  EXPECT_THAT(complaint([] { tiny().run(prompt(4)); }), HasSubstr("5"));
}

TEST(Idefics3, SmolVlmIsTheSameModel) {
  EXPECT_EQ(tiny().with({{"model_type", "smolvlm"}}).run(prompt()), tiny().run(prompt()));
}

TEST(Idefics3Config, AbsentKeysAreTheReferencesDefaults) {
  EXPECT_EQ(tiny().with({{"scale_factor", 2}}).run(prompt()), tiny().run(prompt()));
  const Json empty = Json::object();
  EXPECT_EQ(Idefics3::rules(JsonView(empty, "config.json")).image_token_id, 128257);
  EXPECT_EQ(Idefics3::rules(JsonView(empty, "config.json")).tokens_per_image, 9) << "(224 / 32 / 2)²";
}

TEST(Idefics3Config, WrongValuesAreErrors) {
  const auto load = [](const Json& changes) { return complaint([&] { static_cast<void>(tiny().with(changes).load()); }); };
  EXPECT_THAT(load({{"scale_factor", 0}}), HasSubstr("scale_factor: got 0"));
  EXPECT_THAT(load({{"scale_factor", 3}}), HasSubstr("proj.weight: got [12, 48], expected [12, 108]"));
  EXPECT_THAT(load({{"vision_config", {{"patch_size", 0}}}}), HasSubstr("patch_size"));
}

}  // namespace zoo_idefics3
}  // namespace duet::testing
