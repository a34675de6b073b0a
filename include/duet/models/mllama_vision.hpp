#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "duet/blocks/encoder_block.hpp"
#include "duet/layers/embedding.hpp"
#include "duet/layers/patch_embedding.hpp"
#include "duet/models/stages.hpp"
#include "duet/models/vision_cost.hpp"
#include "duet/models/visual_input.hpp"

namespace duet {

/// What intermediate_layers_indices count.
enum class IntermediateStates : unsigned char {
  kInputs,   ///< the rows that block i reads: as the checkpoints were trained, and the reference's versions 4.45 to 4.54
  kOutputs,  ///< the rows that block i makes: the reference from 4.56 on
};

/// Sizes of the tiled encoder of Llama 3.2 Vision, named as config.json names them.
struct MllamaVisionConfig {
  Index image_size = 448;  ///< of a tile
  Index patch_size = 14;
  Index num_channels = 3;
  Index hidden_size = 1280;
  Index intermediate_size = 5120;
  Index num_hidden_layers = 32;
  Index num_global_layers = 8;
  Index attention_heads = 16;
  Index max_num_tiles = 4;
  std::vector<Index> intermediate_layers_indices = {3, 7, 15, 23, 30};
  IntermediateStates intermediate_states = IntermediateStates::kInputs;
  std::vector<std::array<Index, 2>> supported_aspect_ratios;  ///< canvases in tiles, [rows, cols]
  float norm_eps = 1e-5f;
  std::string hidden_act = "gelu";
  std::string where = "config.json: ";

  [[nodiscard]] Index num_patches() const noexcept { return (image_size / patch_size) * (image_size / patch_size); }
  /// Rows of a tile: its class token and its patches.
  [[nodiscard]] Index tile_rows() const noexcept { return num_patches() + 1; }
  [[nodiscard]] Index num_features() const noexcept { return max_num_tiles * tile_rows(); }
  /// The last hidden state, and the intermediate ones.
  [[nodiscard]] Index output_size() const noexcept { return hidden_size * (1 + static_cast<Index>(intermediate_layers_indices.size())); }

  /// Throws Error{kInvalidArgument} unless the sizes are positive, possible and fit one another.
  void check() const {
    const auto require = [&](bool good, std::string_view key, Index value, const std::string& expected) {
      if (!good) throw Error(ErrorKind::kInvalidArgument, concat(where, key), std::to_string(value), expected);
    };
    constexpr Index kLargestTile = Index{1} << 14, kMostTiles = 64;
    require(image_size > 0 && image_size <= kLargestTile, "image_size", image_size, concat("between 1 and ", kLargestTile));
    require(patch_size > 0 && image_size % patch_size == 0, "patch_size", patch_size, concat("a divisor of image_size, ", image_size));
    require(max_num_tiles > 0 && max_num_tiles <= kMostTiles, "max_num_tiles", max_num_tiles, concat("between 1 and ", kMostTiles));
    for (const auto& [key, value] : {std::pair<std::string_view, Index>{"num_channels", num_channels},
                                     {"hidden_size", hidden_size},
                                     {"intermediate_size", intermediate_size},
                                     {"num_hidden_layers", num_hidden_layers},
                                     {"num_global_layers", num_global_layers}}) {
      require(value > 0 && value <= kLargestWidth, key, value, concat("a positive number up to ", kLargestWidth));
    }
    require(attention_heads > 0 && hidden_size % attention_heads == 0, "attention_heads", attention_heads,
            concat("a divisor of hidden_size, ", hidden_size));
    const Index states = num_hidden_layers + (intermediate_states == IntermediateStates::kInputs ? 1 : 0);
    for (const Index i : intermediate_layers_indices) {
      require(i >= 0 && i < states, "intermediate_layers_indices", i, concat("between 0 and ", states - 1));
    }
  }
};

/// The encoder of Llama 3.2 Vision: a picture is a canvas of tiles, whose rows are one sequence. Two stacks of blocks, the second one
/// with gated branches; positions of patches in a tile and of tiles on a canvas; and what comes out is the last hidden state beside
/// some of the first stack's.
///
///     x = norm(patches + g₁ · tile + (1 − g₂) · position + g₂ · position on the canvas)
///     x = global(norm(local(x)) + g₃ · tile);  features = [x, intermediate states, channel by channel]
///
/// The reference pads a tile's rows with zeros to a multiple of eight, and has unused tiles of zeros. Both are read by all rows, and
/// see the rows of used tiles alone: so they are here, at the end of a picture's sequence, where each row sees one range.
///
/// Shapes   crops [num_channels, image_size, image_size], max_num_tiles of every picture, PicturePlan::num_crops of them used →
///          features [pictures * max_num_tiles * tile_rows, output_size], tile by tile
/// Source   Grattafiori et al. 2024, 2407.21783, section 7; the reference's MllamaVisionModel
class MllamaVision {
  struct LocalRecipe {
    using Norm = LayerNorm;
    using HeadNorm = NoNorm;
    using FeedForward = duet::FeedForward<ConfiguredActivation>;
    using Scale = NoGate;
  };
  struct GlobalRecipe : LocalRecipe {
    using Scale = TanhGate;
  };

