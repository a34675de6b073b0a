#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "duet/core/dtype.hpp"
#include "duet/core/matrix.hpp"

namespace duet {

/// A tensor that owns its bytes, on the way to a file.
struct NamedTensor {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<Index> shape;
  std::vector<std::byte> data;

  template <class T>
  [[nodiscard]] static NamedTensor of(std::string name, DType dtype, std::vector<Index> shape, std::span<const T> values) {
    const auto bytes = std::as_bytes(values);
    return {std::move(name), dtype, std::move(shape), {bytes.begin(), bytes.end()}};
  }
  [[nodiscard]] static NamedTensor floats(std::string name, std::vector<Index> shape, std::span<const float> values) {
    return of(std::move(name), DType::kF32, std::move(shape), values);
  }
  [[nodiscard]] static NamedTensor int64s(std::string name, std::vector<Index> shape, std::span<const std::int64_t> values) {
    return of(std::move(name), DType::kI64, std::move(shape), values);
  }
  /// A matrix of floats [rows, cols], of any stride.
  [[nodiscard]] static NamedTensor matrix(std::string name, ConstMatrixView values) {
    NamedTensor tensor{std::move(name), DType::kF32, {values.rows(), values.cols()}, {}};
    for (Index i = 0; i < values.rows(); ++i) {
      const auto bytes = std::as_bytes(values.row(i));
      tensor.data.insert(tensor.data.end(), bytes.begin(), bytes.end());
    }
    return tensor;
  }
};

}  // namespace duet
