#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "duet/core/error.hpp"
#include "duet/core/weights.hpp"
#include "duet/io/json.hpp"
#include "duet/io/named_tensor.hpp"

namespace duet {

namespace detail {

/// A new file beside `path` that becomes `path` by commit(), and vanishes without it.
class FileInTheMaking {
 public:
  explicit FileInTheMaking(const std::filesystem::path& path) : path_(behind_links(path)) {
    std::error_code ignored;
    if (std::filesystem::exists(path_, ignored) && !std::filesystem::is_regular_file(path_, ignored)) {  // a device must stay one
      throw Error(ErrorKind::kFileNotReadable, path_.string(),
                  std::filesystem::is_directory(path_, ignored) ? "a folder" : "something that is no regular file", "a file to write");
    }
    constexpr int kAttempts = 100;  // other threads may be writing the same file
    for (int i = 0; i < kAttempts && file_ < 0; ++i) {
      part_ = path_;
      part_ += "." + std::to_string(::getpid()) + "-" + std::to_string(i) + ".part";
      file_ = ::open(part_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
      if (file_ < 0 && errno != EEXIST) break;
    }
    if (file_ < 0) throw unwritable(errno);
  }
  FileInTheMaking(const FileInTheMaking&) = delete;
  FileInTheMaking& operator=(const FileInTheMaking&) = delete;
  ~FileInTheMaking() {
    if (file_ < 0) return;
    ::close(file_);
    ::unlink(part_.c_str());
  }

  void write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ::ssize_t count = ::write(file_, bytes.data(), bytes.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) throw unwritable(errno);
      bytes = bytes.subspan(static_cast<std::size_t>(count));
    }
  }
  void commit() {
    if (::rename(part_.c_str(), path_.c_str()) != 0) throw unwritable(errno);
    ::close(std::exchange(file_, -1));
  }

 private:
  /// What a symbolic link stands for, so that the link stays.
  static std::filesystem::path behind_links(const std::filesystem::path& path) {
    std::error_code error;
    if (path.empty()) throw Error(ErrorKind::kFileNotReadable, "output file", "an empty name", "a path");
    std::filesystem::path real = std::filesystem::weakly_canonical(path, error);
    return error ? path : real;
  }
  [[nodiscard]] Error unwritable(int error) const {
    return {ErrorKind::kFileNotReadable, path_.string(), std::generic_category().message(error), "a file that can be written",
            "does the folder exist, with room and permission?"};
  }

  std::filesystem::path path_, part_;
  int file_ = -1;
};

inline std::string safetensors_header(std::span<const NamedTensor* const> tensors,
                                      const std::map<std::string, std::string>& metadata, const std::string& where) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::set<std::string_view> names = {"__metadata__"};
  std::uint64_t offset = 0;
  for (const NamedTensor* tensor : tensors) {
    const std::string tensor_where = concat(where, ": tensor ", tensor->name);
    if (!names.insert(tensor->name).second) {
      throw Error(ErrorKind::kInvalidArgument, tensor_where, "a name that is taken", "a name for each tensor");
    }
    std::uint64_t size = size_of(tensor->dtype);
    for (const Index extent : tensor->shape) {
      if (extent < 0 || __builtin_mul_overflow(size, static_cast<std::uint64_t>(extent), &size)) size = UINT64_MAX;
    }
    if (size != tensor->data.size()) {
      throw Error(ErrorKind::kInvalidArgument, tensor_where, concat(tensor->data.size(), " bytes of data"),
                  concat("those of ", name_of(tensor->dtype), " ", shape_text(tensor->shape)));
    }
    // A list is pushed, not indexed by name: ordered_json looks names up one by one.
    header.get_ref<nlohmann::ordered_json::object_t&>().emplace_back(
        tensor->name, nlohmann::ordered_json{{"dtype", name_of(tensor->dtype)},
                                             {"shape", tensor->shape},
                                             {"data_offsets", {offset, offset + tensor->data.size()}}});
    offset += tensor->data.size();
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::exception& e) {
    throw Error(ErrorKind::kInvalidArgument, where, e.what(), "names and metadata in UTF-8");
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

}  // namespace detail

/// Writes a safetensors file. It appears whole or not at all (written beside its place, then renamed over it). Tensors of
/// wider elements come first, otherwise in the given order, so that each is aligned to its element in the file.
///
/// Errors  kFileNotReadable when it cannot be written; kInvalidArgument for a name given twice, a name that is not UTF-8,
///         data that does not match dtype and shape. A file that was there before is then untouched.
inline void write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                              const std::map<std::string, std::string>& metadata = {}) {
  std::vector<const NamedTensor*> order;
  for (const NamedTensor& tensor : tensors) order.push_back(&tensor);
  std::ranges::stable_sort(order, std::ranges::greater{}, [](const NamedTensor* tensor) { return size_of(tensor->dtype); });
  const std::string header = detail::safetensors_header(order, metadata, path.string());

  detail::FileInTheMaking file(path);
  std::byte length[8];
  for (std::size_t i = 0; i < 8; ++i) length[i] = static_cast<std::byte>(std::uint64_t{header.size()} >> (8 * i) & 0xff);
  file.write(length);
  file.write(std::as_bytes(std::span(header)));
  for (const NamedTensor* tensor : order) file.write(tensor->data);
  file.commit();
}

}  // namespace duet
