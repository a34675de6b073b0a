#pragma once

#include <algorithm>
#include <span>

#include "duet/kernels/kernel_table.hpp"
#include "duet/kernels/matmul_types.hpp"
#include "duet/kernels/phase.hpp"

namespace duet::kernels {
inline namespace DUET_ISA_NAMESPACE {

/// out (+)= activation(x · Wᵀ + bias) for every job; the jobs share x and the parallel regions.
///
/// A row's bits depend on the row, the weights and the phase alone: outputs are cut into fixed blocks, and inputs are
/// summed in fixed order.
///
/// Shapes   x [rows, in_features]; job.out [rows, out_features]; out aliases neither x nor another job's out
/// Requires weights of type F32, F16 or BF16, of any alignment
/// Cost     2 · rows · in_features · out_features FLOP. kPrefill: weights are converted once per 480 rows; scratch
///          (rows + 12) · in_features floats. kDecode: every weight is read once; no scratch
/// Source   Goto and van de Geijn 2008, "Anatomy of high-performance matrix multiplication" (packing and blocking)
inline void matmul(ConstMatrixView x, std::span<const MatmulJob> jobs, Phase phase, Workspace& workspace) {
  if (x.rows() == 0) return;
  const MatmulKernels& kernels = workspace.kernels().matmul;
  for ([[maybe_unused]] const MatmulJob& job : jobs) {
    DUET_ASSERT(job.weight.in_features == x.cols(), "a matmul's input has as many columns as its weights");
    DUET_ASSERT(job.out.rows() == x.rows() && job.out.cols() == job.weight.out_features, "a matmul's output fits");
  }
  const auto frame = workspace.frame();
  PackedRows packed{nullptr, x.rows(), x.cols()};
  if (phase == Phase::kPrefill) {
    const Index blocks = (x.rows() + kernels.block_rows - 1) / kernels.block_rows;
    const std::span<float> memory = workspace.array<float>(blocks * kernels.block_rows * x.cols());
    workspace.threads().run(blocks, [&](Index block) { kernels.pack_rows(x, block, memory.data()); });
    packed.data = memory.data();
  }
  const auto task_size = [&](const MatmulJob& job) {
    if (phase == Phase::kPrefill) return kernels.panel;
    // Some 128 KB of weights: long streams, and still a few tasks for every thread. In the [in, out] layout wide blocks
    // read whole cache lines of many rows.
    constexpr Index kBytes = Index{128} << 10;
    const Index row_bytes = std::max<Index>(1, x.cols() * static_cast<Index>(size_of(job.weight.dtype)));
    const Index least = job.weight.layout == WeightLayout::kInOut ? 4 * kernels.decode_block : kernels.decode_block;
    return std::max(least, kBytes / row_bytes / least * least);
  };
  const auto num_tasks = [&](const MatmulJob& job) { return (job.weight.out_features + task_size(job) - 1) / task_size(job); };
  Index total = 0;
  for (const MatmulJob& job : jobs) total += num_tasks(job);
  workspace.threads().run(total, [&](Index task) {
    const MatmulJob* job = jobs.data();
    for (; task >= num_tasks(*job); ++job) task -= num_tasks(*job);
    const Index begin = task * task_size(*job), end = std::min(begin + task_size(*job), job->weight.out_features);
    phase == Phase::kPrefill ? kernels.prefill(packed, *job, begin) : kernels.decode(x, *job, begin, end);
  });
}

}  // namespace DUET_ISA_NAMESPACE
}  // namespace duet::kernels
