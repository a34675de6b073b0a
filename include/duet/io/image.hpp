#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/core/error.hpp"
#include "duet/core/matrix.hpp"
#include "duet/io/exif.hpp"
#include "duet/io/jpeg_problem.hpp"
#include "duet/io/mapped_file.hpp"
#include "duet/io/stb.hpp"

namespace duet {

/// What becomes of transparency when a picture is made RGB.
enum class Alpha : unsigned char {
  kDrop,            ///< the colour under it shows: most families
  kCompositeWhite,  ///< laid over white: Idefics, Mllama
};

/// An 8-bit RGB picture, upright: what the reference's load_image makes of a file.
///
/// PNG, JPEG and BMP. EXIF orientation is applied; grey, palette, 16-bit and alpha are converted as Pillow does. A JPEG's
/// bytes may differ by a few units from those that Pillow's own decoder makes.
/// Errors  kFileNotReadable; kMalformedFile for bytes that are no such picture, or one beyond 100 megapixels
class Image {
 public:
  static constexpr Index kMaxPixels = 100'000'000;    ///< in one picture, read or made
  static constexpr Index kLongestSquareEdge = 10'000;  ///< of a square with no more pixels than that

  [[nodiscard]] static Image open(const std::filesystem::path& path, Alpha alpha = Alpha::kDrop) {
    const MappedFile file(path);
    return decode(file.bytes(), path.filename().string(), alpha);
  }
  /// `where` names the bytes in errors.
  [[nodiscard]] static Image decode(std::span<const std::byte> file, const std::string& where, Alpha alpha = Alpha::kDrop);
  /// Rows of RGB bytes, [height, width, 3].
  [[nodiscard]] static Image from_rgb(std::span<const std::uint8_t> rgb, Index width, Index height) {
    if (width <= 0 || height <= 0 || static_cast<std::size_t>(width) > rgb.size() / 3 / static_cast<std::size_t>(height) ||
        rgb.size() != static_cast<std::size_t>(3 * width * height)) {
      throw Error(ErrorKind::kInvalidArgument, "image", concat(rgb.size(), " bytes for ", width, " x ", height),
                  "3 bytes for each pixel of a picture with at least one");
    }
    return {std::vector<std::uint8_t>(rgb.begin(), rgb.end()), width, height};
  }

  [[nodiscard]] Index width() const noexcept { return width_; }
  [[nodiscard]] Index height() const noexcept { return height_; }
  /// [height, width, 3]
  [[nodiscard]] std::span<const std::uint8_t> rgb() const noexcept { return rgb_; }
  /// Whether it comes from a file with one channel of 8 bits, Pillow's mode L.
  [[nodiscard]] bool is_grey() const noexcept { return is_grey_; }

 private:
  Image(std::vector<std::uint8_t> rgb, Index width, Index height) : rgb_(std::move(rgb)), width_(width), height_(height) {}

  /// Turned as EXIF orientation `how` (1 to 8) asks.
  [[nodiscard]] Image turned(int how) const;

