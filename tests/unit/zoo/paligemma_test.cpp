#include "duet/zoo/paligemma.hpp"

#include <gmock/gmock.h>

#include "support/tiny_checkpoint.hpp"

namespace duet::testing {
namespace zoo_paligemma {

using ::testing::HasSubstr;
using Json = nlohmann::json;

TinyCheckpoint tiny(const char* text = "gemma") {
  Json text_config = tiny_llama_config();
  text_config.merge_patch({{"model_type", text}, {"num_key_value_heads", 2}, {"head_dim", 6}});
  TinyCheckpoint result{{{"model_type", "paligemma"}, {"image_token_index", 20}, {"vision_config", tiny_siglip_vision_config()}, {"text_config", text_config}},
                        together(tiny_siglip_vision_shapes("vision_tower.vision_model."),
                                 tiny_gemma_shapes("language_model.model.", std::string_view(text) == "gemma2"))};
  add_linear(result.shapes, "multi_modal_projector.linear", 12, 12);
  return result;
}
/// A picture's four rows, then a question.
ReferenceInputs prompt(TokenId last = 9) { return tiny_picture(tiny_text({20, 20, 20, 20, 2, 5, last})); }

TEST(PaliGemma, ReadsPictureAndQuestionInBothDirections) {
  for (const char* text : {"gemma", "gemma2"}) {
    const auto one = tiny(text).run(prompt(9)), other = tiny(text).run(prompt(8));
    EXPECT_NE(one.at("final_norm")[0], other.at("final_norm")[0]) << "the first row sees the last";
    EXPECT_EQ(one.at("projected"), other.at("projected"));
  }
}

TEST(PaliGemma, ImageRowsAreNotScaled) {
  const auto stages = tiny().run(prompt());
  const auto& rows = stages.at("projected");
  EXPECT_EQ(std::vector<float>(stages.at("embeds").begin(), stages.at("embeds").begin() + static_cast<long>(rows.size())), rows);
}

TEST(PaliGemma, OldAndNewNames) {
  EXPECT_EQ(tiny().renamed({{"language_model.model.", "model.language_model."}, {"vision_tower.vision_model.", "model.vision_tower."},
                            {"multi_modal_projector.", "model.multi_modal_projector."}}).run(prompt()),
            tiny().run(prompt()));
}

TEST(PaliGemmaConfig, WrongValuesAreErrors) {
  EXPECT_THAT(complaint([] { static_cast<void>(tiny().with({{"text_config", {{"model_type", "llama"}}}}).load()); }), HasSubstr("expected gemma, gemma2"));
  EXPECT_THAT(complaint([] { static_cast<void>(tiny().with({{"vision_config", {{"hidden_size", 24}}}}).load()); }), HasSubstr("vision_tower"));
}

}  // namespace zoo_paligemma
}  // namespace duet::testing
