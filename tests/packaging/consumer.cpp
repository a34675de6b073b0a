// Uses Duet as a stranger's program would: an image, a tokenizer's absence, a clear error.
#include <duet/duet.hpp>
#include <iostream>

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const duet::Image image = duet::Image::open(argv[1]);
  std::cout << image.width() << " x " << image.height() << '\n';
  try {
    static_cast<void>(duet::Checkpoint::open("no-such-folder"));
  } catch (const duet::Error& e) {
    return e.kind() == duet::ErrorKind::kFileNotReadable && image.width() == 64 ? 0 : 1;
  }
  return 1;
}
