#pragma once

#include <cstddef>

#include "duet/core/dtype.hpp"
#include "duet/core/matrix.hpp"

namespace duet {

/// Which way a stored weight lies: torch's nn.Linear keeps [out, in], GPT-2's Conv1D keeps [in, out].
enum class WeightLayout : unsigned char { kOutIn, kInOut };

/// A view of a linear map's weights as they are stored: y = x · Wᵀ, x [rows, in_features] → y [rows, out_features].
///
/// The dtype is a tag looked at once per matmul. `stride` counts elements between stored rows, so a slice of a fused
/// tensor (q of qkv, gate of gate_up) is a view too and nothing is ever copied out of the mapped file.
struct WeightMatrix {
  const std::byte* data = nullptr;
  DType dtype = DType::kF32;
  WeightLayout layout = WeightLayout::kOutIn;
  Index out_features = 0;
  Index in_features = 0;
  Index stride = 0;  ///< elements from one stored row to the next

  [[nodiscard]] bool empty() const noexcept { return data == nullptr; }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return static_cast<std::size_t>(out_features * in_features) * size_of(dtype);
  }

  /// The rows [begin, begin + count) of the map's output.
  [[nodiscard]] WeightMatrix outputs(Index begin, Index count) const noexcept {
    WeightMatrix slice = *this;
    slice.data += static_cast<std::size_t>(layout == WeightLayout::kOutIn ? begin * stride : begin) * size_of(dtype);
    slice.out_features = count;
    return slice;
  }
};

}  // namespace duet