 public:
  MllamaVision(MllamaVisionConfig config, const Weights& weights)
      : config_((config.check(), std::move(config))),
        patch_embedding_({config_.num_channels, config_.patch_size, config_.hidden_size, Linear::Bias::kNone}, weights),
        class_embedding_(weights.vector("class_embedding", config_.hidden_size)),
        position_embedding_(weights.vector("position_embedding", config_.tile_rows() * config_.hidden_size)),
        position_gate_(gate(weights, "position_gate")),
        pre_tile_gate_(gate(weights, "pre_tile_gate")),
        post_tile_gate_(gate(weights, "post_tile_gate")),
        canvas_positions_(weights, "canvas_positions", num_canvases(), config_.num_features() * config_.hidden_size),
        pre_tile_(weights, "pre_tile", num_canvases(), config_.max_num_tiles * config_.hidden_size),
        post_tile_(weights, "post_tile", num_canvases(), config_.max_num_tiles * config_.hidden_size),
        pre_norm_(weights.scope("pre_layernorm"), config_.hidden_size, kOuterEps),
        post_norm_(weights.scope("post_layernorm"), config_.hidden_size, kOuterEps) {
    AttentionConfig attention;
    attention.hidden_size = attention.key_value_size = config_.hidden_size;
    attention.num_attention_heads = attention.num_key_value_heads = config_.attention_heads;
    attention.head_dim = config_.hidden_size / config_.attention_heads;
    attention.scale = 1.0f / std::sqrt(static_cast<float>(attention.head_dim));
    const FeedForwardConfig feed_forward{config_.hidden_size, config_.intermediate_size, config_.hidden_act, "vision_config.hidden_act",
                                         Linear::Bias::kRequired};
    for (Index i = 0; i < config_.num_hidden_layers; ++i) local_.emplace_back(attention, feed_forward, config_.norm_eps, weights.scope("local", i));
    for (Index i = 0; i < config_.num_global_layers; ++i) global_.emplace_back(attention, feed_forward, config_.norm_eps, weights.scope("global", i));
  }

  [[nodiscard]] const MllamaVisionConfig& config() const noexcept { return config_; }
  /// Width of a feature row.
  [[nodiscard]] Index hidden_size() const noexcept { return config_.output_size(); }
  /// Rows that come out for each picture, unused tiles included.
  [[nodiscard]] Index num_features() const noexcept { return config_.num_features(); }
  /// Rows of a picture inside the encoder.
  [[nodiscard]] Index sequence_rows() const noexcept { return config_.max_num_tiles * padded_rows(); }

