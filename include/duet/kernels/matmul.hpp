#pragma once

#include <algorithm>
#include <cstdint>
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
  return std::max<Index>(1, static_cast<Index>(duet::row_bytes(w.dtype, static_cast<std::size_t>(w.width()))));
}

inline bool is_quantized(const MatmulJob& job) noexcept { return duet::is_quantized(job.weight.dtype); }

/// Blocks in a row of x, as quantized weights have them.
inline Index blocks_of(ConstMatrixView x) noexcept {
  return static_cast<Index>(num_blocks(DType::kQ8_0, static_cast<std::size_t>(x.cols())));
}

/// Calls task(job, i) for every job and i in [0, count(job)), in one parallel region.
template <class Job, class Count, class Task>
void for_each_task(std::span<const Job> jobs, Threads& threads, Count&& count, Task&& task) {
  Index total = 0;
  for (const Job& job : jobs) total += count(job);
  threads.run(total, [&](Index i) {
    std::size_t job = 0;
    for (; i >= count(jobs[job]); ++job) i -= count(jobs[job]);
    task(job, i);
  });
}

/// x as the jobs' weights want it: as floats, rounded to bytes, or both.
inline void matmul_prefill(ConstMatrixView x, std::span<const MatmulJob> jobs, Workspace& workspace) {
  const MatmulKernels& floats = workspace.kernels().matmul;
  const QuantizedKernels& bytes = workspace.kernels().quantized;
  PackedRows packed;
  if (!std::ranges::all_of(jobs, is_quantized)) {
    const Index blocks = (x.rows() + floats.block_rows - 1) / floats.block_rows;
    float* const memory = workspace.array<float>(blocks * floats.block_rows * x.cols()).data();
    workspace.threads().run(blocks, [&](Index block) { floats.pack_rows(x, block, memory); });
    packed = {memory, x.rows(), x.cols()};
  }
  PackedBlocks rounded;
  if (std::ranges::any_of(jobs, is_quantized)) {
    const Index blocks = (x.rows() + bytes.block_rows - 1) / bytes.block_rows;
    std::int32_t* const memory = workspace.array<std::int32_t>(blocks * blocks_of(x) * bytes.packed_words).data();
    workspace.threads().run(blocks, [&](Index block) { bytes.pack_rows(x, block, memory); });
    rounded = {memory, x.rows(), blocks_of(x)};
  }
  // As many tasks for every thread, of at most kPrefillOutputs, in whole panels.
  const Index threads = workspace.threads().size();
  const auto panel = [&](const MatmulJob& job) { return is_quantized(job) ? bytes.panel : floats.panel; };
  const auto panels = [&](const MatmulJob& job) { return (job.weight.out_features + panel(job) - 1) / panel(job); };
  const auto tasks = [&](const MatmulJob& job) {
    const Index least = (panels(job) * panel(job) + kPrefillOutputs - 1) / kPrefillOutputs;
    return std::min(panels(job), (least + threads - 1) / threads * threads);
  };
  for_each_task(jobs, workspace.threads(), tasks, [&](std::size_t i, Index task) {
    const MatmulJob& job = jobs[i];
    const auto border = [&](Index t) { return std::min(t * panels(job) / tasks(job) * panel(job), job.weight.out_features); };
    is_quantized(job) ? bytes.prefill(rounded, job, border(task), border(task + 1))
                      : floats.prefill(packed, job, border(task), border(task + 1));
  });
}

/// Jobs with weights [out, in].
inline void matmul_decode_outputs(ConstMatrixView x, std::span<const MatmulJob> jobs, Workspace& workspace) {
  const MatmulKernels& kernels = workspace.kernels().matmul;
  const QuantizedKernels& bytes = workspace.kernels().quantized;
  const Index threads = workspace.threads().size();
  RoundedRows rounded;
  if (std::ranges::any_of(jobs, is_quantized)) {
    const Index blocks = blocks_of(x), size = x.rows() * blocks;
    rounded = {workspace.array<std::int8_t>(size * static_cast<Index>(kBlockSize)).data(), workspace.array<float>(size).data(),
               workspace.array<std::int32_t>(size).data(), x.rows(), blocks};
    workspace.threads().run(x.rows(), [&](Index row) { bytes.round_row(x, row, rounded); });
  }
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
        is_quantized(jobs[job]) ? bytes.decode(rounded, jobs[job], i * size, end) : kernels.decode_outputs(x, jobs[job], i * size, end);
      });
}

