// Bytes → SafetensorsFile. Whatever the bytes: a duet::Error, or tensors that can be read to their last byte and that
// come back from a written copy.
//
//     clang++ -std=c++20 -O1 -g -fsanitize=fuzzer,address,undefined -Iinclude … tests/fuzz/safetensors_fuzz.cpp

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "duet/io/safetensors.hpp"
#include "duet/io/safetensors_writer.hpp"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

/// Tensors of a file that was accepted, each byte of them read.
std::vector<duet::NamedTensor> copy_all(const duet::SafetensorsFile& file) {
  std::vector<duet::NamedTensor> tensors;
  std::uint64_t total = 0;
  for (const std::string& name : file.names()) {
    require(file.contains(name));
    try {
      const duet::TensorView* view = file.find(name);
      require(view != nullptr);
      const std::size_t size = static_cast<std::size_t>(view->size()) * duet::size_of(view->dtype);
      tensors.push_back({name, view->dtype, view->shape, {view->data, view->data + size}});
      total += size;
    } catch (const duet::Error& error) {
      require(error.kind() == duet::ErrorKind::kUnsupportedDtype);
    }
  }
  require(total <= file.data_bytes());
  return tensors;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // The header's length is made to fit half of the time, so that the fuzzer gets past it.
  std::vector<std::uint8_t> bytes(data, data + size);
  if (size >= 9 && data[7] == 0xff) {
    const std::uint64_t header = std::uint64_t{bytes[0]} | std::uint64_t{bytes[1]} << 8;
    for (std::size_t i = 0; i < 8; ++i) bytes[i] = static_cast<std::uint8_t>(header % (size - 7) >> (8 * i));
  }
  try {
    const duet::SafetensorsFile file(std::as_bytes(std::span(bytes)), "fuzz");
    const std::vector<duet::NamedTensor> tensors = copy_all(file);
    static const std::filesystem::path path =
        std::filesystem::temp_directory_path() / ("duet-fuzz-" + std::to_string(::getpid()) + ".safetensors");
    duet::write_safetensors(path, tensors, file.metadata());
    const duet::SafetensorsFile written(path);
    std::filesystem::remove(path);
    require(written.metadata() == file.metadata());
    for (const duet::NamedTensor& tensor : tensors) {
      const duet::TensorView* view = written.find(tensor.name);
      require(view != nullptr && view->shape == tensor.shape && view->dtype == tensor.dtype);
      require(std::equal(tensor.data.begin(), tensor.data.end(), view->data));
    }
  } catch (const duet::Error& error) {
    require(error.kind() == duet::ErrorKind::kMalformedFile);
  }
  return 0;
}
