#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "duet/blocks/encoder_block.hpp"
#include "duet/layers/patch_embedding.hpp"
#include "duet/layers/patch_positions.hpp"
#include "duet/models/stages.hpp"
#include "duet/models/vision_cost.hpp"
#include "duet/models/visual_input.hpp"

namespace duet {

/// Which of an encoder's hidden states a projector reads.
enum class FeatureRows : unsigned char {
  kAll,      ///< every row, class token included ("full")
  kPatches,  ///< without the class token ("default")
};

/// Sizes of a vision encoder, named as config.json names them.
struct VisionConfig {
  Index image_size = 0;  ///< height, and width too unless that is given
  std::optional<Index> image_width;
  Index patch_size = 0;
  Index num_channels = 3;
  Index hidden_size = 0;
  Index intermediate_size = 0;
  Index num_hidden_layers = 0;
  Index num_attention_heads = 0;
  Index num_dummy_heads = 0;  ///< further heads of the same width behind those that share out hidden_size
  Index num_register_tokens = 0;  ///< learned rows between the class token and the patches
  float layer_norm_eps = 1e-5f;
  std::string hidden_act;
  Linear::Bias qkv_bias = Linear::Bias::kRequired;
  Linear::Bias output_bias = Linear::Bias::kRequired;  ///< of attention
  Linear::Bias mlp_bias = Linear::Bias::kRequired;
  bool head_norms = false;  ///< queries and keys have norms, in a recipe with an OptionalNorm for them
  /// Hidden states to concatenate, as the reference numbers them: 0 is the first block's input, k block k's output, and
  /// negative ones count from the end. Empty: the last hidden state, through the output norm if the recipe has one.
  std::vector<Index> feature_layers;
  FeatureRows feature_rows = FeatureRows::kAll;
  std::string where = "config.json: ";  ///< what stands before a key in errors

  [[nodiscard]] Index width() const noexcept { return image_width.value_or(image_size); }
  [[nodiscard]] Index head_dim() const noexcept { return hidden_size / num_attention_heads; }
  /// The patches of a crop; what does not fill one at the right and lower edge is left out.
  [[nodiscard]] GridSize grid(PictureSize size) const noexcept { return {size.height / patch_size, size.width / patch_size}; }
  /// Of a crop of the size that the encoder was made for.
  [[nodiscard]] GridSize grid() const noexcept { return grid({image_size, width()}); }

