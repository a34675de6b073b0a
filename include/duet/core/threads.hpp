#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

#include "duet/core/matrix.hpp"

namespace duet {

/// A small pool of workers that model and sessions share. The caller of `run` is worker 0.
///
/// A worker has its own share of the tasks, the same one in every region of as many tasks: rows that it wrote in one are in
/// its core's cache in the next. When its share is done it takes tasks from the ends of the others'.
///
/// Workers spin briefly between regions, because decode opens hundreds of them a token, and then park, because an idle
/// program must cost nothing. A region that finds the pool busy (another session's thread, or a nested call) runs
/// inline on its own thread: work is split by task index, never by thread, so the bits are the same either way.
class Threads {
 public:
  /// `count` threads in all; 0 means one per core this process may use.
  explicit Threads(int count = 0) {
    const int hardware = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
    workers_ = std::vector<Worker>(static_cast<std::size_t>(count > 0 ? std::min(count, 1024) : hardware));
    threads_.reserve(workers_.size() - 1);
    for (std::size_t i = 1; i < workers_.size(); ++i) threads_.emplace_back([this, i] { serve(i); });
  }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;
  ~Threads() {
    for (std::size_t i = 1; i < workers_.size(); ++i) start(workers_[i], {}, 0, 0);
    wake_parked();
    for (std::thread& thread : threads_) thread.join();
  }

  [[nodiscard]] int size() const noexcept { return static_cast<int>(workers_.size()); }

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
    void (*call)(void*, Index) = nullptr;  ///< null: no more will come
    void* context = nullptr;
    Index num_tasks = 0;
  };

  /// Tasks [begin, end) of a worker's share that nobody has taken. Both numbers are one word, for two may take at once.
  class Share {
   public:
    void set(Index begin, Index end) noexcept { range_.store(pack(begin, end), std::memory_order_relaxed); }
    /// For the share's own worker; -1: none is left.
    Index take_first() noexcept {
      return take([](Index begin, Index end) { return std::array{begin, begin + 1, end}; });
    }
    /// For the other workers.
    Index take_last() noexcept {
      return take([](Index begin, Index end) { return std::array{end - 1, begin, end - 1}; });
    }

   private:
    static constexpr std::uint64_t pack(Index begin, Index end) noexcept {
      return static_cast<std::uint64_t>(begin) << 32 | static_cast<std::uint64_t>(end);
    }
    template <class Choose>
    Index take(Choose choose) noexcept {
      std::uint64_t range = range_.load(std::memory_order_relaxed);
      while (true) {
        const auto begin = static_cast<Index>(range >> 32), end = static_cast<Index>(range & 0xffffffff);
        if (begin >= end) return -1;
        const auto [task, left_begin, left_end] = choose(begin, end);
        if (range_.compare_exchange_weak(range, pack(left_begin, left_end), std::memory_order_relaxed)) return task;
      }
    }

    std::atomic<std::uint64_t> range_{0};
  };

  /// What a worker is told is one cache line, and what it answers another: a line takes its time from core to core.
  struct Worker {
    alignas(kAlignment) std::atomic<std::uint64_t> told{0};  ///< regions that this worker was given a share of
    Job job;
    Index first = 0;  ///< the worker's own task, which nobody else takes
    Share rest;
    alignas(kAlignment) std::atomic<std::uint64_t> done{0};  ///< of `told`
  };

  void run(const Job& job) noexcept {
    if (job.num_tasks <= 0) return;
    if (job.num_tasks == 1 || size() == 1 || busy_.test_and_set(std::memory_order_acquire)) {
      for (Index i = 0; i < job.num_tasks; ++i) job.call(job.context, i);
      return;
    }
    const Index shares = std::min<Index>(size(), job.num_tasks);
    for (Index i = shares - 1; i >= 0; --i) {
      start(workers_[static_cast<std::size_t>(i)], job, i * job.num_tasks / shares, (i + 1) * job.num_tasks / shares);
    }
    wake_parked();
    work(0);
    for (Index i = 1; i < shares; ++i) wait_until_done(workers_[static_cast<std::size_t>(i)]);
    busy_.clear(std::memory_order_release);
  }

  static void start(Worker& worker, const Job& job, Index begin, Index end) noexcept {
    worker.job = job;
    worker.first = begin;
    worker.rest.set(begin + 1, end);
    worker.told.fetch_add(1);  // in one order with parked_: a worker about to park sees it, or is seen
  }

  /// Does a worker's own share, then what is left of the others'.
  void work(std::size_t index) noexcept {
    Worker& worker = workers_[index];
    const Job job = worker.job;
    for (Index i = worker.first; i >= 0; i = worker.rest.take_first()) job.call(job.context, i);
    const auto shares = std::min(workers_.size(), static_cast<std::size_t>(job.num_tasks));
    for (std::size_t k = 1; k < shares; ++k) {
      Share& other = workers_[(index + k) % shares].rest;
      for (Index i = other.take_last(); i >= 0; i = other.take_last()) job.call(job.context, i);
    }
  }

  void serve(std::size_t index) {
    Worker& worker = workers_[index];
    for (std::uint64_t seen = 0;;) {
      wait_until_told(worker, seen);
      if (worker.job.call == nullptr) return;
      work(index);
      worker.done.store(++seen, std::memory_order_release);
    }
  }

  static constexpr int kSpins = 4000;  // some tens of microseconds: longer than the gap between two matmuls of one layer

  static void relax() noexcept {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#else
    std::this_thread::yield();
#endif
  }

  static void wait_until_done(const Worker& worker) noexcept {
    const std::uint64_t told = worker.told.load(std::memory_order_relaxed);
    for (int spin = 0; worker.done.load(std::memory_order_acquire) != told; ++spin) {
      if (spin < kSpins) relax();
      else std::this_thread::yield();
    }
  }

  void wait_until_told(const Worker& worker, std::uint64_t seen) {
    for (int spin = 0; spin < kSpins; ++spin) {
      if (worker.told.load(std::memory_order_acquire) != seen) return;
      relax();
    }
    std::unique_lock lock(mutex_);
    parked_.fetch_add(1);
    wake_.wait(lock, [&] { return worker.told.load() != seen; });
    parked_.fetch_sub(1);
  }

  void wake_parked() {
    if (parked_.load() == 0) return;
    { const std::lock_guard lock(mutex_); }  // who counts itself as parked is waiting now, or sees what it was told
    wake_.notify_all();
  }

  std::vector<Worker> workers_;       // [size()], the caller of run() first
  std::vector<std::thread> threads_;  // [size() - 1]
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<int> parked_{0};
  std::atomic_flag busy_ = ATOMIC_FLAG_INIT;
};

}  // namespace duet
