#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include "../drawing/canvas.hpp"

/// Attention on a grid of patches, spread over a picture: 1 where it is strongest.
class HeatMap {
 public:
  /// `heat` is [rows, cols], not negative.
  HeatMap(std::span<const float> heat, std::size_t rows, std::size_t cols) : heat_(heat.begin(), heat.end()), rows_(rows), cols_(cols) {
    const float most = heat_.empty() ? 0.0f : *std::ranges::max_element(heat_);
    for (float& h : heat_) h = most > 0.0f ? h / most : 0.0f;
  }

  /// At a fraction of the picture's width and height, between the centres of patches in proportion.
  [[nodiscard]] float at(double x, double y) const {
    const auto place = [](double fraction, std::size_t count) {
      return std::clamp(fraction * static_cast<double>(count) - 0.5, 0.0, static_cast<double>(count - 1));
    };
    const double column = place(x, cols_), row = place(y, rows_);
    const auto j = static_cast<std::size_t>(column), i = static_cast<std::size_t>(row);
    const std::size_t right = std::min(j + 1, cols_ - 1), below = std::min(i + 1, rows_ - 1);
    const auto dx = static_cast<float>(column - static_cast<double>(j)), dy = static_cast<float>(row - static_cast<double>(i));
    const auto mix = [&](std::size_t line) { return (1 - dx) * heat_[line * cols_ + j] + dx * heat_[line * cols_ + right]; };
    return (1 - dy) * mix(i) + dy * mix(below);
  }

  /// A pixel under this much heat: dimmed where it is cold, and towards yellow and red where it is hot.
  static Canvas::Colour over(Canvas::Colour pixel, float heat) {
    const float share = 0.65f * heat, dim = 0.45f + 0.55f * heat;
    const float hot[] = {255.0f, 230.0f * std::min(1.0f, 2.0f - 1.6f * heat), 40.0f * (1.0f - heat)};
    for (std::size_t c = 0; c < 3; ++c) {
      pixel[c] = static_cast<std::uint8_t>((1 - share) * dim * static_cast<float>(pixel[c]) + share * hot[c] + 0.5f);
    }
    return pixel;
  }

 private:
  std::vector<float> heat_;
  std::size_t rows_, cols_;
};
