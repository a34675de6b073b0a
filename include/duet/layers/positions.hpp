#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <optional>
#include <span>
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
  std::optional<float> attention_factor = {};              ///< of cos and sin; absent: as the type says
  std::vector<float> short_factor = {}, long_factor = {};  ///< longrope: what divides each frequency, [rotary_dim / 2]
  float beta_fast = 32.0f, beta_slow = 1.0f;               ///< yarn
  float mscale = 0.0f, mscale_all_dim = 0.0f;              ///< yarn; 0: absent
  std::vector<Index> mrope_section = {};                   ///< pairs that turn by time, height and width, in this order; or empty
};

/// Where vectors that are added for positions come from.
enum class PositionTable : unsigned char {
  kLearned,     ///< the checkpoint
  kSinusoidal,  ///< sines and cosines, computed
};

struct PositionConfig {
  Index hidden_size = 0;
  Index head_dim = 0;
  Index max_position_embeddings = 0;
  RopeConfig rope;
  Index offset = 0;  ///< of tables: rows before the first position's (OPT and BART keep two)
  PositionTable table = PositionTable::kLearned;
};

/// Where the rows of one sequence are.
struct RowPositions {
  std::span<const Index> positions;                   ///< [rows]
  std::span<const kernels::GridOffset> offsets = {};  ///< [rows], or empty: no row is in a grid
  Index length = 0;                                   ///< 1 + the furthest position of the sequence these rows are of
};

/// Rotary position embedding: pairs (i, i + d/2) of each query and key head turn by position · θ^(−2i/d).
///
/// Source  Su et al. 2021, 2104.09864; "llama3" scaling as in Llama 3.1, Grattafiori et al. 2024, 2407.21783; "longrope": Ding et
///         al. 2024, 2402.13753; "yarn": Peng et al. 2023, 2309.00071; sections: Wang et al. 2024, 2409.12191
class RotaryEmbedding {
 public:
  static constexpr bool kRotates = true;

  /// Takes no weights. Throws Error{kUnsupportedModel} for a rope_type it does not know, {kInvalidArgument} for numbers that
  /// make no angles.
  RotaryEmbedding(const PositionConfig& config, const Weights&) {
    const RopeConfig& rope = config.rope;
    check(rope);
    const auto rotary_dim = static_cast<Index>(static_cast<float>(config.head_dim) * rope.partial_rotary_factor);
    std::vector<float> powers;  // of theta: what the unscaled frequencies are one over
    for (Index i = 0; i + 1 < rotary_dim; i += 2) {
      powers.push_back(std::pow(rope.rope_theta, static_cast<float>(i) / static_cast<float>(rotary_dim)));
      inv_freq_.push_back(1.0f / powers.back());
    }
    if (rope.rope_type == "dynamic") {
      num_positions_ = config.max_position_embeddings;
    } else if (rope.rope_type == "linear") {
      for (float& f : inv_freq_) f /= rope.factor;
    } else if (rope.rope_type == "llama3") {
      for (float& f : inv_freq_) f = llama3(f, rope);
    } else if (rope.rope_type == "longrope") {
      inv_freq_ = one_over("short_factor", rope.short_factor, powers);
      long_inv_freq_ = one_over("long_factor", rope.long_factor, powers);
      switch_length_ = rope.original_max_position_embeddings;
      attention_factor_ = longrope_attention(rope);
    } else if (rope.rope_type == "yarn") {
      slow_as_yarn(rope, rotary_dim, powers);
    } else if (rope.rope_type != "default") {
      throw Error(ErrorKind::kUnsupportedModel, "config.json: rope_scaling.rope_type", '"' + rope.rope_type + '"',
                  "default, linear, dynamic, llama3, longrope or yarn");
    }
    attention_factor_ = rope.attention_factor.value_or(attention_factor_);
    if (!rope.mrope_section.empty()) axes_ = axes_of(rope.mrope_section, num_pairs());
  }

  /// Rotary positions go on beyond max_position_embeddings, if with less quality. "dynamic" turns all of a sequence anew
  /// when it gets there, keys that lie in a cache included, and so ends here.
  [[nodiscard]] Index num_positions() const noexcept { return num_positions_; }
  /// Sequences longer than this turn by other frequencies, from their first row on ("longrope"): keys in a cache that were
  /// turned while the sequence was shorter are of no use then.
  [[nodiscard]] Index switch_length() const noexcept { return switch_length_; }
  /// Nothing is added to the embeddings: rotation happens inside attention.
  void embed(std::span<const Index>, MatrixView) const noexcept {}