  /// Throws Error{kInvalidArgument} unless the sizes are positive, possible and fit one another.
  void check() const {
    constexpr Index kLargestImage = Index{1} << 16;  // patches times kLargestWidth stay in 64 bits
    const auto require = [&](bool good, std::string_view key, Index value, std::string expected) {
      if (!good) throw Error(ErrorKind::kInvalidArgument, concat(where, key), std::to_string(value), expected);
    };
    const auto positive = [&](std::string_view key, Index value) {
      require(value > 0 && value <= kLargestWidth, key, value, concat("a positive number up to ", kLargestWidth));
    };
    for (const Index edge : {image_size, width()}) {
      require(edge > 0 && edge <= kLargestImage, "image_size", edge, concat("between 1 and ", kLargestImage));
    }
    require(patch_size > 0 && std::min(image_size, width()) >= patch_size, "patch_size", patch_size, "between 1 and image_size");
    positive("num_channels", num_channels);
    positive("hidden_size", hidden_size);
    positive("intermediate_size", intermediate_size);
    require(num_hidden_layers >= 0 && num_hidden_layers <= kLargestWidth, "num_hidden_layers", num_hidden_layers,
            concat("between 0 and ", kLargestWidth));
    require(num_register_tokens >= 0 && num_register_tokens <= kLargestWidth, "num_register_tokens", num_register_tokens,
            concat("between 0 and ", kLargestWidth));
    require(num_dummy_heads >= 0 && num_dummy_heads <= kLargestWidth, "num_dummy_heads", num_dummy_heads,
            concat("between 0 and ", kLargestWidth));
    require(num_attention_heads > 0 && hidden_size % num_attention_heads == 0, "num_attention_heads", num_attention_heads,
            concat("a divisor of hidden_size, ", hidden_size));
    for (const Index layer : feature_layers) {
      require(layer >= -num_hidden_layers - 1 && layer <= num_hidden_layers, "vision_feature_layer", layer,
              concat("between ", -num_hidden_layers - 1, " and ", num_hidden_layers));
    }
  }
};

/// Does the encoder put a learned class token before the patches?
struct ClassToken {
  static constexpr Index kRows = 1;
};
struct NoClassToken {
  static constexpr Index kRows = 0;
};

/// Are the registers told where they are, as the class token is?
enum class RegisterPositions : unsigned char { kNone, kLearned };

/// The policies that shape an encoder. Derive from it and name Norm and FeedForward.
struct VisionRecipeDefaults {
  using HeadNorm = NoNorm;
  using Scale = NoGate;                     ///< of each block's branches
  using Positions = LearnedPatchPositions;
  using StemNorm = NoNorm;    ///< before the first block (CLIP's pre_layrnorm)
  using OutputNorm = NoNorm;  ///< after the last block, on every row (ViT)
  using FirstRow = ClassToken;
  static constexpr HeadNormSpan kHeadNormSpan = HeadNormSpan::kHead;
  static constexpr Linear::Bias kPatchBias = Linear::Bias::kRequired;
  static constexpr RegisterPositions kRegisterPositions = RegisterPositions::kNone;
};

template <class R>
concept VisionRecipe = Norm<typename R::Norm> && Norm<typename R::HeadNorm> && Norm<typename R::StemNorm> &&
                       Norm<typename R::OutputNorm> && Gate<typename R::Scale> &&
                       PatchPositions<typename R::Positions> && requires {
                         typename R::FeedForward;
                         R::FirstRow::kRows;
                         R::kHeadNormSpan;
                         R::kPatchBias;
                         R::kRegisterPositions;
                       };

/// A vision transformer: patches, optional class token and registers, positions, a stack of encoder blocks. Crops may be of different
/// sizes; each is encoded as if it were alone.
///
/// Shapes   crops of [num_channels, height, width] → features [Σ rows of each, hidden_size]
/// Source   Dosovitskiy et al. 2021, 2010.11929; Radford et al. 2021, 2103.00020 (CLIP); Darcet et al. 2023, 2309.16588 (registers)
template <class Recipe>
class VisionTransformer {
  static_assert(VisionRecipe<Recipe>,
                "duet: this vision recipe lacks a policy. A recipe is a struct of types: Norm, FeedForward, and HeadNorm, Scale, "
                "Positions, StemNorm, OutputNorm, FirstRow, kHeadNormSpan, kPatchBias and kRegisterPositions, which VisionRecipeDefaults supplies.");

 public:
  VisionTransformer(VisionConfig config, const Weights& weights)
      : config_((config.check(), std::move(config))),
        patch_embedding_({config_.num_channels, config_.patch_size, config_.hidden_size, Recipe::kPatchBias}, weights),
        positions_({config_.hidden_size, config_.head_dim(), positioned_rows(), config_.grid()}, weights),
        stem_norm_(weights.scope("pre_layernorm"), config_.hidden_size, config_.layer_norm_eps),
        output_norm_(weights.scope("post_layernorm"), config_.hidden_size, config_.layer_norm_eps) {
    if (Recipe::FirstRow::kRows > 0) first_embeddings_ = weights.vector("class_embedding", config_.hidden_size);
    if (config_.num_register_tokens > 0) {
      const std::vector<float> registers = weights.vector("register_tokens", config_.num_register_tokens * config_.hidden_size);
      first_embeddings_.insert(first_embeddings_.end(), registers.begin(), registers.end());
    }
    AttentionConfig attention;
    attention.hidden_size = attention.key_value_size = config_.hidden_size;
    attention.num_attention_heads = attention.num_key_value_heads = config_.num_attention_heads + config_.num_dummy_heads;
    attention.head_dim = config_.head_dim();
    attention.scale = 1.0f / std::sqrt(static_cast<float>(attention.head_dim));
    attention.norm_eps = config_.layer_norm_eps;
    attention.head_norms = config_.head_norms;
    attention.head_norm_span = Recipe::kHeadNormSpan;
    attention.num_measured_heads = config_.num_attention_heads;
    attention.qkv_bias = config_.qkv_bias;
    attention.output_bias = config_.output_bias;
    const FeedForwardConfig feed_forward{config_.hidden_size, config_.intermediate_size, config_.hidden_act,
                                         "vision hidden_act", config_.mlp_bias};
    for (Index i = 0; i < config_.num_hidden_layers; ++i) {
      blocks_.emplace_back(attention, feed_forward, config_.layer_norm_eps, weights.scope("layers", i));
    }
  }

