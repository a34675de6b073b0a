#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "duet/core/stored_floats.hpp"
#include "duet/io/tensor_store.hpp"

namespace duet {

/// How a tensor lies: rows of `width` elements.
struct StoredRows {
  const std::byte* data = nullptr;
  DType dtype = DType::kF32;
  Index rows = 0, width = 0;

  /// A tensor of any rank: its first extent counts the rows.
  [[nodiscard]] static StoredRows of(const TensorView& view) {
    const Index rows = view.shape.empty() ? 1 : view.shape[0];
    return {view.data, view.dtype, rows, rows == 0 ? 0 : view.size() / rows};
  }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return static_cast<std::size_t>(rows) * row_bytes(dtype, static_cast<std::size_t>(width));
  }
  void read(Index row, Index begin, std::span<float> out) const {
    read_floats(data + static_cast<std::size_t>(row) * row_bytes(dtype, static_cast<std::size_t>(width)), dtype,
                static_cast<std::size_t>(begin), out);
  }
};

/// Writes a tensor's rows as F32, F16 or BF16, or quantized.
/// Requires to.size(): the bytes of as many such rows
inline void convert_rows(const StoredRows& from, DType dtype, std::span<std::byte> to) {
  std::vector<float> row(static_cast<std::size_t>(from.width));
  std::byte* at = to.data();
  for (Index i = 0; i < from.rows; ++i) {
    from.read(i, 0, row);
    for (std::size_t begin = 0; begin < row.size(); begin += block_size(dtype), at += size_of(dtype)) {
      if (is_quantized(dtype)) {
        quantize_block(std::span(row).subspan(begin, std::min(kBlockSize, row.size() - begin)), dtype, at);
      } else {
        detail::put_float(row[begin], dtype, at);
      }
    }
  }
}

/// Writes a tensor [rows, width] quantized and turned, as [width, rows]: GPT-2's Conv1D [in, out] as a block wants it.
inline void convert_turned(const StoredRows& from, DType dtype, std::span<std::byte> to) {
  constexpr Index kSide = 64;  // columns that are gone through at once, in the order in which they lie
  std::vector<float> square(kBlockSize * static_cast<std::size_t>(kSide)), values(kBlockSize);
  const std::size_t row_size = row_bytes(dtype, static_cast<std::size_t>(from.rows));
  for (Index column = 0; column < from.width; column += kSide) {
    const auto columns = static_cast<std::size_t>(std::min(kSide, from.width - column));
    for (Index begin = 0; begin < from.rows; begin += static_cast<Index>(kBlockSize)) {
      const auto count = static_cast<std::size_t>(std::min(static_cast<Index>(kBlockSize), from.rows - begin));
      for (std::size_t i = 0; i < count; ++i) {
        from.read(begin + static_cast<Index>(i), column, std::span(square).subspan(i * kSide, columns));
      }
      for (std::size_t c = 0; c < columns; ++c) {
        for (std::size_t i = 0; i < count; ++i) values[i] = square[i * kSide + c];
        std::byte* const at = to.data() + (static_cast<std::size_t>(column) + c) * row_size;
        quantize_block(std::span(values).first(count), dtype, at + static_cast<std::size_t>(begin) / kBlockSize * size_of(dtype));
      }
    }
  }
}

/// The shape of what a request is answered with when the stored tensor is converted to `dtype`: that of the tensor, or, where
/// it is quantized, [out, in].
inline std::vector<Index> converted_shape(const TensorRequest& request, const TensorView& stored, DType dtype) {
  if (!is_quantized(dtype)) return stored.shape;
  const StoredRows rows = StoredRows::of(stored);
  if (request.layout == WeightLayout::kInOut) return {rows.width, rows.rows};
  return {rows.rows, rows.width};
}

/// Converts a stored tensor for a request.
/// Requires to.size(): the bytes of a tensor of `dtype` and converted_shape
inline void convert_tensor(const TensorRequest& request, const TensorView& stored, DType dtype, std::span<std::byte> to) {
  const StoredRows rows = StoredRows::of(stored);
  if (is_quantized(dtype) && request.layout == WeightLayout::kInOut) {
    convert_turned(rows, dtype, to);
  } else {
    convert_rows(rows, dtype, to);
  }
}

}  // namespace duet
