#include "duet/io/unicode_regex.hpp"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "duet/io/unicode_class.hpp"
#include "duet/io/utf8.hpp"

namespace duet {
namespace io_unicode_regex {

/// All matches, in order; none of the patterns here matches nothing.
std::vector<std::string> matches(std::string_view pattern, std::string_view text) {
  const UnicodeRegex regex(pattern, "pattern");
  UnicodeRegex::Search search(regex);
  std::vector<std::string> result;
  for (std::size_t from = 0; from <= text.size();) {
    const auto match = search.find(text, from);
    if (!match) break;
    result.emplace_back(text.substr(match->begin, match->end - match->begin));
    from = match->end;
  }
  return result;
}
using Strings = std::vector<std::string>;

Error error_of(std::string_view pattern) {
  try {
    const UnicodeRegex regex(pattern, "tokenizer.json: x.Regex");
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << pattern << " was taken";
  return {ErrorKind::kInvalidArgument, "", "", ""};
}

TEST(UnicodeRegex, FindsWordsAndNumbersOfAllScripts) {
  EXPECT_EQ(matches(R"(\p{L}+|\p{N})", "Straße 中文 x٣٤"), (Strings{"Straße", "中文", "x", "٣", "٤"}));
  EXPECT_EQ(matches(R"((?i:'s|'LL))", "it's I'll 'S"), (Strings{"'s", "'ll", "'S"}));
}

TEST(UnicodeRegex, WhiteSpaceIsUnicodes) {
  EXPECT_EQ(matches(R"(\s)", "a\u00a0b\u3000c\u0085d\u2028"), (Strings{"\u00a0", "\u3000", "\u0085", "\u2028"}));
  EXPECT_EQ(matches(R"(\s|[\s]|[^\S\p{Zs}])", "\u180e\u200b"), Strings{});  // PCRE2's \s takes U+180E
}

TEST(UnicodeRegex, WordCharactersAreOnigurumas) {
  EXPECT_EQ(matches(R"(\w+)", "e\u0301_x²ⓐⅧ ⑩ ½-⅓"), (Strings{"e\u0301_x²ⓐⅧ", "½"}));
  EXPECT_EQ(matches(R"(\W+)", "a⑩ b²"), (Strings{"⑩ "}));
  EXPECT_EQ(matches(R"([^\w\s]+)", "a²ⓐ"), (Strings{"²"}));  // in a class, its table for Latin-1 is not asked
  EXPECT_EQ(matches(R"(\bb|b\B)", "b xb ba e\u0301b"), (Strings{"b", "b"}));
  EXPECT_EQ(matches(R"([\h]+)", "xFFz0a"), (Strings{"FF", "0a"}));
  EXPECT_EQ(matches(R"([^\H]+|[\S]x)", "xFF zx"), (Strings{"FF", "zx"}));
}

TEST(UnicodeRegex, ScriptsAreNotExtended) {
  EXPECT_EQ(matches(R"(\p{Han}+)", "中、文"), (Strings{"中", "文"}));  // 、 is used with Han, but is of no one script
  EXPECT_EQ(matches(R"(\P{^Han}+)", "a中"), (Strings{"中"}));
}

TEST(UnicodeRegex, IntervalsWithPlusRepeatAndAreNotPossessive) {
  EXPECT_EQ(matches(R"(\p{N}{1,3}+)", "12345678 9"), (Strings{"12345678", "9"}));
  EXPECT_EQ(matches(R"((?:ab|b){1,2}+)", "ababb"), (Strings{"ababb"}));
  EXPECT_EQ(matches(R"([a-c]{2}+)", "abcab"), (Strings{"abca"}));
  EXPECT_EQ(matches("é{2}+", "ééééé"), (Strings{"éééé"}));
  EXPECT_EQ(matches("xa{,2}", "xaaa"), (Strings{"xaa"}));
}

TEST(UnicodeRegex, LinesBeginAndEndWithinTheText) {
  EXPECT_EQ(matches("^.", "ab\ncd"), (Strings{"a", "c"}));
  EXPECT_EQ(matches(".$", "ab\ncd"), (Strings{"b", "d"}));
}

TEST(UnicodeRegex, BadPatternsNameTheOffsetInTheFile) {
  const Error error = error_of(R"(\s+(abc)");
  EXPECT_EQ(error.kind(), ErrorKind::kMalformedFile);
  EXPECT_EQ(error.got().find("an error at offset 7"), 0U) << error.got();  // not that in the translated pattern
  EXPECT_EQ(error.where(), "tokenizer.json: x.Regex");
  for (const char* pattern : {"(", "[", "[a", "a{2,1}", "*", "\\", "\\p{Nothing}", "(?<a>x)(?<a>y)", "\\C", "(?P"}) {
    EXPECT_EQ(error_of(pattern).kind(), ErrorKind::kMalformedFile) << pattern;
  }
  EXPECT_EQ(error_of(std::string(100'000, 'a')).kind(), ErrorKind::kMalformedFile);
}

TEST(UnicodeRegex, WhatPcre2CannotSayIsRefused) {
  for (const char* pattern : {"[a[b]]", "[a-z&&[^b]]", "[\\W_]"}) EXPECT_EQ(error_of(pattern).kind(), ErrorKind::kUnsupportedModel) << pattern;
  EXPECT_EQ(matches("[[:alpha:]]+", "ab1"), (Strings{"ab"}));
  EXPECT_EQ(matches(R"([\[&]+)", "a[&b"), (Strings{"[&"}));
}

TEST(UnicodeRegex, ExplosionsEndInAnError) {
  const UnicodeRegex regex("(a|aa|aaa)+$", "pattern");
  UnicodeRegex::Search search(regex);
  const std::string text = std::string(200, 'a') + "b";
  EXPECT_THROW((void)search.find(text, 0), Error);
}

TEST(UnicodeRegex, LongRunsOfBlanksAreLinear) {
  const std::string text(4'000'000, ' ');
  EXPECT_EQ(matches(R"(\s*[\r\n]+|\s+(?!\S)|\s+)", text + "x").size(), 2U);
  EXPECT_EQ(matches(R"((?:\s|\S)+)", std::string(200'000, 'x')).size(), 1U);  // needs more stack than the JIT has
}

TEST(Utf8, ReplacesMaximalSubparts) {  // Unicode 15, table 3-8
  EXPECT_EQ(replace_invalid_utf8("a\xF1\x80\x80\xE1\x80\xC2" "b\x80" "c\x80\xBF" "d"), "a\uFFFD\uFFFD\uFFFD" "b\uFFFD" "c\uFFFD\uFFFD" "d");
  EXPECT_EQ(replace_invalid_utf8("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");      // a surrogate
  EXPECT_EQ(replace_invalid_utf8("\xC0\xAF"), "\uFFFD\uFFFD");                // overlong
  EXPECT_EQ(replace_invalid_utf8("\xF4\x90\x80\x80"), "\uFFFD\uFFFD\uFFFD\uFFFD");  // beyond U+10FFFF
  EXPECT_EQ(replace_invalid_utf8("x\xE2\x82"), "x\uFFFD");
  EXPECT_EQ(replace_invalid_utf8("x€😀"), "x€😀");
}

TEST(Utf8, EveryCharacterSurvivesARoundTrip) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string text;
    append_utf8(text, c);
    const Utf8Step step = decode_utf8(text, 0);
    ASSERT_TRUE(step.status == Utf8Step::Status::kValid && step.code_point == c && step.length == text.size()) << static_cast<unsigned>(c);
  }
}

TEST(Utf8, TheAssemblerGivesTheSameForAnyPieces) {
  const std::string bytes = "a\xC3\xA9\xF0\x9F\x98\x80\xE2\x82\xFFz\xF0\x9F";
  for (std::size_t cut = 0; cut <= bytes.size(); ++cut) {
    Utf8Assembler assembler;
    std::string text;
    assembler.push(std::string_view(bytes).substr(0, cut), text);
    EXPECT_TRUE(is_valid_utf8(text));
    assembler.push(std::string_view(bytes).substr(cut), text);
    assembler.flush(text);
    EXPECT_EQ(text, replace_invalid_utf8(bytes));
  }
}

TEST(UnicodeClass, AgreesWithTheStandard) {
  EXPECT_TRUE(unicode::is_white_space(0x3000) && !unicode::is_white_space(0x180E) && !unicode::is_white_space(0x200B));
  EXPECT_TRUE(unicode::is_numeric(U'½') && unicode::is_numeric(U'Ⅷ') && !unicode::is_numeric(U'a'));
  EXPECT_TRUE(unicode::is_punctuation(U'$') && unicode::is_punctuation(U'—') && !unicode::is_punctuation(U'€'));
  EXPECT_TRUE(unicode::is_word(0x0301) && unicode::is_word(U'ⓐ') && unicode::is_word(0x200D) && !unicode::is_word(U'²'));
}

}  // namespace io_unicode_regex
}  // namespace duet