  [[nodiscard]] const VisionConfig& config() const noexcept { return config_; }
  /// Width of a feature row.
  [[nodiscard]] Index hidden_size() const noexcept {
    return config_.hidden_size * std::max<Index>(1, static_cast<Index>(config_.feature_layers.size()));
  }
  /// Of a crop of the size that the encoder was made for: its patches,
  [[nodiscard]] Index num_patches() const noexcept { return config_.grid().size(); }
  /// rows inside the encoder, class token and registers included,
  [[nodiscard]] Index rows_per_image() const noexcept { return num_patches() + first_rows(config_); }
  /// and rows that come out.
  [[nodiscard]] Index num_features() const noexcept { return num_patches() + kept_rows(config_); }
  /// The same of an encoder that need not exist.
  /// Errors  those of VisionConfig::check
  [[nodiscard]] static Index num_features(const VisionConfig& config) {
    config.check();
    return config.grid().size() + kept_rows(config);
  }

  /// Blocks that run: those above every wanted hidden state need not.
  [[nodiscard]] Index num_layers_run() const noexcept {
    if (config_.feature_layers.empty()) return config_.num_hidden_layers;
    Index last = 0;
    for (const Index layer : config_.feature_layers) last = std::max(last, resolved(layer));
    return last;
  }

  /// Encodes the crops. The rows live in the workspace until the caller's frame ends.
  /// Errors  kShapeMismatch for crops smaller than a patch or of other channels
  /// Cost    scratch for about kRowsAtOnce rows, or for the largest crop: the others follow, unless an observer looks
  template <class Observer = NoObserver>
  [[nodiscard]] Features encode(const VisualInput& input, Workspace& workspace, Observer&& observe = {}) const {
    Features features;
    const std::vector<RowGroup> groups = lay_out(input, features);
    features.rows = workspace.matrix(features.crops.empty() ? 0 : features.crops.back().begin + features.crops.back().count, hidden_size());
    for (std::size_t first = 0, end = 0; first < groups.size(); first = end) {
      const auto fits = [&](const RowGroup& group) {
        return std::decay_t<Observer>::kLooks || group.begin + group.count - groups[first].begin <= kRowsAtOnce;
      };
      for (end = first + 1; end < groups.size() && fits(groups[end]);) ++end;
      const auto frame = workspace.frame();
      run(input, std::span(groups).subspan(first, end - first), first, features, workspace, observe);
    }
    return features;
  }
  /// Calls visit(weight) for every matrix.
  template <class Visit>
  void for_each_weight(Visit&& visit) const {
    for (const auto& block : blocks_) block.for_each_weight(visit);
  }

