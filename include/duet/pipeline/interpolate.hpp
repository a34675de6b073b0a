#pragma once

#include <span>
#include <vector>

#include "duet/kernels/interpolate.hpp"
#include "duet/models/visual_input.hpp"

namespace duet {

/// A plane of floats [from.height, from.width] at another size, as kernels::interpolate makes each channel of a grid: what
/// torch.nn.functional.interpolate does in its mode "bicubic".
///
/// Requires  out [to.height, to.width]
inline void interpolate_bicubic(std::span<const float> plane, PictureSize from, PictureSize to, std::span<float> out) {
  constexpr auto kKind = kernels::Interpolation::kBicubic;
  const std::vector<kernels::InterpolationTaps> rows = kernels::all_interpolation_taps(kKind, from.height, to.height);
  const std::vector<kernels::InterpolationTaps> columns = kernels::all_interpolation_taps(kKind, from.width, to.width);
  auto result = out.begin();
  for (const kernels::InterpolationTaps& row : rows) {
    for (const kernels::InterpolationTaps& column : columns) {
      float sum = 0.0f;
      for (std::size_t y = 0; y < 4; ++y) {
        const float* line = plane.data() + row.index[y] * from.width;
        float across = 0.0f;
        for (std::size_t x = 0; x < 4; ++x) across += line[column.index[x]] * column.weight[x];
        sum += across * row.weight[y];
      }
      *result++ = sum;
    }
  }
}

}  // namespace duet
