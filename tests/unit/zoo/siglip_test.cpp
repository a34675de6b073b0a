#include "duet/zoo/siglip.hpp"

#include <gmock/gmock.h>

#include <cmath>

#include "support/tiny_checkpoint.hpp"

namespace duet::testing {
namespace zoo_siglip {

using ::testing::HasSubstr;
using Json = nlohmann::json;

TinyCheckpoint tiny() {
  TinyCheckpoint siglip{{{"model_type", "siglip"}, {"vision_config", tiny_siglip_vision_config()}, {"text_config", tiny_siglip_text_config()}},
                        together(together(tiny_siglip_vision_shapes("vision_model."), tiny_siglip_head_shapes("vision_model.head.")),
                                 tiny_siglip_text_shapes("text_model."))};
  siglip.shapes["logit_scale"] = siglip.shapes["logit_bias"] = {1};
  return siglip;
}
TinyCheckpoint tiny_vision() {
  return {tiny_siglip_vision_config(), together(tiny_siglip_vision_shapes("vision_model."), tiny_siglip_head_shapes("vision_model.head."))};
}
ReferenceInputs some_text() { return tiny_text({3, 1, 4, 22, 5, 9}); }

TEST(SiglipConfig, AbsentKeysAreTheReferencesDefaults) {
  const Json empty = Json::object();
  const VisionConfig vision = read_siglip_vision_config(JsonView(empty, "config.json"));
  EXPECT_EQ(vision.image_size, 224);
  EXPECT_EQ(vision.patch_size, 16);
  EXPECT_EQ(vision.hidden_size, 768);
  EXPECT_FLOAT_EQ(vision.layer_norm_eps, 1e-6f);
  EXPECT_EQ(vision.hidden_act, "gelu_pytorch_tanh");
  const DecoderConfig text = read_siglip_text_config(JsonView(empty, "config.json"));
  EXPECT_EQ(text.vocab_size, 32000);
  EXPECT_EQ(text.hidden_size, 768);
  EXPECT_EQ(text.intermediate_size, 3072);
  EXPECT_EQ(text.num_attention_heads, 12);
  EXPECT_EQ(text.max_position_embeddings, 64);
  EXPECT_FLOAT_EQ(text.norm_eps, 1e-6f);
}

TEST(Siglip, TextsAreReadInBothDirectionsAndTheLastRowStandsForThem) {
  const auto embeds = [](std::vector<TokenId> ids) { return tiny().run(tiny_text(std::move(ids))); };
  EXPECT_NE(embeds({3, 1, 4}).at("text_out")[0], embeds({3, 1, 5}).at("text_out")[0]) << "the first row sees the last";
  EXPECT_NE(embeds({22, 1, 4}).at("text_embeds"), embeds({22, 1, 5}).at("text_embeds"));
}

TEST(Siglip, LogitsHaveAScaleAndABias) {
  const auto stages = tiny().run(tiny_picture(some_text()));
  const auto& image = stages.at("image_embeds");
  const auto& text = stages.at("text_embeds");
  const TinyCheckpoint without = [] {
    TinyCheckpoint checkpoint = tiny();
    checkpoint.shapes.erase("logit_bias");
    return checkpoint;
  }();
  EXPECT_THAT(complaint([&] { static_cast<void>(without.load()); }), HasSubstr("logit_bias"));
  double length = 0.0, dot = 0.0;
  for (std::size_t i = 0; i < image.size(); ++i) {
    length += static_cast<double>(image[i]) * static_cast<double>(image[i]);
    dot += static_cast<double>(image[i]) * static_cast<double>(text[i]);
  }
  EXPECT_NEAR(length, 1.0, 1e-5);
  // Weights are between -0.5 and 0.5: so are the logarithm of the scale and the bias.
  EXPECT_NEAR(static_cast<double>(stages.at("logits_per_image")[0]), dot, std::abs(dot) * (std::exp(0.5) - 1.0) + 0.5);
}

TEST(SiglipVision, MayHaveAHeadThatPools) {
  const auto with = tiny_vision().run(tiny_picture());
  EXPECT_EQ(with.at("pooler_output").size(), 12u);
  TinyCheckpoint bare{tiny_siglip_vision_config(), tiny_siglip_vision_shapes("vision_model.")};
  EXPECT_THAT(complaint([&] { static_cast<void>(bare.load()); }), HasSubstr("vision_model.head.probe"));
  const auto without = bare.with({{"vision_use_head", false}}).run(tiny_picture());
  EXPECT_FALSE(without.contains("pooler_output"));
  EXPECT_EQ(without.at("last_hidden_state"), with.at("last_hidden_state"));
  EXPECT_EQ(tiny_vision().renamed({{"vision_model.", ""}}).run(tiny_picture()), with);
}

TEST(SiglipVision, AsAClassifierReadsTheMeanOfAllRows) {
  TinyCheckpoint classifier{{{"model_type", "siglip"}, {"architectures", {"SiglipForImageClassification"}}, {"num_labels", 3}, {"vision_config", tiny_siglip_vision_config()}},
                            tiny_siglip_vision_shapes("vision_model.")};
  add_linear(classifier.shapes, "classifier", 12, 3);
  EXPECT_EQ(classifier.run(tiny_picture()).at("logits").size(), 3u);
}

TEST(SiglipText, AloneIsWhatItIsInSiglip) {
  const TinyCheckpoint text{tiny_siglip_text_config(), tiny_siglip_text_shapes("text_model.")};
  EXPECT_EQ(text.run(some_text()).at("last_hidden_state"), tiny().run(some_text()).at("text_out"));
}

}  // namespace zoo_siglip
}  // namespace duet::testing
