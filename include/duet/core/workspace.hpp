#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <type_traits>
#include <vector>

#include "duet/core/matrix.hpp"
#include "duet/core/threads.hpp"

namespace duet {

namespace kernels {
struct KernelTable;
}

/// What computes: the kernels chosen for this machine when a model was loaded, and the threads they run on.
struct Compute {
  const kernels::KernelTable* kernels = nullptr;
  Threads* threads = nullptr;
};

/// Scratch memory of one session: a stack of blocks that only grows, so that a step which needs no more than an earlier
/// one allocates nothing. Memory is handed out by frames and comes back when the frame ends.
class Workspace {
 public:
  explicit Workspace(Compute compute) : compute_(compute) {}
  Workspace(Workspace&&) = default;
  Workspace& operator=(Workspace&&) = default;

  [[nodiscard]] const Compute& compute() const noexcept { return compute_; }
  [[nodiscard]] const kernels::KernelTable& kernels() const noexcept { return *compute_.kernels; }
  [[nodiscard]] Threads& threads() const noexcept { return *compute_.threads; }

  /// Everything taken from the workspace while a frame lives is given back when it ends.
  class Frame {
   public:
    explicit Frame(Workspace& workspace) noexcept
        : workspace_(workspace), block_(workspace.block_), used_(workspace.used_) {}
    Frame(const Frame&) = delete;
    Frame& operator=(const Frame&) = delete;
    ~Frame() {
      workspace_.block_ = block_;
      workspace_.used_ = used_;
    }

   private:
    Workspace& workspace_;
    std::size_t block_, used_;
  };
  [[nodiscard]] Frame frame() noexcept { return Frame(*this); }

  /// `count` uninitialised values, aligned to kAlignment.
  template <class T>
  [[nodiscard]] std::span<T> array(Index count) {
    static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);
    return {reinterpret_cast<T*>(take(static_cast<std::size_t>(count) * sizeof(T))), static_cast<std::size_t>(count)};
  }
  /// An uninitialised matrix [rows, cols].
  [[nodiscard]] MatrixView matrix(Index rows, Index cols) { return {array<float>(rows * cols).data(), rows, cols}; }

  /// Makes sure that `bytes` can be taken without an allocation. Call it when no frame is open.
  void reserve(std::size_t bytes) {
    if (blocks_.empty() || blocks_.front().size() < bytes) {
      blocks_.clear();
      blocks_.emplace_back(round_up(bytes));
      block_ = used_ = 0;
    }
  }
  /// Bytes this workspace holds.
  [[nodiscard]] std::size_t capacity() const noexcept {
    std::size_t total = 0;
    for (const auto& block : blocks_) total += block.size();
    return total;
  }

 private:
  static constexpr std::size_t round_up(std::size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

  [[gnu::noinline]] std::byte* take(std::size_t bytes) {
    bytes = round_up(bytes);
    while (block_ < blocks_.size() && used_ + bytes > blocks_[block_].size()) {
      ++block_;
      used_ = 0;
    }
    if (block_ == blocks_.size()) {
      constexpr std::size_t kLeast = std::size_t{1} << 20;
      blocks_.emplace_back(std::max({bytes, kLeast, blocks_.empty() ? 0 : 2 * blocks_.back().size()}));
      used_ = 0;
    }
    std::byte* memory = blocks_[block_].data() + used_;
    used_ += bytes;
    return memory;
  }

  Compute compute_;
  std::vector<AlignedBuffer<std::byte>> blocks_;
  std::size_t block_ = 0, used_ = 0;  // where the next bytes come from
};

}  // namespace duet
