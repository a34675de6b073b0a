#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/core/dtype.hpp"
#include "duet/core/error.hpp"
#include "duet/core/stored_floats.hpp"
#include "duet/core/weight_matrix.hpp"

namespace duet {

/// A stored tensor where it lies: row-major, little-endian, of no particular alignment.
struct TensorView {
  const std::byte* data = nullptr;
  DType dtype = DType::kF32;
  std::vector<Index> shape;

  [[nodiscard]] Index size() const noexcept {
    Index count = 1;
    for (const Index extent : shape) count *= extent;
    return count;
  }
};

[[nodiscard]] inline std::string shape_text(std::span<const Index> shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

/// Bytes of a tensor; nothing where they are negative or beyond 2^62, so that no sum of a few such numbers overflows.
[[nodiscard]] inline std::optional<std::uint64_t> tensor_bytes(DType dtype, std::span<const Index> shape) {
  if (shape.empty()) return size_of(dtype);
  std::uint64_t size = 1;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    const auto extent = static_cast<std::uint64_t>(shape[i]);
    if (shape[i] < 0 || extent >> 56 != 0) return std::nullopt;
    const bool is_row = i + 1 == shape.size();
    if (__builtin_mul_overflow(size, is_row ? row_bytes(dtype, extent) : extent, &size) || size >> 62 != 0) return std::nullopt;
  }
  return size;
}

/// What a part wants a tensor for.
enum class TensorUse : unsigned char {
  kVector,  ///< numbers that are copied: norms, biases, position embeddings of an image
  kTable,   ///< rows looked up by id
  kMatrix,  ///< a linear map
};

/// A tensor that a part asks for.
struct TensorRequest {
  std::string_view name;         ///< as stored
  std::string_view part;         ///< in Duet's words: "layers.0.mlp.up_proj.weight"
  std::span<const Index> shape;  ///< as stored
  TensorUse use = TensorUse::kVector;
  WeightLayout layout = WeightLayout::kOutIn;
};

/// Where weights come from: a checkpoint on disk, a test's memory, random numbers for a benchmark. `find` gets the shape
/// that will be expected, for sources that make tensors up; it returns nothing for a tensor that is not there. The
/// memory must outlive the model built from it. A source that also has find(const TensorRequest&) is asked that instead: it
/// may answer for a matrix or a table with quantized rows, [out, in].
template <class S>
concept WeightSource = requires(const S& source, std::string_view name, std::span<const Index> shape) {
  { source.find(name, shape) } -> std::same_as<std::optional<TensorView>>;
  { source.contains(name) } -> std::same_as<bool>;
  { source.where(name) } -> std::convertible_to<std::string>;
};

/// One row of a family's name table: what Duet's parts ask for, and how this family's checkpoints spell it. `*` stands
/// for a layer index. Several of ours may share one stored name: they are slices of a fused tensor, in the order asked. A stored
/// name that ends in '_' is joined to "weight" and "bias" as it is, any other one by a dot.
struct TensorName {
  std::string_view ours;
  std::string_view stored;
  WeightLayout layout = WeightLayout::kOutIn;
};

/// The names of tensors that a model asked for while it was built.
using TensorNames = std::set<std::string, std::less<>>;

/// A place in a checkpoint from which parts take their weights by name and shape. Cheap to copy; lives only while a
/// model is built.
///
///     Weights llama(checkpoint, used);
///     Attention attention(config, llama.scope("layers", 3).scope("self_attn"));   // asks for q_proj, k_proj …
class Weights {
 public:
  template <WeightSource Source>
  explicit Weights(const Source& source, TensorNames* used = nullptr)
      : source_(&source),
        find_([](const void* self, const TensorRequest& request) {
          if constexpr (requires(const Source& s) { s.find(request); }) {
            return static_cast<const Source*>(self)->find(request);
          } else {
            return static_cast<const Source*>(self)->find(request.name, request.shape);
          }
        }),
        contains_([](const void* self, std::string_view name) { return static_cast<const Source*>(self)->contains(name); }),
        where_([](const void* self, std::string_view name) -> std::string {
          return static_cast<const Source*>(self)->where(name);
        }),
        used_(used) {}

  /// The same source below `prefix`, a stored path: "language_model.model".
  [[nodiscard]] Weights under(std::string_view prefix) const {
    Weights result = *this;
    if (!prefix.empty()) result.prefix_ += std::string(prefix) + ".";
    result.path_.clear();
    return result;
  }
  /// The same source, with `names` for everything asked from here on. The table must outlive this object.
  [[nodiscard]] Weights named(std::span<const TensorName> names) const {
    Weights result = *this;
    result.names_ = names;
    return result;
  }
  [[nodiscard]] Weights scope(std::string_view name) const {
    Weights result = *this;
    result.path_ += std::string(name) + ".";
    return result;
  }
  [[nodiscard]] Weights scope(std::string_view name, Index i) const { return scope(concat(name, ".", i)); }

