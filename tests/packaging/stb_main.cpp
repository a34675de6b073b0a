#include <duet/io/image.hpp>

#include "stb_host.hpp"

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const duet::Image image = duet::Image::open(argv[1]);
  const std::vector<unsigned char> mine(image.rgb().begin(), image.rgb().end());
  return mine == host_before(argv[1]) && mine == host_after(argv[1]) ? 0 : 1;
}