  /// Encodes the pictures. The rows live in the workspace until the caller's frame ends.
  /// Errors  kShapeMismatch for tiles of another size or number; kInvalidArgument for a canvas that the encoder does not know
  template <class Observer = NoObserver>
  [[nodiscard]] Features encode(const VisualInput& input, Workspace& workspace, Observer&& observe = {}) const {
    const std::vector<Canvas> canvases = lay_out(input);
    const auto pictures = static_cast<Index>(canvases.size());
    Features features{workspace.matrix(pictures * num_features(), hidden_size()), {}};
    const Index edge = config_.image_size / config_.patch_size;
    for (Index i = 0; i < input.num_crops(); ++i) {
      features.crops.push_back({input.crops[static_cast<std::size_t>(i)].picture, i * config_.tile_rows(), config_.tile_rows(), edge, edge});
    }
    const auto frame = workspace.frame();
    const MatrixView hidden = workspace.matrix(pictures * sequence_rows(), config_.hidden_size);
    std::vector<RowGroup> groups;
    for (Index i = 0; i < pictures; ++i) {
      const Canvas& canvas = canvases[static_cast<std::size_t>(i)];
      const MatrixView rows = hidden.rows(i * sequence_rows(), sequence_rows());
      embed(input, i, canvas, rows, workspace);
      const auto visible = workspace.array<kernels::KeyRange>(sequence_rows());
      const Index used = canvas.used * config_.tile_rows();
      std::fill_n(visible.begin(), used, kernels::KeyRange{0, sequence_rows()});
      std::fill(visible.begin() + used, visible.end(), kernels::KeyRange{0, used});
      groups.push_back({i * sequence_rows(), sequence_rows(), visible});
    }

    const auto look = [&](Index layer) {
      if constexpr (std::decay_t<Observer>::kLooks) {
        const auto inner = workspace.frame();
        const MatrixView padded = workspace.matrix(hidden.rows(), hidden.cols());
        for_each_tile(pictures, [&](Index rows, Index padding, Index tile) {
          copy(hidden.rows(rows, config_.tile_rows()), padded.rows(tile * padded_rows(), config_.tile_rows()));
          copy(hidden.rows(padding, num_padding()), padded.rows(tile * padded_rows() + config_.tile_rows(), num_padding()));
        });
        observe(Stage::kVisionLayer, layer, ConstMatrixView(padded));
      }
    };
    const auto take = [&](Index state) {
      for (std::size_t k = 0; k < config_.intermediate_layers_indices.size(); ++k) {
        if (config_.intermediate_layers_indices[k] == state) interleave(hidden, pictures, static_cast<Index>(k), features.rows);
      }
    };
    const bool inputs = config_.intermediate_states == IntermediateStates::kInputs;
    for (Index i = 0; i < config_.num_hidden_layers; ++i) {
      if (inputs) take(i);
      local_[static_cast<std::size_t>(i)].forward(hidden, groups, {}, workspace);
      if (!inputs) take(i);
      look(i);
    }
    if (inputs) take(config_.num_hidden_layers);

    post_norm_.forward(hidden, hidden, workspace);
    for (Index i = 0; i < pictures; ++i) {
      add_tiles(post_tile_, post_tile_gate_, canvases[static_cast<std::size_t>(i)], hidden.rows(i * sequence_rows(), sequence_rows()), Rows::kAll, workspace);
    }
    for (Index i = 0; i < config_.num_global_layers; ++i) {
      global_[static_cast<std::size_t>(i)].forward(hidden, groups, {}, workspace);
      look(config_.num_hidden_layers + i);
    }
    for_each_tile(pictures, [&](Index rows, Index, Index tile) {
      copy(hidden.rows(rows, config_.tile_rows()), features.rows.rows(tile * config_.tile_rows(), config_.tile_rows()).cols(0, config_.hidden_size));
    });
    observe(Stage::kVisionOut, 0, ConstMatrixView(features.rows));
    return features;
  }
  /// Calls visit(weight) for every matrix of the blocks.
  template <class Visit>
  void for_each_weight(Visit&& visit) const {
    for (const auto& block : local_) block.for_each_weight(visit);
    for (const auto& block : global_) block.for_each_weight(visit);
  }

