#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <iterator>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "duet/core/error.hpp"
#include "duet/core/weights.hpp"
#include "duet/io/json.hpp"
#include "duet/io/named_tensor.hpp"
#include "duet/io/utf8.hpp"
#include "duet/io/write_file.hpp"

namespace duet {

/// What a safetensors header says of a tensor. Quantized: see SafetensorsFile.
struct TensorEntry {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<Index> shape;

  /// Errors  kInvalidArgument for a shape whose bytes cannot be counted
  [[nodiscard]] std::uint64_t bytes() const {
    if (const auto bytes = tensor_bytes(dtype, shape)) return *bytes;
    throw Error(ErrorKind::kInvalidArgument, concat("tensor ", name), shape_text(shape), "a shape that fits into a file");
  }
};

/// A safetensors file that is written tensor by tensor, and appears whole or not at all (written beside its place, then renamed
/// over it).
///
///     SafetensorsWriter writer(path, {{"a", DType::kF32, {2, 3}}, {"b", DType::kQ8_0, {4, 64}}});
///     writer.write(bytes of a);  writer.write(bytes of b);
///     writer.commit();
///
/// Errors  kFileNotReadable when it cannot be written; kInvalidArgument for a name given twice, a name that is not UTF-8,
///         data that does not match dtype and shape. A file that was there before is then untouched.
class SafetensorsWriter {
 public:
  SafetensorsWriter(const std::filesystem::path& path, std::vector<TensorEntry> tensors,
                    std::map<std::string, std::string> metadata = {})
      : where_(path.string()), tensors_(std::move(tensors)), file_(path) {
    std::string header = header_text(std::move(metadata));
    std::byte length[8];
    for (std::size_t i = 0; i < 8; ++i) length[i] = static_cast<std::byte>(std::uint64_t{header.size()} >> (8 * i) & 0xff);
    file_.write(length);
    file_.write(std::as_bytes(std::span(header)));
  }

  /// The data of the next tensor.
  void write(std::span<const std::byte> data) {
    if (next_ == tensors_.size()) {
      throw Error(ErrorKind::kInvalidArgument, where_, "one tensor more", concat(next_, ", as announced"));
    }
    check_bytes(tensors_[next_], data.size());
    file_.write(data);
    ++next_;
  }
  void commit() {
    if (next_ != tensors_.size()) {
      throw Error(ErrorKind::kInvalidArgument, where_, concat(next_, " tensors"), concat(tensors_.size(), ", as announced"));
    }
    file_.commit();
  }

 private:
  void check_bytes(const TensorEntry& tensor, std::size_t size) const {
    if (tensor.bytes() == size) return;
    throw Error(ErrorKind::kInvalidArgument, concat(where_, ": tensor ", tensor.name), concat(size, " bytes of data"),
                concat("those of ", name_of(tensor.dtype), " ", shape_text(tensor.shape)));
  }

  [[nodiscard]] std::string header_text(std::map<std::string, std::string> metadata) const {
    for (const TensorEntry& tensor : tensors_) {
      if (is_quantized(tensor.dtype)) metadata[tensor.name] = concat('{', description(tensor.dtype, tensor.shape), '}');
    }
    std::string text;
    for (const auto& [key, value] : metadata) text += concat(text.empty() ? R"({"__metadata__":{)" : ",", quoted(key), ':', quoted(value));
    text += metadata.empty() ? "{" : "}";
    std::set<std::string_view> names = {"__metadata__"};
    std::uint64_t offset = 0;
    for (const TensorEntry& tensor : tensors_) {
      if (!names.insert(tensor.name).second) {
        throw Error(ErrorKind::kInvalidArgument, concat(where_, ": tensor ", tensor.name), "a name that is taken", "a name for each tensor");
      }
      std::vector<Index> shape = tensor.shape;
      if (is_quantized(tensor.dtype)) shape.back() = static_cast<Index>(row_bytes(tensor.dtype, static_cast<std::size_t>(shape.back())));
      const std::uint64_t size = tensor.bytes();
      text += concat(text.size() == 1 ? "" : ",", quoted(tensor.name), ":{", description(is_quantized(tensor.dtype) ? DType::kU8 : tensor.dtype, shape),
                     R"(,"data_offsets":[)", offset, ',', offset + size, "]}");
      if (__builtin_add_overflow(offset, size, &offset)) {
        throw Error(ErrorKind::kInvalidArgument, where_, "more bytes than can be counted", "tensors that fit into a file");
      }
    }
    text += '}';
    text.resize((text.size() + 7) / 8 * 8, ' ');
    return text;
  }
  [[nodiscard]] std::string quoted(std::string_view text) const {
    if (is_valid_utf8(text)) return json_string(text);
    throw Error(ErrorKind::kInvalidArgument, where_, replace_invalid_utf8(text), "names and metadata in UTF-8");
  }
  static std::string description(DType dtype, std::span<const Index> shape) {
    std::string extents;
    for (const Index extent : shape) extents += concat(extents.empty() ? "" : ",", extent);
    return concat(R"("dtype":")", name_of(dtype), R"(","shape":[)", extents, ']');
  }

  std::string where_;
  std::vector<TensorEntry> tensors_;
  FileInTheMaking file_;
  std::size_t next_ = 0;
};

/// Wider elements first, otherwise as they stand: so each tensor is aligned to its element in a file.
template <class Tensor>
void sort_for_alignment(std::vector<Tensor>& tensors) {
  const auto width = [](const Tensor& tensor) {
    const DType dtype = [&] {
      if constexpr (std::is_pointer_v<Tensor>) {
        return tensor->dtype;
      } else {
        return tensor.dtype;
      }
    }();
    return is_quantized(dtype) ? std::size_t{2} : size_of(dtype);
  };
  std::vector<Tensor> sorted;
  for (const std::size_t bytes : {8U, 4U, 2U, 1U}) {
    std::copy_if(tensors.begin(), tensors.end(), std::back_inserter(sorted), [&](const Tensor& tensor) { return width(tensor) == bytes; });
  }
  tensors = std::move(sorted);
}

/// Writes tensors that are in memory, ordered for alignment. Errors as SafetensorsWriter's.
inline void write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                              const std::map<std::string, std::string>& metadata = {}) {
  std::vector<const NamedTensor*> order;
  for (const NamedTensor& tensor : tensors) order.push_back(&tensor);
  sort_for_alignment(order);
  std::vector<TensorEntry> entries;
  for (const NamedTensor* tensor : order) entries.push_back({tensor->name, tensor->dtype, tensor->shape});
  SafetensorsWriter writer(path, std::move(entries), metadata);
  for (const NamedTensor* tensor : order) writer.write(tensor->data);
  writer.commit();
}

}  // namespace duet
