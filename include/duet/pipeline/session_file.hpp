#pragma once

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/core/token.hpp"
#include "duet/io/safetensors.hpp"
#include "duet/io/safetensors_writer.hpp"
#include "duet/layers/kv_cache.hpp"

namespace duet {

// A session in a safetensors file: keys and values as they are stored, to the bit, and in the metadata the model they belong
// to. Position-major, so that a file does not depend on how pages are laid out.

/// A session on its way to a file.
struct SessionState {
  std::vector<NamedTensor> tensors;
  std::map<std::string, std::string> metadata = {{"format", "duet session 1"}};

  /// The file appears whole or not at all.
  /// Errors  kFileNotReadable when it cannot be written
  void save(const std::filesystem::path& path) const { write_safetensors(path, tensors, metadata); }

  void add(std::string name, std::span<const std::int64_t> numbers) {
    tensors.push_back(NamedTensor::int64s(std::move(name), {static_cast<Index>(numbers.size())}, numbers));
  }
  void add_ids(std::string name, std::span<const TokenId> ids) {
    add(std::move(name), std::vector<std::int64_t>(ids.begin(), ids.end()));
  }
  /// The first `length` positions of a layer: NAME.keys and NAME.values [length, num_key_value_heads, head_dim], and in kQ8
  /// NAME.key_scales and NAME.value_scales [length, num_key_value_heads, blocks of 32 channels].
  void add(const std::string& name, const KeyValueStore& store, Index length);
};

/// A session's file, which looks at everything before it gives it away.
class SessionFile {
 public:
  /// Errors  kFileNotReadable; kMalformedFile
  explicit SessionFile(const std::filesystem::path& path) : file_(path) { expect("format", "duet session 1", ErrorKind::kMalformedFile); }

  /// Errors  `kind` when the metadata say anything else than `value` of `key`
  void expect(const std::string& key, std::string_view value, ErrorKind kind = ErrorKind::kConfigMismatch) const {
    const auto it = file_.metadata().find(key);
    const std::string got = it == file_.metadata().end() ? "nothing" : it->second;
    if (got != value) throw Error(kind, concat(file_.where(), ": ", key), got, value, "was this session saved with this model and --kv?");
  }
  [[nodiscard]] bool contains(std::string_view name) const { return file_.contains(name); }
  [[nodiscard]] const std::string& where() const noexcept { return file_.where(); }

  /// Errors  kMissingTensor, kUnsupportedDtype, kShapeMismatch; a negative extent stands for any
  [[nodiscard]] const TensorView& tensor(const std::string& name, DType dtype, std::span<const Index> shape) const {
    const TensorView* view = file_.find(name);
    const std::string where = concat(file_.where(), ": tensor ", name);
    if (view == nullptr) throw Error(ErrorKind::kMissingTensor, where, "nothing", "a part of the session");
    if (view->dtype != dtype) throw Error(ErrorKind::kUnsupportedDtype, where, name_of(view->dtype), name_of(dtype));
    const auto fits = [](Index got, Index expected) { return expected < 0 || got == expected; };
    if (!std::ranges::equal(view->shape, shape, fits)) {
      throw Error(ErrorKind::kShapeMismatch, where, shape_text(view->shape), shape_text(shape));
    }
    return *view;
  }
  [[nodiscard]] std::vector<std::int64_t> numbers(const std::string& name) const {
    const Index any[] = {-1};
    const TensorView& view = tensor(name, DType::kI64, any);
    std::vector<std::int64_t> result(static_cast<std::size_t>(view.size()));
    if (!result.empty()) std::memcpy(result.data(), view.data, result.size() * sizeof(std::int64_t));
    return result;
  }
  /// Errors  also kMalformedFile for numbers that are no ids
  [[nodiscard]] std::vector<TokenId> ids(const std::string& name) const {
    std::vector<TokenId> result;
    for (const std::int64_t id : numbers(name)) {
      if (!std::in_range<TokenId>(id)) {
        throw Error(ErrorKind::kMalformedFile, concat(file_.where(), ": tensor ", name), std::to_string(id), "token ids");
      }
      result.push_back(static_cast<TokenId>(id));
    }
    return result;
  }
  /// Throws what read() would have to.
  void check(const std::string& name, const KeyValueStore& store, Index length) const;
  /// Fills the first `length` positions of a store. Requires check() to have passed; scratch of as many floats.
  void read(const std::string& name, KeyValueStore& store, Index length, Workspace& workspace) const;

