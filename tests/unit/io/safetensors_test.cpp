#include "duet/io/safetensors.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "duet/io/safetensors_writer.hpp"
#include "support/temp_folder.hpp"

namespace duet {
namespace io_safetensors {

using test::TempFolder;

/// A file as the format describes it: header length, header, `data_size` bytes 0, 1, 2 …
std::string file_with(std::string_view header, std::size_t data_size) {
  std::string file;
  for (std::size_t i = 0; i < 8; ++i) file += static_cast<char>(header.size() >> (8 * i) & 0xff);
  file += header;
  for (std::size_t i = 0; i < data_size; ++i) file += static_cast<char>(i & 0xff);
  return file;
}

SafetensorsFile open_bytes(std::string_view file) { return {std::as_bytes(std::span(file)), "x.safetensors"}; }

Error error_of(std::string_view file) {
  try {
    static_cast<void>(open_bytes(file));
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "accepted: " << file.substr(0, 200);
  return {ErrorKind::kInvalidArgument, "", "", ""};
}

/// The file is refused as malformed, and the message says `words`.
void expect_malformed(std::string_view file, std::string_view words) {
  const Error error = error_of(file);
  EXPECT_EQ(error.kind(), ErrorKind::kMalformedFile) << error.what();
  EXPECT_NE(std::string_view(error.what()).find("x.safetensors"), std::string_view::npos) << error.what();
  EXPECT_NE(std::string_view(error.what()).find(words), std::string_view::npos) << error.what() << "\nlacks: " << words;
}
void expect_malformed(std::string_view header, std::size_t data_size, std::string_view words) {
  expect_malformed(file_with(header, data_size), words);
}

constexpr const char* kOne = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";

TEST(Safetensors, ReadsTensorsAndMetadata) {
  const std::string bytes = file_with(
      R"({"__metadata__":{"format":"pt","empty":""},)"
      R"("b":{"dtype":"I64","shape":[1,2],"data_offsets":[4,20]},"a":{"shape":[2],"data_offsets":[0,4],"dtype":"BF16"}})", 20);
  const SafetensorsFile file = open_bytes(bytes);
  EXPECT_EQ(file.names(), (std::vector<std::string>{"a", "b"})) << "in the order of the data";
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"format", "pt"}, {"empty", ""}}));
  EXPECT_EQ(file.data_bytes(), 20u);
  EXPECT_EQ(file.where(), "x.safetensors");
  const TensorView* b = file.find("b");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(b->dtype, DType::kI64);
  EXPECT_EQ(b->shape, (std::vector<Index>{1, 2}));
  EXPECT_EQ(b->data, reinterpret_cast<const std::byte*>(bytes.data() + bytes.size() - 16));
  EXPECT_EQ(file.find("c"), nullptr);
  EXPECT_EQ(file.find("__metadata__"), nullptr);
  EXPECT_TRUE(file.contains("a"));
  EXPECT_FALSE(file.contains("c"));
}

TEST(Safetensors, ReadsEveryDtype) {
  for (int i = 0; i <= static_cast<int>(DType::kBool); ++i) {
    const auto dtype = static_cast<DType>(i);
    const std::string header = concat(R"({"a":{"dtype":")", name_of(dtype), R"(","shape":[3],"data_offsets":[0,)", 3 * size_of(dtype), "]}}");
    const std::string bytes = file_with(header, 3 * size_of(dtype));
    EXPECT_EQ(open_bytes(bytes).find("a")->dtype, dtype);
    expect_malformed(file_with(header, 3 * size_of(dtype) - 1), "cut short");
  }
}

TEST(Safetensors, EmptyHeaderIsAFileWithoutTensors) {
  EXPECT_TRUE(open_bytes(file_with("{}", 0)).names().empty());
  EXPECT_TRUE(open_bytes(file_with(R"({"__metadata__":{}})", 0)).metadata().empty());
}

TEST(Safetensors, WhitespaceMayPadTheHeader) {
  for (const std::string& header : {std::string(kOne) + "     ", std::string(4096, ' ') + kOne, "\n\t\r " + std::string(kOne) + " \r\n\t"}) {
    EXPECT_NE(open_bytes(file_with(header, 8)).find("a"), nullptr);
  }
}

