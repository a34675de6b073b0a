#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "duet/io/converted_tensor.hpp"

namespace duet {

/// Another weight source, with its float tensors (F64, F32, F16, BF16, Q8_0, Q4_0) converted to one dtype: `--weights bf16`.
/// Tensors that have it already, and those of whole numbers, stay where they lie.
///
///     const ConvertedWeights weights(Checkpoint::open(folder), DType::kQ8_0);
///
/// Quantized, every matrix and table becomes Q8_0; or matrices become Q4_0, but tables, the language model's head and v_proj
/// Q8_0. What is a vector stays as it is, and so does what is quantized already. F16 holds magnitudes up to 65504: larger ones become infinite.
///
/// Errors  kInvalidArgument for a dtype that weights cannot have; those of the source
/// Cost    each tensor is converted once, when it is first asked for, and takes memory of its own; the file's is given back
template <WeightSource Source>
class ConvertedWeights {
 public:
  ConvertedWeights(std::shared_ptr<const Source> source, DType dtype) : source_(std::move(source)), dtype_(dtype) {
    if (!detail::is_weight_dtype(dtype)) {
      throw Error(ErrorKind::kInvalidArgument, "weights", std::string(name_of(dtype)), "F32, F16, BF16, Q8_0 or Q4_0");
    }
  }

  // A WeightSource.
  [[nodiscard]] std::optional<TensorView> find(const TensorRequest& request) const {
    if (const TensorView* converted = store_->find(request.name)) return *converted;
    const std::optional<TensorView> original = source_->find(request.name, request.shape);
    if (!original) return original;
    const DType dtype = detail::dtype_among(dtype_, request);
    const bool stays = original->dtype == dtype || (is_quantized(original->dtype) && is_quantized(dtype_)) ||
                       (is_quantized(dtype_) && request.use == TensorUse::kVector);
    if (stays || !is_float(original->dtype)) return original;
    const auto [view, memory] = store_->add(std::string(request.name), dtype, converted_shape(request, *original, dtype));
    convert_tensor(request, *original, dtype, memory);
    if constexpr (requires { source_->release(request.name); }) source_->release(request.name);
    return view;
  }
  [[nodiscard]] std::optional<TensorView> find(std::string_view name, std::span<const Index> shape) const {
    return find({name, name, shape});
  }
  [[nodiscard]] bool contains(std::string_view name) const { return source_->contains(name); }
  [[nodiscard]] std::string where(std::string_view name) const { return source_->where(name); }

  /// Bytes of the converted tensors.
  [[nodiscard]] std::uint64_t bytes() const noexcept { return store_->bytes(); }

 private:
  static bool is_float(DType dtype) { return detail::is_weight_dtype(dtype) || dtype == DType::kF64; }

  std::shared_ptr<const Source> source_;
  DType dtype_;
  std::shared_ptr<TensorStore> store_ = std::make_shared<TensorStore>();
};

}  // namespace duet
