#pragma once

#include <algorithm>
#include <span>

#include "duet/kernels/kernel_table.hpp"
#include "duet/kernels/matmul_types.hpp"
#include "duet/kernels/phase.hpp"

namespace duet::kernels {
inline namespace DUET_ISA_NAMESPACE {

namespace detail {

/// Some 128 KB of weights: long runs, and still a few tasks for every thread.
inline constexpr Index kDecodeBytes = Index{128} << 10;

inline Index row_bytes(const WeightMatrix& w) noexcept {
  const Index width = w.layout == WeightLayout::kOutIn ? w.in_features : w.out_features;
  return std::max<Index>(1, width * static_cast<Index>(size_of(w.dtype)));
}

/// Calls task(job, i) for every job and i in [0, count(job)), in one parallel region.
template <class Count, class Task>
void for_each_task(std::span<const MatmulJob> jobs, Threads& threads, Count&& count, Task&& task) {
  Index total = 0;
  for (const MatmulJob& job : jobs) total += count(job);
  threads.run(total, [&](Index i) {
    std::size_t job = 0;
    for (; i >= count(jobs[job]); ++job) i -= count(jobs[job]);
    task(job, i);
  });
}

inline void matmul_prefill(ConstMatrixView x, std::span<const MatmulJob> jobs, Workspace& workspace) {
  const MatmulKernels& kernels = workspace.kernels().matmul;
  const Index blocks = (x.rows() + kernels.block_rows - 1) / kernels.block_rows;
  const std::span<float> memory = workspace.array<float>(blocks * kernels.block_rows * x.cols());
  workspace.threads().run(blocks, [&](Index block) { kernels.pack_rows(x, block, memory.data()); });
  const PackedRows packed{memory.data(), x.rows(), x.cols()};
  for_each_task(
      jobs, workspace.threads(),
      [&](const MatmulJob& job) { return (job.weight.out_features + kernels.panel - 1) / kernels.panel; },
      [&](std::size_t job, Index i) { kernels.prefill(packed, jobs[job], i * kernels.panel); });
}

/// Jobs with weights [out, in].
inline void matmul_decode_outputs(ConstMatrixView x, std::span<const MatmulJob> jobs, Workspace& workspace) {
  const MatmulKernels& kernels = workspace.kernels().matmul;
  const Index threads = workspace.threads().size();
  const auto task_size = [&](const MatmulJob& job) {
    const Index outputs = job.weight.out_features;
    const Index rounds = std::clamp<Index>(outputs * row_bytes(job.weight) / kDecodeBytes / threads, 1, 16);
    return (outputs + rounds * threads - 1) / (rounds * threads);  // as many tasks for every thread
  };
  for_each_task(
      jobs, workspace.threads(),
      [&](const MatmulJob& job) { return (job.weight.out_features + task_size(job) - 1) / task_size(job); },
      [&](std::size_t job, Index i) {
        const Index size = task_size(jobs[job]), end = std::min((i + 1) * size, jobs[job].weight.out_features);
        kernels.decode_outputs(x, jobs[job], i * size, end);
      });
}

/// Jobs with weights [in, out]: whole stored rows are read, a part of the inputs in each task, and the parts then added.
inline void matmul_decode_inputs(ConstMatrixView x, std::span<const MatmulJob> jobs, Workspace& workspace) {
  const MatmulKernels& kernels = workspace.kernels().matmul;
  constexpr Index kJoin = 256;  // outputs that one task joins
  // At most 32 parts: their sums stay small beside the weights.
  const auto part_size = [](const MatmulJob& job) {
    return (std::max(kDecodeBytes / row_bytes(job.weight), job.weight.in_features / 32) + 8) / 8 * 8;
  };
  const auto num_parts = [&](const MatmulJob& job) {
    return (job.weight.in_features + part_size(job) - 1) / part_size(job);
  };
  const std::span<float*> sums = workspace.array<float*>(static_cast<Index>(jobs.size()));  // [parts, rows, out_features] each
  for (std::size_t j = 0; j < jobs.size(); ++j) {
    sums[j] = workspace.array<float>(num_parts(jobs[j]) * x.rows() * jobs[j].weight.out_features).data();
  }
  for_each_task(jobs, workspace.threads(), num_parts, [&](std::size_t job, Index i) {
    const WeightMatrix& w = jobs[job].weight;
    const Index begin = i * part_size(jobs[job]), end = std::min(begin + part_size(jobs[job]), w.in_features);
    kernels.decode_inputs(x, w, begin, end, sums[job] + i * x.rows() * w.out_features);
  });
  for_each_task(
      jobs, workspace.threads(), [](const MatmulJob& job) { return (job.weight.out_features + kJoin - 1) / kJoin; },
      [&](std::size_t job, Index i) {
        const Index end = std::min((i + 1) * kJoin, jobs[job].weight.out_features);
        kernels.join_inputs(jobs[job], sums[job], num_parts(jobs[job]), i * kJoin, end);
      });
}

}  // namespace detail

/// out (+)= activation(x · Wᵀ + bias) for every job; the jobs share x, the weights' layout and the parallel regions.
///
/// A row's bits depend on the row, the weights and the phase alone: inputs are summed in an order that the weights' shape
/// fixes, and outputs never mix.
///
/// Shapes   x [rows, in_features]; job.out [rows, out_features]; out aliases neither x nor another job's out
/// Requires weights of type F32, F16 or BF16, of any alignment
/// Cost     2 · rows · in_features · out_features FLOP. kPrefill: weights are converted once per 1032 rows; scratch
///          (rows + 12) · in_features floats. kDecode: every weight is read once; scratch for weights [in, out] alone: some
///          2 % of their bytes a row
/// Source   Goto and van de Geijn 2008, "Anatomy of high-performance matrix multiplication" (packing and blocking)
inline void matmul(ConstMatrixView x, std::span<const MatmulJob> jobs, Phase phase, Workspace& workspace) {
  if (x.rows() == 0 || jobs.empty()) return;
  for ([[maybe_unused]] const MatmulJob& job : jobs) {
    DUET_ASSERT(job.weight.in_features == x.cols(), "a matmul's input has as many columns as its weights");
    DUET_ASSERT(job.out.rows() == x.rows() && job.out.cols() == job.weight.out_features, "a matmul's output fits");
    DUET_ASSERT(job.weight.layout == jobs.front().weight.layout, "a matmul's weights have one layout");
  }
  const auto frame = workspace.frame();
  if (phase == Phase::kPrefill) {
    detail::matmul_prefill(x, jobs, workspace);
  } else if (jobs.front().weight.layout == WeightLayout::kOutIn) {
    detail::matmul_decode_outputs(x, jobs, workspace);
  } else {
    detail::matmul_decode_inputs(x, jobs, workspace);
  }
}

}  // namespace DUET_ISA_NAMESPACE
}  // namespace duet::kernels
