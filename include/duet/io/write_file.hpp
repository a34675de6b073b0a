#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <span>
#include <string>
#include <system_error>
#include <utility>

#include "duet/core/error.hpp"

namespace duet {

/// A new file beside `path` that becomes `path` by commit(), and vanishes without it.
///
/// Errors  kFileNotReadable when it cannot be written; a file that was there before is then untouched
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
    if (path.empty()) throw Error(ErrorKind::kFileNotReadable, "output file", "an empty name", "a path");
    std::error_code error;
    if (!std::filesystem::is_symlink(path, error)) return path;
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

/// Writes a file whole or not at all.
/// Errors  kFileNotReadable when it cannot be written; a file that was there before is then untouched
inline void write_file(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  FileInTheMaking file(path);
  file.write(bytes);
  file.commit();
}

}  // namespace duet
