#pragma once

#include <algorithm>
#include <array>
#include <cmath>

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
  kBicubic,  ///< Keys's cubic with a = −0.75
};

namespace detail {

/// Along one axis: which points make the i-th of `to` points over the extent of `from`, and how much of each.
struct InterpolationTaps {
  std::array<Index, 4> index{};
  std::array<float, 4> weight{};
  std::size_t count = 0;
};
inline InterpolationTaps interpolation_taps(Interpolation kind, Index from, Index to, Index i) noexcept {
  const double at = (static_cast<double>(i) + 0.5) * static_cast<double>(from) / static_cast<double>(to) - 0.5;
  const double x = kind == Interpolation::kBilinear ? std::max(at, 0.0) : at;
  const auto first = static_cast<Index>(std::floor(x));
  const double t = x - std::floor(x);
  InterpolationTaps taps;
  const auto add = [&](Index offset, double weight) {
    taps.index[taps.count] = std::clamp<Index>(first + offset, 0, from - 1);
    taps.weight[taps.count++] = static_cast<float>(weight);
  };
  if (kind == Interpolation::kBilinear) {
    add(0, 1.0 - t);
    add(1, t);
    return taps;
  }
  constexpr double a = -0.75;
  const auto near = [](double d) { return ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0; };             // |d| <= 1
  const auto far = [](double d) { return ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a; };  // 1 < |d| < 2
  add(-1, far(t + 1.0));
  add(0, near(t));
  add(1, near(1.0 - t));
  add(2, far(2.0 - t));
  return taps;
}

}  // namespace detail

inline namespace DUET_ISA_NAMESPACE {

/// Resamples a grid of rows to another size, each channel for itself: first along its rows, then along its columns. Pixel
/// centres correspond (align_corners = False), points beyond an edge are the edge's, and nothing is smoothed before it shrinks:
/// torch.nn.functional.interpolate(size = ...) without antialias.
///
/// Shapes   x [from.size(), channels]; out [to.size(), channels]
/// Requires grids with at least one point; out distinct from x
/// Cost     at most 4 multiply-adds per channel for each point of [from.rows, to.cols] and of `to`; that many floats of scratch
/// Source   Keys 1981, "Cubic convolution interpolation for digital image processing"
inline void interpolate(ConstMatrixView x, GridSize from, MatrixView out, GridSize to, Interpolation kind, Workspace& workspace) {
  DUET_ASSERT(x.rows() == from.size() && out.rows() == to.size() && x.cols() == out.cols(), "grids of other sizes than said");
  const auto frame = workspace.frame();
  const MatrixView wide = workspace.matrix(from.rows * to.cols, x.cols());  // [from.rows * to.cols, channels]
  const auto add = compiled_for<AddScaledKernel, const float*, float, float*, Index>(workspace.kernels().isa);
  const auto blend = [&](const duet::kernels::detail::InterpolationTaps& taps, ConstMatrixView rows, Index begin, Index stride, float* to_row) {
    std::fill_n(to_row, x.cols(), 0.0f);
    for (std::size_t k = 0; k < taps.count; ++k) add(rows.row(begin + taps.index[k] * stride).data(), taps.weight[k], to_row, x.cols());
  };
  for_each_row(wide.rows(), wide.cols(), workspace, [&](Index i) {
    const auto taps = duet::kernels::detail::interpolation_taps(kind, from.cols, to.cols, i % to.cols);
    blend(taps, x, i / to.cols * from.cols, 1, wide.row(i).data());
  });
  for_each_row(out.rows(), out.cols(), workspace, [&](Index i) {
    const auto taps = duet::kernels::detail::interpolation_taps(kind, from.rows, to.rows, i / to.cols);
    blend(taps, wide, i % to.cols, to.cols, out.row(i).data());
  });
}

}  // namespace DUET_ISA_NAMESPACE
}  // namespace duet::kernels
