// A project of its own that found Duet with find_package.
#include <duet/duet.hpp>
#include <iostream>

int main(int argc, char** argv) {
  try {
    const duet::Image image = duet::Image::open(argc > 1 ? argv[1] : "picture.png");
    std::cout << "a picture of " << image.width() << " x " << image.height() << " pixels\n";
  } catch (const duet::Error& e) {
    std::cerr << e.what() << '\n';
    return 1;
  }
}