  /// Number of rotated pairs of a head: the columns of `angles`.
  [[nodiscard]] Index num_pairs() const noexcept { return static_cast<Index>(inv_freq_.size()); }
  /// cos and sin [positions, num_pairs], once a forward pass for all layers.
  void angles(const RowPositions& rows, kernels::RotaryAngles out) const {
    const std::span<const float> inv_freq = rows.length > switch_length_ ? long_inv_freq_ : inv_freq_;
    if (rows.offsets.empty() || axes_.empty()) {
      kernels::rotary_angles(rows.positions, inv_freq, attention_factor_, out);
    } else {
      kernels::rotary_angles(rows.positions, rows.offsets, axes_, inv_freq, attention_factor_, out);
    }
  }

 private:
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
    const bool has_original = rope.rope_type == "longrope" || rope.rope_type == "yarn";
    require(!has_original || rope.original_max_position_embeddings > 1, "original_max_position_embeddings",
            static_cast<float>(rope.original_max_position_embeddings), "more than 1");
    require(rope.rope_type != "yarn" || rope.rope_theta > 1.0f, "rope_theta", rope.rope_theta, "more than 1 for yarn");
    require(rope.rope_type != "yarn" || (rope.beta_slow > 0.0f && rope.beta_fast > 0.0f), "rope_scaling.beta_slow", rope.beta_slow,
            "positive, as beta_fast");
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

  /// The axis of every pair: as many as a section says by time, then by height, then by width.
  static std::vector<unsigned char> axes_of(std::span<const Index> sections, Index num_pairs) {
    std::vector<unsigned char> axes;
    for (std::size_t axis = 0; axis < sections.size(); ++axis) {
      if (sections[axis] < 0 || sections[axis] > num_pairs) break;
      axes.insert(axes.end(), static_cast<std::size_t>(sections[axis]), static_cast<unsigned char>(axis));
    }
    if (sections.size() == 3 && static_cast<Index>(axes.size()) == num_pairs) return axes;
    throw Error(ErrorKind::kInvalidArgument, "config.json: rope_scaling.mrope_section",
                concat(sections.size(), " numbers with the sum ", axes.size()),
                concat("three that sum to the number of rotated pairs of a head, ", num_pairs));
  }

  /// Each frequency divided by a factor of its own.
  static std::vector<float> one_over(std::string_view key, std::span<const float> factors, std::span<const float> powers) {
    if (factors.size() != powers.size() || !std::ranges::all_of(factors, [](float f) { return f > 0.0f; })) {
      throw Error(ErrorKind::kInvalidArgument, concat("config.json: rope_scaling.", key), concat(factors.size(), " numbers"),
                  concat(powers.size(), " positive numbers, one for each rotated pair of a head"));
    }
    std::vector<float> result;
    for (std::size_t i = 0; i < factors.size(); ++i) result.push_back(1.0f / (factors[i] * powers[i]));
    return result;
  }
  static float longrope_attention(const RopeConfig& rope) {
    const double stretch = static_cast<double>(rope.factor), original = static_cast<double>(rope.original_max_position_embeddings);
    return stretch <= 1.0 ? 1.0f : static_cast<float>(std::sqrt(1.0 + std::log(stretch) / std::log(original)));
  }

  /// Wavelengths that turn less than beta_slow times within the original length are slowed by `factor`, those that turn more
  /// than beta_fast times kept, those between blended by their index.
  void slow_as_yarn(const RopeConfig& rope, Index rotary_dim, std::span<const float> powers) {
    const auto dim = static_cast<double>(rotary_dim), original = static_cast<double>(rope.original_max_position_embeddings);
    const double log_theta = std::log(static_cast<double>(rope.rope_theta));
    const auto index_of = [&](float turns) {
      return dim * std::log(original / (static_cast<double>(turns) * 2.0 * std::numbers::pi)) / (2.0 * log_theta);
    };
    const double low = std::max(std::floor(index_of(rope.beta_fast)), 0.0);
    double high = std::min(std::ceil(index_of(rope.beta_slow)), dim - 1.0);
    if (low == high) high += 0.001;
    for (std::size_t i = 0; i < inv_freq_.size(); ++i) {
      const auto ramp = static_cast<float>(std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0));
      const float slowed = 1.0f / (rope.factor * powers[i]);
      inv_freq_[i] = slowed * ramp + inv_freq_[i] * (1.0f - ramp);
    }
    const auto scale = [&](float mscale) {
      return rope.factor <= 1.0f ? 1.0 : 0.1 * static_cast<double>(mscale) * std::log(static_cast<double>(rope.factor)) + 1.0;
    };
    const bool both = rope.mscale != 0.0f && rope.mscale_all_dim != 0.0f;
    attention_factor_ = static_cast<float>(both ? scale(rope.mscale) / scale(rope.mscale_all_dim) : scale(1.0f));
  }

  std::vector<float> inv_freq_, long_inv_freq_;  // [rotary_dim / 2], of sequences up to switch_length_ and of longer ones
  std::vector<unsigned char> axes_;              // [rotary_dim / 2], or empty: all pairs turn by the position
  float attention_factor_ = 1.0f;                // of cos and sin
  Index switch_length_ = std::numeric_limits<Index>::max();
  Index num_positions_ = std::numeric_limits<Index>::max();
};

