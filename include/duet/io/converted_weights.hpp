#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "duet/io/tensor_store.hpp"

namespace duet {

/// Another weight source, with its float tensors (F64, F32, F16, BF16) converted to one dtype: `--weights bf16`. Tensors
/// that have it already, and those of whole numbers, stay where they lie.
///
///     const ConvertedWeights weights(Checkpoint::open(folder), DType::kF32);
///
/// F16 holds magnitudes up to 65504: larger ones become infinite.
///
/// Errors  kInvalidArgument for a dtype other than F32, F16 and BF16; those of the source
/// Cost    each tensor is converted once, when it is first asked for, and takes memory of its own
template <WeightSource Source>
class ConvertedWeights {
 public:
  ConvertedWeights(std::shared_ptr<const Source> source, DType dtype) : source_(std::move(source)), dtype_(dtype) {
    if (!detail::is_weight_dtype(dtype)) {
      throw Error(ErrorKind::kInvalidArgument, "weights", std::string(name_of(dtype)), "F32, F16 or BF16");
    }
  }

  // A WeightSource.
  [[nodiscard]] std::optional<TensorView> find(std::string_view name, std::span<const Index> shape) const {
    if (const TensorView* converted = store_->find(name)) return *converted;
    const std::optional<TensorView> original = source_->find(name, shape);
    if (!original || original->dtype == dtype_ || !is_float(original->dtype)) return original;
    const auto [view, memory] = store_->add(std::string(name), dtype_, original->shape);
    const std::size_t from_size = size_of(original->dtype), to_size = size_of(dtype_);
    const std::byte* from = original->data;
    for (std::size_t at = 0; at < memory.size(); at += to_size, from += from_size) {
      detail::put_float(value_at(from, original->dtype), dtype_, &memory[at]);
    }
    return view;
  }
  [[nodiscard]] bool contains(std::string_view name) const { return source_->contains(name); }
  [[nodiscard]] std::string where(std::string_view name) const { return source_->where(name); }

  /// Bytes of the converted tensors.
  [[nodiscard]] std::uint64_t bytes() const noexcept { return store_->bytes(); }

 private:
  static bool is_float(DType dtype) { return detail::is_weight_dtype(dtype) || dtype == DType::kF64; }

  static float value_at(const std::byte* from, DType dtype) {
    if (dtype == DType::kF64) return static_cast<float>(load<double>(from));
    if (dtype == DType::kF32) return load<float>(from);
    const auto bits = load<std::uint16_t>(from);
    return dtype == DType::kF16 ? to_float(F16{bits}) : to_float(Bf16{bits});
  }
  template <class T>
  static T load(const std::byte* from) {  // tensors are of no particular alignment
    T value;
    std::memcpy(&value, from, sizeof value);
    return value;
  }

  std::shared_ptr<const Source> source_;
  DType dtype_;
  std::shared_ptr<TensorStore> store_ = std::make_shared<TensorStore>();
};

}  // namespace duet
