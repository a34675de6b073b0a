// The host's stb_image in the same unit, after Duet's header.
#include <duet/io/image.hpp>
#ifdef STBI_INCLUDE_STB_IMAGE_H
#error "Duet left the include guard of stb_image.h behind"
#endif
#ifdef STBI_NO_STDIO
#error "Duet left a macro of its own stb_image behind"
#endif
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#include <stb_image.h>

#include "stb_host.hpp"
#if defined(STBI_NO_STDIO)
#error "the host wanted stdio"
#endif

std::vector<unsigned char> host_after(const char* path) {
  int width = 0, height = 0, channels = 0;
  unsigned char* pixels = stbi_load(path, &width, &height, &channels, 3);
  std::vector<unsigned char> result(pixels, pixels + 3 * width * height);
  stbi_image_free(pixels);
  const duet::Image again = duet::Image::open(path);
  return std::equal(result.begin(), result.end(), again.rgb().begin(), again.rgb().end()) ? result : std::vector<unsigned char>();
}