  std::vector<std::uint8_t> rgb_;
  Index width_ = 0, height_ = 0;
  bool is_grey_ = false;
};

namespace detail {

/// Names a file by its first bytes, for errors about formats that Duet does not read.
inline std::string_view image_format(std::span<const std::byte> file) {
  const ByteReader r(file);
  if (r.has(0, "\x89PNG\r\n\x1a\n")) return "PNG";
  if (r.has(0, "\xff\xd8")) return "JPEG";
  if (r.has(0, "BM")) return "BMP";
  if (r.has(0, "GIF8")) return "GIF";
  if (r.has(0, "RIFF") && r.has(8, "WEBP")) return "WebP";
  if (r.has(0, std::string_view("II*\0", 4)) || r.has(0, std::string_view("MM\0*", 4))) return "TIFF";
  if (r.has(4, "ftypavif")) return "AVIF";
  if (r.has(4, "ftyphei") || r.has(4, "ftypmif")) return "HEIC";
  if (r.has(0, "\xff\x0a") || r.has(4, "JXL ")) return "JPEG XL";
  if (r.has(4, "jP  ")) return "JPEG 2000";
  if (r.has(0, "8BPS")) return "Photoshop";
  if (r.has(0, "%PDF")) return "PDF";
  if (r.has(0, "<svg") || r.has(0, "<?xml")) return "SVG";
  if (r.has(0, "<!DOCTYPE") || r.has(0, "<!doctype") || r.has(0, "<html")) return "a web page";
  if (r.has(0, "P1") || r.has(0, "P2") || r.has(0, "P3") || r.has(0, "P4") || r.has(0, "P5") || r.has(0, "P6")) return "PNM";
  if (r.has(0, "version https://git-lfs")) return "a Git LFS pointer";
  return "";
}

/// A JPEG that was cut off decodes to grey rows without an error: its end marker is what tells.
inline bool has_jpeg_end(std::span<const std::byte> file) {
  for (std::size_t i = file.size(); i-- > 1;) {
    if (file[i] == std::byte{0xd9} && file[i - 1] == std::byte{0xff}) return true;
  }
  return false;
}

/// One channel over white, in Pillow's fixed point (AlphaComposite.c), so that the bytes are the same.
inline std::uint8_t over_white(unsigned value, unsigned alpha) {
  if (alpha == 0) return 255;
  constexpr unsigned kBits = 7;
  const unsigned out_alpha = alpha * 255 + 255 * (255 - alpha);
  const unsigned share = static_cast<unsigned>(std::uint64_t{alpha} * 255 * 255 * (1u << kBits) / out_alpha);
  const unsigned sum = value * share + 255 * (255 * (1u << kBits) - share) + (0x80u << kBits);
  return static_cast<std::uint8_t>((((sum >> 8) + sum) >> 8) >> kBits);
}

struct FreeStb {
  void operator()(void* pixels) const { stb::image_free(pixels); }
};

}  // namespace detail

inline Image Image::decode(std::span<const std::byte> file, const std::string& where, Alpha alpha) {
  const auto malformed = [&](std::string got, std::string expected, std::string hint = {}) {
    return Error(ErrorKind::kMalformedFile, where, got, expected, hint);
  };
  const std::string_view format = detail::image_format(file);
  if (format != "PNG" && format != "JPEG" && format != "BMP") {
    const std::string_view hint = format.empty()                    ? ""
                                  : format == "a Git LFS pointer"   ? "run: git lfs pull"
                                  : format == "a web page"          ? "download the picture itself"
                                                                    : "convert it to PNG or JPEG";
    throw malformed(format.empty() ? concat(file.size(), " bytes of no known picture format") : std::string(format),
                    "a PNG, JPEG or BMP picture", std::string(hint));
  }
  if (file.size() > static_cast<std::size_t>(std::numeric_limits<int>::max())) {
    throw malformed(concat(file.size(), " bytes"), "a file below 2 GB");
  }
  const auto* bytes = reinterpret_cast<const unsigned char*>(file.data());
  const int size = static_cast<int>(file.size());
  int width = 0, height = 0, channels = 0;
  const auto refused = [&] {
    const char* text = stb::failure_reason();
    const std::string_view reason = text == nullptr ? "" : text;
    return malformed(concat("a damaged or unusual ", format, reason.empty() ? "" : concat(" (", reason, ")")), "a picture that decodes",
                     "is the file complete?");
  };
  if (const std::string_view problem = format == "JPEG" ? jpeg_problem(file) : ""; !problem.empty()) {
    throw malformed(concat("a JPEG with ", problem), "a picture that decodes", "is the file complete?");
  }
  if (stb::info_from_memory(bytes, size, &width, &height, &channels) == 0) throw refused();
  if (width <= 0 || height <= 0 || Index{width} * height > kMaxPixels) {
    throw malformed(concat(width, " x ", height, " pixels"), concat("at most ", kMaxPixels, " in all"));
  }
  if (format == "JPEG" && !detail::has_jpeg_end(file)) {
    throw malformed("a JPEG without its end", "a whole one", "is the file complete?");
  }
  const auto count = static_cast<std::size_t>(width) * static_cast<std::size_t>(height);
  std::vector<std::uint8_t> rgb(3 * count);
  const bool sixteen = stb::is_16_bit_from_memory(bytes, size) != 0, grey_file = channels == 1 && !sixteen;
  if (channels == 1 && sixteen) {  // Pillow's mode I: values above 255 are white
    const std::unique_ptr<std::uint16_t, detail::FreeStb> grey(stb::load_16_from_memory(bytes, size, &width, &height, &channels, 1));
    if (!grey) throw refused();
    for (std::size_t i = 0; i < count; ++i) {
      std::fill_n(rgb.begin() + static_cast<std::ptrdiff_t>(3 * i), 3, static_cast<std::uint8_t>(std::min<unsigned>(255, grey.get()[i])));
    }
  } else {
    const std::unique_ptr<unsigned char, detail::FreeStb> rgba(stb::load_from_memory(bytes, size, &width, &height, &channels, 4));
    if (!rgba) throw refused();
    for (std::size_t i = 0; i < count; ++i) {
      const unsigned char* from = rgba.get() + 4 * i;
      for (std::size_t c = 0; c < 3; ++c) rgb[3 * i + c] = alpha == Alpha::kDrop ? from[c] : detail::over_white(from[c], from[3]);
    }
  }
  Image image = Image(std::move(rgb), width, height).turned(exif_orientation(file));
  image.is_grey_ = grey_file;
  return image;
}

inline Image Image::turned(int how) const {
  if (how <= 1 || how > 8) return *this;
  const bool swaps = how >= 5;
  Image result(std::vector<std::uint8_t>(rgb_.size()), swaps ? height_ : width_, swaps ? width_ : height_);
  for (Index y = 0; y < result.height_; ++y) {
    for (Index x = 0; x < result.width_; ++x) {
      const Index u = swaps ? y : x, v = swaps ? x : y;  // before mirroring
      const bool mirror_x = how == 2 || how == 3 || how == 7 || how == 8;
      const bool mirror_y = how == 3 || how == 4 || how == 6 || how == 7;
      const Index from_x = mirror_x ? width_ - 1 - u : u, from_y = mirror_y ? height_ - 1 - v : v;
      std::copy_n(rgb_.begin() + 3 * (from_y * width_ + from_x), 3, result.rgb_.begin() + 3 * (y * result.width_ + x));
    }
  }
  return result;
}

}  // namespace duet
