#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "duet/blocks/encoder_block.hpp"
#include "duet/layers/grid_rotation.hpp"
#include "duet/layers/patch_embedding.hpp"
#include "duet/models/patch_windows.hpp"
#include "duet/models/stages.hpp"
#include "duet/models/vision_cost.hpp"
#include "duet/models/visual_input.hpp"

namespace duet {

/// Sizes of a vision encoder that takes pictures of any size.
struct RotaryVisionConfig {
  Index image_size = 0;  ///< of the square picture that costs are told of
  Index max_grid = 0;    ///< patches along an edge, at most; 0: any number
  Index patch_size = 0;
  Index num_channels = 3;
  Index temporal_patch_size = 1;  ///< frames of a patch; a picture stands still
  Index spatial_merge_size = 1;   ///< patches lie in cells of this edge, which a projector makes one row of
  Index hidden_size = 0;
  Index intermediate_size = 0;
  Index num_hidden_layers = 0;
  Index num_attention_heads = 0;
  float norm_eps = 1e-6f;
  float rope_theta = 10000.0f;
  std::string hidden_act;
  Linear::Bias bias = Linear::Bias::kRequired;  ///< of attention and feed-forward
  Index window_size = 0;                        ///< edge in pixels of what a patch sees, where it does not see all; 0: everywhere all
  std::vector<Index> fullatt_block_indexes;     ///< layers in which it sees all
  std::vector<Index> feature_layers;            ///< as VisionConfig's
  std::string where = "config.json: ";          ///< what stands before a key in errors

  [[nodiscard]] Index width() const noexcept { return image_size; }
  /// Edge in pixels of a cell: pictures are whole numbers of them.
  [[nodiscard]] Index cell_size() const noexcept { return patch_size * spatial_merge_size; }
  /// Edge of a window in cells; 0: there are none.
  [[nodiscard]] Index window_cells() const noexcept { return window_size / cell_size(); }
  [[nodiscard]] bool sees_all(Index layer) const noexcept {
    return window_size == 0 || std::ranges::find(fullatt_block_indexes, layer) != fullatt_block_indexes.end();
  }

  /// Throws Error{kInvalidArgument} unless the sizes are positive, possible and fit one another.
  void check() const {
    const auto require = [&](bool good, std::string_view key, Index value, const std::string& expected) {
      if (!good) throw Error(ErrorKind::kInvalidArgument, concat(where, key), std::to_string(value), expected);
    };
    const auto between = [&](std::string_view key, Index value, Index least, Index most = kLargestWidth) {
      require(value >= least && value <= most, key, value, concat("between ", least, " and ", most));
    };
    between("patch_size", patch_size, 1, kLargestEdge);
    between("num_channels", num_channels, 1, kLargestEdge);
    between("temporal_patch_size", temporal_patch_size, 1, kLargestEdge);
    between("spatial_merge_size", spatial_merge_size, 1, kLargestEdge);
    between("image_size", image_size, cell_size(), kLargestWidth);
    between("hidden_size", hidden_size, 1);
    between("intermediate_size", intermediate_size, 1);
    between("num_hidden_layers", num_hidden_layers, 0);
    require(num_attention_heads > 0 && hidden_size % num_attention_heads == 0, "num_attention_heads", num_attention_heads,
            concat("a divisor of hidden_size, ", hidden_size));
    require(window_size == 0 || window_cells() > 0, "window_size", window_size, concat("at least ", cell_size(), ", a cell"));
    for (const Index layer : feature_layers) between("vision_feature_layer", layer, -num_hidden_layers - 1, num_hidden_layers);
  }

  static constexpr Index kLargestEdge = 4096;  // of a patch or cell: products of a few stay in 64 bits
};

/// The policies that shape such an encoder. Derive from it and name Norm, FeedForward and kFrequencies.
struct RotaryVisionRecipeDefaults {
  using HeadNorm = NoNorm;
  using Scale = NoGate;        ///< of each block's branches
  using StemNorm = NoNorm;     ///< before the first block (Pixtral's ln_pre)
};

template <class R>
concept RotaryVisionRecipe = Norm<typename R::Norm> && Norm<typename R::HeadNorm> && Norm<typename R::StemNorm> &&
                             Gate<typename R::Scale> && requires {
  typename R::FeedForward;
  { R::kFrequencies } -> std::convertible_to<GridFrequencies>;
};

/// A vision transformer for pictures of any size: no table of positions, but attention that turns by a patch's row and column,
/// and in most layers may be cut to windows. Every crop attends within itself.
///
/// Shapes   crops of [num_channels, height, width] → features [patches of all crops, hidden_size], patches cell by cell
/// Source   Wang et al. 2024, 2409.12191 (Qwen2-VL); Agrawal et al. 2024, 2410.07073 (Pixtral); Bai et al. 2025, 2502.13923
template <class Recipe>
class RotaryVisionTransformer {
  static_assert(RotaryVisionRecipe<Recipe>,
                "duet: this vision recipe lacks a policy. A recipe is a struct of types: Norm, FeedForward, kFrequencies, and "
                "HeadNorm, Scale and StemNorm, which RotaryVisionRecipeDefaults supplies.");

