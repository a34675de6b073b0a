#pragma once

#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "duet/core/error.hpp"
#include "duet/core/weights.hpp"
#include "duet/io/json.hpp"

namespace duet {

/// A tensor that owns its bytes, on the way to a file.
struct NamedTensor {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<Index> shape;
  std::vector<std::byte> data;

  template <class T>
  [[nodiscard]] static NamedTensor of(std::string name, DType dtype, std::vector<Index> shape, std::span<const T> values) {
    const auto bytes = std::as_bytes(values);
    return {std::move(name), dtype, std::move(shape), {bytes.begin(), bytes.end()}};
  }
  [[nodiscard]] static NamedTensor floats(std::string name, std::vector<Index> shape, std::span<const float> values) {
    return of(std::move(name), DType::kF32, std::move(shape), values);
  }
  [[nodiscard]] static NamedTensor int64s(std::string name, std::vector<Index> shape, std::span<const std::int64_t> values) {
    return of(std::move(name), DType::kI64, std::move(shape), values);
  }
};

/// Writes a safetensors file. It appears whole or not at all: written beside its place, then renamed.
///
/// Errors  kFileNotReadable when the folder cannot be written to
inline void write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                              const std::map<std::string, std::string>& metadata = {}) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::uint64_t offset = 0;
  for (const NamedTensor& tensor : tensors) {
    header[tensor.name] = {{"dtype", name_of(tensor.dtype)},
                           {"shape", tensor.shape},
                           {"data_offsets", {offset, offset + tensor.data.size()}}};
    offset += tensor.data.size();
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');

  std::filesystem::path part = path;
  part += concat(".part-", ::getpid());
  try {
    std::ofstream file(part, std::ios::binary | std::ios::trunc);
    for (std::size_t i = 0; i < 8; ++i) file.put(static_cast<char>(text.size() >> (8 * i) & 0xff));
    file << text;
    for (const NamedTensor& tensor : tensors) {
      file.write(reinterpret_cast<const char*>(tensor.data.data()), static_cast<std::streamsize>(tensor.data.size()));
    }
    file.close();
    if (!file) throw Error(ErrorKind::kFileNotReadable, path.string(), "a failed write", "a folder with room that can be written to");
    std::filesystem::rename(part, path);
  } catch (const std::filesystem::filesystem_error& e) {
    std::error_code ignored;
    std::filesystem::remove(part, ignored);
    throw Error(ErrorKind::kFileNotReadable, path.string(), e.code().message(), "a path that can be written to");
  } catch (...) {
    std::error_code ignored;
    std::filesystem::remove(part, ignored);
    throw;
  }
}

}  // namespace duet
