#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <vector>

#include "duet/models/visual_input.hpp"

namespace duet {

/// A plane of floats [from.height, from.width] at another size, by cubic convolution with a = -0.75 and without antialiasing: what
/// torch.nn.functional.interpolate does in its mode "bicubic".
///
/// Requires  out [to.height, to.width]
/// Source    Keys 1981, Cubic convolution interpolation for digital image processing
inline void interpolate_bicubic(std::span<const float> plane, PictureSize from, PictureSize to, std::span<float> out) {
  struct Taps {
    std::array<Index, 4> at;
    std::array<float, 4> weight;
  };
  const auto taps_of = [](Index size, Index wanted) {
    const float scale = static_cast<float>(size) / static_cast<float>(wanted);
    std::vector<Taps> result;
    for (Index i = 0; i < wanted; ++i) {
      const float place = scale * (static_cast<float>(i) + 0.5f) - 0.5f, whole = std::floor(place), t = place - whole;
      constexpr float a = -0.75f;
      const auto near = [](float x) { return ((a + 2) * x - (a + 3)) * x * x + 1; };            // |x| <= 1
      const auto far = [](float x) { return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a; };       // 1 < |x| < 2
      Taps taps{{}, {far(t + 1), near(t), near(1 - t), far(2 - t)}};
      for (Index k = 0; k < 4; ++k) taps.at[static_cast<std::size_t>(k)] = std::clamp<Index>(static_cast<Index>(whole) + k - 1, 0, size - 1);
      result.push_back(taps);
    }
    return result;
  };
  const std::vector<Taps> rows = taps_of(from.height, to.height), columns = taps_of(from.width, to.width);
  auto result = out.begin();
  for (const Taps& row : rows) {
    for (const Taps& column : columns) {
      float sum = 0.0f;
      for (std::size_t y = 0; y < 4; ++y) {
        const float* line = plane.data() + row.at[y] * from.width;
        float across = 0.0f;
        for (std::size_t x = 0; x < 4; ++x) across += line[column.at[x]] * column.weight[x];
        sum += across * row.weight[y];
      }
      *result++ = sum;
    }
  }
}

}  // namespace duet