 public:
  RotaryVisionTransformer(RotaryVisionConfig config, const Weights& weights)
      : config_((config.check(), std::move(config))),
        patch_embedding_({config_.num_channels, config_.patch_size, config_.hidden_size, Linear::Bias::kNone,
                          config_.spatial_merge_size, config_.temporal_patch_size}, weights),
        rotation_(config_.hidden_size / config_.num_attention_heads, config_.rope_theta, Recipe::kFrequencies),
        stem_norm_(weights.scope("pre_layernorm"), config_.hidden_size, config_.norm_eps) {
    AttentionConfig attention;
    attention.hidden_size = attention.key_value_size = config_.hidden_size;
    attention.num_attention_heads = attention.num_key_value_heads = config_.num_attention_heads;
    attention.head_dim = config_.hidden_size / config_.num_attention_heads;
    attention.scale = 1.0f / std::sqrt(static_cast<float>(attention.head_dim));
    attention.qkv_bias = attention.output_bias = config_.bias;
    const FeedForwardConfig feed_forward{config_.hidden_size, config_.intermediate_size, config_.hidden_act,
                                         "vision hidden_act", config_.bias};
    for (Index i = 0; i < config_.num_hidden_layers; ++i) {
      blocks_.emplace_back(attention, feed_forward, config_.norm_eps, weights.scope("layers", i));
    }
  }

  [[nodiscard]] const RotaryVisionConfig& config() const noexcept { return config_; }
  /// Width of a feature row.
  [[nodiscard]] Index hidden_size() const noexcept {
    return config_.hidden_size * std::max<Index>(1, static_cast<Index>(config_.feature_layers.size()));
  }
  /// Rows that come out for a picture of image_size.
  [[nodiscard]] Index num_features() const noexcept {
    return patch_embedding_.num_patches(config_.image_size, config_.image_size);
  }
  /// Blocks that run: those above every wanted hidden state need not.
  [[nodiscard]] Index num_layers_run() const noexcept {
    if (config_.feature_layers.empty()) return config_.num_hidden_layers;
    Index last = 0;
    for (const Index layer : config_.feature_layers) last = std::max(last, resolved(layer));
    return last;
  }
  /// Weights that a row is multiplied by on its way: one multiply-add each.
  [[nodiscard]] Index weights_per_row() const {
    const Index area = config_.patch_size * config_.patch_size;
    Index count = config_.num_channels * config_.temporal_patch_size * area * config_.hidden_size;
    for (Index i = 0; i < num_layers_run(); ++i) {
      blocks_[static_cast<std::size_t>(i)].for_each_weight([&](const WeightMatrix& w) { count += w.in_features * w.out_features; });
    }
    return count;
  }

  /// Encodes the crops. The rows live in the workspace until the caller's frame ends. As kVisionEmbeds an observer sees the
  /// patches cell by cell and through the stem's norm; the blocks' rows lie window by window.
  /// Errors  kShapeMismatch when the pixels are of a size that the encoder does not take
  template <class Observer = NoObserver>
  [[nodiscard]] Features encode(const VisualInput& input, Workspace& workspace, Observer&& observe = {}) const {
    const Features features = lay_out(input, workspace);
    const auto frame = workspace.frame();
    const Places places = place(features, workspace);
    const MatrixView embedded = workspace.matrix(features.rows.rows(), config_.hidden_size);  // patches cell by cell
    const MatrixView hidden = workspace.matrix(features.rows.rows(), config_.hidden_size);    // window by window
    for (std::size_t i = 0; i < features.crops.size(); ++i) {
      const auto& [height, width] = input.crops[i].size;
      const MatrixView rows = embedded.rows(features.crops[i].begin, features.crops[i].count);
      patch_embedding_.forward(input.crop(static_cast<Index>(i)), height, width, rows, workspace);
    }
    if constexpr (!Recipe::StemNorm::kIdentity) stem_norm_.forward(embedded, embedded, workspace);
    observe(Stage::kVisionEmbeds, 0, ConstMatrixView(embedded));
    for (Index k = 0; k < hidden.rows(); ++k) copy(embedded.rows(places.order[static_cast<std::size_t>(k)], 1), hidden.rows(k, 1));
    take(hidden, 0, places, features.rows);
    const Index last = std::remove_reference_t<Observer>::kLooks ? config_.num_hidden_layers : num_layers_run();
    for (Index i = 0; i < last; ++i) {
      const auto& seen = config_.sees_all(i) ? places.all : places.windows;
      blocks_[static_cast<std::size_t>(i)].forward(hidden, seen, places.angles, workspace);
      observe(Stage::kVisionLayer, i, ConstMatrixView(hidden));
      take(hidden, i + 1, places, features.rows);
    }
    observe(Stage::kVisionOut, 0, ConstMatrixView(hidden));
    if (config_.feature_layers.empty()) put_back(hidden, places, features.rows);
    return features;
  }

