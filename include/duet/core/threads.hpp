#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

#include "duet/core/matrix.hpp"

namespace duet {

/// A small pool of workers that model and sessions share. The caller of `run` is worker 0.
///
/// Workers spin briefly between regions, because decode opens hundreds of them a token, and then park, because an idle
/// program must cost nothing. A region that finds the pool busy (another session's thread, or a nested call) runs
/// inline on its own thread: work is split by task index, never by thread, so the bits are the same either way.
class Threads {
 public:
  /// `count` threads in all; 0 means one per core this process may use.
  explicit Threads(int count = 0) {
    const int hardware = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
    const int workers = (count > 0 ? std::min(count, 1024) : hardware) - 1;
    workers_.reserve(static_cast<std::size_t>(workers));
    for (int i = 0; i < workers; ++i) workers_.emplace_back([this] { serve(); });
  }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;
  ~Threads() {
    {
      const std::lock_guard lock(mutex_);
      stop_.store(true, std::memory_order_relaxed);
      generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }

  [[nodiscard]] int size() const noexcept { return static_cast<int>(workers_.size()) + 1; }

  /// Calls task(i) for every i in [0, num_tasks), each once, in any order and on any thread; returns when all are done.
  /// Tasks must not throw. No allocation.
  template <class Task>
  void run(Index num_tasks, Task&& task) noexcept {
    static_assert(std::is_invocable_v<Task&, Index>);
    using Plain = std::remove_reference_t<Task>;
    run({[](void* context, Index i) { (*static_cast<Plain*>(context))(i); }, const_cast<void*>(static_cast<const void*>(&task)),
         num_tasks});
  }

 private:
  struct Job {
    void (*call)(void*, Index) = nullptr;
    void* context = nullptr;
    Index num_tasks = 0;
  };

  void run(const Job& job) noexcept {
    if (job.num_tasks <= 0) return;
    if (job.num_tasks == 1 || workers_.empty() || busy_.test_and_set(std::memory_order_acquire)) {
      for (Index i = 0; i < job.num_tasks; ++i) job.call(job.context, i);
      return;
    }
    job_ = job;
    next_.store(0, std::memory_order_relaxed);
    running_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
    {
      const std::lock_guard lock(mutex_);  // a worker about to park must not miss the change
      generation_.fetch_add(1, std::memory_order_release);
    }
    if (parked_.load(std::memory_order_acquire) > 0) wake_.notify_all();
    work();
    while (running_.load(std::memory_order_acquire) > 0) std::this_thread::yield();
    busy_.clear(std::memory_order_release);
  }

  void work() noexcept {
    for (Index i = next_.fetch_add(1, std::memory_order_relaxed); i < job_.num_tasks;
         i = next_.fetch_add(1, std::memory_order_relaxed)) {
      job_.call(job_.context, i);
    }
  }

  void serve() {
    std::uint64_t seen = 0;
    while (true) {
      wait_for_change(seen);
      seen = generation_.load(std::memory_order_acquire);
      if (stop_.load(std::memory_order_relaxed)) return;
      work();
      running_.fetch_sub(1, std::memory_order_acq_rel);
    }
  }

  void wait_for_change(std::uint64_t seen) {
    constexpr int kSpins = 4000;  // some tens of microseconds: longer than the gap between two matmuls of one layer
    for (int spin = 0; spin < kSpins; ++spin) {
      if (generation_.load(std::memory_order_acquire) != seen) return;
#if defined(__x86_64__) || defined(__i386__)
      __builtin_ia32_pause();
#else
      std::this_thread::yield();
#endif
    }
    std::unique_lock lock(mutex_);
    parked_.fetch_add(1, std::memory_order_acq_rel);
    wake_.wait(lock, [&] { return generation_.load(std::memory_order_acquire) != seen; });
    parked_.fetch_sub(1, std::memory_order_acq_rel);
  }

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic_flag busy_ = ATOMIC_FLAG_INIT;
  std::atomic<bool> stop_{false};
  std::atomic<std::uint64_t> generation_{0};
  std::atomic<Index> next_{0};
  std::atomic<int> running_{0}, parked_{0};
  Job job_;
};

}  // namespace duet
