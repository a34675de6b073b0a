#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "duet/core/error.hpp"
#include "duet/core/large_pages.hpp"
#include "duet/core/matrix.hpp"

namespace duet {

/// How a file's bytes come into memory.
enum class FileAccess : unsigned char {
  kMap,   ///< pages are read when they are touched and shared by all processes; the file must not be changed meanwhile
  kRead,  ///< a copy of our own, for files that may be rewritten or truncated under us (a mapping then dies of SIGBUS)
};

/// A file's bytes, read-only, mapped into memory or read into it.
///
/// Errors  kFileNotReadable: missing, a folder, a pipe, empty, or refused by the system
/// Cost    kMap: none until pages are touched; kRead: the whole file
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path, FileAccess access = FileAccess::kMap) {
    const Descriptor file(path);
    struct stat info {};
    if (::fstat(file.number, &info) != 0) throw unreadable(path, system_text(errno));
    if (S_ISDIR(info.st_mode)) throw unreadable(path, "a folder");
    if (!S_ISREG(info.st_mode)) throw unreadable(path, "something that is no regular file");
    if (info.st_size <= 0) throw unreadable(path, "an empty file", "is the download complete?");
    size_ = static_cast<std::size_t>(info.st_size);
    if (access == FileAccess::kMap) {
      void* memory = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, file.number, 0);
      if (memory == MAP_FAILED) throw unreadable(path, system_text(errno));
      mapped_ = Mapping(static_cast<std::byte*>(memory), Unmap{size_});
      prefer_large_pages(memory, size_);
    } else {
      copy_ = AlignedBuffer<std::byte>(size_);
      read_all(file.number, path);
    }
  }

  [[nodiscard]] std::span<const std::byte> bytes() const noexcept {
    return {mapped_ ? mapped_.get() : copy_.data(), size_};
  }
  /// Gives back the memory of a part of the file that has been read. It can still be read, from the file again.
  void release(std::span<const std::byte> part) const noexcept {
    if (!mapped_) return;
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const auto offset = static_cast<std::size_t>(part.data() - mapped_.get());
    const std::size_t begin = (offset + page - 1) / page * page, end = (offset + part.size()) / page * page;
    if (begin < end) ::madvise(mapped_.get() + begin, end - begin, MADV_DONTNEED);
  }

 private:
  struct Descriptor {
    // O_NONBLOCK: a named pipe in place of a file is refused instead of waited for.
    explicit Descriptor(const std::filesystem::path& path) : number(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
      if (number >= 0) return;
      const int error = errno;
      std::error_code ignored;
      if (error == ENOENT && std::filesystem::is_symlink(path, ignored)) {
        throw unreadable(path, "a link to a file that is not there", "is the download complete?");
      }
      throw unreadable(path, system_text(error));
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    ~Descriptor() { ::close(number); }
    int number;
  };
  struct Unmap {
    std::size_t size;
    void operator()(std::byte* memory) const noexcept { ::munmap(memory, size); }
  };
  using Mapping = std::unique_ptr<std::byte, Unmap>;

  void read_all(int file, const std::filesystem::path& path) {
    for (std::size_t done = 0; done < size_;) {
      const ::ssize_t count = ::read(file, copy_.data() + done, size_ - done);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) throw unreadable(path, system_text(errno));
      if (count == 0) throw unreadable(path, "a file that shrinks while it is read");
      done += static_cast<std::size_t>(count);
    }
  }

  static std::string system_text(int error) { return std::generic_category().message(error); }
  static Error unreadable(const std::filesystem::path& path, std::string_view got, std::string_view hint = {}) {
    return {ErrorKind::kFileNotReadable, path.string(), got, "a readable file", hint};
  }

  Mapping mapped_;
  AlignedBuffer<std::byte> copy_;
  std::size_t size_ = 0;
};

}  // namespace duet