  /// Whether the checkpoint holds the tensor that `name` (".weight" and all) stands for.
  [[nodiscard]] bool contains(std::string_view name) const { return contains_(source_, stored_name(name).full); }

  /// How many values the tensor has that `name` (".weight" and all) stands for. Throws Error{kMissingTensor}.
  [[nodiscard]] Index size(std::string_view name) const {
    const std::string full = stored_name(name).full, part = concat(path_, name);
    const Index one[] = {1};
    return found({full, part, one}).size();
  }

  /// The table "name.weight" of exactly [rows, cols], floats or quantized. Throws Error{kMissingTensor}, {kShapeMismatch} or
  /// {kUnsupportedDtype}, naming the tensor and its file.
  [[nodiscard]] TensorView table(std::string_view name, Index rows, Index cols) const {
    const std::string leaf = concat(name, ".weight"), full = stored_name(leaf).full, part = path_ + leaf;
    const Index shape[] = {rows, cols};
    TensorView view = checked({full, part, shape, TensorUse::kTable});
    require_weight(view, full);
    return view;
  }
  /// Values of any stored shape with `size` elements in all, as floats.
  [[nodiscard]] std::vector<float> vector(std::string_view name, Index size) const {
    const std::string full = stored_name(name).full, part = concat(path_, name);
    const Index flat[] = {size};
    const TensorView view = found({full, part, flat});
    if (view.size() != size) throw mismatch(full, view, flat);
    return floats(view, full, 0, size);
  }

  /// How many values the vector `name` has, for sizes that a checkpoint says by its tensors alone; nothing where it is not there.
  [[nodiscard]] std::optional<Index> vector_size(std::string_view name) const {
    const std::string full = stored_name(name).full, part = concat(path_, name);
    if (!contains_(source_, full)) return std::nullopt;
    const Index any[] = {0};
    return found({full, part, any}).size();
  }

  struct Part {
    std::string_view name;
    Index out_features;
  };
  struct Projection {
    WeightMatrix weight;      ///< [out_features, in_features], in place
    std::vector<float> bias;  ///< [out_features] or empty
  };
  enum class Bias : unsigned char { kNone, kRequired };

  /// Linear maps over the same input, each "name.weight" [out_features, in_features] (or as its table row says) and
  /// "name.bias". Neighbours that the table sends to one stored tensor are slices of it.
  [[nodiscard]] std::vector<Projection> projections(std::span<const Part> parts, Index in_features, Bias bias) const {
    std::vector<Projection> result;
    for (std::size_t begin = 0; begin < parts.size();) {
      const Stored stored = stored_name(parts[begin].name);
      std::size_t end = begin;
      Index total = 0;
      while (end < parts.size() && stored_name(parts[end].name).full == stored.full) total += parts[end++].out_features;
      const bool out_in = stored.layout == WeightLayout::kOutIn;
      const std::string weight_name = joined(stored.full, ".weight"), bias_name = joined(stored.full, ".bias");
      const std::string part = concat(path_, parts[begin].name, ".weight");
      const Index shape[] = {out_in ? total : in_features, out_in ? in_features : total};
      const TensorView view = found({weight_name, part, shape, TensorUse::kMatrix, stored.layout});
      const WeightMatrix whole = matrix_of(view, weight_name, stored.layout, total, in_features);
      std::optional<TensorView> bias_view;
      const std::string bias_part = concat(path_, parts[begin].name, ".bias");
      if (bias == Bias::kRequired) bias_view = checked({bias_name, bias_part, std::span(&total, 1)});
      for (Index offset = 0; begin < end; offset += parts[begin++].out_features) {
        const Index count = parts[begin].out_features;
        result.push_back({whole.outputs(offset, count), {}});
        if (bias_view) result.back().bias = floats(*bias_view, bias_name, offset, count);
      }
    }
    return result;
  }

 private:
  struct Stored {
    std::string full;
    WeightLayout layout;
  };

  [[nodiscard]] static std::string joined(std::string name, std::string_view suffix) {
    if (!suffix.empty() && name.ends_with('_')) suffix.remove_prefix(1);
    return name.append(suffix);
  }