TEST(Safetensors, RankZeroAndZeroSizes) {
  const std::string bytes = file_with(
      R"({"scalar":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"none":{"dtype":"F32","shape":[2,0,3],"data_offsets":[4,4]},)"
      R"("none2":{"dtype":"F16","shape":[0],"data_offsets":[4,4]},"last":{"dtype":"U8","shape":[1],"data_offsets":[4,5]}})", 5);
  const SafetensorsFile file = open_bytes(bytes);
  EXPECT_EQ(file.names(), (std::vector<std::string>{"scalar", "none", "none2", "last"}));
  EXPECT_TRUE(file.find("scalar")->shape.empty());
  EXPECT_EQ(file.find("scalar")->size(), 1);
  EXPECT_EQ(file.find("none")->size(), 0);
}

TEST(Safetensors, NamesMayBeAnyText) {
  const std::string bytes = file_with(R"({"":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"\u00e9\"\n":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})", 2);
  EXPECT_EQ(open_bytes(bytes).names(), (std::vector<std::string>{"", "\xc3\xa9\"\n"}));
}

TEST(Safetensors, LargeOffsetsNeedNoAlignment) {
  const std::string bytes = file_with(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}} )", 5);
  const std::byte* data = open_bytes(bytes).find("b")->data;
  float value = 0;
  std::memcpy(&value, data, sizeof value);
  EXPECT_EQ(data, reinterpret_cast<const std::byte*>(bytes.data() + bytes.size() - 4));
}

// The length field.

TEST(SafetensorsMalformed, TooSmallForALength) {
  for (std::size_t size = 0; size < 8; ++size) expect_malformed(std::string(size, '\0'), "at least the 8");
}
TEST(SafetensorsMalformed, HeaderOfNothing) { expect_malformed(std::string(8, '\0'), "not JSON"); }
TEST(SafetensorsMalformed, HeaderLongerThanTheFile) {
  expect_malformed(std::string("\x3c\0\0\0\0\0\0\0{}", 10), "cut short");
  const std::string whole = file_with(kOne, 8);
  expect_malformed(whole.substr(0, 8 + std::strlen(kOne) - 1), "cut short");
}
TEST(SafetensorsMalformed, HeaderBeyondTheLimit) {
  expect_malformed(std::string("\x01\xe1\xf5\x05\0\0\0\0{}", 10), "100000001");  // 100 MB and one
  expect_malformed(std::string(8, '\xff') + "{}", "18446744073709551615");
  expect_malformed(std::string("\xf8\xff\xff\xff\xff\xff\xff\xff{}", 10), "at most 100000000");  // + 8 would be 0
}
TEST(SafetensorsMalformed, HeaderAtTheLimitIsJudgedByTheFile) {
  expect_malformed(std::string("\x00\xe1\xf5\x05\0\0\0\0{}", 10), "cut short");
}

// The header's text.

