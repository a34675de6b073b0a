#pragma once

#include <cmath>
#include <span>
#include <string>
#include <vector>

#include "duet/core/error.hpp"
#include "duet/kernels/rope.hpp"

namespace duet {

/// The frequencies by which a patch's row and column turn the pairs of a head.
enum class GridFrequencies : unsigned char {
  kShared,       ///< the same for both: θ^(−4k/d) (Qwen2-VL)
  kAlternating,  ///< rows have those of even index among θ^(−2j/d), columns those of odd index (Pixtral)
};

/// Rotary positions in a grid: the first half of a head's pairs (i, i + d/2) turns by the patch's row, the second by its column.
///
/// Shapes   head_dim / 2 pairs
/// Source   Su et al. 2021, 2104.09864; two axes: Heo et al. 2024, 2403.13298
class GridRotation {
 public:
  /// Takes no weights. Throws Error{kInvalidArgument} for numbers that make no angles.
  GridRotation(Index head_dim, float rope_theta, GridFrequencies frequencies) {
    const auto require = [](bool good, std::string_view key, const std::string& got, std::string_view expected) {
      if (!good) throw Error(ErrorKind::kInvalidArgument, concat("config.json: ", key), got, expected);
    };
    require(head_dim > 0 && head_dim % 4 == 0, "vision head_dim", std::to_string(head_dim), "a positive multiple of 4");
    require(rope_theta > 0.0f && std::isfinite(rope_theta), "vision rope_theta", concat(rope_theta), "a positive number");
    const Index shift = frequencies == GridFrequencies::kAlternating ? 2 : 0;
    for (Index i = 0; i < head_dim; i += 4) {
      by_row_.push_back(inverse_power(rope_theta, i, head_dim));
      by_column_.push_back(inverse_power(rope_theta, i + shift, head_dim));
    }
  }

  /// Number of rotated pairs of a head: the columns of `angles`.
  [[nodiscard]] Index num_pairs() const noexcept { return 2 * static_cast<Index>(by_row_.size()); }
  /// cos and sin [patches, num_pairs] of patches at these places.
  void angles(std::span<const Index> rows, std::span<const Index> columns, const kernels::RotaryAngles& out) const {
    const Index half = num_pairs() / 2;
    kernels::rotary_angles(rows, by_row_, 1.0f, {out.cos.cols(0, half), out.sin.cols(0, half)});
    kernels::rotary_angles(columns, by_column_, 1.0f, {out.cos.cols(half, half), out.sin.cols(half, half)});
  }

 private:
  static float inverse_power(float theta, Index i, Index head_dim) {
    return 1.0f / std::pow(theta, static_cast<float>(i) / static_cast<float>(head_dim));
  }

  std::vector<float> by_row_, by_column_;  // [head_dim / 4]
};

}  // namespace duet
