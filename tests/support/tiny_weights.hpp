#pragma once

#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "duet/core/weights.hpp"
#include "duet/core/workspace.hpp"
#include "duet/kernels/kernel_table.hpp"

namespace duet::testing {

/// Small pseudo-random weights in memory, made when asked for; single tensors can be set.
class TinyWeights {
 public:
  explicit TinyWeights(float scale = 0.2f) : scale_(scale) {}

  [[nodiscard]] std::optional<TensorView> find(std::string_view name, std::span<const Index> shape) const {
    auto& slot = (*store_)[std::string(name)];
    Index size = 1;
    for (const Index extent : shape) size *= extent;
    if (slot && static_cast<Index>(slot->size()) != size) throw std::logic_error("one name, two sizes: give each model its own TinyWeights");
    if (!slot) {
      slot = std::make_unique<std::vector<float>>();
      std::uint64_t state = std::hash<std::string_view>{}(name);
      for (Index i = 0; i < size; ++i) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        const float uniform = static_cast<float>(state >> 40) / 16777216.0f - 0.5f;
        slot->push_back((name.find("norm") != std::string_view::npos && name.ends_with("weight") ? 1.0f : 0.0f) + 2.0f * scale_ * uniform);
      }
    }
    return TensorView{reinterpret_cast<const std::byte*>(slot->data()), DType::kF32, {shape.begin(), shape.end()}};
  }
  [[nodiscard]] bool contains(std::string_view) const { return false; }
  [[nodiscard]] std::string where(std::string_view) const { return "tiny weights"; }
  /// Whether a tensor has been asked for.
  [[nodiscard]] bool made(const std::string& name) const { return store_->contains(name); }
  /// A tensor that has been asked for; it may be changed in place.
  [[nodiscard]] std::vector<float>& at(const std::string& name) const { return *store_->at(name); }

 private:
  float scale_;
  std::shared_ptr<std::map<std::string, std::unique_ptr<std::vector<float>>, std::less<>>> store_ =
      std::make_shared<std::map<std::string, std::unique_ptr<std::vector<float>>, std::less<>>>();
};

/// Threads and kernels for a test, with a workspace of their own.
struct Machine {
  explicit Machine(int count = 1, kernels::Isa isa = kernels::best_kernel_table().isa)
      : threads(count), compute{&kernels::kernel_table(isa), &threads}, workspace(compute) {}
  Threads threads;
  Compute compute;
  Workspace workspace;
};

inline std::vector<float> values(std::span<const float> row) { return {row.begin(), row.end()}; }

}  // namespace duet::testing
