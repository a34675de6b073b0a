#include "duet/io/tokenizer_in_folder.hpp"

#include <gmock/gmock.h>

#include <chrono>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "support/temp_folder.hpp"

namespace duet {
namespace io_tokenizer_in_folder {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using test::TempFolder;

constexpr const char* kFile = R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}})";
constexpr const char* kBroken = R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["a b"]}})";
constexpr TokenizerReading kWays[] = {TokenizerReading::kInBackground, TokenizerReading::kWhenNeeded};

/// What asking throws.
std::string problem_of(const TokenizerInFolder& tokenizer) {
  try {
    static_cast<void>(tokenizer.get());
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kMalformedFile);
    return error.what();
  }
  return "nothing was thrown";
}

TEST(TokenizerInFolder, IsReadOnceAndSharedByCopies) {
  const TempFolder folder;
  folder.write("tokenizer.json", kFile);
  for (const TokenizerReading reading : kWays) {
    std::optional<TokenizerInFolder> first(std::in_place, folder.path(), reading);
    const TokenizerInFolder copy = *first;
    const Tokenizer* const tokenizer = first->get();
    ASSERT_NE(tokenizer, nullptr);
    EXPECT_EQ(first->get(), tokenizer);
    first.reset();
    EXPECT_EQ(copy.get(), tokenizer);
    EXPECT_THAT(tokenizer->encode("abb"), ElementsAre(2, 1));
  }
}

TEST(TokenizerInFolder, IsNothingWhereThereIsNone) {
  const TempFolder folder;
  for (const TokenizerReading reading : kWays) EXPECT_EQ(TokenizerInFolder(folder.path(), reading).get(), nullptr);
}

TEST(TokenizerInFolder, IsReadByWhoNeedsItIfSoWished) {
  const TempFolder folder;
  folder.write("tokenizer.json", kBroken);
  const TokenizerInFolder tokenizer(folder.path(), TokenizerReading::kWhenNeeded);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));  // in which a thread, were there one, would read
  folder.write("tokenizer.json", kFile);
  EXPECT_NE(tokenizer.get(), nullptr) << "nobody had looked at the file before";
}

TEST(TokenizerInFolder, TellsEveryOneOfTheSameError) {
  const TempFolder folder;
  folder.write("tokenizer.json", kBroken);
  for (const TokenizerReading reading : kWays) {
    const TokenizerInFolder tokenizer(folder.path(), reading), copy = tokenizer;
    const std::string first = problem_of(tokenizer);
    EXPECT_THAT(first, HasSubstr("model.merges[0]: got \"ab\", expected tokens of the vocabulary"));
    EXPECT_EQ(problem_of(tokenizer), first);
    EXPECT_EQ(problem_of(copy), first);
  }
}

TEST(TokenizerInFolder, ManyThreadsMayAskAtOnce) {
  const TempFolder good, broken;
  good.write("tokenizer.json", kFile);
  broken.write("tokenizer.json", kBroken);
  for (int round = 0; round < 20; ++round) {
    const TokenizerReading reading = kWays[round % 2];
    const TokenizerInFolder tokenizer(good.path(), reading), wrong(broken.path(), reading);
    std::vector<const Tokenizer*> seen(4);
    std::vector<std::string> problems(4);
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < seen.size(); ++i) {
      threads.emplace_back([&, i, mine = tokenizer] {
        seen[i] = mine.get();
        problems[i] = problem_of(wrong);
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_THAT(seen, Each(tokenizer.get()));
    EXPECT_THAT(problems, Each(problem_of(wrong)));
  }
}

TEST(TokenizerInFolder, ItsThreadEndsBeforeItDoes) {
  for (int round = 0; round < 20; ++round) {
    const TempFolder folder;  // goes after the tokenizer, which would be missed by a thread that is still reading
    folder.write("tokenizer.json", kFile);
    const TokenizerInFolder unused(folder.path(), TokenizerReading::kInBackground);
  }
}

}  // namespace io_tokenizer_in_folder
}  // namespace duet
