#pragma once

#include <algorithm>
#include <chrono>
#include <limits>
#include <span>

#include "duet/core/workspace.hpp"
#include "duet/kernels/kernel_table.hpp"

namespace duet::kernels {
inline namespace DUET_ISA_NAMESPACE {

namespace detail {

inline double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace detail

/// One short probe of this machine's FMA peak: independent multiply-adds in registers, on all threads.
/// Units  GFLOP/s, a multiply-add being two
inline double probe_fma_peak(const Compute& compute) {
  constexpr Index kRounds = 1'500'000;
  const Index tasks = compute.threads->size();
  double done = 0;
  std::vector<float> sinks(static_cast<std::size_t>(tasks) * 16);
  const auto start = std::chrono::steady_clock::now();
  compute.threads->run(tasks, [&](Index task) {
    const double count = compute.kernels->matmul.multiply_adds(kRounds, &sinks[static_cast<std::size_t>(task) * 16]);
    if (task == 0) done = count;
  });
  return 2e-9 * done * static_cast<double>(tasks) / detail::seconds_since(start);
}

/// One short probe of this machine's read bandwidth: `buffer`, much larger than every cache, read once by all threads in long
/// runs, and once in four runs side by side. Processors differ in which is faster; the faster one counts.
/// Units  GB/s
inline double probe_read_bandwidth(const Compute& compute, std::span<const float> buffer) {
  const Index tasks = compute.threads->size() * 4, part = static_cast<Index>(buffer.size()) / tasks;
  std::vector<float> sinks(static_cast<std::size_t>(tasks));
  double seconds = std::numeric_limits<double>::infinity();
  for (const Index runs : {1, 4}) {
    const auto start = std::chrono::steady_clock::now();
    compute.threads->run(tasks, [&](Index task) {
      sinks[static_cast<std::size_t>(task)] = compute.kernels->matmul.read(buffer.data() + task * part, part, runs);
    });
    seconds = std::min(seconds, detail::seconds_since(start));
    volatile float keep = sinks[0];
    static_cast<void>(keep);
  }
  return 1e-9 * static_cast<double>(part * tasks) * sizeof(float) / seconds;
}

}  // namespace DUET_ISA_NAMESPACE
}  // namespace duet::kernels
