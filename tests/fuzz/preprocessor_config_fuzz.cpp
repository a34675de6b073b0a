// preprocessor_config.json from a fuzzer: whatever it says, a duet::Error, or pixels of one size.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "duet/pipeline/image_processor.hpp"

namespace {

/// Sizes of four digits are legitimate and slow: the fuzzer learns nothing from them.
bool may_be_large(std::string_view text) {
  std::size_t digits = 0;
  for (const char c : text) {
    digits = c >= '0' && c <= '9' ? digits + 1 : 0;
    if (digits > 3) return true;
  }
  return false;
}

duet::Image picture() {
  std::vector<std::uint8_t> rgb;
  for (int i = 0; i < 3 * 37 * 23; ++i) rgb.push_back(static_cast<std::uint8_t>(i * 7));
  return duet::Image::from_rgb(rgb, 37, 23);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const nlohmann::json json = duet::parse_json(text, "preprocessor_config.json");
    const duet::ImageProcessor processor(duet::JsonView(json, "preprocessor_config.json"));
    if (may_be_large(text)) return 0;
    const duet::PixelValues pixels = processor.process(picture());
    if (pixels.values.size() != static_cast<std::size_t>(pixels.channels * pixels.height * pixels.width)) std::abort();
  } catch (const duet::Error&) {
  }
  return 0;
}
