#pragma once

#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/core/dtype.hpp"
#include "duet/core/error.hpp"
#include "duet/core/large_pages.hpp"
#include "duet/core/matrix.hpp"
#include "duet/core/weights.hpp"

namespace duet {

/// Owns tensors that a weight source makes on demand. Their addresses stay as long as the store lives.
///
/// A source's find() is const and yet has to keep what it makes. It holds the store by std::shared_ptr: the source itself
/// stays a const handle whose copies share the tensors, and a model can hold the pointer to keep its weights alive.
/// One thread at a time may add.
class TensorStore {
 public:
  [[nodiscard]] const TensorView* find(std::string_view name) const {
    const auto it = tensors_.find(name);
    return it == tensors_.end() ? nullptr : &it->second;
  }

  /// A new tensor's view, and its memory to be filled.
  /// Errors  kInvalidArgument for a shape that no memory can hold
  std::pair<const TensorView&, std::span<std::byte>> add(std::string name, DType dtype, std::span<const Index> shape) {
    const std::optional<std::uint64_t> bytes = tensor_bytes(dtype, shape);
    if (!bytes) throw Error(ErrorKind::kInvalidArgument, name, shape_text(shape), "a shape that fits into memory");
    const std::span<std::byte> memory = memory_.take(static_cast<std::size_t>(*bytes));
    TensorView& view = tensors_[std::move(name)];
    view = {memory.data(), dtype, {shape.begin(), shape.end()}};
    bytes_ += *bytes;
    elements_ += static_cast<std::uint64_t>(view.size());
    return {view, memory};
  }

  /// Bytes of all tensors.
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }
  /// Elements of all tensors.
  [[nodiscard]] std::uint64_t elements() const noexcept { return elements_; }

 private:
  std::map<std::string, TensorView, std::less<>> tensors_;
  LargePageArena memory_;
  std::uint64_t bytes_ = 0, elements_ = 0;
};

namespace detail {

inline bool is_weight_dtype(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16 || is_quantized(dtype);
}

/// The dtype of a tensor among weights that are to be stored as `wanted`. What is copied anyway stays exact. Where four bits cost
/// most for what they save, eight are kept: where words come in and go out, and the values of attention, which are small
/// matrices whose every error reaches the result.
inline DType dtype_among(DType wanted, const TensorRequest& request) {
  if (!is_quantized(wanted)) return wanted;
  if (request.use == TensorUse::kVector) return DType::kF32;
  const bool is_dear = request.use == TensorUse::kTable || request.part.ends_with("lm_head.weight") || request.part.ends_with(".v_proj.weight");
  return is_dear ? DType::kQ8_0 : wanted;
}

/// Writes `value` as F32, F16 or BF16, rounded to nearest even.
inline void put_float(float value, DType dtype, std::byte* to) {
  if (dtype == DType::kF32) {
    std::memcpy(to, &value, sizeof value);
  } else {
    const std::uint16_t bits = dtype == DType::kF16 ? to_f16(value).bits : to_bf16(value).bits;
    std::memcpy(to, &bits, sizeof bits);
  }
}

}  // namespace detail
}  // namespace duet
