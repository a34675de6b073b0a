#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "duet/kernels/attention.hpp"
#include "duet/layers/kv_cache.hpp"

namespace duet {

namespace detail {

/// out, log_sum_exp = those of the keys of both: softmax over two sets of keys is the mean of the softmaxes over each, by their
/// sums of exponentials.
inline void merge_attention(std::span<float> out, std::span<float> log_sum_exp, std::span<const float> other,
                            std::span<const float> other_log_sum_exp) noexcept {
  const std::size_t head_dim = out.size() / log_sum_exp.size();
  for (std::size_t head = 0; head < log_sum_exp.size(); ++head) {
    const float a = log_sum_exp[head], b = other_log_sum_exp[head], most = std::max(a, b);
    if (b == -std::numeric_limits<float>::infinity()) continue;  // no keys
    const float keep = std::exp(a - most), add = std::exp(b - most), sum = keep + add;
    for (std::size_t c = head * head_dim; c < (head + 1) * head_dim; ++c) out[c] = (out[c] * keep + other[c] * add) / sum;
    log_sum_exp[head] = most + std::log(sum);
  }
}

}  // namespace detail

/// Attention of rows that see more than one range of keys: the kernel runs for the first range of every row, then for every
/// second one, and so on, and what it gives is merged. Rows with one range have the bits they would have without the others.
///
/// Shapes   extras [jobs], or empty when no row of any job has extra ranges; log_sum_exp of a row is that of all its ranges, where
///          the job has room for it
/// Cost     rows · num_attention_heads · (head_dim + 1) floats of scratch for the rows with extra ranges
inline void attention_over_ranges(std::span<kernels::AttentionJob> jobs, std::span<const std::span<const ExtraRange>> extras,
                                  const kernels::AttentionShape& shape, Phase phase, Workspace& workspace) {
  Index num_extras = 0, rounds = 0;
  for (std::size_t i = 0; i < extras.size(); ++i) {
    num_extras += static_cast<Index>(extras[i].size());
    if (!extras[i].empty() && jobs[i].log_sum_exp.empty()) {
      jobs[i].log_sum_exp = workspace.matrix(jobs[i].q.rows(), shape.num_attention_heads);
    }
  }
  kernels::attention(jobs, shape, phase, workspace);
  if (num_extras == 0) return;

  // An extra range's round is how many of its row come before it. Neighbouring rows of a round are one job.
  const auto frame = workspace.frame();
  struct Place {
    std::size_t job;
    Index row;
  };
  const auto ranges = workspace.array<kernels::KeyRange>(num_extras);
  const auto places = workspace.array<Place>(num_extras);
  const auto round_jobs = workspace.array<kernels::AttentionJob>(num_extras);
  const MatrixView out = workspace.matrix(num_extras, shape.num_attention_heads * shape.head_dim);
  const MatrixView log_sum_exp = workspace.matrix(num_extras, shape.num_attention_heads);
  for (Index round = 0; round == 0 || round < rounds; ++round) {
    Index count = 0, num_jobs = 0;
    for (std::size_t i = 0; i < extras.size(); ++i) {
      Index begin = count;  // of the run of rows that becomes a job
      const auto close = [&] {
        if (begin == count) return;
        const Index first = places[static_cast<std::size_t>(begin)].row, rows = count - begin;
        round_jobs[static_cast<std::size_t>(num_jobs++)] = {
            jobs[i].q.rows(first, rows), jobs[i].kv, ranges.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(rows)),
            out.rows(begin, rows), log_sum_exp.rows(begin, rows)};
        begin = count;
      };
      Index nth = 0;
      for (std::size_t e = 0; e < extras[i].size(); ++e) {
        const ExtraRange& extra = extras[i][e];
        DUET_ASSERT(extra.row >= 0 && extra.row < jobs[i].q.rows(), "an extra range of no row");
        DUET_ASSERT(e == 0 || extras[i][e - 1].row <= extra.row, "extra ranges in the order of their rows");
        nth = e > 0 && extras[i][e - 1].row == extra.row ? nth + 1 : 0;
        rounds = std::max(rounds, nth + 1);
        if (nth != round) continue;
        if (begin < count && places[static_cast<std::size_t>(count - 1)].row + 1 != extra.row) close();
        ranges[static_cast<std::size_t>(count)] = extra.keys;
        places[static_cast<std::size_t>(count++)] = {i, extra.row};
      }
      close();
    }
    kernels::attention(round_jobs.first(static_cast<std::size_t>(num_jobs)), shape, phase, workspace);
    for (Index i = 0; i < count; ++i) {
      const Place place = places[static_cast<std::size_t>(i)];
      const kernels::AttentionJob& job = jobs[place.job];
      detail::merge_attention(job.out.row(place.row), job.log_sum_exp.row(place.row), out.row(i), log_sum_exp.row(i));
    }
  }
}

}  // namespace duet
