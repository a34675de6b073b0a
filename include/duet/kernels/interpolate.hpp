#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "duet/core/workspace.hpp"
#include "duet/kernels/elementwise.hpp"

namespace duet::kernels {

/// Extents of a grid of rows, stored row by row.
struct GridSize {
  Index rows = 0, cols = 0;
  [[nodiscard]] Index size() const noexcept { return rows * cols; }
  friend bool operator==(const GridSize&, const GridSize&) = default;
};

/// How values between grid points are made.
enum class Interpolation : unsigned char {
  kBilinear,
  kBicubic,        ///< Keys's cubic with a = −0.75
  kSmoothBicubic,  ///< Keys's cubic with a = −0.5, stretched over the points that become one where the grid shrinks (antialias)
};

/// Along one axis: which points make a new one, and how much of each.
struct InterpolationTaps {
  std::vector<Index> index;
  std::vector<float> weight;
};
/// Of the i-th of `to` points over the extent of `from`; in floats, as the reference has it.
inline InterpolationTaps interpolation_taps(Interpolation kind, Index from, Index to, Index i) {
  // Keys's cubic, near its middle, |d| <= 1, and beside it, 1 < |d| < 2.
  const float a = kind == Interpolation::kSmoothBicubic ? -0.5f : -0.75f;
  const auto near = [a](float d) { return ((a + 2.0f) * d - (a + 3.0f)) * d * d + 1.0f; };
  const auto far = [a](float d) { return ((a * d - 5.0f * a) * d + 8.0f * a) * d - 4.0f * a; };
  InterpolationTaps taps;
  if (kind == Interpolation::kSmoothBicubic) {
    const float scale = static_cast<float>(from) / static_cast<float>(to), stretch = std::max(scale, 1.0f);
    const float center = scale * (static_cast<float>(i) + 0.5f), reach = 2.0f * stretch;
    const Index begin = std::max<Index>(static_cast<Index>(center - reach + 0.5f), 0);
    const Index end = std::min<Index>(static_cast<Index>(center + reach + 0.5f), from);
    float sum = 0.0f;
    for (Index k = begin; k < end; ++k) {
      const float d = std::abs((static_cast<float>(k) - center + 0.5f) / stretch);
      taps.index.push_back(k);
      taps.weight.push_back(d < 1.0f ? near(d) : d < 2.0f ? far(d) : 0.0f);
      sum += taps.weight.back();
    }
    for (float& weight : taps.weight) weight /= sum;
    return taps;
  }
  const float at = static_cast<float>(from) / static_cast<float>(to) * (static_cast<float>(i) + 0.5f) - 0.5f;
  const float x = kind == Interpolation::kBilinear ? std::max(at, 0.0f) : at;
  const float first = std::floor(x), t = x - first;
  const auto add = [&](Index offset, float weight) {
    taps.index.push_back(std::clamp<Index>(static_cast<Index>(first) + offset, 0, from - 1));
    taps.weight.push_back(weight);
  };
  if (kind == Interpolation::kBilinear) {
    add(0, 1.0f - t);
    add(1, t);
    return taps;
  }
  add(-1, far(t + 1.0f));
  add(0, near(t));
  add(1, near(1.0f - t));
  add(2, far(2.0f - t));
  return taps;
}
/// Of all points along an axis.
inline std::vector<InterpolationTaps> all_interpolation_taps(Interpolation kind, Index from, Index to) {
  std::vector<InterpolationTaps> taps;
  for (Index i = 0; i < to; ++i) taps.push_back(interpolation_taps(kind, from, to, i));
  return taps;
}

inline namespace DUET_ISA_NAMESPACE {

/// Resamples a grid of rows to another size, each channel for itself: first along its rows, then along its columns. Pixel
/// centres correspond (align_corners = False): torch.nn.functional.interpolate(size = ...), with antialias for kSmoothBicubic, which
/// counts no points beyond an edge; for the others they are the edge's, and nothing is smoothed before it shrinks.
///
/// Shapes   x [from.size(), channels]; out [to.size(), channels]
/// Requires grids with at least one point; out distinct from x
/// Cost     4 multiply-adds (more where kSmoothBicubic shrinks) per channel for each point of [from.rows, to.cols] and of `to`; that many floats of scratch
/// Source   Keys 1981, "Cubic convolution interpolation for digital image processing"
inline void interpolate(ConstMatrixView x, GridSize from, MatrixView out, GridSize to, Interpolation kind, Workspace& workspace) {
  DUET_ASSERT(x.rows() == from.size() && out.rows() == to.size() && x.cols() == out.cols(), "grids of other sizes than said");
  const auto frame = workspace.frame();
  const MatrixView wide = workspace.matrix(from.rows * to.cols, x.cols());  // [from.rows * to.cols, channels]
  const auto add = compiled_for<AddScaledKernel, const float*, float, float*, Index>(workspace.kernels().isa);
  const auto blend = [&](const InterpolationTaps& taps, ConstMatrixView rows, Index begin, Index stride, float* to_row) {
    std::fill_n(to_row, x.cols(), 0.0f);
    for (std::size_t k = 0; k < taps.index.size(); ++k) add(rows.row(begin + taps.index[k] * stride).data(), taps.weight[k], to_row, x.cols());
  };
  const auto along_rows = all_interpolation_taps(kind, from.cols, to.cols), along_cols = all_interpolation_taps(kind, from.rows, to.rows);
  for_each_row(wide.rows(), wide.cols(), workspace, [&](Index i) {
    blend(along_rows[static_cast<std::size_t>(i % to.cols)], x, i / to.cols * from.cols, 1, wide.row(i).data());
  });
  for_each_row(out.rows(), out.cols(), workspace, [&](Index i) {
    blend(along_cols[static_cast<std::size_t>(i / to.cols)], wide, i % to.cols, to.cols, out.row(i).data());
  });
}

}  // namespace DUET_ISA_NAMESPACE
}  // namespace duet::kernels
