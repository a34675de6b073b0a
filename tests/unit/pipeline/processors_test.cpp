// Every family's processor against what the reference's made of the same pictures and prompts, where that data is there, and by hand.

#include <gmock/gmock.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <map>

#include "duet/pipeline/prompt_encoder.hpp"
#include "duet/pipeline/processors/any_resolution.hpp"
#include "duet/pipeline/processors/blip2.hpp"
#include "duet/pipeline/processors/fuyu.hpp"
#include "duet/pipeline/processors/gemma3.hpp"
#include "duet/pipeline/processors/idefics1.hpp"
#include "duet/pipeline/processors/idefics2.hpp"
#include "duet/pipeline/processors/idefics3.hpp"
#include "duet/pipeline/processors/mllama.hpp"
#include "duet/pipeline/processors/paligemma.hpp"
#include "duet/pipeline/processors/phi3_v.hpp"
#include "duet/pipeline/processors/pixtral.hpp"
#include "duet/pipeline/processors/qwen2_vl.hpp"
#include "support/reference_prompts.hpp"

namespace duet {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using test::ReferencePrompts;

using Made = std::unique_ptr<const Processor>;

template <class P>
Made make(PromptRules rules, const CheckpointFolder& folder) {
  return std::make_unique<const P>(std::move(rules), folder);
}
const std::map<std::string, Made (*)(PromptRules, const CheckpointFolder&)> kMakers = {
    {"fuyu", make<FuyuProcessor>},         {"gemma3", make<Gemma3Processor>},          {"llava-1.5", make<SingleViewProcessor>},
    {"mllama", make<MllamaProcessor>},     {"paligemma", make<PaliGemmaProcessor>},    {"llava-next", make<AnyResolutionProcessor>},
    {"pixtral", make<PixtralProcessor>},   {"qwen2-vl", make<Qwen2VlProcessor>},       {"llava-onevision", make<AnyResolutionProcessor>},
    {"smolvlm", make<Idefics3Processor>},  {"qwen2.5-vl", make<Qwen2VlProcessor>},     {"smolvlm2", make<Idefics3Processor>},
};

/// The rules that a family has, as far as processors read them.
PromptRules rules_of(const std::string& family, const nlohmann::json& head) {
  PromptRules rules;
  rules.image_token = family == "gemma3" ? "<start_of_image>" : head.value("image_token", "|SPEAKER|");
  rules.image_token_id = head.value("image_token_id", head.value("image_placeholder_id", 0));
  rules.tokens_per_image = family == "paligemma" ? 256 : family == "llava-1.5" ? 576 : family == "mllama" ? 4 * 1601 : 0;
  if (family == "mllama") rules.picture_rows = PictureRows::kInMemory;
  return rules;
}

std::vector<double> numbers(const NamedTensor& tensor) {
  std::vector<double> values;
  const auto read = [&]<class T>(T) {
    for (std::size_t at = 0; at < tensor.data.size(); at += sizeof(T)) {
      T value;
      std::memcpy(&value, tensor.data.data() + at, sizeof(T));
      values.push_back(static_cast<double>(value));
    }
  };
  tensor.dtype == DType::kF32 ? read(float{}) : read(std::int64_t{});
  return values;
}

void expect_like(const NamedTensor& tensor, const nlohmann::json& golden, const std::string& what) {
  EXPECT_EQ(tensor.shape, golden["shape"].get<std::vector<Index>>()) << what;
  const std::vector<double> got = numbers(tensor);
  if (golden.contains("values")) {
    std::vector<double> values;
    const std::function<void(const nlohmann::json&)> add = [&](const nlohmann::json& value) {
      if (value.is_number()) return values.push_back(value);
      for (const auto& inner : value) add(inner);
    };
    add(golden["values"]);
    EXPECT_EQ(got, values) << what;
    return;
  }
  double sum = 0, squares = 0, absolute = 0;
  for (const double value : got) {
    sum += value;
    absolute += std::abs(value);
  }
  const auto count = static_cast<double>(got.size());
  for (const double value : got) squares += (value - sum / count) * (value - sum / count);
  constexpr double kNear = 1e-5;  // of a value; what is stored has nine digits
  EXPECT_NEAR(sum / count, golden["mean"], kNear) << what;
  EXPECT_NEAR(std::sqrt(squares / count), golden["std"], kNear) << what;
  EXPECT_NEAR(absolute, golden["sum_abs"], kNear * count) << what;
  EXPECT_NEAR(*std::ranges::min_element(got), golden["min"], kNear) << what;
  EXPECT_NEAR(*std::ranges::max_element(got), golden["max"], kNear) << what;
  const auto expect_at = [&](std::size_t at, double value) { ASSERT_NEAR(got[at], value, kNear) << what << " at " << at; };
  for (std::size_t i = 0; i < golden["first"].size() && i < got.size(); ++i) expect_at(i, golden["first"][i]);
  if (!golden.contains("positions")) return;
  for (std::size_t i = 0; i < golden["positions"].size(); ++i) expect_at(golden["positions"][i], golden["at"][i]);
}

class ReferenceProcessor : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (!data_.exists()) GTEST_SKIP() << "no " << data_.source();
    data_.lay_out(folder_.path());
  }
  [[nodiscard]] Made made(const std::filesystem::path& folder) const { return kMakers.at(GetParam())(rules_of(GetParam(), data_.head()), CheckpointFolder(folder)); }

  ReferencePrompts data_{GetParam()};
  test::TempFolder folder_;
};

