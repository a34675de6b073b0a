#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <utility>

#include "duet/core/error.hpp"

namespace duet {

/// A file mapped read-only into memory: its pages are read when they are touched, and shared with every other process that
/// maps the same file. The file must not shrink while it is mapped.
///
/// Errors  kFileNotReadable
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path) {
    const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) throw unreadable(path, std::strerror(errno));
    struct stat info {};
    if (::fstat(file, &info) != 0 || !S_ISREG(info.st_mode)) {
      ::close(file);
      throw unreadable(path, S_ISDIR(info.st_mode) ? "a folder" : "something that is no regular file");
    }
    size_ = static_cast<std::size_t>(info.st_size);
    if (size_ > 0) {
      void* memory = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, file, 0);
      const int error = errno;
      ::close(file);
      if (memory == MAP_FAILED) throw unreadable(path, std::strerror(error));
      data_ = static_cast<const std::byte*>(memory);
    } else {
      ::close(file);
    }
  }
  MappedFile(MappedFile&& other) noexcept : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  MappedFile& operator=(MappedFile&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~MappedFile() {
    if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
  }

  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }

 private:
  static Error unreadable(const std::filesystem::path& path, std::string got) {
    return {ErrorKind::kFileNotReadable, path.string(), std::move(got), "a readable file"};
  }

  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace duet
