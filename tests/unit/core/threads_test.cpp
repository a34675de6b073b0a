#include "duet/core/threads.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <vector>

namespace duet {
namespace core_threads {

/// How often each of `num_tasks` tasks ran.
std::vector<int> runs_of(Threads& threads, Index num_tasks) {
  std::vector<int> runs(static_cast<std::size_t>(num_tasks), 0);  // a slot per task: only one thread may write it
  threads.run(num_tasks, [&](Index i) { ++runs[static_cast<std::size_t>(i)]; });
  return runs;
}

TEST(Threads, RunEveryTaskOnce) {
  for (const int count : {1, 2, 3, 8}) {
    Threads threads(count);
    EXPECT_EQ(threads.size(), count);
    for (const Index tasks : {0, 1, 2, 3, 7, 1000}) {
      EXPECT_EQ(runs_of(threads, tasks), std::vector<int>(static_cast<std::size_t>(tasks), 1)) << count << ' ' << tasks;
    }
    threads.run(-1, [](Index) { ADD_FAILURE() << "there is no task"; });
  }
}

TEST(Threads, ZeroMeansThoseOfTheMachine) {
  EXPECT_EQ(Threads().size(), std::max(1, static_cast<int>(std::thread::hardware_concurrency())));
}

TEST(Threads, ResultsAreVisibleWhenARegionEnds) {
  Threads threads(3);
  std::vector<long> values(64, 0);
  for (int region = 0; region < 3000; ++region) {
    threads.run(64, [&](Index i) { values[static_cast<std::size_t>(i)] += i; });
    ASSERT_EQ(std::accumulate(values.begin(), values.end(), 0L), (region + 1) * 64L * 63 / 2) << region;
  }
}

TEST(Threads, NestedRegionsRunOnTheirOwnThread) {
  Threads threads(4);
  std::vector<int> runs(20 * 30, 0);
  threads.run(20, [&](Index outer) {
    const auto self = std::this_thread::get_id();
    threads.run(30, [&, self](Index inner) {
      EXPECT_EQ(std::this_thread::get_id(), self);
      ++runs[static_cast<std::size_t>(outer * 30 + inner)];
    });
  });
  EXPECT_EQ(runs, std::vector<int>(20 * 30, 1));
}

TEST(Threads, TwoThreadsShareAPool) {
  Threads threads(3);
  const auto work = [&] {
    for (int region = 0; region < 500; ++region) ASSERT_EQ(runs_of(threads, 40), std::vector<int>(40, 1));
  };
  std::thread other(work);
  work();
  other.join();
  EXPECT_EQ(runs_of(threads, 40), std::vector<int>(40, 1));  // and the pool is free again
}

TEST(Threads, StartAndEndWithoutWork) {
  for (int i = 0; i < 50; ++i) {
    Threads idle(3);
    if (i % 2 == 0) continue;
    EXPECT_EQ(runs_of(idle, 5), std::vector<int>(5, 1));
  }
}

TEST(Threads, WakeUpAfterTheyParked) {
  Threads threads(2);
  for (int i = 0; i < 5; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // workers have long given up to spin
    EXPECT_EQ(runs_of(threads, 100), std::vector<int>(100, 1));
  }
}

TEST(ThreadsDeathTest, ATaskThatThrowsEndsTheProgram) {
  EXPECT_DEATH(
      {
        Threads alone(1);
        alone.run(2, [](Index) { throw std::runtime_error("tasks must not throw"); });
      },
      "");
}

}  // namespace core_threads
}  // namespace duet
