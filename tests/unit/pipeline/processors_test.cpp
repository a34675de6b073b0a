// Every family's processor against what the reference's made of the same pictures and prompts, where that data is there, and by hand.

#include <gmock/gmock.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <map>

#include "duet/io/safetensors.hpp"
#include "duet/pipeline/prompt_encoder.hpp"
#include "duet/pipeline/processors/any_resolution.hpp"
#include "duet/pipeline/processors/blip2.hpp"
#include "duet/pipeline/processors/fuyu.hpp"
#include "duet/pipeline/processors/gemma3.hpp"
#include "duet/pipeline/processors/idefics1.hpp"
#include "duet/pipeline/processors/idefics2.hpp"
#include "duet/pipeline/processors/idefics3.hpp"
#include "duet/pipeline/processors/mllama.hpp"
#include "duet/pipeline/processors/nvlm.hpp"
#include "duet/pipeline/processors/paligemma.hpp"
#include "duet/pipeline/processors/phi3_v.hpp"
#include "duet/pipeline/processors/pixtral.hpp"
#include "duet/pipeline/processors/qwen2_vl.hpp"
#include "support/reference_prompts.hpp"

namespace duet {
namespace pipeline_processors {

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
    {"nvlm", make<NvlmProcessor>},
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

std::vector<PicturePlan> plans_of(const Processor& processor, const nlohmann::json& one) {
  std::vector<PicturePlan> plans;
  for (const auto& info : one.value("image_info", nlohmann::json::array())) plans.push_back(processor.plan({info["size"][1], info["size"][0]}));
  return plans;
}

class Mrope : public ReferenceProcessor {};

TEST_P(Mrope, ArrangesTheSamePositions) {
  const nlohmann::json golden = read_json_file(data_.source() / "mrope.json");
  const Made processor = made(folder_.path());
  int seen = 0;
  for (const auto& places : golden["cases"]) {
    for (const auto& one : data_.cases()) {
      if (one["name"] != places["name"] || one.contains("preprocessor_override")) continue;
      Prompt prompt = Prompt::causal(one["input_ids"].get<std::vector<TokenId>>());
      processor->arrange(prompt, plans_of(*processor, one));
      prompt.offsets.resize(prompt.ids.size());
      std::vector<std::vector<Index>> got(3);
      for (std::size_t i = 0; i < prompt.ids.size(); ++i) {
        got[0].push_back(prompt.positions[i]);
        got[1].push_back(prompt.positions[i] + prompt.offsets[i].dy);
        got[2].push_back(prompt.positions[i] + prompt.offsets[i].dx);
      }
      Index furthest = 0;
      for (const std::vector<Index>& axis : got) furthest = std::max(furthest, *std::ranges::max_element(axis));
      EXPECT_EQ(furthest + 1 - prompt.size(), places["mrope_position_delta"].get<Index>()) << one["name"];
      if (places.contains("position_ids")) {
        EXPECT_EQ(got, places["position_ids"].get<std::vector<std::vector<Index>>>()) << one["name"];
      }
      ++seen;
    }
  }
  EXPECT_GT(seen, 5);
}
INSTANTIATE_TEST_SUITE_P(Families, Mrope, ::testing::Values("qwen2-vl", "qwen2.5-vl"), [](const auto& instance) {
  return instance.param == "qwen2-vl" ? "qwen2_vl" : "qwen2_5_vl";
});

class CrossAttentionMask : public ReferenceProcessor {};

TEST_P(CrossAttentionMask, RowsSeeTheSameTiles) {
  const Made processor = made(folder_.path());
  for (const auto& one : data_.cases()) {
    if (!one.contains("tensors") || !one["tensors"].contains("cross_attention_mask")) continue;
    const nlohmann::json& golden = one["tensors"]["cross_attention_mask"];
    ASSERT_TRUE(golden.contains("values")) << one["name"];
    const std::vector<PicturePlan> plans = plans_of(*processor, one);
    Prompt prompt = Prompt::causal(one["input_ids"].get<std::vector<TokenId>>(), 0, 4 * 1601 * std::ssize(plans));
    processor->arrange(prompt, plans);
    EXPECT_TRUE(prompt.image_rows.empty());
    for (Index row = 0; row < prompt.size(); ++row) {
      const auto sees = [&](Index memory) {
        const auto in = [memory](kernels::KeyRange range) { return memory >= range.begin && memory < range.end; };
        return in(prompt.visible_images[static_cast<std::size_t>(row)]) ||
               std::ranges::any_of(prompt.extra_visible_images, [&](const ExtraRange& extra) { return extra.row == row && in(extra.keys); });
      };
      for (std::size_t k = 0; k < plans.size(); ++k) {
        for (Index tile = 0; tile < 4; ++tile) {
          const Index first = static_cast<Index>(k) * 4 * 1601 + tile * 1601;
          const bool expected = golden["values"][(static_cast<std::size_t>(row) * plans.size() + k) * 4 + static_cast<std::size_t>(tile)] == 1;
          EXPECT_EQ(sees(first), expected) << one["name"] << ": row " << row << ", picture " << k << ", tile " << tile;
          EXPECT_EQ(sees(first + 1600), expected);
        }
      }
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Families, CrossAttentionMask, ::testing::Values("mllama"), [](const auto& instance) { return instance.param; });

/// A checkpoint folder of small files alone.
struct Files {
  test::TempFolder folder;
  Files(const nlohmann::json& preprocessor, const nlohmann::json& config) {
    folder.write("config.json", config.dump());
    folder.write("preprocessor_config.json", preprocessor.dump());
  }
  [[nodiscard]] CheckpointFolder get() const { return CheckpointFolder(folder.path()); }
};
PromptRules rules_with(Index tokens, TokenId id = 9) {
  PromptRules rules;
  rules.image_token_id = id;
  rules.tokens_per_image = tokens;
  return rules;
}
Image shaded(Index width, Index height) {
  std::vector<std::uint8_t> rgb;
  for (Index i = 0; i < 3 * width * height; ++i) rgb.push_back(static_cast<std::uint8_t>(i * 5 % 251));
  return Image::from_rgb(rgb, width, height);
}

TEST(Idefics2, QuartersComeFirstAndNeighboursShareATokenBetween) {
  const Files files({{"do_image_splitting", true}, {"size", {{"shortest_edge", 4}, {"longest_edge", 8}}}}, nlohmann::json::object());
  const Idefics2Processor processor(rules_with(2), files.get());
  const std::vector<PicturePlan> plans{processor.plan({7, 16}), processor.plan({5, 5})};
  EXPECT_EQ(plans[0].num_crops, 5);
  EXPECT_EQ(plans[0].num_tokens, 10);
  EXPECT_EQ(plans[0].resized, (PictureSize{4, 8})) << "3.5 is less than the shortest edge";
  const std::string f = "<fake_token_around_image>", i = "<image><image>";
  const std::string one = f + i + f + i + f + i + f + i + f + i;
  EXPECT_EQ(processor.expand("a<image><image>b", plans), "a" + one + one + f + "b");
  EXPECT_THROW(static_cast<void>(processor.expand("<image>", plans)), Error);
  VisualInput input;
  processor.process(shaded(16, 7), input);
  ASSERT_EQ(input.num_crops(), 5);
  EXPECT_EQ(input.crops[0].size, (PictureSize{4, 8})) << "3 x 8, at least 4 high";
  EXPECT_THROW(static_cast<void>(processor.plan({1, 50})), Error);
}

TEST(Idefics1, RowsSeeThePictureBeforeThem) {
  const Files files({{"image_processor_type", "IdeficsImageProcessor"}, {"image_size", 8}}, {{"eos_token_id", 2}});
  PromptRules rules = rules_with(5);
  rules.picture_rows = PictureRows::kInMemory;
  const Idefics1Processor processor(rules, files.get());
  const std::vector<PicturePlan> plans{processor.plan({3, 4}), processor.plan({8, 8})};
  EXPECT_EQ(processor.expand("User: <image> a <image><image>", std::vector<PicturePlan>(3, plans[0])),
            "User:<fake_token_around_image><image><fake_token_around_image>a<fake_token_around_image><image><fake_token_around_image>"
            "<image><fake_token_around_image>");
  Prompt prompt = Prompt::causal({1, 9, 5, 2, 5, 9, 5}, 0, 10);
  processor.arrange(prompt, plans);
  std::vector<std::pair<Index, Index>> seen;
  for (const kernels::KeyRange range : prompt.visible_images) seen.emplace_back(range.begin, range.end);
  using P = std::pair<Index, Index>;
  EXPECT_THAT(seen, ElementsAre(P{0, 0}, P{0, 5}, P{0, 5}, P{0, 5}, P{0, 0}, P{5, 10}, P{5, 10}));
  EXPECT_TRUE(prompt.image_rows.empty());
}

TEST(PaliGemma, AWholePromptSeesItself) {
  const Files files({{"image_processor_type", "SiglipImageProcessor"}, {"size", {{"height", 8}, {"width", 8}}}}, nlohmann::json::object());
  const PaliGemmaProcessor processor(rules_with(2), files.get());
  Prompt prompt = Prompt::causal({9, 9, 2, 5});
  processor.arrange(prompt, std::vector<PicturePlan>{processor.plan({3, 4})});
  EXPECT_THAT(prompt.positions, ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(prompt.image_rows, ElementsAre(0, 1));
  for (const kernels::KeyRange range : prompt.visible) EXPECT_EQ(range.end, 4);
  EXPECT_TRUE(processor.reads_ahead());
}

TEST(Gemma3, ImageRowsSeeEachOther) {
  const Files files({{"image_processor_type", "Gemma3ImageProcessor"}, {"size", {{"height", 8}, {"width", 8}}}}, nlohmann::json::object());
  const Gemma3Processor processor(rules_with(2), files.get());
  Prompt prompt = Prompt::causal({1, 9, 9, 5, 9, 9, 5}, 10);
  processor.arrange(prompt, std::vector<PicturePlan>(2, processor.plan({3, 4})));
  std::vector<Index> ends;
  for (const kernels::KeyRange range : prompt.visible) ends.push_back(range.end);
  EXPECT_THAT(ends, ElementsAre(11, 13, 13, 14, 16, 16, 17));
  ASSERT_EQ(prompt.extra_visible.size(), 2u) << "the first picture's rows see the second's";
  EXPECT_EQ(prompt.extra_visible[1].row, 2);
  EXPECT_EQ(prompt.extra_visible[1].keys.begin, 14);
  EXPECT_EQ(prompt.extra_visible[1].keys.end, 16);
  EXPECT_EQ(processor.expand("<image>", std::vector<PicturePlan>{processor.plan({3, 4})}),
            "\n\n<start_of_image><image_soft_token><image_soft_token><end_of_image>\n\n");
}

TEST(Phi3V, TilesAreAsManyAsThereMayBe) {
  const Files files({{"num_crops", 16}}, nlohmann::json::object());
  const Phi3VProcessor processor(rules_with(0, -1), files.get());
  EXPECT_EQ(processor.plan({480, 640}).num_tokens, 1921);
  EXPECT_EQ(processor.plan({640, 480}).tile_rows, 4);
  EXPECT_EQ(processor.plan({640, 480}).tile_cols, 3);
  EXPECT_EQ(Phi3VProcessor(rules_with(0, -1), Files({{"num_crops", 4}}, nlohmann::json::object()).get()).plan({480, 640}).num_tokens, 757);
  EXPECT_THROW(static_cast<void>(processor.plan({1, 20000})), Error);
  EXPECT_TRUE(processor.spells_images_out("<|image_1|> what"));
  EXPECT_FALSE(processor.spells_images_out("<|image_x|> what"));
}

/// What the published dynamic_preprocess makes of sizes: the most tiles, width and height, columns and rows of tiles of 448 pixels.
TEST(Nvlm, TilesAreTheReferences) {
  struct Case {
    Index most, width, height, cols, rows;
  };
  constexpr Case kCases[] = {
      {4, 448, 448, 1, 1},   {4, 640, 480, 1, 1},    {4, 480, 640, 1, 2},   {4, 1920, 1080, 2, 1}, {4, 634, 635, 2, 2},  {4, 633, 633, 1, 1},
      {4, 634, 634, 2, 2},   {4, 3000, 100, 4, 1},   {4, 100, 3000, 1, 4},  {4, 897, 448, 2, 1},   {4, 1500, 1000, 2, 2}, {4, 150, 100, 1, 1},
      {4, 2000, 750, 3, 1},  {6, 640, 480, 3, 2},    {6, 480, 640, 2, 3},   {6, 1080, 1920, 1, 2}, {6, 634, 634, 2, 2},  {6, 633, 633, 1, 1},
      {6, 3000, 100, 6, 1},  {6, 150, 100, 3, 2},    {6, 1250, 1000, 3, 2}, {6, 300, 300, 1, 1},   {6, 2000, 750, 3, 1}, {6, 1, 1, 1, 1},
      {6, 7, 5, 3, 2},       {12, 640, 480, 4, 3},   {12, 1920, 1080, 4, 2}, {12, 1080, 1920, 2, 4}, {12, 1024, 1024, 3, 3}, {12, 2000, 750, 5, 2},
      {12, 1250, 1000, 4, 3}};
  for (const Case& c : kCases) {
    const kernels::GridSize grid = DynamicTiling{.max_tiles = c.most}.grid({c.height, c.width});
    EXPECT_EQ(std::pair(grid.cols, grid.rows), std::pair(c.cols, c.rows)) << c.width << " x " << c.height << " in at most " << c.most;
  }
  std::uint64_t all = 0;  // of many sizes, as one number
  for (const Index most : {1, 2, 3, 4, 5, 6, 9, 12}) {
    for (Index width = 5; width < 2000; width += 35) {
      for (Index height = 5; height < 2000; height += 35) {
        const kernels::GridSize grid = DynamicTiling{.max_tiles = most}.grid({height, width});
        all = all * 1000003u + static_cast<std::uint64_t>(grid.cols * 64 + grid.rows);
      }
    }
  }
  EXPECT_EQ(all, 9362436226324949009u);
}

nlohmann::json tiling() {
  return {{"force_image_size", 8}, {"dynamic_image_size", true}, {"use_thumbnail", true}, {"max_dynamic_patch", 6}, {"tile_token_ids", {21, 22, 23, 24, 25, 26, 27}}};
}
/// A picture of so many crops, of two rows each.
PicturePlan crops_of(Index count) {
  PicturePlan plan;
  plan.num_crops = count;
  plan.num_tokens = 2 * count;
  return plan;
}
PromptRules nvlm_rules(PictureRows where) {
  PromptRules rules = rules_with(2);
  rules.picture_rows = where;
  return rules;
}

TEST(Nvlm, PicturesAreCutAsConfigJsonSays) {
  const auto plan = [](const nlohmann::json& changes, PictureSize size) {
    nlohmann::json config = tiling();
    if (!changes.is_null()) config.merge_patch(changes);
    return NvlmProcessor(rules_with(2), Files(nlohmann::json::object(), config).get()).plan(size);
  };
  const PicturePlan two = plan({}, {20, 41});
  EXPECT_EQ(two.num_crops, 3);
  EXPECT_EQ(std::pair(two.tile_rows, two.tile_cols), std::pair(Index{1}, Index{2}));
  EXPECT_EQ(two.num_tokens, 6);
  EXPECT_EQ(two.resized, (PictureSize{8, 16}));
  EXPECT_EQ(plan({{"use_thumbnail", false}}, {20, 41}).num_tokens, 4);
  const PicturePlan whole = plan({{"dynamic_image_size", false}}, {20, 41});
  EXPECT_EQ(std::pair(whole.num_crops, whole.tile_cols), std::pair(Index{1}, Index{0})) << "a picture in one tile has no second view";
  EXPECT_EQ(plan({{"min_dynamic_patch", 3}}, {20, 41}).num_crops, 7) << "3 x 2 is closer than 3 x 1";
  EXPECT_EQ(plan({{"force_image_size", nullptr}, {"vision_config", {{"image_size", 4}}}}, {20, 41}).resized, (PictureSize{4, 8}));

  VisualInput input;
  const NvlmProcessor processor(rules_with(2), Files({{"image_mean", {0, 0, 0}}, {"image_std", {1, 1, 1}}}, tiling()).get());
  processor.process(shaded(16, 8), input);
  ASSERT_EQ(input.num_crops(), 3);
  const Image picture = shaded(16, 8);
  EXPECT_FLOAT_EQ(input.crop(1)[0], static_cast<float>(picture.rgb()[3 * 8]) / 255.0f) << "the second tile begins in the picture's middle";
}

TEST(Nvlm, EveryCropHasItsTagInThePrompt) {
  const auto expanded = [](PictureRows where, std::vector<PicturePlan> pictures, std::string_view text) {
    return NvlmProcessor(nvlm_rules(where), Files(nlohmann::json::object(), tiling()).get()).expand(text, pictures);
  };
  const PicturePlan cut = crops_of(3), whole = crops_of(1);
  EXPECT_EQ(expanded(PictureRows::kInPrompt, {cut}, "<image>\nWhat?"),
            "<Image><tile_1><|vision_pad|><|vision_pad|><tile_2><|vision_pad|><|vision_pad|><tile_global_thumbnail><|vision_pad|><|vision_pad|></Image>\nWhat?");
  EXPECT_EQ(expanded(PictureRows::kInPrompt, {whole}, "<image>"), "<Image><tile_global_thumbnail><|vision_pad|><|vision_pad|></Image>");
  EXPECT_EQ(expanded(PictureRows::kInMemory, {cut, whole}, "a<image>b<image>"),
            "a<Image><tile_1><tile_2><tile_global_thumbnail></Image>b<Image><tile_global_thumbnail></Image>");
  EXPECT_EQ(expanded(PictureRows::kInBoth, {cut}, "<image>"), "<Image><tile_1><tile_2><tile_global_thumbnail><|vision_pad|><|vision_pad|></Image>");
  EXPECT_THROW(expanded(PictureRows::kInPrompt, {cut, cut}, "<image>"), Error);
}

TEST(Nvlm, ATagSeesItsTileAndTextBehindAPictureAllOfIt) {
  using kernels::KeyRange;
  const PicturePlan cut = crops_of(3), whole = crops_of(1);
  const auto seen = [&](PictureRows where, std::vector<TokenId> ids, std::vector<PicturePlan> pictures) {
    const NvlmProcessor processor(nvlm_rules(where), Files(nlohmann::json::object(), tiling()).get());
    Prompt prompt = Prompt::causal(std::move(ids), 0, 99);
    processor.arrange(prompt, pictures);
    std::vector<std::pair<Index, Index>> ranges;
    for (const KeyRange& range : prompt.visible_images) ranges.emplace_back(range.begin, range.end);
    return std::pair(ranges, prompt.image_rows);
  };
  using Ranges = std::vector<std::pair<Index, Index>>;
  // X: tags 21, 22 and that of the whole, 27; then another picture, of one crop.
  EXPECT_EQ(seen(PictureRows::kInMemory, {3, 21, 22, 27, 4, 27, 5}, {cut, whole}),
            std::pair(Ranges({{0, 0}, {0, 2}, {2, 4}, {4, 6}, {0, 6}, {6, 8}, {6, 8}}), std::vector<Index>()));
  // H: 9 stands for the rows of the whole, which is not in memory.
  EXPECT_EQ(seen(PictureRows::kInBoth, {3, 21, 22, 27, 9, 9, 4, 27, 9, 9, 5}, {cut, whole}),
            std::pair(Ranges({{0, 0}, {0, 2}, {2, 4}, {0, 4}, {0, 4}, {0, 4}, {0, 4}, {4, 4}, {4, 4}, {4, 4}, {4, 4}}), std::vector<Index>({4, 5, 8, 9})));
  // Without tags all is seen that the memory holds.
  EXPECT_EQ(seen(PictureRows::kInMemory, {3, 4}, {}).first, Ranges({{0, 99}, {0, 99}}));
  EXPECT_EQ(seen(PictureRows::kInPrompt, {3, 9, 9, 21}, {whole}).second, std::vector<Index>({1, 2}));
  try {
    seen(PictureRows::kInMemory, {21, 22, 23, 27}, {cut});
    FAIL() << "a picture of two tiles took the tag of a third";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("got <tile_3>, expected tags of 2 tiles"));
  }
}

TEST(Nvlm, ArgumentsMayGroupCrops) {
  const NvlmProcessor processor(rules_with(2), Files(nlohmann::json::object(), tiling()).get());
  const auto pictures = [&](std::vector<double> counts) {
    return processor.from_arguments([&](std::string_view name) -> std::optional<Argument> {
      if (name == "pixel_values") return Argument{{3, 3, 8, 8}, std::vector<double>(3 * 3 * 8 * 8)};
      if (name == "num_patches_list" && !counts.empty()) return Argument{{static_cast<Index>(counts.size())}, counts};
      return std::nullopt;
    });
  };
  EXPECT_EQ(pictures({}).num_pictures(), 3);
  const VisualInput grouped = pictures({2, 1});
  ASSERT_EQ(grouped.num_pictures(), 2);
  EXPECT_EQ(grouped.pictures[0].num_tokens, 4);
  EXPECT_EQ(grouped.crops[1].picture, 0);
  for (const std::vector<double>& wrong : {std::vector<double>{2}, {2, 2}, {4, -1}, {3, 0}, {1.5, 1.5}, {1e300}}) EXPECT_THROW(pictures(wrong), Error);
}

/// Golden checkpoints of families that have no prompts among the reference's.
template <class P>
void expect_golden(const std::string& name) {
  const std::filesystem::path own = std::filesystem::path(DUET_TEST_GOLDEN_DIR) / name, folder = std::filesystem::exists(own) ? own : test::shared("golden") / name;
  if (!std::filesystem::exists(folder / "golden_preproc.safetensors")) GTEST_SKIP() << "no " << folder;
  const P processor(rules_with(4), CheckpointFolder(folder));
  const MappedFile mapping(folder / "golden_preproc.safetensors");
  const SafetensorsFile golden(mapping.bytes(), name);
  for (const std::string& stored : golden.names()) {
    const auto colon = stored.find(':');
    if (!stored.ends_with(":pixel_values")) continue;
    VisualInput input;
    processor.process(Image::open(folder / stored.substr(0, colon), processor.alpha()), input);
    const std::vector<NamedTensor> tensors = processor.tensors(input);
    const TensorView& view = *golden.find(stored);
    EXPECT_EQ(tensors[0].shape, view.shape) << stored;
    ASSERT_EQ(view.dtype, DType::kF32);
    const auto* bytes = static_cast<const std::byte*>(view.data);
    const std::vector<double> got = numbers(tensors[0]);
    const std::vector<double> expected = numbers({stored, view.dtype, view.shape, {bytes, bytes + static_cast<std::size_t>(view.size()) * sizeof(float)}});
    EXPECT_THAT(got, ::testing::Pointwise(::testing::DoubleNear(1e-5), expected)) << stored;
  }
}
TEST(Idefics1, PixelsAreTheReferences) { expect_golden<Idefics1Processor>("idefics1-0"); }
TEST(Idefics2, PixelsAreTheReferences) { expect_golden<Idefics2Processor>("idefics2-0"); }
TEST(Nvlm, PixelsAreThoseOfPillow) { expect_golden<NvlmProcessor>("nvlm-d-0"); }

/// Every family, from class defaults alone, takes pictures of any shape or says clearly that it does not.
TEST(Processors, ExtremePicturesWorkOrAreErrors) {
  for (const auto& [family, maker] : kMakers) {
    nlohmann::json preprocessor = nlohmann::json::object();
    if (family == "gemma3") preprocessor = {{"image_processor_type", "Gemma3ImageProcessor"}};
    if (family == "llava-1.5") preprocessor = {{"image_processor_type", "CLIPImageProcessor"}, {"size", 336}};
    if (family == "paligemma") preprocessor = {{"image_processor_type", "SiglipImageProcessor"}};
    if (family == "llava-next") preprocessor = {{"image_processor_type", "LlavaNextImageProcessor"}, {"size", 336}, {"crop_size", 336}};
    if (family == "llava-onevision") preprocessor = {{"image_processor_type", "LlavaOnevisionImageProcessor"}};
    const Files files(preprocessor, {{"model_type", family == "llava-onevision" ? "llava_onevision" : "x"}});
    const Made processor = maker(rules_with(4), files.get());
    for (const auto& [width, height] : {std::pair<Index, Index>{1, 1}, {2000, 2}, {2, 2000}, {3000, 12}, {1, 5000}}) {
      SCOPED_TRACE(concat(family, ", ", width, " x ", height));
      VisualInput input;
      try {
        const PicturePlan plan = processor->plan({height, width});
        processor->process(shaded(width, height), input);
        EXPECT_EQ(input.num_pictures(), 1);
        EXPECT_GE(plan.num_tokens, 1);
        EXPECT_EQ(input.pictures[0].num_tokens, plan.num_tokens);
        for (const float value : input.pixels) ASSERT_TRUE(std::isfinite(value));
        EXPECT_FALSE(processor->tensors(input).empty());
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument) << error.what();
      }
    }
  }
}

/// tensors() and from_arguments() are each other's inverse.
TEST(Processors, ArgumentsAreReadBack) {
  for (const auto& [family, maker] : kMakers) {
    if (family == "gemma3" || family == "llava-1.5" || family == "paligemma") continue;
    nlohmann::json preprocessor = nlohmann::json::object();
    if (family == "llava-next") preprocessor = {{"image_processor_type", "LlavaNextImageProcessor"}, {"size", 336}, {"crop_size", 336}};
    if (family == "llava-onevision") preprocessor = {{"image_processor_type", "LlavaOnevisionImageProcessor"}};
    const Files files(preprocessor, {{"model_type", family == "llava-onevision" ? "llava_onevision" : "x"}});
    const Made processor = maker(rules_with(4), files.get());
    VisualInput input;
    processor->process(shaded(90, 61), input);
    if (!family.starts_with("smolvlm")) processor->process(shaded(61, 90), input);
    const std::vector<NamedTensor> tensors = processor->tensors(input);
    if (family == "fuyu") continue;  // its forward() gets a list
    const VisualInput back = processor->from_arguments([&](std::string_view name) -> std::optional<Argument> {
      const auto found = std::ranges::find(tensors, name, &NamedTensor::name);
      if (found == tensors.end()) return std::nullopt;
      return Argument{found->shape, numbers(*found)};
    });
    EXPECT_EQ(back.num_crops(), input.num_crops()) << family;
    EXPECT_EQ(back.pixels, input.pixels) << family;
  }
}

}  // namespace pipeline_processors
}  // namespace duet
