#include "duet/zoo/gemma3.hpp"

#include <gmock/gmock.h>

#include "support/tiny_checkpoint.hpp"

namespace duet::testing {
namespace zoo_gemma3 {

using ::testing::HasSubstr;
using Json = nlohmann::json;

/// Pictures of 4 x 4 patches of 2 pixels, which become 2 x 2 rows.
TinyCheckpoint tiny() {
  Json text_config = tiny_llama_config(), vision_config = tiny_siglip_vision_config();
  text_config.merge_patch({{"model_type", "gemma3_text"}, {"num_key_value_heads", 2}, {"head_dim", 6}});
  vision_config["patch_size"] = 2;
  TinyCheckpoint result{{{"model_type", "gemma3"}, {"image_token_index", 20}, {"mm_tokens_per_image", 4}, {"vision_config", vision_config}, {"text_config", text_config}},
                        together(tiny_siglip_vision_shapes("vision_tower.vision_model.", 16), tiny_gemma_shapes("language_model.model.", true))};
  result.shapes["vision_tower.vision_model.embeddings.patch_embedding.weight"] = {12, 3, 2, 2};
  for (const char* layer : {"layers.0.", "layers.1."}) {
    for (const char* norm : {"q_norm", "k_norm"}) result.shapes[std::string("language_model.model.") + layer + "self_attn." + norm + ".weight"] = {6};
  }
  result.shapes["multi_modal_projector.mm_soft_emb_norm.weight"] = {12};
  result.shapes["multi_modal_projector.mm_input_projection_weight"] = {12, 12};
  return result;
}
ReferenceInputs prompt(std::vector<TokenId> ids = {2, 5, 20, 20, 20, 20, 9}) { return tiny_picture(tiny_text(std::move(ids))); }

TEST(Gemma3, ImageRowsSeeOneAnotherAndTextIsCausal) {
  const auto one = tiny().run(prompt()).at("final_norm"), other = tiny().run(prompt({2, 5, 20, 20, 20, 20, 8})).at("final_norm");
  EXPECT_EQ(std::vector<float>(one.begin(), one.begin() + 6 * 12), std::vector<float>(other.begin(), other.begin() + 6 * 12));
  // Another picture changes the first image row by what it sees behind it.
  ReferenceInputs changed = prompt();
  changed.pixel_values->pixels.back() += 0.5f;
  EXPECT_NE(tiny().run(changed).at("final_norm")[2 * 12], one[2 * 12]);
}

TEST(Gemma3, OldAndNewNames) {
  EXPECT_EQ(tiny().renamed({{"language_model.model.", "model.language_model."}, {"vision_tower.vision_model.", "model.vision_tower."},
                            {"multi_modal_projector.", "model.multi_modal_projector."}}).run(prompt()),
            tiny().run(prompt()));
}

TEST(Gemma3Config, WrongValuesAreErrors) {
  EXPECT_THAT(complaint([] { static_cast<void>(tiny().with({{"mm_tokens_per_image", 5}}).load()); }), HasSubstr("mm_tokens_per_image: got 5"));
  EXPECT_THAT(complaint([] { tiny().with({{"mm_tokens_per_image", 9}}).run(prompt()); }), HasSubstr("4 x 4 patches"));
}

}  // namespace zoo_gemma3
}  // namespace duet::testing
