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

/// Along one axis: which points make a new one, and how much of each.
struct InterpolationTaps {
  std::array<Index, 4> index{};
  std::array<float, 4> weight{};
  std::size_t count = 0;
};
/// Of the i-th of `to` points over the extent of `from`; in floats, as the reference has it.
inline InterpolationTaps interpolation_taps(Interpolation kind, Index from, Index to, Index i) noexcept {
  const float at = static_cast<float>(from) / static_cast<float>(to) * (static_cast<float>(i) + 0.5f) - 0.5f;
  const float x = kind == Interpolation::kBilinear ? std::max(at, 0.0f) : at;
  const float first = std::floor(x), t = x - first;
  InterpolationTaps taps;
  const auto add = [&](Index offset, float weight) {
    taps.index[taps.count] = std::clamp<Index>(static_cast<Index>(first) + offset, 0, from - 1);
    taps.weight[taps.count++] = weight;
  };
  if (kind == Interpolation::kBilinear) {
    add(0, 1.0f - t);
    add(1, t);
    return taps;
  }
  constexpr float a = -0.75f;
  const auto near = [](float d) { return ((a + 2.0f) * d - (a + 3.0f)) * d * d + 1.0f; };             // |d| <= 1
  const auto far = [](float d) { return ((a * d - 5.0f * a) * d + 8.0f * a) * d - 4.0f * a; };  // 1 < |d| < 2
  add(-1, far(t + 1.0f));
  add(0, near(t));
  add(1, near(1.0f - t));
  add(2, far(2.0f - t));
  return taps;
}

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
  const auto blend = [&](const InterpolationTaps& taps, ConstMatrixView rows, Index begin, Index stride, float* to_row) {
    std::fill_n(to_row, x.cols(), 0.0f);
    for (std::size_t k = 0; k < taps.count; ++k) add(rows.row(begin + taps.index[k] * stride).data(), taps.weight[k], to_row, x.cols());
  };
  for_each_row(wide.rows(), wide.cols(), workspace, [&](Index i) {
    const auto taps = interpolation_taps(kind, from.cols, to.cols, i % to.cols);
    blend(taps, x, i / to.cols * from.cols, 1, wide.row(i).data());
  });
  for_each_row(out.rows(), out.cols(), workspace, [&](Index i) {
    const auto taps = interpolation_taps(kind, from.rows, to.rows, i / to.cols);
    blend(taps, wide, i % to.cols, to.cols, out.row(i).data());
  });
}

}  // namespace DUET_ISA_NAMESPACE
}  // namespace duet::kernels