/// Weights [in, out] that lie side by side in one stored tensor (q, k and v), read as one.
struct SideBySide {
  WeightMatrix weight;  ///< [out_features of all, in_features]
  Index part = 0;       ///< inputs of one task
  float* sums = nullptr;  ///< [parts, rows, out_features of all]

  [[nodiscard]] Index parts() const noexcept { return (weight.in_features + part - 1) / part; }
};

/// Jobs with weights [in, out]: whole stored rows are read, a part of the inputs in each task, and the parts then added.
inline void matmul_decode_inputs(ConstMatrixView x, std::span<const MatmulJob> jobs, Workspace& workspace) {
  const MatmulKernels& kernels = workspace.kernels().matmul;
  constexpr Index kJoin = 256;  // outputs that one task joins
  struct Place {
    Index run, column;
  };
  const std::span<Place> places = workspace.array<Place>(static_cast<Index>(jobs.size()));
  const std::span<SideBySide> all = workspace.array<SideBySide>(static_cast<Index>(jobs.size()));
  Index num_runs = 0;
  for (std::size_t j = 0; j < jobs.size(); ++j) {
    const WeightMatrix& w = jobs[j].weight;
    SideBySide* const last = num_runs == 0 ? nullptr : &all[static_cast<std::size_t>(num_runs - 1)];
    if (last != nullptr && last->weight.dtype == w.dtype && last->weight.stride == w.stride &&
        last->weight.data + static_cast<std::size_t>(last->weight.out_features) * size_of(w.dtype) == w.data) {
      places[j] = {num_runs - 1, last->weight.out_features};
      last->weight.out_features += w.out_features;
      continue;
    }
    // At most 32 parts: their sums stay small beside the weights. The tensor alone decides, so that a slice has the same bits.
    const Index row = std::max<Index>(1, w.stride * static_cast<Index>(size_of(w.dtype)));
    all[static_cast<std::size_t>(num_runs)] = {w, std::max(kDecodeBytes / row, w.in_features / 32) + 1, nullptr};
    places[j] = {num_runs++, 0};
  }
  const std::span<SideBySide> runs = all.first(static_cast<std::size_t>(num_runs));
  for (SideBySide& run : runs) run.sums = workspace.array<float>(run.parts() * x.rows() * run.weight.out_features).data();
  for_each_task(
      std::span<const SideBySide>(runs), workspace.threads(), [](const SideBySide& run) { return run.parts(); },
      [&](std::size_t r, Index i) {
        const SideBySide& run = runs[r];
        const Index begin = i * run.part, end = std::min(begin + run.part, run.weight.in_features);
        kernels.decode_inputs(x, run.weight, begin, end, run.sums + i * x.rows() * run.weight.out_features);
      });
  for_each_task(
      jobs, workspace.threads(), [](const MatmulJob& job) { return (job.weight.out_features + kJoin - 1) / kJoin; },
      [&](std::size_t j, Index i) {
        const SideBySide& run = runs[static_cast<std::size_t>(places[j].run)];
        const InputSums sums{run.sums + places[j].column, run.parts(), run.weight.out_features};
        kernels.join_inputs(jobs[j], sums, i * kJoin, std::min((i + 1) * kJoin, jobs[j].weight.out_features));
      });
}

}  // namespace detail

/// out (+)= activation(x · Wᵀ + bias) for every job; the jobs share x, the weights' layout and the parallel regions.
///
/// A row's bits depend on the row, the weights and the phase alone: inputs are summed in an order that the weights' shape
/// fixes, and outputs never mix. Quantized weights are multiplied in whole numbers, x rounded to 8 bits: every 32 inputs of a
/// row have a scale of their own, so that none is off by more than 1/254 of the largest of them.
///
/// Shapes   x [rows, in_features]; job.out [rows, out_features]; out aliases neither x nor another job's out
/// Requires weights of type F32, F16, BF16, Q8_0 or Q4_0, of any alignment; the jobs' weights of one layout
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