  /// Every row of a picture, padding included, passes all blocks.
  [[nodiscard]] VisionCost cost() const noexcept {
    const MllamaVisionConfig& c = config_;
    const Index layers = c.num_hidden_layers + c.num_global_layers;
    double weights = 0;
    for_each_weight([&](const WeightMatrix& w) { weights += static_cast<double>(w.in_features * w.out_features); });
    const auto rows = static_cast<double>(sequence_rows()), width = static_cast<double>(c.hidden_size);
    const double patches = static_cast<double>(c.max_num_tiles * c.num_patches() * c.num_channels * c.patch_size * c.patch_size) * width;
    return {c.num_channels, {c.image_size, c.image_size}, c.patch_size, c.hidden_size, layers, num_features(),
            rows * (weights + 2.0 * rows * width * static_cast<double>(layers)) + patches};
  }

 private:
  static constexpr float kOuterEps = 1e-5f;  // of the two norms outside the blocks, whatever the config says
  static constexpr Index kRowMultiple = 8;
  enum class Rows : unsigned char { kPatches, kAll };
  struct Canvas {
    Index id = 0;    // 1 + its place among the supported ones; 0: padding of a batch
    Index used = 1;  // tiles; the reference takes padding for one
  };

  static float gate(const Weights& weights, std::string_view name) { return std::tanh(weights.vector(name, 1)[0]); }
  [[nodiscard]] Index num_canvases() const noexcept { return static_cast<Index>(config_.supported_aspect_ratios.size()) + 1; }
  [[nodiscard]] Index num_padding() const noexcept { return (kRowMultiple - config_.tile_rows() % kRowMultiple) % kRowMultiple; }
  [[nodiscard]] Index padded_rows() const noexcept { return config_.tile_rows() + num_padding(); }

  [[nodiscard]] std::vector<Canvas> lay_out(const VisualInput& input) const {
    if (input.num_crops() != input.num_pictures() * config_.max_num_tiles) {
      throw Error(ErrorKind::kShapeMismatch, "pixel_values", concat(input.num_crops(), " tiles of ", input.num_pictures(), " pictures"),
                  concat(config_.max_num_tiles, " a picture"));
    }
    for (const VisualInput::Crop& crop : input.crops) {
      if (input.num_channels == config_.num_channels && crop.size == PictureSize{config_.image_size, config_.image_size}) continue;
      throw Error(ErrorKind::kShapeMismatch, "pixel_values", shape_text(std::vector{input.num_channels, crop.size.height, crop.size.width}),
                  shape_text(std::vector{config_.num_channels, config_.image_size, config_.image_size}),
                  "does preprocessor_config.json belong to this checkpoint?");
    }
    std::vector<Canvas> canvases;
    for (const PicturePlan& picture : input.pictures) {
      if (picture.num_crops == 0) {
        canvases.push_back({});
        continue;
      }
      const auto& known = config_.supported_aspect_ratios;
      const auto found = std::ranges::find(known, std::array{picture.tile_rows, picture.tile_cols});
      if (found == known.end() || picture.num_crops != picture.tile_rows * picture.tile_cols || picture.num_crops > config_.max_num_tiles) {
        throw Error(ErrorKind::kInvalidArgument, "aspect_ratio_ids", concat(picture.tile_rows, " x ", picture.tile_cols, " tiles"),
                    "one of config.json's supported_aspect_ratios");
      }
      canvases.push_back({found - known.begin() + 1, picture.num_crops});
    }
    return canvases;
  }

  /// Calls use(first row of a tile, first row of its padding, index of the tile) for the tiles of all pictures.
  template <class Use>
  void for_each_tile(Index pictures, Use&& use) const {
    for (Index p = 0; p < pictures; ++p) {
      for (Index t = 0; t < config_.max_num_tiles; ++t) {
        const Index begin = p * sequence_rows();
        use(begin + t * config_.tile_rows(), begin + config_.num_features() + t * num_padding(), p * config_.max_num_tiles + t);
      }
    }
  }

