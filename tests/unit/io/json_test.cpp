#include "duet/io/json.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace duet {
namespace io_json {

/// What the call throws: its kind, or nothing; and its message.
template <class Call>
std::string message_of(const Call& call, ErrorKind kind) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

TEST(Json, NamesFileAndKeyInErrors) {
  const nlohmann::json config = parse_json(R"({"vision_config": {"hidden_size": "big"}})", "config.json");
  const JsonView view(config, "config.json");
  EXPECT_EQ(message_of([&] { (void)view.at("vision_config").get<int>("hidden_size"); }, ErrorKind::kInvalidArgument).find(
                "config.json: vision_config.hidden_size: got \"big\", expected an integer"), 0U);
  EXPECT_EQ(message_of([&] { (void)view.get<int>("missing"); }, ErrorKind::kInvalidArgument), "config.json: missing: got nothing, expected a value");
}

TEST(Json, NullCountsAsAbsent) {
  const nlohmann::json config = parse_json(R"({"a": null, "b": 2})", "config.json");
  const JsonView view(config, "config.json");
  EXPECT_FALSE(view.contains("a"));
  EXPECT_EQ(view.get_or("a", 7), 7);
  EXPECT_EQ(view.get_or("b", 7), 2);
  EXPECT_EQ((view.get_any<int>({"a", "b"}, 7)), 2);
  EXPECT_TRUE(view.object_or_empty("a").json().empty());
}

TEST(Json, IntegersAreCheckedAgainstTheirType) {
  const nlohmann::json config = parse_json(R"({"big": 4294967296, "negative": -1, "huge": 18446744073709551615, "real": 1.5, "flag": true})", "c.json");
  const JsonView view(config, "c.json");
  EXPECT_EQ(view.get<std::int64_t>("big"), 4294967296);
  EXPECT_EQ(view.get<std::uint64_t>("huge"), 18446744073709551615U);
  (void)message_of([&] { (void)view.get<std::int32_t>("big"); }, ErrorKind::kInvalidArgument);
  (void)message_of([&] { (void)view.get<std::int64_t>("huge"); }, ErrorKind::kInvalidArgument);
  (void)message_of([&] { (void)view.get<std::uint32_t>("negative"); }, ErrorKind::kInvalidArgument);
  (void)message_of([&] { (void)view.get<int>("real"); }, ErrorKind::kInvalidArgument);
  (void)message_of([&] { (void)view.get<int>("flag"); }, ErrorKind::kInvalidArgument);
  (void)message_of([&] { (void)view.get<bool>("big"); }, ErrorKind::kInvalidArgument);
  EXPECT_FLOAT_EQ(view.get<float>("real"), 1.5f);
}

TEST(Json, FloatsAreCheckedAgainstTheirType) {
  const nlohmann::json config = parse_json(R"({"huge": 1e300, "large": 3e38, "integer": 18446744073709551615})", "c.json");
  const JsonView view(config, "c.json");
  EXPECT_EQ(view.get<double>("huge"), 1e300);
  EXPECT_EQ(view.get<float>("large"), 3e38f);
  EXPECT_EQ(view.get<float>("integer"), 18446744073709551615.0f);
  (void)message_of([&] { (void)view.get<float>("huge"); }, ErrorKind::kInvalidArgument);
}

TEST(Json, ListsKnowTheirPlaces) {
  const nlohmann::json config = parse_json(R"({"layers": [1, 2, "x"], "no": 1})", "c.json");
  const JsonView view(config, "c.json");
  EXPECT_EQ(view.at("layers").elements().size(), 3U);
  EXPECT_EQ(view.at("layers").elements()[1].as<int>(), 2);
  EXPECT_EQ(message_of([&] { (void)view.get<std::vector<int>>("layers"); }, ErrorKind::kInvalidArgument).find("c.json: layers[2]: got \"x\""), 0U);
  (void)message_of([&] { (void)view.at("no").elements(); }, ErrorKind::kInvalidArgument);
}

TEST(Json, BrokenDocumentsAreOneError) {
  for (const std::string text : {"", "{", "{\"a\": }", "[1,]", "nul", "{\"a\": \"\xff\"}", "{} {}", "\"\\ud800\""}) {
    const std::string message = message_of([&] { (void)parse_json(text, "c.json"); }, ErrorKind::kMalformedFile);
    EXPECT_EQ(message.find("c.json: got no JSON (parse error at line 1"), 0U) << message;
  }
  const std::string unfinished = '"' + std::string(100'000, 'x');  // the parser would quote all of it
  EXPECT_LT(message_of([&] { (void)parse_json(unfinished, "c.json"); }, ErrorKind::kMalformedFile).size(), 400U);
  (void)message_of([&] { (void)parse_json("1e400", "c.json"); }, ErrorKind::kMalformedFile);
  EXPECT_NE(message_of([&] { (void)parse_json("version https://git-lfs.github.com/spec/v1\n", "c.json"); }, ErrorKind::kMalformedFile).find("git lfs pull"),
            std::string::npos);
}

TEST(Json, DepthIsLimitedBeforeParsing) {
  EXPECT_NO_THROW((void)parse_json(std::string(100, '[') + std::string(100, ']'), "c.json"));
  (void)message_of([&] { (void)parse_json(std::string(1'000'000, '['), "c.json"); }, ErrorKind::kMalformedFile);
  EXPECT_NO_THROW((void)parse_json('"' + std::string(1000, '[') + '"', "c.json"));
}

TEST(Json, FilesThatAreNone) {
  const std::filesystem::path folder = std::filesystem::path(testing::TempDir()) / "duet_json_test";
  std::filesystem::create_directories(folder);
  (void)message_of([&] { (void)read_json_file(folder / "missing.json"); }, ErrorKind::kFileNotReadable);
  (void)message_of([&] { (void)read_json_file(folder); }, ErrorKind::kFileNotReadable);
  std::ofstream(folder / "empty.json").flush();
  EXPECT_NE(message_of([&] { (void)read_json_file(folder / "empty.json"); }, ErrorKind::kFileNotReadable).find("an empty file"), std::string::npos);
  std::ofstream(folder / "a.json") << R"({"a": 1})";
  EXPECT_EQ(read_json_file(folder / "a.json")["a"], 1);
  (void)message_of([&] { (void)read_text_file(folder / "a.json", 3); }, ErrorKind::kMalformedFile);
  std::filesystem::remove_all(folder);
}

}  // namespace io_json
}  // namespace duet