TEST_P(ReferenceProcessor, MakesTheSamePixels) {
  for (const auto& one : data_.cases()) {
    if (!one.contains("tensors") || one["images"].empty() || one.contains("error")) continue;
    // The reference lays tiles, not pictures, over white where it splits them.
    if (one.value("alpha", false) && GetParam().starts_with("smolvlm")) continue;
    const std::string what = GetParam() + ", " + one["name"].get<std::string>();
    SCOPED_TRACE(what);
    test::TempFolder changed;
    data_.lay_out(changed.path(), ReferencePrompts::changes_of(one));
    const Made processor = made(changed.path());
    VisualInput input;
    for (const auto& path : ReferencePrompts::images_of(one)) {
      // PaliGemma's, Gemma's and Fuyu's pictures were opened with convert('RGB').
      processor->process(Image::open(path, processor->alpha()), input);
    }
    const std::vector<NamedTensor> tensors = processor->tensors(input);
    for (const auto& [name, golden] : one["tensors"].items()) {
      if (name == "token_type_ids" || name == "cross_attention_mask") continue;  // of the text
      const auto own = std::ranges::find(tensors, name, &NamedTensor::name);
      ASSERT_NE(own, tensors.end()) << name;
      expect_like(*own, golden, what + ", " + name);
    }
    Index tokens = 0;
    for (const PicturePlan& picture : input.pictures) tokens += processor->prompt_tokens(picture);
    EXPECT_EQ(tokens, one["num_image_tokens"].get<Index>());
  }
}

TEST_P(ReferenceProcessor, PlansTheSameSizes) {
  const Made processor = made(folder_.path());
  std::optional<Tokenizer> tokenizer;
  if (Tokenizer::is_in(folder_.path())) tokenizer = Tokenizer::load(folder_.path());
  for (const auto& row : data_.sizes()) {
    const PictureSize size{row["h"], row["w"]};
    SCOPED_TRACE(concat(GetParam(), ", ", size.width, " x ", size.height));
    if (row.contains("error")) {
      // The reference refuses what is smaller than a group of patches; Duet what is far too long.
      const auto longer = static_cast<double>(std::max(size.height, size.width)), shorter = static_cast<double>(std::min(size.height, size.width));
      if (longer / shorter > 200) {
        EXPECT_THROW(static_cast<void>(processor->plan(size)), Error);
      } else {
        EXPECT_GT(processor->plan(size).num_tokens, 0);
      }
      continue;
    }
    const PicturePlan plan = processor->plan(size);
    EXPECT_EQ(processor->prompt_tokens(plan), row["num_image_tokens"].get<Index>());
    const auto expect_size = [&](const char* key) {
      if (!row.contains(key)) return;
      EXPECT_THAT(row[key].get<std::vector<Index>>(), ElementsAre(plan.resized.height, plan.resized.width)) << key;
    };
    expect_size("for_encoder_hw");
    expect_size("best_resolution_hw");
    expect_size("canvas_hw");
    if (row.contains("image_grid_thw") || GetParam() == "pixtral") expect_size(GetParam() == "pixtral" ? "image_sizes" : "resized_hw");
    EXPECT_EQ(plan.tile_rows, row.value("rows", plan.tile_rows));
    EXPECT_EQ(plan.tile_cols, row.value("cols", plan.tile_cols));
    EXPECT_THAT(row.value("tiles_hw", std::vector<Index>{plan.tile_rows, plan.tile_cols}), ElementsAre(plan.tile_rows, plan.tile_cols));
    if (tokenizer && row.contains("prompt_tokens") && data_.head().contains("image_placeholder")) {
      const std::string text = data_.head()["image_placeholder"];
      EXPECT_EQ(processor->encode(*tokenizer, text, {&plan, 1}, SpecialTokens::kAdd).size(), row["prompt_tokens"].get<std::size_t>());
    }
  }
}

TEST_P(ReferenceProcessor, MakesTheSameIds) {
  if (!Tokenizer::is_in(folder_.path())) GTEST_SKIP() << "no tokenizer for " << GetParam();
  const Tokenizer tokenizer = Tokenizer::load(folder_.path());
  for (const auto& one : data_.cases()) {
    if (!one.contains("input_ids") || one.contains("error")) continue;
    SCOPED_TRACE(GetParam() + ", " + one["name"].get<std::string>());
    test::TempFolder changed;
    data_.lay_out(changed.path(), ReferencePrompts::changes_of(one));
    const Made processor = made(changed.path());
    std::vector<PicturePlan> plans;
    for (const auto& info : one.value("image_info", nlohmann::json::array())) plans.push_back(processor->plan({info["size"][1], info["size"][0]}));
    const std::string text = one["text"];
    EXPECT_EQ(processor->encode(tokenizer, text, plans, SpecialTokens::kAdd), one["input_ids"].get<std::vector<TokenId>>());
    if (one.contains("input_ids_chat") && one["input_ids_chat"].is_array()) {
      EXPECT_EQ(processor->encode(tokenizer, text, plans, SpecialTokens::kNone), one["input_ids_chat"].get<std::vector<TokenId>>());
    }
    if (plans.empty()) continue;
    plans.push_back(plans.front());
    if (text.find(processor->rules().image_token) != std::string::npos) {
      EXPECT_THROW(static_cast<void>(processor->encode(tokenizer, text, plans, SpecialTokens::kAdd)), Error) << "one picture too many";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, ReferenceProcessor, ::testing::ValuesIn(test::reference_prompt_families()), [](const auto& instance) {
  std::string name = instance.param;
  std::ranges::replace_if(name, [](char c) { return c == '-' || c == '.'; }, '_');
  return name;
});

}  // namespace
}  // namespace duet