/// A learned vector per position, added to the embeddings (GPT-2, CLIP text, OPT).
class LearnedPositions {
 public:
  static constexpr bool kRotates = false;

  /// Takes "embed_positions.weight" [max_position_embeddings + offset, hidden_size].
  LearnedPositions(const PositionConfig& config, const Weights& weights)
      : table_(weights, "embed_positions", config.max_position_embeddings + config.offset, config.hidden_size),
        offset_(config.offset) {}

  /// hidden [n, hidden_size] += table[positions + offset].
  void embed(std::span<const Index> positions, MatrixView hidden) const {
    constexpr Index kChunk = 256;
    float values[kChunk];
    for (Index i = 0; i < hidden.rows(); ++i) {
      const Index position = positions[static_cast<std::size_t>(i)] + offset_;
      const std::span<float> row = hidden.row(i);
      for (Index begin = 0; begin < hidden.cols(); begin += kChunk) {
        const Index count = std::min(kChunk, hidden.cols() - begin);
        table_.row(position, begin, {values, static_cast<std::size_t>(count)});
        for (Index j = 0; j < count; ++j) row[static_cast<std::size_t>(begin + j)] += values[j];
      }
    }
  }
  [[nodiscard]] Index num_positions() const noexcept { return table_.num_embeddings() - offset_; }
  [[nodiscard]] Index num_pairs() const noexcept { return 0; }
  [[nodiscard]] Index switch_length() const noexcept { return std::numeric_limits<Index>::max(); }
  void angles(const RowPositions&, kernels::RotaryAngles) const noexcept {}

 private:
  Embedding table_;  // [max_position_embeddings + offset, hidden_size]
  Index offset_;
};

/// A vector per position, added to the embeddings, learned or, with d = hidden_size / 2, of sines and then cosines:
///
///     (sin(p · f_0) … sin(p · f_{d−1}), cos(p · f_0) … cos(p · f_{d−1})),  f_i = 10000^(−i / (d − 1)),  p = position + offset
///
/// Source  Vaswani et al. 2017, 1706.03762, section 3.5, in fairseq's order; TrOCR: Li et al. 2021, 2109.10282
class LearnedOrSinusoidalPositions {
 public:
  static constexpr bool kRotates = false;

  /// Takes what LearnedPositions takes, or nothing.
  LearnedOrSinusoidalPositions(const PositionConfig& config, const Weights& weights) : offset_(config.offset) {
    if (config.table == PositionTable::kLearned) {
      learned_.emplace(config, weights);
      return;
    }
    const Index half = config.hidden_size / 2;
    const double step = std::log(10000.0) / static_cast<double>(std::max<Index>(1, half - 1));
    for (Index i = 0; i < half; ++i) frequencies_.push_back(std::exp(static_cast<float>(i) * static_cast<float>(-step)));
  }

  void embed(std::span<const Index> positions, MatrixView hidden) const {
    if (learned_) return learned_->embed(positions, hidden);
    const std::size_t half = frequencies_.size();
    for (Index i = 0; i < hidden.rows(); ++i) {
      const auto position = static_cast<float>(positions[static_cast<std::size_t>(i)] + offset_);
      const std::span<float> row = hidden.row(i);
      for (std::size_t j = 0; j < half; ++j) {
        row[j] += std::sin(position * frequencies_[j]);
        row[half + j] += std::cos(position * frequencies_[j]);
      }
    }
  }
  [[nodiscard]] Index num_positions() const noexcept {
    return learned_ ? learned_->num_positions() : std::numeric_limits<Index>::max();
  }
  [[nodiscard]] Index num_pairs() const noexcept { return 0; }
  [[nodiscard]] Index switch_length() const noexcept { return std::numeric_limits<Index>::max(); }
  void angles(const RowPositions&, kernels::RotaryAngles) const noexcept {}

 private:
  std::optional<LearnedPositions> learned_;
  std::vector<float> frequencies_;  // [hidden_size / 2] or empty
  Index offset_;
};

/// How a decoder knows the order of its tokens.
template <class P>
concept PositionEncoding = std::constructible_from<P, const PositionConfig&, const Weights&> &&
                           requires(const P& p, std::span<const Index> positions, MatrixView hidden,
                                    kernels::RotaryAngles angles) {
                             p.embed(positions, hidden);
                             p.angles(RowPositions{positions}, angles);
                             { p.num_positions() } -> std::same_as<Index>;
                             { p.switch_length() } -> std::same_as<Index>;
                             { P::kRotates } -> std::convertible_to<bool>;
                           };

}  // namespace duet
