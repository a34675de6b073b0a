#include "tensor_file.hpp"

#include <cmath>
#include <cstring>
#include <limits>

#include "duet/io/converted_tensor.hpp"

using duet::concat;
using duet::DType;
using duet::Error;
using duet::ErrorKind;
using duet::Index;
using duet::TensorView;

namespace {

template <class T>
double number_at(const std::byte* data, std::size_t i) {
  T value;
  std::memcpy(&value, data + i * sizeof(T), sizeof(T));
  return static_cast<double>(value);
}

double number_at(const TensorView& view, std::size_t i) {
  switch (view.dtype) {
    case DType::kF64: return number_at<double>(view.data, i);
    case DType::kF32: return number_at<float>(view.data, i);
    case DType::kI64: return number_at<std::int64_t>(view.data, i);
    case DType::kI32: return number_at<std::int32_t>(view.data, i);
    case DType::kI16: return number_at<std::int16_t>(view.data, i);
    case DType::kI8: return number_at<std::int8_t>(view.data, i);
    case DType::kU8:
    case DType::kBool: return number_at<std::uint8_t>(view.data, i);
    case DType::kF16:
    case DType::kBF16: {
      std::uint16_t bits;
      std::memcpy(&bits, view.data + 2 * i, sizeof bits);
      return view.dtype == DType::kF16 ? static_cast<double>(duet::to_float(duet::F16{bits}))
                                       : static_cast<double>(duet::to_float(duet::Bf16{bits}));
    }
    case DType::kQ8_0:
    case DType::kQ4_0: {
      const auto width = static_cast<std::size_t>(view.shape.back());
      float value = 0;
      duet::StoredRows::of(view).read(static_cast<Index>(i / width), static_cast<Index>(i % width), {&value, 1});
      return static_cast<double>(value);
    }
  }
  return 0;
}

/// `value` as an integer type.
template <class T>
T integer(double value, std::string_view name) {
  constexpr double kLeast = std::numeric_limits<T>::min(), kEnd = 2.0 * (std::numeric_limits<T>::max() / 2 + 1);
  if (value >= kLeast && value < kEnd && value == std::floor(value)) return static_cast<T>(value);
  throw Error(ErrorKind::kInvalidArgument, std::string(name), concat(value), concat("integers between ", kLeast, " and ", kEnd - 1));
}

/// A [batch, length] tensor of the same shape as the ids, or nothing.
template <class T>
std::vector<T> optional_integers(const TensorFile& file, std::string_view name, const std::vector<Index>& shape) {
  const TensorView* view = file.tensors().find(name);
  if (view == nullptr) return {};
  if (view->shape != shape) {
    throw Error(ErrorKind::kShapeMismatch, std::string(name), duet::shape_text(view->shape), duet::shape_text(shape));
  }
  std::vector<T> result;
  for (const double value : numbers(*view)) result.push_back(integer<T>(value, name));
  return result;
}

}  // namespace

std::vector<double> numbers(const TensorView& view) {
  std::vector<double> result(static_cast<std::size_t>(view.size()));
  for (std::size_t i = 0; i < result.size(); ++i) result[i] = number_at(view, i);
  return result;
}

const TensorView& TensorFile::get(std::string_view name) const {
  if (const TensorView* view = tensors_.find(name)) return *view;
  throw Error(ErrorKind::kMissingTensor, tensors_.where(), concat("no tensor ", name), "it");
}

duet::ReferenceInputs read_inputs(const TensorFile& file, const duet::Processor& processor) {
  duet::ReferenceInputs inputs;
  inputs.processor = &processor;
  const duet::PromptRules& rules = processor.rules();
  const bool encoder_decoder = rules.decoder_start_token_id.has_value();
  const auto find = [&](std::string_view name) -> std::optional<duet::Argument> {
    const TensorView* view = file.tensors().find(concat("inputs.", name));
    if (view == nullptr && name.find('.') != std::string_view::npos) view = file.tensors().find(name);  // of a list that golden files keep among the stages
    if (view == nullptr) return std::nullopt;
    return duet::Argument{view->shape, numbers(*view)};
  };
  if (duet::VisualInput pictures = processor.from_arguments(find); !pictures.empty()) inputs.pixel_values = std::move(pictures);
  if (encoder_decoder && !inputs.pixel_values) {
    throw Error(ErrorKind::kInvalidArgument, file.tensors().where(), "no inputs.pixel_values", "the images to write about");
  }
  // The decoder of an encoder-decoder has names of its own, except where it is the model's only text (BLIP).
  const bool own_names = encoder_decoder && file.tensors().find("inputs.input_ids") == nullptr;
  const std::string ids_name = own_names ? "inputs.decoder_input_ids" : "inputs.input_ids";
  if (const TensorView* ids = file.tensors().find(ids_name)) {
    if (ids->shape.size() != 2) {
      throw Error(ErrorKind::kShapeMismatch, ids_name, duet::shape_text(ids->shape), "[batch, length]");
    }
    inputs.batch = ids->shape[0];
    inputs.length = ids->shape[1];
    for (const double value : numbers(*ids)) inputs.input_ids.push_back(integer<duet::TokenId>(value, ids_name));
    const std::string mask = own_names ? "inputs.decoder_attention_mask" : "inputs.attention_mask";
    inputs.attention_mask = optional_integers<std::uint8_t>(file, mask, ids->shape);
    const std::string positions = own_names ? "inputs.decoder_position_ids" : "inputs.position_ids";
    inputs.position_ids = optional_integers<Index>(file, positions, ids->shape);
    if (const TensorView* indices = file.tensors().find("inputs.image_patches_indices"); indices != nullptr && rules.image_token_id) {
      // Fuyu's forward() finds pictures by these, whatever ids stand there.
      if (indices->shape != ids->shape) {
        throw Error(ErrorKind::kShapeMismatch, "inputs.image_patches_indices", duet::shape_text(indices->shape), duet::shape_text(ids->shape));
      }
      const std::vector<double> values = numbers(*indices);
      for (std::size_t i = 0; i < values.size(); ++i) {
        if (values[i] >= 0) inputs.input_ids[i] = *rules.image_token_id;
      }
    }
  } else if (encoder_decoder) {  // as generation starts
    inputs.batch = inputs.pixel_values->num_pictures();
    inputs.length = 1;
    inputs.input_ids.assign(static_cast<std::size_t>(inputs.batch), *rules.decoder_start_token_id);
  }
  if (inputs.input_ids.empty() && !inputs.pixel_values) {
    throw Error(ErrorKind::kInvalidArgument, file.tensors().where(), "no inputs", "tensors inputs.input_ids, inputs.pixel_values …",
                "name each tensor inputs.<argument of the reference's forward()>");
  }
  return inputs;
}