  [[nodiscard]] VisionCost cost() const noexcept {
    const VisionConfig& c = config_;
    const auto rows = static_cast<double>(rows_per_image()), width = static_cast<double>(c.hidden_size);
    double weights = 0;
    for_each_weight([&](const WeightMatrix& w) { weights += static_cast<double>(w.in_features * w.out_features); });
    const double run = c.num_hidden_layers == 0 ? 0.0 : static_cast<double>(num_layers_run()) / static_cast<double>(c.num_hidden_layers);
    const auto heads = static_cast<double>((c.num_attention_heads + c.num_dummy_heads) * c.head_dim());
    const double patches = static_cast<double>(num_patches() * c.num_channels * c.patch_size * c.patch_size) * width;
    return {c.num_channels, {c.image_size, c.width()}, c.patch_size, c.hidden_size, c.num_hidden_layers, num_features(),
            run * rows * weights + 2.0 * static_cast<double>(num_layers_run()) * rows * rows * heads + patches};
  }

 private:
  static constexpr Index kRowsAtOnce = 2048;  // enough for matmuls at full speed, and few enough to stay in cache between layers

  /// Rows before the patches: class token and registers.
  [[nodiscard]] static Index first_rows(const VisionConfig& config) noexcept { return Recipe::FirstRow::kRows + config.num_register_tokens; }
  /// The first of them, which have positions.
  [[nodiscard]] Index positioned_rows() const noexcept {
    return Recipe::kRegisterPositions == RegisterPositions::kLearned ? first_rows(config_) : Recipe::FirstRow::kRows;
  }
  /// Rows before the patches that come out.
  [[nodiscard]] static Index kept_rows(const VisionConfig& config) noexcept {
    return config.feature_rows == FeatureRows::kPatches ? 0 : first_rows(config);
  }
  [[nodiscard]] Index resolved(Index layer) const noexcept {
    return layer < 0 ? config_.num_hidden_layers + 1 + layer : layer;
  }

  /// Which rows inside the encoder are which crop's, and which come out.
  [[nodiscard]] std::vector<RowGroup> lay_out(const VisualInput& input, Features& features) const {
    std::vector<RowGroup> groups;
    Index begin = 0, feature = 0;
    for (const VisualInput::Crop& crop : input.crops) {
      const GridSize grid = config_.grid(crop.size);
      if (input.num_channels != config_.num_channels || grid.size() == 0) {
        throw Error(ErrorKind::kShapeMismatch, "pixel_values",
                    shape_text(std::vector{input.num_channels, crop.size.height, crop.size.width}),
                    concat(shape_text(std::vector{config_.num_channels, config_.image_size, config_.width()}),
                           ", or another size of at least a patch"),
                    "does preprocessor_config.json belong to this checkpoint?");
      }
      const Index count = kept_rows(config_) + grid.size();
      groups.push_back({begin, first_rows(config_) + grid.size(), {}});
      features.crops.push_back({crop.picture, feature, count, grid.rows, grid.cols});
      begin += groups.back().count;
      feature += count;
    }
    return groups;
  }

  /// Encodes neighbouring crops, the first of which is crop `first`.
  template <class Observer>
  void run(const VisualInput& input, std::span<const RowGroup> some, std::size_t first, const Features& features, Workspace& workspace,
           Observer& observe) const {
    const std::vector<RowGroup> groups = moved_to_front(some, workspace);
    const auto crops = std::span(features.crops).subspan(first, groups.size());
    const Index rows = groups.empty() ? 0 : groups.back().begin + groups.back().count;
    const MatrixView hidden = workspace.matrix(rows, config_.hidden_size);
    const kernels::RotaryAngles angles{workspace.matrix(rows, positions_.num_pairs()), workspace.matrix(rows, positions_.num_pairs())};
    embed(input, groups, first, crops, hidden, angles, workspace);
    observe(Stage::kVisionEmbeds, 0, ConstMatrixView(hidden));
    if constexpr (!Recipe::StemNorm::kIdentity) stem_norm_.forward(hidden, hidden, workspace);
    take(hidden, 0, groups, crops, features.rows);
    const Index last = std::decay_t<Observer>::kLooks ? config_.num_hidden_layers : num_layers_run();  // who looks sees all
    for (Index i = 0; i < last; ++i) {
      blocks_[static_cast<std::size_t>(i)].forward(hidden, groups, angles, workspace);
      observe(Stage::kVisionLayer, i, ConstMatrixView(hidden));
      take(hidden, i + 1, groups, crops, features.rows);
    }
    if (last < config_.num_hidden_layers) return;
    if constexpr (!Recipe::OutputNorm::kIdentity) {
      if (config_.feature_layers.empty() || std::decay_t<Observer>::kLooks) output_norm_.forward(hidden, hidden, workspace);
    }
    observe(Stage::kVisionOut, 0, ConstMatrixView(hidden));
    if (config_.feature_layers.empty()) copy_rows(hidden, groups, crops, features.rows);
  }

