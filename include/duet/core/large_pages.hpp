#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "duet/core/matrix.hpp"

namespace duet {

/// Asks the system to back memory that will be read over and over by large pages (2 MB on x86 and 64-bit ARM) where it can:
/// streaming through pages of 4 KB, a core waits for addresses to be looked up more than for the memory itself. Only advice:
/// contents and validity stay, and a system that has no large pages ignores it. Best given before the memory is first
/// touched, for a page keeps its size.
///
/// Cost  one system call; what is touched becomes resident by large pages
inline void prefer_large_pages(const void* memory, std::size_t size) noexcept {
#ifdef MADV_HUGEPAGE
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const std::uintptr_t begin = reinterpret_cast<std::uintptr_t>(memory) / page * page;
  const std::uintptr_t end = (reinterpret_cast<std::uintptr_t>(memory) + size + page - 1) / page * page;
  if (size > 0) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  static_cast<void>(memory), static_cast<void>(size);
#endif
}

/// Memory that is handed out piece by piece and given back as a whole. It comes from blocks of large pages, because a matrix
/// is often smaller than such a page. Under an address sanitizer every piece is a block of its own, with its borders guarded.
///
/// Cost  what is not handed out yet is reserved but not resident, but for the rest of a large page
class LargePageArena {
 public:
  /// `size` uninitialised bytes, aligned to kAlignment.
  [[nodiscard]] std::span<std::byte> take(std::size_t size) {
    if (blocks_.empty() || size > blocks_.back().size() - used_) {
      const std::size_t grown = blocks_.empty() ? kLeast : std::min(2 * blocks_.back().size(), kMost);
      blocks_.emplace_back(kGuarded ? size : std::max(size, grown));
      prefer_large_pages(blocks_.back().data(), blocks_.back().size());
      used_ = 0;
    }
    const AlignedBuffer<std::byte>& block = blocks_.back();
    const std::span<std::byte> piece(block.data() + used_, size);
    used_ = std::min(block.size(), used_ + (size + kAlignment - 1) / kAlignment * kAlignment);
    return piece;
  }

 private:
#ifdef __SANITIZE_ADDRESS__
  static constexpr bool kGuarded = true;
#else
  static constexpr bool kGuarded = false;
#endif
  static constexpr std::size_t kLeast = std::size_t{4} << 20, kMost = std::size_t{64} << 20;

  std::vector<AlignedBuffer<std::byte>> blocks_;
  std::size_t used_ = 0;  // of the last block
};

}  // namespace duet
