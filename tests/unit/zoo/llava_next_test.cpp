#include "duet/zoo/llava_next.hpp"

#include <gmock/gmock.h>

#include "support/tiny_checkpoint.hpp"

namespace duet::testing {
namespace zoo_llava_next {

using ::testing::HasSubstr;
using Json = nlohmann::json;

/// LLaVA's tensors and the newline, with this tower.
TinyCheckpoint with_tower(const char* type, const Json& vision_config, const Shapes& tower) {
  TinyCheckpoint next{{{"model_type", type}, {"image_token_index", 20}, {"vision_config", vision_config}, {"text_config", tiny_llama_config()},
                       {"image_grid_pinpoints", {{8, 16}, {16, 8}, {16, 16}}}},
                      together(tower, tiny_llama_shapes("language_model.model.", "language_model."))};
  next.config["text_config"]["max_position_embeddings"] = 40;
  add_linear(next.shapes, "multi_modal_projector.linear_1", 12, 12);
  add_linear(next.shapes, "multi_modal_projector.linear_2", 12, 12);
  next.shapes["image_newline"] = {12};
  return next;
}
TinyCheckpoint next() { return with_tower("llava_next", tiny_clip_vision_config(), tiny_clip_vision_shapes("vision_tower.vision_model.")); }
TinyCheckpoint onevision() { return with_tower("llava_onevision", tiny_siglip_vision_config(), tiny_siglip_vision_shapes("vision_tower.vision_model.")); }

/// A picture in the middle of two tiles: four rows of the whole, and two times four of the tiles with a newline.
ReferenceInputs prompt(int places = 14) {
  std::vector<TokenId> ids{3};
  ids.insert(ids.end(), static_cast<std::size_t>(places), 20);
  ids.push_back(9);
  return tiny_crops({.original = {10, 20}, .resized = {8, 16}, .num_crops = 3, .tile_rows = 1, .tile_cols = 2, .num_tokens = 14}, tiny_text(ids));
}

TEST(LlavaNext, PacksTilesWithNewlines) {
  for (const TinyCheckpoint& checkpoint : {next(), onevision()}) {
    const auto stages = checkpoint.run(prompt(), 2);
    EXPECT_EQ(stages.at("projected").size(), 12u * 12u);
    EXPECT_EQ(stages.at("packed_image_features").size(), 14u * 12u);
    EXPECT_THAT(complaint([&] { checkpoint.run(prompt(13)); }), HasSubstr("14"));
  }
}

TEST(LlavaNext, OldAndNewNames) {
  for (const TinyCheckpoint& checkpoint : {next(), onevision()}) {
    EXPECT_EQ(checkpoint.renamed({{"language_model.model.", "model.language_model."}, {"language_model.lm_head", "lm_head"},
                                  {"vision_tower.vision_model.", "model.vision_tower."}, {"multi_modal_projector.", "model.multi_modal_projector."},
                                  {"image_newline", "model.image_newline"}}).run(prompt()),
              checkpoint.run(prompt()));
  }
}

TEST(LlavaNextConfig, AbsentKeysAreTheReferencesDefaults) {
  EXPECT_EQ(next().with({{"vision_feature_layer", -2}, {"vision_feature_select_strategy", "default"}}).run(prompt()), next().run(prompt()));
  EXPECT_EQ(onevision().with({{"vision_feature_layer", -1}, {"vision_feature_select_strategy", "full"}, {"vision_aspect_ratio", "anyres_max_9"}}).run(prompt()),
            onevision().run(prompt()));
}

TEST(LlavaNextConfig, WrongValuesAreErrors) {
  const auto load = [](const TinyCheckpoint& checkpoint, const Json& changes) { return complaint([&] { static_cast<void>(checkpoint.with(changes).load()); }); };
  EXPECT_THAT(load(onevision(), {{"vision_feature_select_strategy", "default"}}), HasSubstr("expected full, for a tower without a class token"));
  EXPECT_THAT(load(onevision(), {{"vision_aspect_ratio", "anyres_max_x"}}), HasSubstr("vision_aspect_ratio"));
  EXPECT_THAT(load(next(), {{"text_config", {{"model_type", "opt"}}}}), HasSubstr("text_config.model_type: got \"opt\""));
  EXPECT_THAT(load(next(), {{"vision_config", {{"model_type", "vit"}}}}), HasSubstr("vision_config.model_type: got \"vit\""));
  TinyCheckpoint bare = next();
  bare.shapes.erase("image_newline");
  EXPECT_THAT(complaint([&] { static_cast<void>(bare.load()); }), HasSubstr("image_newline"));
}

/// Rows that come out are as many as the plan of a picture promises.
TEST(LlavaNext, GivesAsManyRowsAsItsProcessorPlans) {
  for (const TinyCheckpoint& checkpoint : {next(), onevision()}) {
    const std::shared_ptr<const AnyModel> model = checkpoint.load();
    for (Index height = 1; height < 300; height = height * 2 + 1) {
      for (Index width = 1; width < 300; width = width * 3 + 1) {
        const PicturePlan plan = model->processor()->plan({height, width});
        Workspace workspace(model->compute());
        EXPECT_EQ(model->encode(*tiny_crops(plan).pixel_values, workspace).rows.rows(), plan.num_tokens) << height << " x " << width;
      }
    }
  }
}

}  // namespace zoo_llava_next
}  // namespace duet::testing
