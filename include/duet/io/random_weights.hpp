#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/core/quantized_block.hpp"
#include "duet/io/tensor_store.hpp"

namespace duet {

/// A weight source that makes tensors up, for benchmarks of a shape without its checkpoint: norm weights are 1, biases 0,
/// everything else looks like N(0, 0.02²), the initialisation of most transformers. The same seed and name give the same
/// bytes on every machine.
///
/// Values repeat after 2^19 - 1 elements (a prime, so that rows of a matrix differ), which makes gigabytes in seconds; the
/// memory is not shared between tensors, so that a benchmark's reads come from RAM as a checkpoint's would.
///
/// Errors  kInvalidArgument for a dtype that weights cannot have
/// Cost    each tensor is written once, when it is first asked for
class RandomWeights {
 public:
  explicit RandomWeights(DType dtype = DType::kBF16, std::uint64_t seed = 1) : dtype_(dtype) {
    if (!detail::is_weight_dtype(dtype)) {
      throw Error(ErrorKind::kInvalidArgument, "random weights", std::string(name_of(dtype)), "F32, F16, BF16, Q8_0 or Q4_0");
    }
    fill_values(seed);
  }

  // A WeightSource.
  [[nodiscard]] std::optional<TensorView> find(const TensorRequest& request) const {
    std::string key = concat(request.name, " ", shape_text(request.shape));
    if (const TensorView* made = store_->find(key)) return *made;
    const DType dtype = detail::dtype_among(dtype_, request);
    std::vector<Index> shape(request.shape.begin(), request.shape.end());
    if (is_quantized(dtype) && request.layout == WeightLayout::kInOut) std::ranges::reverse(shape);
    const auto [view, memory] = store_->add(std::move(key), dtype, shape);
    if (is_norm(request.name)) {
      fill(memory, dtype, 1.0f);
    } else if (request.name.ends_with("bias")) {
      fill(memory, dtype, 0.0f);
    } else {
      fill_from_pattern(memory, dtype, request.name);
    }
    return view;
  }
  [[nodiscard]] std::optional<TensorView> find(std::string_view name, std::span<const Index> shape) const {
    return find({name, name, shape});
  }
  /// Nothing is there before it is asked for: optional tensors stay out, and the first of several spellings is taken.
  [[nodiscard]] bool contains(std::string_view /*name*/) const { return false; }
  [[nodiscard]] std::string where(std::string_view /*name*/) const { return "random weights"; }

  /// Bytes made so far.
  [[nodiscard]] std::uint64_t bytes() const noexcept { return store_->bytes(); }
  /// Elements of what was made so far.
  [[nodiscard]] std::uint64_t elements() const noexcept { return store_->elements(); }

 private:
  static constexpr std::size_t kValues = (std::size_t{1} << 19) - 1;

  /// "model.norm.weight", "h.0.ln_1.weight", "vision_model.pre_layrnorm.weight", "output.LayerNorm.weight"
  static bool is_norm(std::string_view name) {
    constexpr std::string_view kWeight = ".weight";
    if (!name.ends_with(kWeight)) return false;
    name.remove_suffix(kWeight.size());
    if (const auto dot = name.rfind('.'); dot != std::string_view::npos) name.remove_prefix(dot + 1);
    return name.find("norm") != std::string_view::npos || name.find("Norm") != std::string_view::npos || name.starts_with("ln");
  }

  static void fill(std::span<std::byte> memory, DType dtype, float value) {
    for (std::size_t i = 0; i < memory.size(); i += size_of(dtype)) detail::put_float(value, dtype, &memory[i]);
  }

  /// The values, in blocks if the dtype has them, over and over, from a place that depends on the name.
  void fill_from_pattern(std::span<std::byte> memory, DType dtype, std::string_view name) const {
    const AlignedBuffer<std::byte>& pattern = pattern_of(dtype);
    std::uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
    for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    const std::size_t units = pattern.size() / size_of(dtype);
    for (std::size_t at = hash % units * size_of(dtype), done = 0; done < memory.size(); at = 0) {
      const std::size_t count = std::min(pattern.size() - at, memory.size() - done);
      std::copy_n(pattern.data() + at, count, memory.data() + done);
      done += count;
    }
  }

  /// The values as a dtype stores them; as many whole blocks as there are values, so that rows of a matrix differ.
  const AlignedBuffer<std::byte>& pattern_of(DType dtype) const {
    AlignedBuffer<std::byte>& pattern = (*patterns_)[dtype];
    if (pattern.size() > 0) return pattern;
    const std::size_t blocks = is_quantized(dtype) ? kValues / kBlockSize : kValues;
    pattern = AlignedBuffer<std::byte>(blocks * size_of(dtype));
    for (std::size_t i = 0; i < blocks; ++i) {
      std::byte* const to = pattern.data() + i * size_of(dtype);
      if (is_quantized(dtype)) {
        quantize_block(std::span(values_).subspan(i * kBlockSize, kBlockSize), dtype, to);
      } else {
        detail::put_float(values_[i], dtype, to);
      }
    }
    return pattern;
  }

  /// The sum of four uniform numbers is normal enough, and the same everywhere; std::normal_distribution is not.
  void fill_values(std::uint64_t seed) {
    constexpr float kDeviation = 0.02f;
    for (float& value : values_) {
      std::uint64_t z = seed += 0x9e3779b97f4a7c15;  // splitmix64
      z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
      z = (z ^ z >> 27) * 0x94d049bb133111eb;
      z ^= z >> 31;
      const auto sum = static_cast<float>((z & 0xffff) + (z >> 16 & 0xffff) + (z >> 32 & 0xffff) + (z >> 48));
      const float normal = (sum - 2 * 65535.0f) / (65535.0f * 0.57735027f);  // variance of the sum: 4/12
      value = kDeviation * normal;
    }
  }

  DType dtype_;
  std::vector<float> values_ = std::vector<float>(kValues);
  std::shared_ptr<std::map<DType, AlignedBuffer<std::byte>>> patterns_ = std::make_shared<std::map<DType, AlignedBuffer<std::byte>>>();
  std::shared_ptr<TensorStore> store_ = std::make_shared<TensorStore>();
};

static_assert(WeightSource<RandomWeights>);

}  // namespace duet