  [[nodiscard]] Stored stored_name(std::string_view leaf) const {
    std::string path = path_ + std::string(leaf);
    std::string_view suffix;  // rows of the table speak of parts, not of their .weight and .bias
    for (const std::string_view ending : {".weight", ".bias"}) {
      if (path.ends_with(ending)) suffix = ending;
    }
    path.resize(path.size() - suffix.size());
    std::string index, pattern = path;
    for (std::size_t begin = 0, end = 0; begin < path.size() && index.empty(); begin = end + 1) {
      end = std::min(path.find('.', begin), path.size());
      const std::string_view part = std::string_view(path).substr(begin, end - begin);
      if (part.empty() || part.find_first_not_of("0123456789") != std::string_view::npos) continue;
      index = part;  // the first path component that is a number
      pattern = path.substr(0, begin) + "*" + path.substr(end);
    }
    for (const TensorName& row : names_) {
      if (row.ours != pattern) continue;
      std::string stored(row.stored);
      if (const auto star = stored.find('*'); star != std::string::npos) stored.replace(star, 1, index);
      return {joined(prefix_ + stored, suffix), row.layout};
    }
    return {prefix_ + path + std::string(suffix), WeightLayout::kOutIn};
  }

  [[nodiscard]] TensorView found(const TensorRequest& request) const {
    std::optional<TensorView> view = find_(source_, request);
    if (!view) {
      throw Error(ErrorKind::kMissingTensor, where_(source_, request.name), concat("no tensor ", request.name),
                  concat("one of shape ", shape_text(request.shape)),
                  "does config.json belong to this checkpoint, and is the download complete?");
    }
    if (used_ != nullptr) used_->emplace(request.name);
    return *std::move(view);
  }
  [[nodiscard]] TensorView checked(const TensorRequest& request) const {
    TensorView view = found(request);
    if (!std::ranges::equal(view.shape, request.shape)) throw mismatch(request.name, view, request.shape);
    return view;
  }
  [[nodiscard]] Error mismatch(std::string_view full, const TensorView& view, std::span<const Index> shape) const {
    return {ErrorKind::kShapeMismatch, concat(where_(source_, full), ": ", full), shape_text(view.shape), shape_text(shape),
            "does config.json belong to this checkpoint?"};
  }
  [[nodiscard]] WeightMatrix matrix_of(const TensorView& view, const std::string& full, WeightLayout layout, Index out_features,
                                       Index in_features) const {
    require_weight(view, full);
    if (is_quantized(view.dtype)) layout = WeightLayout::kOutIn;
    const bool out_in = layout == WeightLayout::kOutIn;
    const Index shape[] = {out_in ? out_features : in_features, out_in ? in_features : out_features};
    // A convolution whose kernel is its stride is a linear map of the patch: trailing extents fold into the input.
    if (!folds_to(view.shape, shape)) throw mismatch(full, view, shape);
    const auto block = static_cast<Index>(block_size(view.dtype));
    return {view.data, view.dtype, layout, out_features, in_features, (shape[1] + block - 1) / block * block};
  }
  void require_weight(const TensorView& view, const std::string& full) const {
    if (!is_quantized(view.dtype)) require_float(view, full);
  }
  void require_float(const TensorView& view, const std::string& full) const {
    if (view.dtype == DType::kF32 || view.dtype == DType::kF16 || view.dtype == DType::kBF16) return;
    throw Error(ErrorKind::kUnsupportedDtype, where_(source_, full) + ": " + full, std::string(name_of(view.dtype)),
                "F32, F16 or BF16", "convert the checkpoint to one of these");
  }
  [[nodiscard]] std::vector<float> floats(const TensorView& view, const std::string& full, Index begin, Index count) const {
    require_float(view, full);
    std::vector<float> values(static_cast<std::size_t>(count));
    read_floats(view.data, view.dtype, static_cast<std::size_t>(begin), values);
    return values;
  }
  /// [out, c, p, p] stands for [out, c·p·p].
  static bool folds_to(std::span<const Index> stored, std::span<const Index> expected) {
    if (stored.size() < 2 || stored[0] != expected[0]) return false;
    Index rest = 1;
    for (const Index extent : stored.subspan(1)) rest *= extent;
    return rest == expected[1] && (stored.size() == 2 || stored.size() >= 4);
  }

  const void* source_;
  std::optional<TensorView> (*find_)(const void*, const TensorRequest&);
  bool (*contains_)(const void*, std::string_view);
  std::string (*where_)(const void*, std::string_view);
  TensorNames* used_;
  std::span<const TensorName> names_;
  std::string prefix_;  // as stored
  std::string path_;    // in our words, below the prefix
};

}  // namespace duet
