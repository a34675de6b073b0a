// Through the program, without weights: prompts with pictures become the ids, and pictures the sizes, that the reference's processors
// make of them. Families that the zoo does not know are skipped.

#include <gmock/gmock.h>

#include <algorithm>

#include "end_to_end/program.hpp"
#include "support/reference_prompts.hpp"

namespace duet::testing {
using duet::test::ReferencePrompts;
using duet::test::TempFolder;
namespace end_to_end_prompts {

using ::testing::HasSubstr;

/// As one word of a shell's.
std::string quoted(const std::string& text) {
  std::string result = "'";
  for (const char c : text) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return result + "'";
}

class Prompts : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (!data_.exists()) GTEST_SKIP() << "no " << data_.source();
    data_.lay_out(folder_.path());
    const Outcome outcome = duet_program("inspect " + quoted(folder_.path()) + " --image-size 300x200 --json");
    ASSERT_EQ(outcome.code, 0) << outcome.err;
  }

  ReferencePrompts data_{GetParam()};
  TempFolder folder_;
};

TEST_P(Prompts, BecomeTheReferencesIds) {
  if (!std::filesystem::exists(folder_.path() / "tokenizer.json")) GTEST_SKIP() << "no tokenizer for " << GetParam();
  bool tried_one_too_many = false;
  for (const auto& one : data_.cases()) {
    if (!one.contains("input_ids")) continue;
    TempFolder changed;
    data_.lay_out(changed.path(), ReferencePrompts::changes_of(one));
    std::string arguments = "run " + quoted(changed.path()) + " --raw --dry-run --json --prompt " + quoted(one["text"]);
    for (const auto& image : ReferencePrompts::images_of(one)) arguments += " --image " + quoted(image);
    const Outcome outcome = duet_program(arguments);
    ASSERT_EQ(outcome.code, 0) << one["name"] << ": " << outcome.err;
    EXPECT_EQ(outcome.json()["prompt_ids"], one["input_ids"]) << one["name"];
    EXPECT_EQ(outcome.json()["image_tokens"], one["num_image_tokens"]) << one["name"];
    if (tried_one_too_many) continue;
    const bool spelled = one["text"].get<std::string>().find(data_.head()["image_token"]) != std::string::npos;
    if (spelled && !one["images"].empty()) {
      tried_one_too_many = true;
      EXPECT_TRUE(duet_program(arguments + " --image " + quoted(ReferencePrompts::images_of(one)[0])).is_clear_error()) << "one picture too many";
    }
  }
}

TEST_P(Prompts, PicturesTakeAsManyTokens) {
  const auto& sizes = data_.sizes();
  for (std::size_t i = 0; i < sizes.size(); i += 3) {
    if (!sizes[i].contains("num_image_tokens")) continue;
    const std::string size = std::to_string(sizes[i]["w"].get<int>()) + "x" + std::to_string(sizes[i]["h"].get<int>());
    const Outcome outcome = duet_program("inspect " + quoted(folder_.path()) + " --json --image-size " + size);
    ASSERT_EQ(outcome.code, 0) << size << ": " << outcome.err;
    EXPECT_EQ(outcome.json()["image_tokens"], sizes[i]["num_image_tokens"]) << size;
  }
}

INSTANTIATE_TEST_SUITE_P(Families, Prompts, ::testing::ValuesIn(duet::test::reference_prompt_families()), [](const auto& instance) {
  std::string name = instance.param;
  std::ranges::replace_if(name, [](char c) { return c == '-' || c == '.'; }, '_');
  return name;
});

TEST(DryRun, ShowsThePromptOfAFolderWithoutWeights) {
  const TempFolder folder;
  for (const char* file : {"config.json", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"}) {
    const std::filesystem::path from = example("models/scenes-a/") + file;
    if (std::filesystem::exists(from)) std::filesystem::copy_file(from, folder.path() / file);
  }
  const std::string model = quoted(folder.path()), picture = " --image " + quoted(example("scenes/bundled/00001.png"));
  const Outcome outcome = duet_program("run " + model + picture + " --prompt what --dry-run --json");
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.json()["image_tokens"], 65);
  EXPECT_GT(outcome.json()["prompt_ids"].size(), 65u);
  const Outcome text = duet_program("run " + model + picture + " --prompt what --dry-run");
  EXPECT_THAT(text.out, HasSubstr("65 of images"));
  EXPECT_TRUE(duet_program("run " + model + picture + " --prompt what").is_clear_error()) << "without weights nothing runs";
  const Outcome plan = duet_program("inspect " + model + " --image-size 100x50 --json");
  ASSERT_EQ(plan.code, 0) << plan.err;
  EXPECT_EQ(plan.json()["image_tokens"], 65);
  EXPECT_EQ(plan.json()["width"], 100);
  for (const char* wrong : {"100", "100x", "x50", "0x5", "100x50x", "a", "99999999x99999999"}) {
    EXPECT_TRUE(duet_program("inspect " + model + " --image-size " + wrong).is_clear_error()) << wrong;
  }
}

}  // namespace end_to_end_prompts
}  // namespace duet::testing
