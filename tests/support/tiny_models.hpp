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
#include "duet/fusion/vision_language_model.hpp"
#include "duet/kernels/kernel_table.hpp"
#include "duet/pipeline/session.hpp"

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
  /// Changes a tensor that has been asked for, in place.
  [[nodiscard]] std::vector<float>& at(const std::string& name) const { return *store_->at(name); }

 private:
  float scale_;
  std::shared_ptr<std::map<std::string, std::unique_ptr<std::vector<float>>, std::less<>>> store_ =
      std::make_shared<std::map<std::string, std::unique_ptr<std::vector<float>>, std::less<>>>();
};

struct RotaryRecipe : DecoderRecipeDefaults {
  using Norm = RmsNorm;
  using FeedForward = GatedFeedForward<kernels::Silu>;
  using Position = RotaryEmbedding;
};
struct LearnedRecipe : DecoderRecipeDefaults {
  using Norm = LayerNorm;
  using FeedForward = duet::FeedForward<kernels::GeluTanh>;
  using Position = LearnedPositions;
};
struct TinyVisionRecipe : VisionRecipeDefaults {
  using Norm = LayerNorm;
  using FeedForward = duet::FeedForward<kernels::Gelu>;
};

inline DecoderConfig tiny_decoder() {
  DecoderConfig config;
  config.vocab_size = 97;
  config.hidden_size = 48;
  config.intermediate_size = 80;
  config.num_hidden_layers = 3;
  config.num_attention_heads = 6;
  config.num_key_value_heads = 2;
  config.head_dim = 8;
  config.max_position_embeddings = 400;
  config.hidden_act = "silu";
  config.head = LanguageHead::kTied;
  return config;
}

inline VisionConfig tiny_vision() {
  VisionConfig config;
  config.image_size = 24;
  config.patch_size = 8;
  config.hidden_size = 32;
  config.intermediate_size = 48;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 4;
  config.hidden_act = "gelu";
  return config;
}

inline VisualInput tiny_image(int seed) {
  VisualInput input;
  input.num_images = 1;
  input.height = input.width = 24;
  for (int i = 0; i < 3 * 24 * 24; ++i) input.pixels.push_back(static_cast<float>((i * 37 + seed * 101) % 199) / 100.0f - 1.0f);
  return input;
}

/// Threads and kernels for a test, with a workspace of their own.
struct Machine {
  explicit Machine(int count = 1, kernels::Isa isa = kernels::best_kernel_table().isa)
      : threads(count), compute{&kernels::kernel_table(isa), &threads}, workspace(compute) {}
  Threads threads;
  Compute compute;
  Workspace workspace;
};

inline std::vector<TokenId> tiny_ids(Index count) {
  std::vector<TokenId> ids;
  for (Index i = 0; i < count; ++i) ids.push_back(static_cast<TokenId>((i * 31 + 7) % 97));
  return ids;
}

inline std::vector<float> values(std::span<const float> row) { return {row.begin(), row.end()}; }

}  // namespace duet::testing
