#pragma once

#include <atomic>
#include <cstddef>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

/// Runs work(i) for every i below `count` on `num_threads` threads, each with a `make_work()` of its own. `say(i)` is told, now
/// and then, how far the first thread has come. Throws what a worker threw first; the others stop after their item.
template <class MakeWork, class Say>
void share_out(std::size_t count, int num_threads, const MakeWork& make_work, const Say& say) {
  std::atomic<std::size_t> next{0};
  std::mutex mutex;
  std::exception_ptr failure;
  const auto run = [&](bool reports) {
    try {
      auto work = make_work();
      for (std::size_t i = next++; i < count; i = next++) {
        work(i);
        if (reports && i % 20 < 2) say(i);
      }
    } catch (...) {
      next = count;
      const std::lock_guard lock(mutex);
      if (!failure) failure = std::current_exception();
    }
  };
  {
    std::vector<std::jthread> others;
    for (int i = 1; i < num_threads; ++i) others.emplace_back(run, false);
    run(true);
  }
  if (failure) std::rethrow_exception(failure);
}
