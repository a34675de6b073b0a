// A family of one's own takes one header and no edit elsewhere.

#include "duet/zoo/load_any.hpp"

#include <gmock/gmock.h>

#include <numeric>

#include "duet/pipeline/conversation.hpp"
#include "duet/zoo/load.hpp"
#include "support/made_up_family.hpp"
#include "support/tiny_checkpoint.hpp"

namespace duet::testing {
namespace zoo_made_up_family {

using ::testing::HasSubstr;
using Mine = FamilyList<made_up::Family, Gpt2>;

Shapes shapes() {
  Shapes result{{"eyes.patch_embedding.weight", {8, 3, 4, 4}}, {"eyes.patch_embedding.bias", {8}}, {"eyes.class_embedding", {8}},
                {"eyes.position_embedding", {5, 8}},           {"largest.weight", {12, 8}},          {"text.embed_tokens.weight", {23, 12}},
                {"text.norm.weight", {12}}};
  const auto layer = [&](const std::string& prefix, Index size, bool gated) {
    for (const char* norm : {"first", "second"}) result[prefix + norm + ".weight"] = {size};
    for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj"}) result[prefix + "self_attn." + name + ".weight"] = {size, size};
    result[prefix + "mlp.up_proj.weight"] = {2 * size, size};
    result[prefix + "mlp.down_proj.weight"] = {size, 2 * size};
    if (gated) {
      result[prefix + "mlp.gate_proj.weight"] = {2 * size, size};
    } else {
      result[prefix + "self_attn.o_proj.bias"] = result[prefix + "mlp.down_proj.bias"] = {size};
      result[prefix + "mlp.up_proj.bias"] = {2 * size};
    }
  };
  layer("eyes.layers.0.", 8, false);
  layer("text.layers.0.", 12, true);
  layer("text.layers.1.", 12, true);
  return result;
}

/// A folder as a checkpoint of the family would be.
void write(const test::TempFolder& folder) {
  const nlohmann::json config{{"model_type", "made_up"}, {"vocab_size", 23}, {"hidden_size", 12}, {"image_token_id", 20},
                              {"eyes", {{"image_size", 8}, {"patch_size", 4}, {"hidden_size", 8}}}};
  folder.write("config.json", config.dump());
  folder.write("preprocessor_config.json", R"({"image_processor_type": "ViTImageProcessor", "size": 8})");
  std::vector<NamedTensor> tensors;
  for (const auto& [name, shape] : shapes()) {
    std::vector<float> values(static_cast<std::size_t>(std::accumulate(shape.begin(), shape.end(), Index{1}, std::multiplies<>())));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<float>(i * i + name.size())) + (shape.size() == 1 ? 1.0f : 0.0f);
    tensors.push_back(NamedTensor::floats(name, shape, values));
  }
  write_safetensors(folder.path() / "model.safetensors", tensors);
}

std::vector<TokenId> answer(const Pipeline& pipeline, std::uint8_t grey) {
  Conversation conversation(pipeline, {});
  std::vector<std::uint8_t> rgb(3 * 16 * 16, grey);
  for (std::size_t i = 0; i < rgb.size(); i += 7) rgb[i] = static_cast<std::uint8_t>(255 - grey);
  conversation.user_ids({3, 20, 5}, {Image::from_rgb(rgb, 16, 16)});
  return conversation.reply({.max_new_tokens = 8, .temperature = 0.0f}).ids;
}

TEST(MadeUpFamily, IsLoadedByItsTypeAndSeesPictures) {
  const test::TempFolder folder;
  write(folder);
  const Pipeline pipeline = load<made_up::Family>(folder.path(), {.threads = 1});
  EXPECT_TRUE(pipeline.model().info().unused_tensors.empty());
  EXPECT_EQ(pipeline.model().info().fusion, "embedding");
  EXPECT_EQ(answer(pipeline, 10).size(), 8u);
  EXPECT_NE(answer(pipeline, 10), answer(pipeline, 200));
}

TEST(MadeUpFamily, IsFoundByConfigJsonInAListOfOnesOwn) {
  const test::TempFolder folder;
  write(folder);
  const Pipeline typed = load<made_up::Family>(folder.path(), {.threads = 1}), found(load_any<Mine>(folder.path(), {.threads = 1}));
  EXPECT_EQ(found.model().info().family, "Made up");
  EXPECT_EQ(answer(found, 10), answer(typed, 10));
  EXPECT_THAT(complaint([&] { static_cast<void>(load_any<FamilyList<Gpt2>>(folder.path())); }), HasSubstr("model_type: got \"made_up\", expected one of gpt2"));
}

}  // namespace zoo_made_up_family
}  // namespace duet::testing
