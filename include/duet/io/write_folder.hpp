#pragma once

#include <unistd.h>

#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

#include "duet/core/error.hpp"

namespace duet {

/// A new folder beside `path` that becomes `path` by commit(), and vanishes without it.
///
/// Errors  kInvalidArgument for a path at which something is already; kFileNotReadable when the folder cannot be made
class FolderInTheMaking {
 public:
  explicit FolderInTheMaking(std::filesystem::path path) : path_(std::move(path)) {
    std::error_code error;
    if (!path_.has_filename()) path_ = path_.parent_path();  // "out/"
    if (std::filesystem::exists(path_, error) && !std::filesystem::is_empty(path_, error)) {
      throw Error(ErrorKind::kInvalidArgument, path_.string(), "something that is there already", "the name of a new folder");
    }
    part_ = path_;
    part_ += "." + std::to_string(::getpid()) + ".part";
    if (!std::filesystem::create_directory(part_, error)) throw unwritable(error);
  }
  FolderInTheMaking(const FolderInTheMaking&) = delete;
  FolderInTheMaking& operator=(const FolderInTheMaking&) = delete;
  ~FolderInTheMaking() {
    std::error_code ignored;
    if (!part_.empty()) std::filesystem::remove_all(part_, ignored);
  }

  [[nodiscard]] const std::filesystem::path& part() const noexcept { return part_; }
  void commit() {
    std::error_code error;
    std::filesystem::rename(part_, path_, error);
    if (error) throw unwritable(error);
    part_.clear();
  }

 private:
  [[nodiscard]] Error unwritable(const std::error_code& error) const {
    return {ErrorKind::kFileNotReadable, path_.string(), error ? error.message() : "a folder of another run", "a folder that can be made",
            "does the one above it exist, with room and permission?"};
  }
  std::filesystem::path path_, part_;
};

}  // namespace duet
