#pragma once

#include <cmath>
#include <span>

#include "duet/core/workspace.hpp"
#include "duet/kernels/row_tasks.hpp"
#include "duet/kernels/simd/dispatch.hpp"

namespace duet::kernels {

/// Cosine and sine of the angle by which every row turns every pair of channels.
struct RotaryAngles {
  MatrixView cos, sin;  ///< [rows, rotary_dim / 2]

  [[nodiscard]] RotaryAngles rows(Index begin, Index count) const noexcept { return {cos.rows(begin, count), sin.rows(begin, count)}; }
};

/// cos, sin = attention_factor · {cos, sin}(position · inv_freq), the angle rounded to float as the reference does.
///
/// Shapes   positions [rows]; inv_freq [rotary_dim / 2]; out [rows, rotary_dim / 2]
/// Units    angles in radians
/// Cost     two calls of the C library per pair, once a forward pass: layers share the table
/// Source   Su et al. 2021, 2104.09864; attention_factor (1 if unsure): Peng et al. 2023, 2309.00071
inline void rotary_angles(std::span<const Index> positions, std::span<const float> inv_freq, float attention_factor,
                          RotaryAngles out) noexcept {
  DUET_ASSERT(out.cos.rows() == static_cast<Index>(positions.size()), "one row of angles per position");
  DUET_ASSERT(out.cos.cols() == static_cast<Index>(inv_freq.size()), "one angle per pair of channels");
  for (std::size_t i = 0; i < positions.size(); ++i) {
    const std::span<float> cos = out.cos.row(static_cast<Index>(i)), sin = out.sin.row(static_cast<Index>(i));
    for (std::size_t pair = 0; pair < inv_freq.size(); ++pair) {
      const float angle = static_cast<float>(positions[i]) * inv_freq[pair];
      cos[pair] = std::cos(angle) * attention_factor;
      sin[pair] = std::sin(angle) * attention_factor;
    }
  }
}

/// How far a row lies from its position on the axes of a picture's grid: height at position + dy, width at position + dx.
struct GridOffset {
  Index dy = 0, dx = 0;
};

/// The same for rows in a grid, whose pairs turn by one axis each: 0 by the position, 1 by position + dy, 2 by position + dx.
///
/// Shapes   positions, offsets [rows]; inv_freq, axes [rotary_dim / 2]; out [rows, rotary_dim / 2]
/// Source   Wang et al. 2024, 2409.12191 (M-RoPE)
inline void rotary_angles(std::span<const Index> positions, std::span<const GridOffset> offsets,
                          std::span<const unsigned char> axes, std::span<const float> inv_freq, float attention_factor,
                          RotaryAngles out) noexcept {
  DUET_ASSERT(offsets.size() == positions.size() && axes.size() == inv_freq.size(), "an offset per row and an axis per pair");
  for (std::size_t i = 0; i < positions.size(); ++i) {
    const std::span<float> cos = out.cos.row(static_cast<Index>(i)), sin = out.sin.row(static_cast<Index>(i));
    const Index on_axis[] = {positions[i], positions[i] + offsets[i].dy, positions[i] + offsets[i].dx};
    for (std::size_t pair = 0; pair < inv_freq.size(); ++pair) {
      const float angle = static_cast<float>(on_axis[axes[pair]]) * inv_freq[pair];
      cos[pair] = std::cos(angle) * attention_factor;
      sin[pair] = std::sin(angle) * attention_factor;
    }
  }
}

inline namespace DUET_ISA_NAMESPACE {

struct RotateKernel {
  /// One row. count: pairs of channels of a head.
  template <class V>
  DUET_INLINE static void run(float* head, Index num_heads, Index head_dim, const float* cos, const float* sin,
                              Index count) noexcept {
    for (Index h = 0; h < num_heads; ++h, head += head_dim) {
      float *first = head, *second = head + count;
      Index i = 0;
      for (; i + V::kWidth <= count; i += V::kWidth) {
        const V a = V::load(first + i), b = V::load(second + i), c = V::load(cos + i), s = V::load(sin + i);
        fma(a, c, -(b * s)).store(first + i);
        fma(b, c, a * s).store(second + i);
      }
      if (const Index n = count - i; n > 0) {
        const V a = V::load_first(first + i, n), b = V::load_first(second + i, n);
        const V c = V::load_first(cos + i, n), s = V::load_first(sin + i, n);
        fma(a, c, -(b * s)).store_first(first + i, n);
        fma(b, c, a * s).store_first(second + i, n);
      }
    }
  }
};

/// Turns the pairs (i, i + rotary_dim / 2) of every head by the row's angles, in place:
///
///     x_i, x_j = x_i · cos − x_j · sin,  x_j · cos + x_i · sin
///
/// Shapes   x [rows, num_heads * head_dim]; angles [rows, rotary_dim / 2]
/// Requires rotary_dim <= head_dim; the channels beyond it pass
/// Source   Su et al. 2021, 2104.09864, in the layout of Hugging Face ("rotate_half")
inline void rotate_halves(MatrixView x, Index num_heads, Index head_dim, const RotaryAngles& angles,
                          Workspace& workspace) noexcept {
  DUET_ASSERT(x.cols() == num_heads * head_dim, "the heads lie beside one another");
  DUET_ASSERT(x.rows() == angles.cos.rows() && x.rows() == angles.sin.rows(), "one row of angles per row");
  DUET_ASSERT(2 * angles.cos.cols() <= head_dim, "more angles than pairs of channels");
  const auto kernel =
      compiled_for<RotateKernel, float*, Index, Index, const float*, const float*, Index>(workspace.kernels().isa);
  for_each_row(x.rows(), x.cols(), workspace, [&](Index i) {
    kernel(x.row(i).data(), num_heads, head_dim, angles.cos.row(i).data(), angles.sin.row(i).data(), angles.cos.cols());
  });
}

}  // namespace DUET_ISA_NAMESPACE
}  // namespace duet::kernels
