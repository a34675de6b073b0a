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
/// tensor (q of qkv, gate of gate_up) is a view too and nothing is ever copied out of the mapped file. Quantized weights lie
/// [out, in], whatever the checkpoint they were made from: a block belongs to one output.
struct WeightMatrix {
  const std::byte* data = nullptr;
  DType dtype = DType::kF32;
  WeightLayout layout = WeightLayout::kOutIn;
  Index out_features = 0;
  Index in_features = 0;
  Index stride = 0;  ///< elements from one stored row to the next; quantized: a multiple of the block

  [[nodiscard]] bool empty() const noexcept { return data == nullptr; }
  /// Elements in a stored row.
  [[nodiscard]] Index width() const noexcept { return layout == WeightLayout::kOutIn ? in_features : out_features; }
  [[nodiscard]] std::size_t bytes() const noexcept {
    const Index rows = layout == WeightLayout::kOutIn ? out_features : in_features;
    return static_cast<std::size_t>(rows) * row_bytes(dtype, static_cast<std::size_t>(width()));
  }
  /// Where stored row i begins.
  [[nodiscard]] const std::byte* row(Index i) const noexcept {
    return data + static_cast<std::size_t>(i) * row_bytes(dtype, static_cast<std::size_t>(stride));
  }

  /// The rows [begin, begin + count) of the map's output.
  [[nodiscard]] WeightMatrix outputs(Index begin, Index count) const noexcept {
    WeightMatrix slice = *this;
    slice.data = layout == WeightLayout::kOutIn ? row(begin) : data + static_cast<std::size_t>(begin) * size_of(dtype);
    slice.out_features = count;
    return slice;
  }
};

}  // namespace duet
