#pragma once

#include <cmath>
#include <limits>
#include <numbers>
#include <string>
#include <string_view>
#include <vector>

#include "duet/core/error.hpp"
#include "duet/kernels/elementwise.hpp"
#include "duet/kernels/rope.hpp"
#include "duet/layers/embedding.hpp"

namespace duet {

/// How far apart rotary frequencies lie, as config.json's rope_theta / rope_scaling / rope_parameters say.
struct RopeConfig {
  float rope_theta = 10000.0f;
  std::string rope_type = "default";
  float factor = 1.0f;
  float low_freq_factor = 1.0f;
  float high_freq_factor = 4.0f;
  Index original_max_position_embeddings = 0;
  float partial_rotary_factor = 1.0f;
};

struct PositionConfig {
  Index hidden_size = 0;
  Index head_dim = 0;
  Index max_position_embeddings = 0;
  RopeConfig rope;
};

/// Rotary position embedding: pairs (i, i + d/2) of each query and key head turn by position · θ^(−2i/d).
///
/// Source  Su et al. 2021, 2104.09864; "llama3" scaling as in Llama 3.1, Grattafiori et al. 2024, 2407.21783
class RotaryEmbedding {
 public:
  static constexpr bool kRotates = true;

  /// Takes no weights. Throws Error{kUnsupportedModel} for a rope_type it does not know.
  RotaryEmbedding(const PositionConfig& config, const Weights&) : inv_freq_(frequencies(config)) {
    if (config.rope.rope_type == kDynamic) num_positions_ = config.max_position_embeddings;
  }

  /// Rotary positions go on beyond max_position_embeddings, if with less quality. "dynamic" turns all of a sequence anew
  /// when it gets there, keys that lie in a cache included, and so ends here.
  [[nodiscard]] Index num_positions() const noexcept { return num_positions_; }
  /// Nothing is added to the embeddings: rotation happens inside attention.
  void embed(std::span<const Index>, MatrixView) const noexcept {}

  /// Number of rotated pairs of a head: the columns of `angles`.
  [[nodiscard]] Index num_pairs() const noexcept { return static_cast<Index>(inv_freq_.size()); }
  /// cos and sin [positions, num_pairs], once a forward pass for all layers.
  void angles(std::span<const Index> positions, kernels::RotaryAngles out) const {
    kernels::rotary_angles(positions, inv_freq_, 1.0f, out);
  }

 private:
  static constexpr std::string_view kDynamic = "dynamic";

  static std::vector<float> frequencies(const PositionConfig& config) {
    const RopeConfig& rope = config.rope;
    check(rope);
    const auto rotary_dim = static_cast<Index>(static_cast<float>(config.head_dim) * rope.partial_rotary_factor);
    std::vector<float> inv_freq;
    for (Index i = 0; i + 1 < rotary_dim; i += 2) {
      const float exponent = static_cast<float>(i) / static_cast<float>(rotary_dim);
      inv_freq.push_back(1.0f / std::pow(rope.rope_theta, exponent));
    }
    if (rope.rope_type == "default" || rope.rope_type == kDynamic) return inv_freq;
    if (rope.rope_type == "linear") {
      for (float& f : inv_freq) f /= rope.factor;
    } else if (rope.rope_type == "llama3") {
      for (float& f : inv_freq) f = llama3(f, rope);
    } else {
      throw Error(ErrorKind::kUnsupportedModel, "config.json: rope_scaling.rope_type", '"' + rope.rope_type + '"',
                  "default, linear, dynamic or llama3");
    }
    return inv_freq;
  }

  /// Angles must be numbers, and no more pairs turn than a head has.
  static void check(const RopeConfig& rope) {
    const auto require = [](bool good, std::string_view key, float value, std::string_view expected) {
      if (!good) throw Error(ErrorKind::kInvalidArgument, concat("config.json: ", key), concat(value), expected);
    };
    require(rope.rope_theta > 0.0f, "rope_theta", rope.rope_theta, "a positive number");
    require(rope.factor > 0.0f, "rope_scaling.factor", rope.factor, "a positive number");
    require(rope.low_freq_factor > 0.0f, "rope_scaling.low_freq_factor", rope.low_freq_factor, "a positive number");
    require(rope.high_freq_factor > rope.low_freq_factor || rope.rope_type != "llama3", "rope_scaling.high_freq_factor",
            rope.high_freq_factor, "more than low_freq_factor");
    require(rope.partial_rotary_factor > 0.0f && rope.partial_rotary_factor <= 1.0f, "partial_rotary_factor",
            rope.partial_rotary_factor, "above 0 and at most 1");
  }

  /// Long wavelengths are slowed by `factor`, short ones kept, those between blended.
  static float llama3(float inv_freq, const RopeConfig& rope) {
    const auto original = static_cast<float>(rope.original_max_position_embeddings);
    const float wavelength = 2.0f * std::numbers::pi_v<float> / inv_freq;
    if (wavelength > original / rope.low_freq_factor) return inv_freq / rope.factor;
    if (wavelength < original / rope.high_freq_factor) return inv_freq;
    const float smooth = (original / wavelength - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
    return (1.0f - smooth) * inv_freq / rope.factor + smooth * inv_freq;
  }

  std::vector<float> inv_freq_;  // [rotary_dim / 2]
  Index num_positions_ = std::numeric_limits<Index>::max();
};

/// A learned vector per position, added to the embeddings (GPT-2, CLIP text).
class LearnedPositions {
 public:
  static constexpr bool kRotates = false;

  /// Takes "embed_positions.weight" [max_position_embeddings, hidden_size].
  LearnedPositions(const PositionConfig& config, const Weights& weights)
      : table_(weights, "embed_positions", config.max_position_embeddings, config.hidden_size) {}

  /// hidden [n, hidden_size] += table[positions].
  void embed(std::span<const Index> positions, MatrixView hidden) const {
    constexpr Index kChunk = 256;
    float values[kChunk];
    for (Index i = 0; i < hidden.rows(); ++i) {
      const Index position = positions[static_cast<std::size_t>(i)];
      const std::span<float> row = hidden.row(i);
      for (Index begin = 0; begin < hidden.cols(); begin += kChunk) {
        const Index count = std::min(kChunk, hidden.cols() - begin);
        table_.row(position, begin, {values, static_cast<std::size_t>(count)});
        for (Index j = 0; j < count; ++j) row[static_cast<std::size_t>(begin + j)] += values[j];
      }
    }
  }
  [[nodiscard]] Index num_positions() const noexcept { return table_.num_embeddings(); }
  [[nodiscard]] Index num_pairs() const noexcept { return 0; }
  void angles(std::span<const Index>, kernels::RotaryAngles) const noexcept {}

 private:
  Embedding table_;  // [max_position_embeddings, hidden_size]
};

/// How a decoder knows the order of its tokens.
template <class P>
concept PositionEncoding = std::constructible_from<P, const PositionConfig&, const Weights&> &&
                           requires(const P& p, std::span<const Index> positions, MatrixView hidden,
                                    kernels::RotaryAngles angles) {
                             p.embed(positions, hidden);
                             p.angles(positions, angles);
                             { p.num_positions() } -> std::same_as<Index>;
                             { P::kRotates } -> std::convertible_to<bool>;
                           };

}  // namespace duet
