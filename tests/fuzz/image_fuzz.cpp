// Picture files from a fuzzer: whatever the bytes are, a duet::Error, or a picture that resizes and crops to what was asked.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "duet/pipeline/image_processor.hpp"

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

/// Large pictures are legitimate and slow: the fuzzer learns nothing from them.
bool is_large(const std::uint8_t* data, std::size_t size) {
  int width = 0, height = 0, channels = 0;
  return duet::stb::info_from_memory(data, static_cast<int>(size), &width, &height, &channels) != 0 && width > (1 << 20) / height;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static_cast<void>(duet::exif_orientation(std::as_bytes(std::span(data, size))));
  if (duet::jpeg_problem(std::as_bytes(std::span(data, size))).empty() && is_large(data, size)) return 0;
  try {
    const auto alpha = size % 2 == 0 ? duet::Alpha::kDrop : duet::Alpha::kCompositeWhite;
    const duet::Image image = duet::Image::decode(std::as_bytes(std::span(data, size)), "fuzz", alpha);
    require(image.rgb().size() == static_cast<std::size_t>(3 * image.width() * image.height()));
    const auto filter = static_cast<duet::Filter>(data[size - 1] % 6);
    const duet::Image small = duet::resize(image, 7, 5, filter);
    require(small.width() == 7 && small.height() == 5);
    require(duet::center_crop(image, 8, 6).height() == 8);
  } catch (const duet::Error&) {
  }
  return 0;
}
