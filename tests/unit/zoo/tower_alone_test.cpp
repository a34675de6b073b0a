// Image towers that were cut out of golden checkpoints: as folders of their own they give what they give inside.

#include <gmock/gmock.h>

#include <cmath>
#include <cstring>
#include <filesystem>

#include "duet/io/safetensors_writer.hpp"
#include "duet/zoo/with_model.hpp"
#include "load_model.hpp"
#include "support/temp_folder.hpp"

namespace duet::testing {
namespace zoo_tower_alone {

namespace fs = std::filesystem;

/// Which tensors of a golden checkpoint are the tower's, how its own config.json names it, and what its forward() returns.
struct Tower {
  std::string golden, prefix, model_type, architecture, output;
  std::string_view family;
};
std::ostream& operator<<(std::ostream& out, const Tower& tower) { return out << tower.golden; }

const Tower kTowers[] = {
    {"pixtral-0", "vision_tower.", "pixtral", "PixtralVisionModel", "vision_out", PixtralVision::kName},
    {"qwen2-vl-0", "visual.", "qwen2_vl", "Qwen2VisionTransformerPretrainedModel", "projected", Qwen2VlTower::kName},
    {"qwen2_5-vl-0", "visual.", "qwen2_5_vl", "Qwen2_5_VisionTransformerPretrainedModel", "projected", Qwen25VlTower::kName},
    {"mllama-0", "vision_model.", "mllama_vision_model", "MllamaVisionModel", "vision_out", MllamaTower::kName},
    {"idefics2-0", "model.vision_model.", "idefics2_vision", "Idefics2VisionTransformer", "vision_out", IdeficsTower::kName},
    {"idefics2-0", "model.vision_model.", "idefics2", "Idefics2VisionTransformer", "vision_out", IdeficsTower::kName},
    {"idefics3-0", "model.vision_model.", "idefics3_vision", "Idefics3VisionTransformer", "vision_out", IdeficsTower::kName},
    {"smolvlm-0", "model.vision_model.", "smolvlm_vision", "SmolVLMVisionTransformer", "vision_out", IdeficsTower::kName},
};

std::string_view family_of(const nlohmann::json& config) {
  return with_family(JsonView(config, "config.json"), [](auto tag) -> std::string_view { return decltype(tag)::type::kName; });
}

std::vector<double> numbers(const TensorView& view) {
  std::vector<double> values;
  for (Index i = 0; i < view.size(); ++i) {
    const auto read = [&]<class T>(T value) {
      std::memcpy(&value, view.data + static_cast<std::size_t>(i) * sizeof value, sizeof value);
      return static_cast<double>(value);
    };
    values.push_back(view.dtype == DType::kF32 ? read(float{}) : view.dtype == DType::kI64 ? read(std::int64_t{}) : read(std::uint8_t{}));
  }
  return values;
}

class TowerAlone : public ::testing::TestWithParam<Tower> {
 protected:
  void SetUp() override {
    if (!fs::exists(golden() / "config.json")) GTEST_SKIP() << "no " << golden();
  }
  static fs::path golden() { return fs::path(DUET_GOLDEN_DIR) / GetParam().golden; }
  static nlohmann::json config() {
    nlohmann::json config = read_json_file(golden() / "config.json").at("vision_config");
    config["model_type"] = GetParam().model_type;
    config["architectures"] = {GetParam().architecture};
    return config;
  }
  static void cut(const test::TempFolder& folder) {
    folder.write("config.json", config().dump());
    fs::copy_file(golden() / "preprocessor_config.json", folder.path() / "preprocessor_config.json");
    const auto whole = Checkpoint::open(golden());
    std::vector<NamedTensor> tensors;
    for (const std::string& name : whole->names()) {
      if (!name.starts_with(GetParam().prefix)) continue;
      const TensorView view = *whole->find(name);
      ASSERT_EQ(view.dtype, DType::kF32);
      const std::span<const std::byte> bytes(view.data, static_cast<std::size_t>(view.size()) * sizeof(float));
      tensors.push_back({name.substr(GetParam().prefix.size()), view.dtype, view.shape, {bytes.begin(), bytes.end()}});
    }
    write_safetensors(folder.path() / "model.safetensors", tensors);
  }
};

TEST_P(TowerAlone, GivesWhatTheReferenceGives) {
  const test::TempFolder folder;
  cut(folder);
  const auto model = load_model(folder.path(), {.threads = 1});
  EXPECT_EQ(model->info().family, GetParam().family);
  EXPECT_TRUE(model->info().unused_tensors.empty()) << model->info().unused_tensors.front();
  EXPECT_TRUE(model->info().reads_images());
  EXPECT_FALSE(model->info().writes_text());

  const SafetensorsFile file(golden() / "golden.safetensors");
  ReferenceInputs inputs;
  inputs.processor = model->processor().get();
  inputs.pixel_values = inputs.processor->from_arguments([&](std::string_view name) -> std::optional<Argument> {
    // Qwen2-VL's towers have names of their own for what the whole model calls pixel_values and image_grid_thw.
    const bool is_qwen = GetParam().output == "projected";
    if (is_qwen && !(name == "hidden_states" || name == "grid_thw")) return std::nullopt;
    const std::string_view stored = !is_qwen ? name : name == "hidden_states" ? "pixel_values" : "image_grid_thw";
    const TensorView* view = file.find(concat("inputs.", stored));
    if (view == nullptr || name == "pixel_attention_mask") return std::nullopt;
    Argument argument{view->shape, numbers(*view)};
    if (argument.shape.size() == 5) argument.shape.erase(argument.shape.begin());  // Idefics' towers know of no batches of pictures
    return argument;
  });
  const std::vector<NamedTensor> stages = forward_model(*model, inputs, 0);
  const std::string_view name = GetParam().output == "projected" ? "projected" : "last_hidden_state";
  const auto stage = std::ranges::find(stages, name, &NamedTensor::name);
  ASSERT_NE(stage, stages.end());
  const std::vector<double> got = numbers({stage->data.data(), stage->dtype, stage->shape}), expected = numbers(*file.find(GetParam().output));
  ASSERT_EQ(got.size(), expected.size());
  double largest = 0;
  for (const double value : expected) largest = std::max(largest, std::abs(value));
  for (std::size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], expected[i], 1e-4 * largest) << i;  // the goldens' own tolerance
}

TEST_P(TowerAlone, IsNotTakenForTheWholeModel) {
  EXPECT_EQ(family_of(config()), GetParam().family);
  EXPECT_NE(family_of(read_json_file(golden() / "config.json")), GetParam().family);
}

TEST_P(TowerAlone, PreparesPicturesAsTheWholeModelDoes) {
  const test::TempFolder folder;
  cut(folder);
  const auto values = [](const fs::path& of) {
    VisualInput input;
    const auto processor = load_processor(of);
    processor->process(Image::open(golden() / "image_0.png", processor->alpha()), input);
    return input.pixels;
  };
  EXPECT_EQ(values(folder.path()), values(golden()));
}

INSTANTIATE_TEST_SUITE_P(All, TowerAlone, ::testing::ValuesIn(kTowers), [](const auto& param) {
  std::string name = concat(param.index, "_", param.param.golden);
  std::ranges::replace(name, '-', '_');
  return name;
});

}  // namespace zoo_tower_alone
}  // namespace duet::testing