  /// Fills a picture's sequence [sequence_rows, hidden_size].
  void embed(const VisualInput& input, Index picture, const Canvas& canvas, MatrixView rows, Workspace& workspace) const {
    std::fill_n(rows.data(), rows.rows() * rows.cols(), 0.0f);
    const auto frame = workspace.frame();
    for (Index t = 0; t < config_.max_num_tiles; ++t) {
      const MatrixView tile = rows.rows(t * config_.tile_rows(), config_.tile_rows());
      patch_embedding_.forward(input.crop(picture * config_.max_num_tiles + t), config_.image_size, config_.image_size,
                               tile.rows(1, config_.num_patches()), workspace);
    }
    add_tiles(pre_tile_, pre_tile_gate_, canvas, rows, Rows::kPatches, workspace);
    const MatrixView on_canvas = workspace.matrix(config_.num_features(), config_.hidden_size);
    canvas_positions_.row(canvas.id, 0, {on_canvas.data(), static_cast<std::size_t>(on_canvas.rows() * on_canvas.cols())});
    const ConstMatrixView in_tile(position_embedding_.data(), config_.tile_rows(), config_.hidden_size);
    for (Index t = 0; t < config_.max_num_tiles; ++t) {
      const MatrixView tile = rows.rows(t * config_.tile_rows(), config_.tile_rows());
      std::ranges::copy(class_embedding_, tile.data());
      kernels::add_scaled(in_tile, 1.0f - position_gate_, tile, workspace);
    }
    const MatrixView tiles = rows.rows(0, config_.num_features());
    kernels::add_scaled(on_canvas, position_gate_, tiles, workspace);
    pre_norm_.forward(tiles, tiles, workspace);
  }
  /// Adds gate · the vector of each tile of a canvas to its patches, or to all its rows, padding included.
  void add_tiles(const Embedding& table, float gate, const Canvas& canvas, MatrixView rows, Rows which, Workspace& workspace) const {
    const auto frame = workspace.frame();
    const MatrixView vector = workspace.matrix(1, config_.hidden_size);
    const auto add = [&](Index begin, Index count) {
      for (Index i = begin; i < begin + count; ++i) kernels::add_scaled(vector, gate, rows.rows(i, 1), workspace);
    };
    for (Index t = 0; t < config_.max_num_tiles; ++t) {
      table.row(canvas.id, t * config_.hidden_size, vector.row(0));
      const Index skipped = which == Rows::kPatches ? 1 : 0;
      add(t * config_.tile_rows() + skipped, config_.tile_rows() - skipped);
      if (which == Rows::kAll) add(config_.num_features() + t * num_padding(), num_padding());
    }
  }
  /// Intermediate state k lies behind the last hidden state, its channels between those of the others.
  void interleave(ConstMatrixView hidden, Index pictures, Index k, MatrixView out) const {
    const auto states = static_cast<Index>(config_.intermediate_layers_indices.size());
    for_each_tile(pictures, [&](Index rows, Index, Index tile) {
      for (Index i = 0; i < config_.tile_rows(); ++i) {
        const float* from = hidden.row(rows + i).data();
        float* to = out.row(tile * config_.tile_rows() + i).data() + config_.hidden_size + k;
        for (Index c = 0; c < config_.hidden_size; ++c) to[c * states] = from[c];
      }
    });
  }

  MllamaVisionConfig config_;
  PatchEmbedding patch_embedding_;
  std::vector<float> class_embedding_;     // [hidden_size]
  std::vector<float> position_embedding_;  // [tile_rows, hidden_size]
  float position_gate_, pre_tile_gate_, post_tile_gate_;
  Embedding canvas_positions_;     // [canvases, max_num_tiles * tile_rows * hidden_size]
  Embedding pre_tile_, post_tile_;  // [canvases, max_num_tiles * hidden_size]
  LayerNorm pre_norm_, post_norm_;
  std::vector<EncoderBlock<LocalRecipe>> local_;    // [num_hidden_layers]
  std::vector<EncoderBlock<GlobalRecipe>> global_;  // [num_global_layers]
};

}  // namespace duet