TEST(SafetensorsMalformed, NotJson) {
  for (const char* header : {"x", "{", "{}}", "{} x", "{\"a\"}", "{'a':1}", "{,}", "{\"a\":{\"dtype\":\"F32\",}}", "// c\n{}", "{\"a\":nan}", "\"", ""}) {
    expect_malformed(header, 8, "not JSON");
  }
}
TEST(SafetensorsMalformed, NotUtf8) {
  expect_malformed("{\"\xff\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "not JSON");
  expect_malformed(std::string("\xef\xbb\xbf") + kOne, 8, "not JSON");
}
TEST(SafetensorsMalformed, ZeroBytesDoNotEndTheHeader) {
  expect_malformed(std::string("{}\0hidden", 9), 0, "not JSON");
  expect_malformed(std::string(kOne) + '\0', 8, "not JSON");
}
TEST(SafetensorsMalformed, NotAnObject) {
  for (const char* header : {"[]", "1", "-1", "1.5", "null", "true", "\"{}\""}) expect_malformed(header, 0, "a JSON object");
}
TEST(SafetensorsMalformed, DeepNestingEndsAtItsFirstBracket) {
  expect_malformed(std::string(1'000'000, '['), 0, "a header that is a list");
  std::string header = R"({"a":)";
  for (int i = 0; i < 1'000'000; ++i) header += R"({"a":)";
  expect_malformed(header, 0, "the key \"a\"");
  expect_malformed(R"({"a":{"dtype":"F32","shape":)" + std::string(1'000'000, '['), 0, "a list in shape");
}
TEST(SafetensorsMalformed, DuplicateKeys) {
  const std::string a = R"("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]})";
  expect_malformed("{" + a + "," + a + "}", 1, "tensor a: got the key \"a\" twice");
  expect_malformed(R"({"\u0061":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)" + a + "}", 1, "twice");
  expect_malformed(R"({"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1, "\"dtype\" twice");
  expect_malformed(R"({"a":{"dtype":"U8","shape":[1],"shape":[1],"data_offsets":[0,1]}})", 1, "\"shape\" twice");
  expect_malformed(R"({"__metadata__":{"x":"1","x":"2"}})", 0, "__metadata__: got the key \"x\" twice");
  expect_malformed(R"({"__metadata__":{},"__metadata__":{}})", 0, "twice");
}
TEST(SafetensorsMalformed, MetadataMustMapStringsToStrings) {
  for (const char* value : {"1", "null", "true", "1.5", "{}", "[]"}) {
    expect_malformed(concat(R"({"__metadata__":{"x":)", value, "}}"), 0, "__metadata__");
  }
  for (const char* value : {"1", "null", "\"x\"", "[]"}) expect_malformed(concat(R"({"__metadata__":)", value, "}"), 0, "an object of strings");
}
TEST(SafetensorsMalformed, TensorMustBeAnObject) {
  for (const char* value : {"1", "null", "\"x\"", "[]", "false"}) {
    expect_malformed(concat(R"({"a":)", value, "}"), 0, "an object with dtype, shape and data_offsets");
  }
}
TEST(SafetensorsMalformed, TensorNeedsAllItsFieldsAndNoOthers) {
  expect_malformed(R"({"a":{"shape":[1],"data_offsets":[0,1]}})", 1, "no dtype");
  expect_malformed(R"({"a":{"dtype":"U8","data_offsets":[0,1]}})", 1, "no shape");
  expect_malformed(R"({"a":{"dtype":"U8","shape":[1]}})", 1, "no data_offsets");
  expect_malformed(R"({"a":{}})", 0, "tensor a: got no dtype");
  expect_malformed(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}})", 1, "the key \"x\"");
}
TEST(SafetensorsMalformed, FieldsOfAnotherType) {
  const auto with = [](std::string_view dtype, std::string_view shape, std::string_view offsets) {
    return file_with(concat(R"({"a":{"dtype":)", dtype, R"(,"shape":)", shape, R"(,"data_offsets":)", offsets, "}}"), 8);
  };
  EXPECT_NO_THROW(static_cast<void>(open_bytes(with("\"F32\"", "[2]", "[0,8]"))));
  for (const char* dtype : {"1", "null", "[\"F32\"]", "{}"}) expect_malformed(with(dtype, "[2]", "[0,8]"), "as dtype, expected a string");
  for (const char* shape : {"2", "null", "\"2\"", "{}"}) expect_malformed(with("\"F32\"", shape, "[0,8]"), "as shape, expected a list");
  for (const char* shape : {"[2.0]", "[-2]", "[\"2\"]", "[null]", "[[2]]", "[1e3]", "[18446744073709551616]", "[true]", "[-0]"}) {
    expect_malformed(with("\"F32\"", shape, "[0,8]"), "in shape, expected whole numbers");
  }
  for (const char* offsets : {"0", "null", "\"0\"", "{}"}) expect_malformed(with("\"F32\"", "[2]", offsets), "as data_offsets");
  for (const char* offsets : {"[]", "[0]", "[0,8,8]", "[0,8.0]", "[-1,8]", "[0,\"8\"]", "[0,null]"}) {
    expect_malformed(with("\"F32\"", "[2]", offsets), "in data_offsets, expected [begin, end]");
  }
  expect_malformed(with("\"F32\"", "[2]", "[0]"), "got fewer numbers in data_offsets");
  expect_malformed(with("\"F32\"", "[2]", "[0,8,9]"), "got the number 9 in data_offsets");
}