  /// In windows a row reads a window's rows alone.
  [[nodiscard]] VisionCost cost() const {
    const RotaryVisionConfig& c = config_;
    const auto rows = static_cast<double>(num_features()), width = static_cast<double>(c.hidden_size);
    const auto edge = static_cast<double>(c.window_cells() * c.spatial_merge_size);
    const double window = c.window_size == 0 ? rows : std::min(rows, edge * edge);
    double pairs = 0;  // of rows that see one another, in all layers
    for (Index i = 0; i < num_layers_run(); ++i) pairs += rows * (c.sees_all(i) ? rows : window);
    return {c.num_channels, {c.image_size, c.image_size}, c.patch_size, c.hidden_size, c.num_hidden_layers,
            num_features() / (c.spatial_merge_size * c.spatial_merge_size), rows * static_cast<double>(weights_per_row()) + 2.0 * pairs * width};
  }

 private:
  /// Of every row, in the order in which the blocks have them: window by window.
  struct Places {
    std::span<const Index> order;         ///< its place in the order of the features: cell by cell
    std::vector<RowGroup> all, windows;  ///< what it sees of its crop
    kernels::RotaryAngles angles;
  };

  [[nodiscard]] Index resolved(Index layer) const noexcept {
    return layer < 0 ? config_.num_hidden_layers + 1 + layer : layer;
  }

  /// Which rows the crops' patches become.
  [[nodiscard]] Features lay_out(const VisualInput& input, Workspace& workspace) const {
    Features features;
    Index num_rows = 0;
    for (const VisualInput::Crop& crop : input.crops) {
      const Index cell = config_.cell_size(), rows = crop.size.height / config_.patch_size, cols = crop.size.width / config_.patch_size;
      const bool whole = rows > 0 && cols > 0 && crop.size.height % cell == 0 && crop.size.width % cell == 0;
      const bool fits = config_.max_grid == 0 || std::max(rows, cols) <= config_.max_grid;
      if (input.num_channels != config_.num_channels || !whole || !fits) {
        throw Error(ErrorKind::kShapeMismatch, "pixel_values",
                    shape_text(std::vector{input.num_channels, crop.size.height, crop.size.width}),
                    concat('[', config_.num_channels, ", height, width], multiples of ", cell,
                           fits ? std::string() : concat(" up to ", config_.max_grid * config_.patch_size)),
                    "does preprocessor_config.json belong to this checkpoint?");
      }
      features.crops.push_back({crop.picture, num_rows, rows * cols, rows, cols});
      num_rows += rows * cols;
    }
    features.rows = workspace.matrix(num_rows, hidden_size());
    return features;
  }

  [[nodiscard]] Places place(const Features& features, Workspace& workspace) const {
    const Index count = features.rows.rows();
    const auto order = workspace.array<Index>(count), rows = workspace.array<Index>(count), cols = workspace.array<Index>(count);
    const auto all = workspace.array<kernels::KeyRange>(count), windows = workspace.array<kernels::KeyRange>(count);
    Places places;
    for (const Features::Crop& crop : features.crops) {
      const auto begin = static_cast<std::size_t>(crop.begin), size = static_cast<std::size_t>(crop.count);
      std::ranges::fill(all.subspan(begin, size), kernels::KeyRange{0, crop.count});
      order_by_windows(crop.grid_rows, crop.grid_cols, config_.spatial_merge_size, config_.window_cells(),
                       order.subspan(begin, size), windows.subspan(begin, size));
      for (std::size_t k = begin; k < begin + size; ++k) {
        const auto patch = kernels::place_of_patch(order[k], crop.grid_cols, config_.spatial_merge_size);
        rows[k] = patch.row;
        cols[k] = patch.col;
        order[k] += crop.begin;
      }
      places.all.push_back({crop.begin, crop.count, all.subspan(begin, size)});
      places.windows.push_back({crop.begin, crop.count, windows.subspan(begin, size)});
    }
    places.order = order;
    places.angles = {workspace.matrix(count, rotation_.num_pairs()), workspace.matrix(count, rotation_.num_pairs())};
    rotation_.angles(rows, cols, places.angles);
    return places;
  }

  /// Copies hidden state `index` to its place among the features, if it is wanted.
  void take(ConstMatrixView hidden, Index index, const Places& places, MatrixView out) const {
    for (std::size_t k = 0; k < config_.feature_layers.size(); ++k) {
      if (resolved(config_.feature_layers[k]) != index) continue;
      put_back(hidden, places, out.cols(static_cast<Index>(k) * config_.hidden_size, config_.hidden_size));
    }
  }
  static void put_back(ConstMatrixView hidden, const Places& places, MatrixView out) {
    for (Index k = 0; k < hidden.rows(); ++k) copy(hidden.rows(k, 1), out.rows(places.order[static_cast<std::size_t>(k)], 1));
  }

  RotaryVisionConfig config_;
  PatchEmbedding patch_embedding_;
  GridRotation rotation_;
  typename Recipe::StemNorm stem_norm_;
  std::vector<EncoderBlock<Recipe>> blocks_;
};

}  // namespace duet
