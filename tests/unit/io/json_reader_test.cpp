// Our JSON reader against nlohmann's parser, and what only one of them takes.

#include <gmock/gmock.h>

#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "duet/io/json.hpp"

namespace duet {
namespace io_json_reader {

using Json = nlohmann::json;
using ::testing::HasSubstr;
using ::testing::StartsWith;

Json parse(std::string_view text) { return parse_json(text, "x.json"); }

/// What is thrown for a text, or "" when it is read.
std::string problem_of(std::string_view text) {
  try {
    static_cast<void>(parse(text));
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kMalformedFile) << error.what();
    return error.what();
  }
  return {};
}

TEST(JsonReader, EscapesBecomeCharacters) {
  EXPECT_EQ(parse(R"("\"\\\/\b\f\n\r\t")"), "\"\\/\b\f\n\r\t");
  EXPECT_EQ(parse(R"("a\u0041\u00e9\u20ACz")"), "aA\u00E9\u20ACz");
  EXPECT_EQ(parse(R"("\ud83d\uDE00")"), "\U0001F600");
  EXPECT_EQ(parse(R"("\u0000b")").get<std::string>(), std::string("\0b", 2));
  EXPECT_EQ(parse(R"({"a\n": "b", "\t": "\t"})"), (Json{{"a\n", "b"}, {"\t", "\t"}})) << "a key and its value do not share memory";
  for (const char* text : {R"("\x41")", R"("\u12")", R"("\u12g4")", R"("\u-123")", R"("\u 123")", R"("\)", R"("\u)", R"("\u123)"}) {
    EXPECT_THAT(problem_of(text), HasSubstr("no JSON")) << text;
  }
}

TEST(JsonReader, HalfASurrogatePairIsNoCharacter) {
  for (const char* text : {R"("\ud83d")", R"("\ude00")", R"("\ud83d\ud83d")", R"("\ud83dx")", R"("\ud83d\n")", R"("\ud83d\u0041")",
                           R"("\ude00\ud83d")"}) {
    EXPECT_THAT(problem_of(text), HasSubstr("surrogate pair")) << text;
  }
}

TEST(JsonReader, NumbersKeepTheirKind) {
  EXPECT_TRUE(parse("18446744073709551615").is_number_unsigned());
  EXPECT_EQ(parse("18446744073709551615"), 18446744073709551615U);
  EXPECT_TRUE(parse("-9223372036854775808").is_number_integer());
  EXPECT_EQ(parse("-9223372036854775808").get<std::int64_t>(), std::numeric_limits<std::int64_t>::min());
  EXPECT_TRUE(parse("18446744073709551616").is_number_float());
  EXPECT_EQ(parse("18446744073709551616"), 18446744073709551616.0);
  EXPECT_EQ(parse("-9223372036854775809"), -9223372036854775809.0);
  EXPECT_EQ(parse('1' + std::string(300, '0')), 1e300);
  EXPECT_EQ(parse("1.5E+2"), 150.0);
  EXPECT_EQ(parse("[0,-0,0.1e-7]"), Json::parse("[0,-0,0.1e-7]"));
  EXPECT_EQ(parse("4.9406564584124654e-324"), 4.9406564584124654e-324);
  for (const std::string text : {"1e400", "-1e400", "1e-400"}) EXPECT_THAT(problem_of(text), HasSubstr("range of double")) << text;
  EXPECT_THAT(problem_of('1' + std::string(400, '0')), HasSubstr("range of double"));
  for (const char* text : {"01", "-", "+1", ".5", "1.", "1.e3", "1e", "1e+", "-x", "0x10", "NaN", "Infinity", "1_0"}) {
    EXPECT_THAT(problem_of(text), HasSubstr("parse error")) << text;
  }
}

TEST(JsonReader, OfAKeyGivenTwiceTheLastValueCounts) {
  EXPECT_EQ(parse(R"({"a": [1, 2], "b": 0, "a": {"c": 3}})"), (Json{{"a", {{"c", 3}}}, {"b", 0}}));
}

TEST(JsonReader, DepthIsTheListenersBusiness) {
  EXPECT_EQ(problem_of(std::string(128, '[') + std::string(128, ']')), "");
  EXPECT_THAT(problem_of(std::string(129, '[')), HasSubstr("nested deeper than 128"));
  std::string objects;
  for (int i = 0; i < 200; ++i) objects += R"({"a":)";
  EXPECT_THAT(problem_of(objects), HasSubstr("nested deeper than 128"));
}

TEST(JsonReader, ErrorsSayWhereAndWhat) {
  EXPECT_THAT(problem_of("{\n  \"a\": ]}"), StartsWith("x.json: got no JSON (parse error at line 2, column 8: ']' instead of a value), "
                                                       "expected a JSON document"));
  EXPECT_THAT(problem_of("[1 2]"), HasSubstr("line 1, column 4: '2' instead of ',' or ']'"));
  EXPECT_THAT(problem_of("[1"), HasSubstr("line 1, column 3: the end instead of ',' or ']'"));
  EXPECT_THAT(problem_of("{\"a\" 1}"), HasSubstr("'1' instead of ':'"));
  EXPECT_THAT(problem_of("{\"a\": 1,}"), HasSubstr("'}' instead of a key"));
  EXPECT_THAT(problem_of("\"a\nb\""), HasSubstr("line 1, column 3: byte 10 instead of a character"));
  EXPECT_THAT(problem_of("\"a\xFF\""), HasSubstr("byte 255 instead of UTF-8"));
  EXPECT_THAT(problem_of("[] []"), HasSubstr("'[' instead of the end"));
  EXPECT_THAT(problem_of(std::string_view("[]\0", 3)), HasSubstr("byte 0 instead of the end"));
}

TEST(JsonReader, AgreesWithNlohmannOnSpoiltTexts) {
  const std::vector<std::string> seeds = {
      R"({"a": [1, -2, 3.5e-2, true, false, null, "x\n\u00e9\ud83d\ude00é"], "b": {}, "c": [], "": {"d": "😀"}})",
      R"( [ [ ] , { "k" : "v" } , 0 ] )", "\"\xEF\xBF\xBD\""};
  const std::string_view alphabet = "{}[]:,\"\\/ue0123456789.-+ \n\tntrfals\xC3\xA9\xF0\x9F\xED\xA0\x01";
  std::mt19937 random(11);
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  int read = 0;
  for (int round = 0; round < 30'000; ++round) {
    std::string text = seeds[below(seeds.size())];
    for (std::size_t changes = below(4); changes > 0 && !text.empty(); --changes) {
      const std::size_t at = below(text.size());
      switch (below(3)) {
        case 0: text[at] = alphabet[below(alphabet.size())]; break;
        case 1: text.erase(at, 1 + below(3)); break;
        default: text.insert(at, 1, alphabet[below(alphabet.size())]);
      }
    }
    const Json expected = Json::parse(text, nullptr, false);
    const std::string problem = problem_of(text);
    if (problem.find("range of double") != std::string::npos) continue;  // nlohmann's takes 1e-999 for 0
    ASSERT_EQ(problem.empty(), !expected.is_discarded()) << text << '\n' << problem;
    if (!problem.empty()) continue;
    ++read;
    ASSERT_EQ(parse(text).dump(), expected.dump()) << text;
  }
  EXPECT_GT(read, 3'000);
  EXPECT_LT(read, 27'000);
}

}  // namespace io_json_reader
}  // namespace duet