// What the numbers say.

TEST(SafetensorsMalformed, UnknownDtype) {
  for (const char* dtype : {"", "f32", "F33", "FLOAT", "bfloat16", "F32 "}) {
    expect_malformed(concat(R"({"a":{"dtype":")", dtype, R"(","shape":[2],"data_offsets":[0,8]}})"), 8, concat("dtype ", dtype));
  }
}
TEST(Safetensors, ForeignDtypesAreListedAndRefusedOnUse) {
  const struct {
    const char *dtype, *shape;
    int size;
  } kForeign[] = {{"F8_E4M3", "[3]", 3}, {"F8_E5M2", "[3]", 3}, {"F8_E8M0", "[3]", 3}, {"F4", "[2,3]", 3}, {"F6_E2M3", "[4]", 3},
                  {"F6_E3M2", "[4]", 3}, {"U16", "[3]", 6},     {"U32", "[3]", 12},    {"U64", "[3]", 24}, {"C64", "[3]", 24}};
  for (const auto& [dtype, shape, size] : kForeign) {
    const std::string bytes = file_with(concat(R"({"a":{"dtype":")", dtype, R"(","shape":)", shape, R"(,"data_offsets":[0,)", size,
                                               R"(]},"b":{"dtype":"U8","shape":[1],"data_offsets":[)", size, ",", size + 1, "]}}"),
                                        static_cast<std::size_t>(size) + 1);
    const SafetensorsFile file = open_bytes(bytes);
    EXPECT_EQ(file.names(), (std::vector<std::string>{"a", "b"}));
    EXPECT_TRUE(file.contains("a"));
    EXPECT_NE(file.find("b"), nullptr);
    try {
      static_cast<void>(file.find("a"));
      ADD_FAILURE() << dtype;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUnsupportedDtype);
      EXPECT_EQ(error.where(), "x.safetensors: tensor a");
      EXPECT_EQ(error.got(), dtype);
    }
  }
}
TEST(SafetensorsMalformed, ForeignDtypesAreMeasuredToo) {
  expect_malformed(R"({"a":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,8]}})", 8, "those of F8_E4M3 [4]");
  expect_malformed(R"({"a":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}})", 1, "those of F4 [3]");  // 12 bits
}
TEST(SafetensorsMalformed, SizeMustMatchShapeAndDtype) {
  expect_malformed(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8, "tensor a: got 8 bytes of data, expected those of F32 [3]");
  expect_malformed(R"({"a":{"dtype":"F16","shape":[2],"data_offsets":[0,8]}})", 8, "8 bytes of data");
  expect_malformed(R"({"a":{"dtype":"F32","shape":[],"data_offsets":[0,8]}})", 8, "8 bytes of data");
  expect_malformed(R"({"a":{"dtype":"F32","shape":[2,0],"data_offsets":[0,8]}})", 8, "8 bytes of data");
  expect_malformed(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,0]}})", 0, "0 bytes of data");
}
TEST(SafetensorsMalformed, ProductsThatOverflow) {
  for (const char* shape : {"[4294967296,4294967296]", "[18446744073709551615]", "[9223372036854775808]", "[2,9223372036854775807]",
                            "[4294967296,4294967296,4294967296,0]", "[0,4294967296,4294967296,4294967296]"}) {
    expect_malformed(concat(R"({"a":{"dtype":"F32","shape":)", shape, R"(,"data_offsets":[0,0]}})"), 0, "fewer than 2^63");
  }
  // The count fits, its bits or bytes do not: 2^61 · 32 bits = 2^66, which is 0 in 64 bits.
  expect_malformed(R"({"a":{"dtype":"F32","shape":[2305843009213693952],"data_offsets":[0,0]}})", 0, "0 bytes of data");
  expect_malformed(R"({"a":{"dtype":"U8","shape":[9223372036854775807],"data_offsets":[0,8]}})", 8, "8 bytes of data");
}
TEST(SafetensorsMalformed, OffsetsThatRunBackwards) {
  expect_malformed(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[2,0]}})", 2, "begin before end");
  expect_malformed(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[18446744073709551615,0]}})", 2, "begin before end");
}
TEST(SafetensorsMalformed, Holes) {
  expect_malformed(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})", 2, "tensor a: got data from byte 1, expected from 0");
  expect_malformed(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})", 3,
                   "tensor b: got data from byte 2, expected from 1");
  expect_malformed(R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[1,1]}})", 1, "data from byte 1");
}
TEST(SafetensorsMalformed, Overlaps) {
  expect_malformed(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})", 3,
                   "tensor b: got data from byte 1, expected from 2");
  expect_malformed(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", 2, "expected from 2");
}
TEST(SafetensorsMalformed, TruncatedDataSaysSo) {
  const std::string whole = file_with(kOne, 8);
  for (std::size_t cut = 1; cut <= 8; ++cut) {
    expect_malformed(std::string_view(whole).substr(0, whole.size() - cut), "the file is cut short: download it again");
  }
  expect_malformed(R"({"a":{"dtype":"U8","shape":[1152921504606846976],"data_offsets":[0,1152921504606846976]}})", 8, "cut short");
}
TEST(SafetensorsMalformed, DataThatNobodyOwns) {
  expect_malformed(kOne, 9, "got 9 bytes of data, expected 8");
  expect_malformed("{}", 1, "got 1 bytes of data, expected 0");
}
TEST(SafetensorsMalformed, LongNamesAreCutInMessages) {
  const std::string name(100'000, 'n');
  const Error error = error_of(file_with("{\"" + name + "\":1}", 0));
  EXPECT_LT(std::strlen(error.what()), 500u);
}

TEST(SafetensorsMalformed, OtherFormatsAreCalledByName) {
  expect_malformed("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 269\n", "git lfs pull");
  expect_malformed(std::string("GGUF\x03\0\0\0\x10\0\0\0\0\0\0\0", 16), "a GGUF file");
  expect_malformed(std::string("PK\x03\x04\0\0\x08\x08\0\0\0\0", 12), "a zip file");
  expect_malformed(std::string("\x80\x02\x8a\nl\xfc\x9c\x46\xf9 j\xa8P\x19.", 15), "a Python pickle");
  expect_malformed("<!DOCTYPE html><html>Sign in</html>", "a web page");
}

TEST(SafetensorsMalformed, EveryTruncationAndEveryFlippedByteIsRefusedOrRead) {
  const std::string whole = file_with(R"({"__metadata__":{"f":"pt"},"a":{"dtype":"F16","shape":[2,1],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[],"data_offsets":[4,5]}})", 5);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_THROW(static_cast<void>(open_bytes(std::string_view(whole).substr(0, size))), Error) << size;
  }
  for (std::size_t i = 0; i < whole.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string broken = whole;
      broken[i] = static_cast<char>(broken[i] ^ (1 << bit));
      try {
        const SafetensorsFile file = open_bytes(broken);
        EXPECT_EQ(file.data_bytes(), 5u);
      } catch (const Error&) {  // the only exception there is
      }
    }
  }
}

