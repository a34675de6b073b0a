#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "duet/core/workspace.hpp"
#include "duet/kernels/row_tasks.hpp"
#include "duet/kernels/simd/dispatch.hpp"
#include "duet/kernels/simd/vec_math.hpp"

namespace duet::kernels {
inline namespace DUET_ISA_NAMESPACE {

struct AddScaledKernel {
  template <class V>
  DUET_INLINE static void run(const float* x, float factor, float* y, Index count) noexcept {
    Index i = 0;
    for (; i + V::kWidth <= count; i += V::kWidth) fma(V::load(x + i), V(factor), V::load(y + i)).store(y + i);
    if (const Index n = count - i; n > 0) {
      fma(V::load_first(x + i, n), V(factor), V::load_first(y + i, n)).store_first(y + i, n);
    }
  }
};

struct MultiplyKernel {
  template <class V>
  DUET_INLINE static void run(const float* x, float* y, Index count) noexcept {
    Index i = 0;
    for (; i + V::kWidth <= count; i += V::kWidth) (V::load(x + i) * V::load(y + i)).store(y + i);
    if (const Index n = count - i; n > 0) (V::load_first(x + i, n) * V::load_first(y + i, n)).store_first(y + i, n);
  }
};

struct ScaleKernel {
  template <class V>
  DUET_INLINE static void run(float factor, float* x, Index count) noexcept {
    Index i = 0;
    for (; i + V::kWidth <= count; i += V::kWidth) (V::load(x + i) * V(factor)).store(x + i);
    if (const Index n = count - i; n > 0) (V::load_first(x + i, n) * V(factor)).store_first(x + i, n);
  }
};

struct SoftCapKernel {
  template <class V>
  DUET_INLINE static void run(float cap, float* x, Index count) noexcept {
    Index i = 0;
    for (; i + V::kWidth <= count; i += V::kWidth) (V(cap) * tanh(V::load(x + i) / V(cap))).store(x + i);
    if (const Index n = count - i; n > 0) (V(cap) * tanh(V::load_first(x + i, n) / V(cap))).store_first(x + i, n);
  }
};

/// y += factor · x.
///
/// Shapes  x, y [rows, cols]
inline void add_scaled(ConstMatrixView x, float factor, MatrixView y, Workspace& workspace) noexcept {
  DUET_ASSERT(x.rows() == y.rows() && x.cols() == y.cols(), "the sum's parts differ in shape");
  const auto kernel = compiled_for<AddScaledKernel, const float*, float, float*, Index>(workspace.kernels().isa);
  for_each_row(x.rows(), x.cols(), workspace, [&](Index i) { kernel(x.row(i).data(), factor, y.row(i).data(), x.cols()); });
}

/// y += x.
///
/// Shapes  x, y [rows, cols]
inline void add(ConstMatrixView x, MatrixView y, Workspace& workspace) noexcept { add_scaled(x, 1.0f, y, workspace); }

/// y = x ∘ y, value by value.
///
/// Shapes  x, y [rows, cols]
inline void multiply(ConstMatrixView x, MatrixView y, Workspace& workspace) noexcept {
  DUET_ASSERT(x.rows() == y.rows() && x.cols() == y.cols(), "the product's parts differ in shape");
  const auto kernel = compiled_for<MultiplyKernel, const float*, float*, Index>(workspace.kernels().isa);
  for_each_row(x.rows(), x.cols(), workspace, [&](Index i) { kernel(x.row(i).data(), y.row(i).data(), x.cols()); });
}

/// x = x ∘ factors, row by row.
///
/// Shapes  x [rows, cols], factors [cols]
inline void scale_columns(MatrixView x, const float* factors, Workspace& workspace) noexcept {
  const auto kernel = compiled_for<MultiplyKernel, const float*, float*, Index>(workspace.kernels().isa);
  for_each_row(x.rows(), x.cols(), workspace, [&](Index i) { kernel(factors, x.row(i).data(), x.cols()); });
}

/// x = factor · x.
inline void scale(MatrixView x, float factor, Workspace& workspace) noexcept {
  const auto kernel = compiled_for<ScaleKernel, float, float*, Index>(workspace.kernels().isa);
  for_each_row(x.rows(), x.cols(), workspace, [&](Index i) { kernel(factor, x.row(i).data(), x.cols()); });
}

/// x = cap · tanh(x / cap) (Bello et al. 2016, 1611.09940; Gemma 2).
/// Requires cap > 0
inline void soft_cap(MatrixView x, float cap, Workspace& workspace) noexcept {
  const auto kernel = compiled_for<SoftCapKernel, float, float*, Index>(workspace.kernels().isa);
  for_each_row(x.rows(), x.cols(), workspace, [&](Index i) { kernel(cap, x.row(i).data(), x.cols()); });
}

}  // namespace DUET_ISA_NAMESPACE

/// row = row / ‖row‖₂. A row of zeros stays zero.
inline void l2_normalize(std::span<float> row) noexcept {
  double squares = 0.0;
  for (const float value : row) squares += static_cast<double>(value) * static_cast<double>(value);
  if (squares == 0.0) return;
  const double factor = 1.0 / std::sqrt(squares);
  for (float& value : row) value = static_cast<float>(static_cast<double>(value) * factor);
}

/// row = e^row / Σ e^row. −inf gets probability 0; a row of nothing but −inf becomes zero.
inline void softmax_row(std::span<float> row) noexcept {
  float most = -std::numeric_limits<float>::infinity();
  for (const float value : row) most = std::max(most, value);
  if (most == -std::numeric_limits<float>::infinity()) {
    std::ranges::fill(row, 0.0f);
    return;
  }
  double sum = 0.0;
  for (float& value : row) {
    value = std::exp(value - most);
    sum += static_cast<double>(value);
  }
  for (float& value : row) value = static_cast<float>(static_cast<double>(value) / sum);
}

}  // namespace duet::kernels
