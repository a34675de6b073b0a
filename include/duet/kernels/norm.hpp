#pragma once

#include <cmath>

#include "duet/core/workspace.hpp"
#include "duet/kernels/row_tasks.hpp"
#include "duet/kernels/simd/dispatch.hpp"

namespace duet::kernels {
inline namespace DUET_ISA_NAMESPACE {

struct Moments {
  float sum, squares;
};

/// Σ (x − center) and Σ (x − center)² of a row. Every lane of four vectors adds up its own share, so that rounding errors
/// grow with the share's length, not with the row's.
template <class V>
DUET_INLINE Moments moments(const float* x, Index count, float center) noexcept {
  V sums[4], squares[4];
  DUET_UNROLL
  for (int k = 0; k < 4; ++k) sums[k] = squares[k] = V(0.0f);
  Index i = 0;
  for (; i + 4 * V::kWidth <= count; i += 4 * V::kWidth) {
    DUET_UNROLL
    for (int k = 0; k < 4; ++k) {
      const V d = V::load(x + i + k * V::kWidth) - V(center);
      sums[k] = sums[k] + d;
      squares[k] = fma(d, d, squares[k]);
    }
  }
  for (; i < count; i += V::kWidth) {
    const Index n = count - i < V::kWidth ? count - i : V::kWidth;
    const V d = select(V::first(n), V::load_first(x + i, n) - V(center), V(0.0f));
    sums[0] = sums[0] + d;
    squares[0] = fma(d, d, squares[0]);
  }
  return {sum((sums[0] + sums[1]) + (sums[2] + sums[3])), sum((squares[0] + squares[1]) + (squares[2] + squares[3]))};
}

struct LayerNormKernel {
  template <class V>
  DUET_INLINE static void run(const float* x, const float* weight, const float* bias, float eps, float* out,
                              Index count) noexcept {
    const auto n = static_cast<float>(count);
    const float mean = moments<V>(x, count, 0.0f).sum / n;
    const Moments around_mean = moments<V>(x, count, mean);
    const float rest = around_mean.sum / n;  // what rounding left in the mean: matters when mean² is far above var
    const float variance = std::fma(-rest, rest, around_mean.squares / n);
    const float factor = 1.0f / std::sqrt(variance + eps);
    for (Index i = 0; i < count; i += V::kWidth) {
      const Index left = count - i;
      if (left >= V::kWidth) {
        const V unit = ((V::load(x + i) - V(mean)) - V(rest)) * V(factor);
        fma(unit, V::load(weight + i), bias == nullptr ? V(0.0f) : V::load(bias + i)).store(out + i);
      } else {
        const V unit = ((V::load_first(x + i, left) - V(mean)) - V(rest)) * V(factor);
        const V shift = bias == nullptr ? V(0.0f) : V::load_first(bias + i, left);
        fma(unit, V::load_first(weight + i, left), shift).store_first(out + i, left);
      }
    }
  }
};

struct RmsNormKernel {
  template <class V>
  DUET_INLINE static void run(const float* x, const float* weight, float eps, float* out, Index count, Index measured) noexcept {
    const V factor(1.0f / std::sqrt(moments<V>(x, measured, 0.0f).squares / static_cast<float>(measured) + eps));
    for (Index i = 0; i < count; i += V::kWidth) {
      const Index left = count - i;
      if (left >= V::kWidth) {
        (V::load(x + i) * factor * V::load(weight + i)).store(out + i);
      } else {
        (V::load_first(x + i, left) * factor * V::load_first(weight + i, left)).store_first(out + i, left);
      }
    }
  }
};

/// out = (x − mean) / sqrt(var + eps) · weight + bias for every row, var being the biased variance.
///
/// Shapes   x, out [rows, size]; weight [size]; bias [size] or null; out may be x
/// Cost     reads each row three times, from cache but for the first
/// Source   Ba et al. 2016, 1607.06450
inline void layer_norm(ConstMatrixView x, const float* weight, const float* bias, float eps, MatrixView out,
                       Workspace& workspace) noexcept {
  DUET_ASSERT(x.rows() == out.rows() && x.cols() == out.cols(), "a norm keeps the shape");
  const auto kernel =
      compiled_for<LayerNormKernel, const float*, const float*, const float*, float, float*, Index>(workspace.kernels().isa);
  for_each_row(x.rows(), x.cols(), workspace,
               [&](Index i) { kernel(x.row(i).data(), weight, bias, eps, out.row(i).data(), x.cols()); });
}

/// out = x / sqrt(mean(x²) + eps) · weight for every row, the mean being that of its first `measured` values.
///
/// Shapes   x, out [rows, size]; weight [size]; out may be x
/// Source   Zhang and Sennrich 2019, 1910.07467
inline void rms_norm(ConstMatrixView x, const float* weight, float eps, MatrixView out, Index measured, Workspace& workspace) noexcept {
  DUET_ASSERT(x.rows() == out.rows() && x.cols() == out.cols(), "a norm keeps the shape");
  const auto kernel =
      compiled_for<RmsNormKernel, const float*, const float*, float, float*, Index, Index>(workspace.kernels().isa);
  for_each_row(x.rows(), x.cols(), workspace,
               [&](Index i) { kernel(x.row(i).data(), weight, eps, out.row(i).data(), x.cols(), measured); });
}
/// The same over all of a row.
inline void rms_norm(ConstMatrixView x, const float* weight, float eps, MatrixView out, Workspace& workspace) noexcept {
  rms_norm(x, weight, eps, out, x.cols(), workspace);
}

}  // namespace DUET_ISA_NAMESPACE
}  // namespace duet::kernels