// Files.

TEST(MappedFile, MapsAndReadsTheSameBytes) {
  const TempFolder folder;
  const auto path = folder.write("a.bin", std::string("\0one\xff", 5));
  for (const FileAccess access : {FileAccess::kMap, FileAccess::kRead}) {
    MappedFile file(path, access);
    const MappedFile moved = std::move(file);
    ASSERT_EQ(moved.bytes().size(), 5u);
    EXPECT_EQ(std::memcmp(moved.bytes().data(), "\0one\xff", 5), 0);
  }
}

TEST(MappedFile, ReadBytesStayWhenTheFileShrinks) {
  const TempFolder folder;
  const auto path = folder.write("a.bin", std::string(100'000, 'x'));
  const MappedFile file(path, FileAccess::kRead);
  std::filesystem::resize_file(path, 0);
  EXPECT_EQ(file.bytes().back(), std::byte{'x'});
}

TEST(MappedFile, SaysWhyAFileCannotBeRead) {
  const TempFolder folder;
  const auto got = [](const std::filesystem::path& path) {
    for (const FileAccess access : {FileAccess::kMap, FileAccess::kRead}) {
      try {
        const MappedFile file(path, access);
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::kFileNotReadable);
        EXPECT_EQ(error.where(), path.string());
        if (access == FileAccess::kRead) return error.got();
      }
    }
    return std::string("no error");
  };
  EXPECT_EQ(got(folder.path() / "none"), "No such file or directory");
  EXPECT_EQ(got(folder.path()), "a folder");
  EXPECT_EQ(got(folder.write("empty", "")), "an empty file");
  std::filesystem::create_symlink("gone", folder.path() / "link");
  EXPECT_EQ(got(folder.path() / "link"), "a link to a file that is not there");
  ASSERT_EQ(::mkfifo((folder.path() / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(got(folder.path() / "pipe"), "something that is no regular file");
  if (::geteuid() != 0) {  // root may read everything
    ::chmod(folder.write("secret", "x").c_str(), 0);
    EXPECT_EQ(got(folder.path() / "secret"), "Permission denied");
  }
}

TEST(Safetensors, AFileKeepsItsBytesWhenMoved) {
  const TempFolder folder;
  const auto path = folder.write("m.safetensors", file_with(kOne, 8));
  for (const FileAccess access : {FileAccess::kMap, FileAccess::kRead}) {
    SafetensorsFile file(path, access);
    const SafetensorsFile moved = std::move(file);
    EXPECT_EQ(moved.where(), path.string());
    EXPECT_EQ(std::to_integer<int>(moved.find("a")->data[7]), 7);
  }
}

// The writer.

std::vector<NamedTensor> sample_tensors() {
  const std::vector<float> floats = {1, -2.5f, 3, 4, 5, 6};
  const std::vector<std::int64_t> ids = {-1, INT64_MAX};
  Matrix matrix(2, 3);
  matrix(1, 2) = 9;
  return {{"flags", DType::kBool, {3}, {std::byte{1}, std::byte{0}, std::byte{1}}},
          NamedTensor::floats("a.weight", {2, 3}, floats),
          NamedTensor::int64s("ids", {2}, ids),
          NamedTensor::matrix("part", matrix.view().cols(1, 2)),
          NamedTensor::floats("nothing", {0, 5}, {}),
          NamedTensor::floats("scalar", {}, std::span(floats).first(1))};
}

TEST(SafetensorsWriter, WhatIsWrittenIsReadBack) {
  const TempFolder folder;
  const auto path = folder.path() / "out.safetensors";
  const std::vector<NamedTensor> tensors = sample_tensors();
  write_safetensors(path, tensors, {{"format", "pt"}, {"note", "é \" \n"}});
  const SafetensorsFile file(path);
  EXPECT_EQ(file.metadata().at("note"), "é \" \n");
  EXPECT_EQ(file.names().size(), tensors.size());
  for (const NamedTensor& tensor : tensors) {
    const TensorView* view = file.find(tensor.name);
    ASSERT_NE(view, nullptr) << tensor.name;
    EXPECT_EQ(view->dtype, tensor.dtype);
    EXPECT_EQ(view->shape, tensor.shape);
    EXPECT_EQ(std::vector<std::byte>(view->data, view->data + tensor.data.size()), tensor.data) << tensor.name;
  }
}

TEST(SafetensorsWriter, HeaderStartsWithABraceAndDataIsAligned) {
  const TempFolder folder;
  for (std::size_t extra = 0; extra < 9; ++extra) {
    std::vector<NamedTensor> tensors = sample_tensors();
    tensors[0].name += std::string(extra, 'x');
    const auto path = folder.path() / "out.safetensors";
    write_safetensors(path, tensors);
    const std::string text = TempFolder::read(path);
    EXPECT_EQ(text[8], '{');
    EXPECT_EQ(static_cast<unsigned char>(text[0]) % 8, 0);
    const SafetensorsFile file(path);
    for (const std::string& name : file.names()) {
      const TensorView* view = file.find(name);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(view->data) % size_of(view->dtype), 0u) << name;
    }
  }
}

TEST(SafetensorsWriter, NoTensorsAtAll) {
  const TempFolder folder;
  write_safetensors(folder.path() / "none.safetensors", {});
  EXPECT_TRUE(SafetensorsFile(folder.path() / "none.safetensors").names().empty());
}

TEST(SafetensorsWriter, RandomFilesRoundTrip) {
  const TempFolder folder;
  std::mt19937 random(3);
  const auto below = [&](unsigned n) { return static_cast<unsigned>(random() % n); };
  for (int round = 0; round < 100; ++round) {
    std::vector<NamedTensor> tensors;
    for (unsigned i = 0, count = below(6); i < count; ++i) {
      NamedTensor tensor{concat("t", i, std::string(below(20), static_cast<char>('a' + below(26)))), static_cast<DType>(below(10)), {}, {}};
      std::size_t size = size_of(tensor.dtype);
      for (unsigned rank = below(4); rank > 0; --rank) {
        tensor.shape.push_back(below(5));
        size *= static_cast<std::size_t>(tensor.shape.back());
      }
      for (std::size_t at = 0; at < size; ++at) tensor.data.push_back(static_cast<std::byte>(random() & 0xff));
      tensors.push_back(std::move(tensor));
    }
    write_safetensors(folder.path() / "r.safetensors", tensors);
    const SafetensorsFile file(folder.path() / "r.safetensors", FileAccess::kRead);
    ASSERT_EQ(file.names().size(), tensors.size());
    for (const NamedTensor& tensor : tensors) {
      const TensorView* view = file.find(tensor.name);
      ASSERT_EQ(view->shape, tensor.shape);
      ASSERT_TRUE(std::equal(tensor.data.begin(), tensor.data.end(), view->data));
    }
  }
}

// Quantized tensors: bytes to the format, described by its metadata.

TEST(QuantizedTensors, AreBytesToOtherReadersAndBlocksToUs) {
  const TempFolder folder;
  const auto path = folder.path() / "q.safetensors";
  std::vector<std::byte> q8(3 * 2 * size_of(DType::kQ8_0)), q4(2 * size_of(DType::kQ4_0));
  for (std::size_t i = 0; i < q8.size(); ++i) q8[i] = static_cast<std::byte>(i);
  SafetensorsWriter writer(path, {{"a", DType::kF32, {1}}, {"w", DType::kQ8_0, {3, 40}}, {"v", DType::kQ4_0, {2, 32}}}, {{"format", "pt"}});
  const float one = 1.0f;
  writer.write(std::as_bytes(std::span(&one, 1)));
  EXPECT_THROW(writer.write(q4), Error) << "the order is the announced one";
  writer.write(q8);
  EXPECT_THROW(writer.commit(), Error) << "a tensor is missing";
  writer.write(q4);
  writer.commit();
  const SafetensorsFile file(path);
  EXPECT_EQ(file.find("w")->dtype, DType::kQ8_0);
  EXPECT_EQ(file.find("w")->shape, (std::vector<Index>{3, 40}));
  EXPECT_EQ(file.find("v")->dtype, DType::kQ4_0);
  EXPECT_TRUE(std::equal(q8.begin(), q8.end(), file.find("w")->data));
  EXPECT_THAT(TempFolder::read(path), ::testing::HasSubstr(R"("w":{"dtype":"U8","shape":[3,68],)"));
  EXPECT_EQ(file.metadata().at("format"), "pt");
}

TEST(QuantizedTensors, MustFitTheirDescription) {
  const auto file = [](std::string_view description, std::string_view tensor) {
    return file_with(concat(R"({"__metadata__":{"w":")", description, R"("},"w":)", tensor, "}"), 68);
  };
  constexpr std::string_view kBytes = R"({"dtype":"U8","shape":[2,34],"data_offsets":[0,68]})";
  const std::string good = file(R"({\"dtype\":\"Q8_0\",\"shape\":[2,32]})", kBytes);
  EXPECT_EQ(open_bytes(good).find("w")->dtype, DType::kQ8_0);
  expect_malformed(file(R"({\"dtype\":\"Q8_0\",\"shape\":[3,32]})", kBytes), "U8 [2, 34], expected U8 [3, 34]");
  expect_malformed(file(R"({\"dtype\":\"Q8_0\",\"shape\":[2,33]})", kBytes), "expected U8 [2, 68]");
  expect_malformed(file(R"({\"dtype\":\"Q8_0\",\"shape\":[2,-5]})", kBytes), "a shape of two extents");
  expect_malformed(file(R"({\"dtype\":\"Q8_0\",\"shape\":[2,9223372036854775807]})", kBytes), "a shape of two extents");
  expect_malformed(file(R"({\"dtype\":\"Q5_0\",\"shape\":[2,32]})", kBytes), "a dtype Q8_0 or Q4_0");
  expect_malformed(file(R"({\"dtype\":\"Q8_0\",\"shape\":[64]})", kBytes), "a shape of two extents");
  expect_malformed(file(R"(blocks)", kBytes), "JSON");
  // A note of someone else's about a tensor of floats is none of ours.
  const std::string note = file("trained on cats", R"({"dtype":"F32","shape":[17],"data_offsets":[0,68]})");
  EXPECT_EQ(open_bytes(note).find("w")->dtype, DType::kF32);
}

std::vector<std::string> files_in(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  return names;
}

TEST(SafetensorsWriter, AnErrorLeavesTheOldFileAndNothingElse) {
  const TempFolder folder;
  const auto path = folder.write("out.safetensors", "old");
  const auto refused = [&](const std::vector<NamedTensor>& tensors, std::map<std::string, std::string> metadata = {}) {
    try {
      write_safetensors(path, tensors, metadata);
      ADD_FAILURE();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument) << error.what();
    }
    EXPECT_EQ(TempFolder::read(path), "old");
    EXPECT_EQ(files_in(folder.path()), std::vector<std::string>{"out.safetensors"});
  };
  refused({{"a", DType::kU8, {1}, {std::byte{}}}, {"a", DType::kU8, {1}, {std::byte{}}}});
  refused({{"__metadata__", DType::kU8, {1}, {std::byte{}}}});
  refused({{"\xff", DType::kU8, {1}, {std::byte{}}}});
  refused({{"a", DType::kF32, {1}, {std::byte{}}}});
  refused({{"a", DType::kU8, {-1}, {}}});
  refused({{"a", DType::kU8, {Index{1} << 62, 8}, {}}});
  refused({}, {{"k", "\xff"}});
}

TEST(SafetensorsWriter, APlaceThatCannotBeWritten) {
  const TempFolder folder;
  const auto kind = [](const std::filesystem::path& path) {
    try {
      write_safetensors(path, {});
    } catch (const Error& error) {
      EXPECT_EQ(error.where(), path.string());
      return error.got();
    }
    return std::string("no error");
  };
  EXPECT_EQ(kind(folder.path() / "none" / "out.safetensors"), "No such file or directory");
  std::filesystem::create_directory(folder.path() / "taken");
  EXPECT_EQ(kind(folder.path() / "taken"), "a folder");
  EXPECT_EQ(files_in(folder.path()), std::vector<std::string>{"taken"});
}

TEST(SafetensorsWriter, LinksAndDevicesStayWhatTheyAre) {
  const TempFolder folder;
  const auto file = folder.write("file", "old"), link = folder.path() / "link", pipe = folder.path() / "pipe";
  std::filesystem::create_symlink(file, link);
  write_safetensors(link, {});
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  EXPECT_NE(TempFolder::read(file), "old");
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THROW(write_safetensors(pipe, {}), Error);
  EXPECT_TRUE(std::filesystem::is_fifo(pipe));
  EXPECT_THROW(write_safetensors("", {}), Error);
}

TEST(SafetensorsWriter, ManyWritersOfOneFileLeaveAWholeOne) {
  const TempFolder folder;
  const auto path = folder.path() / "out.safetensors";
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      const std::vector<float> values(1000, static_cast<float>(t));
      for (int i = 0; i < 20; ++i) {
        write_safetensors(path, std::vector{NamedTensor::floats("a", {1000}, values)});
        const SafetensorsFile file(path);
        EXPECT_EQ(std::memcmp(file.find("a")->data, file.find("a")->data + 2000, 2000), 0);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(files_in(folder.path()), std::vector<std::string>{"out.safetensors"});
}

}  // namespace io_safetensors
}  // namespace duet
