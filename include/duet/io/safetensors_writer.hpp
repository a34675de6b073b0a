#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/core/error.hpp"
#include "duet/core/weights.hpp"
#include "duet/io/json.hpp"
#include "duet/io/named_tensor.hpp"
#include "duet/io/write_file.hpp"

namespace duet {

namespace detail {

inline std::string safetensors_header(std::span<const NamedTensor* const> tensors,
                                      const std::map<std::string, std::string>& metadata, const std::string& where) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::set<std::string_view> names = {"__metadata__"};
  std::uint64_t offset = 0;
  for (const NamedTensor* tensor : tensors) {
    const std::string tensor_where = concat(where, ": tensor ", tensor->name);
    if (!names.insert(tensor->name).second) {
      throw Error(ErrorKind::kInvalidArgument, tensor_where, "a name that is taken", "a name for each tensor");
    }
    std::uint64_t size = size_of(tensor->dtype);
    for (const Index extent : tensor->shape) {
      if (extent < 0 || __builtin_mul_overflow(size, static_cast<std::uint64_t>(extent), &size)) size = UINT64_MAX;
    }
    if (size != tensor->data.size()) {
      throw Error(ErrorKind::kInvalidArgument, tensor_where, concat(tensor->data.size(), " bytes of data"),
                  concat("those of ", name_of(tensor->dtype), " ", shape_text(tensor->shape)));
    }
    // A list is pushed, not indexed by name: ordered_json looks names up one by one.
    header.get_ref<nlohmann::ordered_json::object_t&>().emplace_back(
        tensor->name, nlohmann::ordered_json{{"dtype", name_of(tensor->dtype)},
                                             {"shape", tensor->shape},
                                             {"data_offsets", {offset, offset + tensor->data.size()}}});
    offset += tensor->data.size();
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::exception& e) {
    throw Error(ErrorKind::kInvalidArgument, where, e.what(), "names and metadata in UTF-8");
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

}  // namespace detail

/// Writes a safetensors file. It appears whole or not at all (written beside its place, then renamed over it). Tensors of
/// wider elements come first, otherwise in the given order, so that each is aligned to its element in the file.
///
/// Errors  kFileNotReadable when it cannot be written; kInvalidArgument for a name given twice, a name that is not UTF-8,
///         data that does not match dtype and shape. A file that was there before is then untouched.
inline void write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                              const std::map<std::string, std::string>& metadata = {}) {
  std::vector<const NamedTensor*> order;
  for (const NamedTensor& tensor : tensors) order.push_back(&tensor);
  std::ranges::stable_sort(order, std::ranges::greater{}, [](const NamedTensor* tensor) { return size_of(tensor->dtype); });
  const std::string header = detail::safetensors_header(order, metadata, path.string());

  FileInTheMaking file(path);
  std::byte length[8];
  for (std::size_t i = 0; i < 8; ++i) length[i] = static_cast<std::byte>(std::uint64_t{header.size()} >> (8 * i) & 0xff);
  file.write(length);
  file.write(std::as_bytes(std::span(header)));
  for (const NamedTensor* tensor : order) file.write(tensor->data);
  file.commit();
}

}  // namespace duet