 private:
  SafetensorsFile file_;
};

namespace detail {

inline DType dtype_of(KeyValueFormat format) noexcept {
  constexpr DType kDtypes[] = {DType::kF32, DType::kBF16, DType::kF16, DType::kI8};
  return kDtypes[static_cast<std::size_t>(format)];
}

/// Shapes of a store's tensors.
struct StoredShapes {
  StoredShapes(const KeyValueStore& store, Index length)
      : elements{length, store.num_key_value_heads(), store.pages().head_dim},
        scales{length, store.num_key_value_heads(), (store.pages().head_dim + kernels::kScaleBlock - 1) / kernels::kScaleBlock} {}
  std::vector<Index> elements, scales;
};

/// Calls visit(page, head, slot, place) for every head of every position, place counting from 0.
template <class Visit>
void for_each_head(const StoredShapes& shapes, Visit&& visit) {
  for (Index j = 0; j < shapes.elements[0]; ++j) {
    for (Index head = 0; head < shapes.elements[1]; ++head) {
      visit(j / kernels::kPageSize, head, j % kernels::kPageSize, static_cast<std::size_t>(j * shapes.elements[1] + head));
    }
  }
}

}  // namespace detail

inline void SessionState::add(const std::string& name, const KeyValueStore& store, Index length) {
  const detail::StoredShapes shapes(store, length);
  const kernels::KeyValuePages pages = store.pages();
  const auto channels = static_cast<std::size_t>(pages.head_dim), blocks = static_cast<std::size_t>(shapes.scales[2]);
  const auto heads = static_cast<std::size_t>(length * shapes.elements[1]);
  const DType dtype = detail::dtype_of(store.format());
  kernels::with_element_of(store.format(), [&]<class Element>(Element) {
    std::vector<Element> keys(heads * channels), values(keys.size());
    detail::for_each_head(shapes, [&](Index page, Index head, Index slot, std::size_t place) {
      for (std::size_t c = 0; c < channels; ++c) {
        keys[place * channels + c] = pages.keys_of<Element>(page, head)[pages.key_at(slot, static_cast<Index>(c))];
        values[place * channels + c] = pages.values_of<Element>(page, head)[pages.value_at(slot, static_cast<Index>(c))];
      }
    });
    tensors.push_back(NamedTensor::of(name + ".keys", dtype, shapes.elements, std::span<const Element>(keys)));
    tensors.push_back(NamedTensor::of(name + ".values", dtype, shapes.elements, std::span<const Element>(values)));
    if constexpr (kernels::is_scaled<Element>) {
      std::vector<F16> key_scales(heads * blocks), value_scales(key_scales.size());
      detail::for_each_head(shapes, [&](Index page, Index head, Index slot, std::size_t place) {
        for (std::size_t b = 0; b < blocks; ++b) {
          key_scales[place * blocks + b] = *pages.key_scale(page, head, slot, static_cast<Index>(b) * kernels::kScaleBlock);
          value_scales[place * blocks + b] = *pages.value_scale(page, head, slot, static_cast<Index>(b) * kernels::kScaleBlock);
        }
      });
      tensors.push_back(NamedTensor::of(name + ".key_scales", DType::kF16, shapes.scales, std::span<const F16>(key_scales)));
      tensors.push_back(NamedTensor::of(name + ".value_scales", DType::kF16, shapes.scales, std::span<const F16>(value_scales)));
    }
  });
}

inline void SessionFile::check(const std::string& name, const KeyValueStore& store, Index length) const {
  const detail::StoredShapes shapes(store, length);
  for (const char* part : {".keys", ".values"}) static_cast<void>(tensor(name + part, detail::dtype_of(store.format()), shapes.elements));
  if (store.format() != KeyValueFormat::kQ8) return;
  for (const char* part : {".key_scales", ".value_scales"}) static_cast<void>(tensor(name + part, DType::kF16, shapes.scales));
}

inline void SessionFile::read(const std::string& name, KeyValueStore& store, Index length, Workspace& workspace) const {
  const detail::StoredShapes shapes(store, length);
  const Index width = shapes.elements[1] * shapes.elements[2], head_dim = shapes.elements[2], blocks = shapes.scales[2];
  const auto frame = workspace.frame();
  const auto floats = [&](const std::string& which, const std::string& scales) {
    const MatrixView rows = workspace.matrix(length, width);
    const std::byte* const stored = tensor(name + which, detail::dtype_of(store.format()), shapes.elements).data;
    kernels::with_element_of(store.format(), [&]<class Element>(Element element) {
      const std::byte* const factors =
          kernels::is_scaled<Element> ? tensor(name + scales, DType::kF16, shapes.scales).data : nullptr;
      for (Index i = 0; i < length * width; ++i) {
        std::memcpy(&element, stored + i * static_cast<Index>(sizeof element), sizeof element);
        if constexpr (kernels::is_scaled<Element>) {
          F16 factor{};
          const Index head = i / head_dim, block = i % head_dim / kernels::kScaleBlock;
          std::memcpy(&factor, factors + (head * blocks + block) * static_cast<Index>(sizeof factor), sizeof factor);
          rows.data()[i] = static_cast<float>(element) * to_float(factor);
        } else {
          rows.data()[i] = to_float(element);
        }
      }
    });
    return rows;
  };
  // Numbers that were rounded once are not changed by being rounded again: a block's largest is 127 times its scale.
  const MatrixView k = floats(".keys", ".key_scales"), v = floats(".values", ".value_scales");
  store.write(0, k, v, workspace);
}

}  // namespace duet