  /// [class token, registers, patches] + positions, which are made once for every size.
  void embed(const VisualInput& input, std::span<const RowGroup> groups, std::size_t first, std::span<const Features::Crop> crops,
             MatrixView hidden, const kernels::RotaryAngles& angles, Workspace& workspace) const {
    std::vector<std::pair<GridSize, ConstMatrixView>> tables;
    for (std::size_t i = 0; i < groups.size(); ++i) {
      const GridSize grid{crops[i].grid_rows, crops[i].grid_cols};
      const MatrixView rows = hidden.rows(groups[i].begin, groups[i].count);
      const MatrixView patches = rows.rows(first_rows(config_), grid.size());
      const PictureSize size = input.crops[first + i].size;
      patch_embedding_.forward(input.crop(static_cast<Index>(first + i)), size.height, size.width, patches, workspace);
      std::ranges::copy(first_embeddings_, rows.data());
      auto known = std::ranges::find(tables, grid, [](const auto& entry) { return entry.first; });
      if (known == tables.end()) known = tables.insert(known, {grid, positions_.table(grid, workspace)});
      if (const ConstMatrixView table = known->second; !table.empty()) {
        const Index positioned = positioned_rows();
        kernels::add(table.rows(0, positioned), rows.rows(0, positioned), workspace);
        kernels::add(table.rows(positioned, grid.size()), patches, workspace);
      }
      if (positions_.num_pairs() > 0) {
        positions_.angles(grid, {angles.cos.rows(groups[i].begin, groups[i].count), angles.sin.rows(groups[i].begin, groups[i].count)});
      }
    }
  }

  /// The groups, the first of which begins with row 0; every row sees all of its own.
  [[nodiscard]] static std::vector<RowGroup> moved_to_front(std::span<const RowGroup> some, Workspace& workspace) {
    std::vector<RowGroup> groups(some.begin(), some.end());
    for (RowGroup& group : groups) {
      const auto visible = workspace.array<kernels::KeyRange>(group.count);
      std::ranges::fill(visible, kernels::KeyRange{0, group.count});
      group.begin -= some.front().begin;
      group.visible = visible;
    }
    return groups;
  }

  /// Copies hidden state `index` to its place among the features, if it is wanted.
  void take(ConstMatrixView hidden, Index index, std::span<const RowGroup> groups, std::span<const Features::Crop> crops, MatrixView out) const {
    for (std::size_t k = 0; k < config_.feature_layers.size(); ++k) {
      if (resolved(config_.feature_layers[k]) != index) continue;
      copy_rows(hidden, groups, crops, out.cols(static_cast<Index>(k) * config_.hidden_size, config_.hidden_size));
    }
  }
  static void copy_rows(ConstMatrixView hidden, std::span<const RowGroup> groups, std::span<const Features::Crop> crops, MatrixView out) {
    for (std::size_t i = 0; i < groups.size(); ++i) {
      copy(hidden.rows(groups[i].begin + groups[i].count - crops[i].count, crops[i].count), out.rows(crops[i].begin, crops[i].count));
    }
  }

  VisionConfig config_;
  PatchEmbedding patch_embedding_;
  typename Recipe::Positions positions_;
  std::vector<float> first_embeddings_;  // [class token and registers, hidden_size]
  typename Recipe::StemNorm stem_norm_;
  std::vector<EncoderBlock<Recipe>> blocks_;
  typename Recipe::OutputNorm output_norm_;
};

}  // namespace duet
