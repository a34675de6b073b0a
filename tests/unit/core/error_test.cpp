#include "duet/core/error.hpp"

#include <gtest/gtest.h>

#include <locale>
#include <string>

namespace duet {
namespace core_error {

TEST(Error, SaysWhereGotExpectedAndHintInOneLine) {
  const Error error(ErrorKind::kShapeMismatch, "model.safetensors: a.weight", "[2, 3]", "[3, 2]", "transpose it");
  EXPECT_STREQ(error.what(), "model.safetensors: a.weight: got [2, 3], expected [3, 2]; transpose it");
  EXPECT_EQ(error.kind(), ErrorKind::kShapeMismatch);
  EXPECT_EQ(error.where(), "model.safetensors: a.weight");
  EXPECT_EQ(error.got(), "[2, 3]");
  EXPECT_EQ(error.expected(), "[3, 2]");
  EXPECT_EQ(error.hint(), "transpose it");
}

TEST(Error, WithoutHintEndsAfterExpected) {
  EXPECT_STREQ(Error(ErrorKind::kInvalidArgument, "temperature", "-1", "at least 0").what(),
               "temperature: got -1, expected at least 0");
}

TEST(Error, ControlCharactersOfAFileDoNotReachTheTerminal) {
  const Error error(ErrorKind::kMalformedFile, "a\nb", "\x1b[31mred\x7f", "\t", "x\r");
  EXPECT_STREQ(error.what(), "a b: got  [31mred , expected  ; x ");
}

TEST(Error, LongTextIsCutBetweenCharacters) {
  const std::string text = Error(ErrorKind::kMalformedFile, "f", "x" + std::string(1000, '\xc3') + "\xa9", "y").what();
  EXPECT_LT(text.size(), 450u);
  std::string accents;
  for (int i = 0; i < 1000; ++i) accents += "\xc3\xa9";
  const std::string cut = Error(ErrorKind::kMalformedFile, "f", "x" + accents, "y").what();
  EXPECT_NE(cut.find("\xc3\xa9..., expected y"), std::string::npos) << cut;
}

TEST(Error, IsCaughtAsRuntimeErrorAndKeepsItsTextWhenCopied) {
  try {
    throw Error(ErrorKind::kContextFull, "prompt", "10", "at most 8");
  } catch (const std::runtime_error& error) {
    const std::runtime_error copy = error;
    EXPECT_STREQ(copy.what(), "prompt: got 10, expected at most 8");
  }
}

TEST(Concat, JoinsAnything) {
  EXPECT_EQ(concat("[", 2, ", ", 3.5, "] ", std::string("x"), 'y'), "[2, 3.5] xy");
}

/// Groups digits as "1.234", as several languages do.
struct Grouping : std::numpunct<char> {
  char do_thousands_sep() const override { return '.'; }
  std::string do_grouping() const override { return "\3"; }
};

TEST(Concat, IsTheSameInEveryLocale) {
  const std::locale before = std::locale::global(std::locale(std::locale::classic(), new Grouping));
  const std::string text = concat("layers.", 1234);
  std::locale::global(before);
  EXPECT_EQ(text, "layers.1234");
}

}  // namespace core_error
}  // namespace duet
