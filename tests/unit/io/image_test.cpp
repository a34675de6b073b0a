#include "duet/io/image.hpp"

#include <gmock/gmock.h>

#include <cmath>
#include <map>

#include "duet/io/json.hpp"
#include "duet/pipeline/resize.hpp"

namespace duet {
namespace io_image {

namespace fs = std::filesystem;

fs::path shared(const std::string& name) { return fs::path(DUET_SHARED_DIR) / name; }

bool same(const Image& a, const Image& b) {
  return a.width() == b.width() && a.height() == b.height() && std::ranges::equal(a.rgb(), b.rgb());
}

/// An uncompressed 24-bit BMP of 2 x 1 pixels: red, blue.
std::vector<std::byte> tiny_bmp() {
  std::vector<unsigned char> b = {'B', 'M', 62, 0, 0, 0, 0, 0, 0, 0, 54, 0, 0, 0, 40, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 24, 0,
                                  0,   0,   0,  0, 8, 0, 0, 0, 0, 0, 0,  0, 0, 0, 0,  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 0, 0, 0, 0};
  std::vector<std::byte> bytes;
  for (const unsigned char c : b) bytes.push_back(static_cast<std::byte>(c));
  return bytes;
}

TEST(Image, DecodesFromMemory) {
  const Image image = Image::decode(tiny_bmp(), "tiny.bmp");
  EXPECT_EQ(image.width(), 2);
  EXPECT_EQ(image.height(), 1);
  EXPECT_THAT(std::vector<int>(image.rgb().begin(), image.rgb().end()), ::testing::ElementsAre(255, 0, 0, 0, 0, 255));
}

TEST(Image, TakesRawRows) {
  const std::vector<std::uint8_t> rgb(12, 7);
  EXPECT_EQ(Image::from_rgb(rgb, 2, 2).height(), 2);
  EXPECT_THROW(static_cast<void>(Image::from_rgb(rgb, 3, 2)), Error);
  EXPECT_THROW(static_cast<void>(Image::from_rgb(rgb, 0, 2)), Error);
  EXPECT_THROW(static_cast<void>(Image::from_rgb(rgb, Index{1} << 62, 4)), Error);
}

TEST(Image, JpegsThatTheDecoderMustNotSee) {
  std::vector<unsigned char> counts(16, 16);  // 256 symbols: just as many as the format allows
  const auto problem = [&](bool scan) {
    std::vector<unsigned char> jpeg = {0xff, 0xd8, 0xff, 0xe0, 0, 4, 0xff, 0xc4, 0xff, 0xff, 0xff, 0xc4, 1, 19, 0};  // a false marker in APP0
    jpeg.insert(jpeg.end(), counts.begin(), counts.end());
    jpeg.insert(jpeg.end(), 256, 0);
    if (scan) jpeg.insert(jpeg.end(), {0xff, 0xda, 0, 2});
    return jpeg_problem(std::as_bytes(std::span(jpeg)));
  };
  EXPECT_EQ(problem(true), "");
  EXPECT_EQ(problem(false), "no picture in it");
  ++counts[15];
  EXPECT_THAT(std::string(problem(true)), ::testing::HasSubstr("Huffman"));
  EXPECT_EQ(jpeg_problem({}), "no picture in it");
}

TEST(Image, OtherBytesAreAClearError) {
  const auto error = [](std::string_view text) {
    try {
      static_cast<void>(Image::decode(std::as_bytes(std::span(text.data(), text.size())), "file"));
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("no error");
  };
  EXPECT_THAT(error(""), ::testing::HasSubstr("PNG, JPEG or BMP"));
  EXPECT_THAT(error("GIF89a"), ::testing::HasSubstr("got GIF, expected a PNG, JPEG or BMP picture; convert it to PNG or JPEG"));
  EXPECT_THAT(error("<!DOCTYPE html>"), ::testing::HasSubstr("a web page"));
  EXPECT_THAT(error(std::string_view("RIFF\0\0\0\0WEBPVP8 ", 16)), ::testing::HasSubstr("WebP"));
  EXPECT_THAT(error("\x89PNG\r\n\x1a\n rest"), ::testing::HasSubstr("damaged"));
}

TEST(Image, APngMayBeginWithAnEmptyChunkOfPixels) {  // the sanitizers see more than the picture
  std::string png = read_text_file(std::string(DUET_EXAMPLES_DIR) + "/scenes/bundled/00001.png");
  const auto decoded = [&] { return Image::decode(std::as_bytes(std::span(png)), "scene"); };
  const Image whole = decoded();
  const std::size_t chunk = png.find("IDAT") - 4;
  png.insert(chunk, std::string("\0\0\0\0IDAT\x35\xaf\x06\x1e", 12));
  EXPECT_TRUE(same(decoded(), whole));
}

TEST(Exif, DamagedDataMeansUpright) {
  const std::string_view tiff("MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0", 26);
  const auto bytes = std::as_bytes(std::span(tiff.data(), tiff.size()));
  EXPECT_EQ(detail::tiff_orientation(bytes), 6);
  for (std::size_t size = 0; size < 20; ++size) EXPECT_EQ(detail::tiff_orientation(bytes.first(size)), 1) << size;
}

TEST(Image, EqualsPillowExactly) {
  if (!fs::is_directory(shared("images/expected"))) GTEST_SKIP() << "no reference pictures";
  const nlohmann::json expected = read_json_file(shared("images/expected/expected.json"));
  const std::map<std::string, Filter> filters{{"bilinear", Filter::kBilinear}, {"bicubic", Filter::kBicubic}, {"lanczos", Filter::kLanczos}};
  int compared = 0;
  for (const auto& c : expected.at("cases")) {
    const fs::path image = shared("images/" + c.at("image").get<std::string>());
    const auto golden = [&](const std::string& name) { return Image::open(shared("images/expected/" + name)); };
    if (c.contains("convert_rgb")) {
      EXPECT_TRUE(same(Image::open(image), golden(c["convert_rgb"]))) << c;
    } else if (c.contains("filter")) {
      EXPECT_TRUE(same(resize(Image::open(image), c["size"][0], c["size"][1], filters.at(c["filter"])), golden(c["expected"]))) << c;
    } else if (c.contains("jpeg_upright_thumbnail")) {  // decoders differ by a few levels
      const Image upright = Image::open(image), thumbnail = golden(c["jpeg_upright_thumbnail"]);
      EXPECT_EQ(upright.width(), c["size_upright"][0]) << c;
      EXPECT_EQ(upright.height(), c["size_upright"][1]) << c;
      const Image small = resize(upright, thumbnail.width(), thumbnail.height(), Filter::kBilinear);
      double difference = 0;
      for (std::size_t i = 0; i < small.rgb().size(); ++i) difference += std::abs(small.rgb()[i] - thumbnail.rgb()[i]);
      EXPECT_LE(difference / static_cast<double>(small.rgb().size()), 2.0) << c;
    } else {
      continue;
    }
    ++compared;
  }
  EXPECT_GT(compared, 90);
}

TEST(Image, MalformedFilesAreErrorsOrPictures) {
  if (!fs::is_directory(shared("malformed"))) GTEST_SKIP() << "no malformed files";
  int files = 0;
  for (const auto& entry : fs::recursive_directory_iterator(shared("malformed"))) {
    if (!entry.is_regular_file()) continue;
    ++files;
    try {
      const Image image = Image::open(entry.path());
      EXPECT_GT(image.width(), 0);
    } catch (const Error& e) {
      EXPECT_EQ(std::string_view(e.what()).find('\n'), std::string_view::npos);
    }
  }
  EXPECT_GT(files, 50);
}

}  // namespace io_image
}  // namespace duet
