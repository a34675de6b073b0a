#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "duet/blocks/encoder_block.hpp"
#include "duet/layers/patch_embedding.hpp"
#include "duet/models/stages.hpp"
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
  float layer_norm_eps = 1e-5f;
  std::string hidden_act;
  Linear::Bias qkv_bias = Linear::Bias::kRequired;
  /// Hidden states to concatenate, as the reference numbers them: 0 is the first block's input, k block k's output, and
  /// negative ones count from the end. Empty: the last hidden state, through the output norm if the recipe has one.
  std::vector<Index> feature_layers;
  FeatureRows feature_rows = FeatureRows::kAll;
  std::string where = "config.json: ";  ///< what stands before a key in errors

  [[nodiscard]] Index width() const noexcept { return image_width.value_or(image_size); }
  /// The grid of patches.
  [[nodiscard]] Index grid_rows() const noexcept { return image_size / patch_size; }
  [[nodiscard]] Index grid_cols() const noexcept { return width() / patch_size; }

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

/// The policies that shape an encoder. Derive from it and name Norm and FeedForward.
struct VisionRecipeDefaults {
  using HeadNorm = NoNorm;
  using StemNorm = NoNorm;    ///< before the first block (CLIP's pre_layrnorm)
  using OutputNorm = NoNorm;  ///< after the last block, on every row (ViT)
  using FirstRow = ClassToken;
  static constexpr Linear::Bias kPatchBias = Linear::Bias::kRequired;
};

template <class R>
concept VisionRecipe = Norm<typename R::Norm> && Norm<typename R::HeadNorm> && Norm<typename R::StemNorm> &&
                       Norm<typename R::OutputNorm> && requires {
                         typename R::FeedForward;
                         R::FirstRow::kRows;
                         R::kPatchBias;
                       };

/// A vision transformer: patches, optional class token, learned positions, a stack of encoder blocks.
///
/// Shapes   crops of [num_channels, image_size, width] → features [crops * rows, hidden_size]
/// Source   Dosovitskiy et al. 2021, 2010.11929; Radford et al. 2021, 2103.00020 (CLIP)
template <class Recipe>
class VisionTransformer {
  static_assert(VisionRecipe<Recipe>,
                "duet: this vision recipe lacks a policy. A recipe is a struct of types: Norm, FeedForward, and HeadNorm, "
                "StemNorm, OutputNorm, FirstRow and kPatchBias, which VisionRecipeDefaults supplies.");

 public:
  VisionTransformer(VisionConfig config, const Weights& weights)
      : config_((config.check(), std::move(config))),
        patch_embedding_({config_.num_channels, config_.patch_size, config_.hidden_size, Recipe::kPatchBias}, weights),
        position_embedding_(weights.vector("position_embedding", (rows_per_image() * config_.hidden_size))),
        stem_norm_(weights.scope("pre_layernorm"), config_.hidden_size, config_.layer_norm_eps),
        output_norm_(weights.scope("post_layernorm"), config_.hidden_size, config_.layer_norm_eps) {
    if (Recipe::FirstRow::kRows > 0) class_embedding_ = weights.vector("class_embedding", config_.hidden_size);
    AttentionConfig attention;
    attention.hidden_size = attention.key_value_size = config_.hidden_size;
    attention.num_attention_heads = attention.num_key_value_heads = config_.num_attention_heads;
    attention.head_dim = config_.hidden_size / config_.num_attention_heads;
    attention.scale = 1.0f / std::sqrt(static_cast<float>(attention.head_dim));
    attention.qkv_bias = config_.qkv_bias;
    attention.output_bias = Linear::Bias::kRequired;
    const FeedForwardConfig feed_forward{config_.hidden_size, config_.intermediate_size, config_.hidden_act,
                                         "vision hidden_act", Linear::Bias::kRequired};
    for (Index i = 0; i < config_.num_hidden_layers; ++i) {
      blocks_.emplace_back(attention, feed_forward, config_.layer_norm_eps, weights.scope("layers", i));
    }
  }

  [[nodiscard]] const VisionConfig& config() const noexcept { return config_; }
  /// Width of a feature row.
  [[nodiscard]] Index hidden_size() const noexcept {
    return config_.hidden_size * std::max<Index>(1, static_cast<Index>(config_.feature_layers.size()));
  }
  [[nodiscard]] Index num_patches() const noexcept { return config_.grid_rows() * config_.grid_cols(); }
  /// Rows inside the encoder, class token included.
  [[nodiscard]] Index rows_per_image() const noexcept { return num_patches() + Recipe::FirstRow::kRows; }
  /// Rows that come out for each crop.
  [[nodiscard]] Index num_features() const noexcept { return num_features(config_); }
  /// The same of an encoder that need not exist.
  [[nodiscard]] static Index num_features(const VisionConfig& config) noexcept {
    const bool dropped = config.feature_rows == FeatureRows::kPatches;
    return config.grid_rows() * config.grid_cols() + (dropped ? 0 : Recipe::FirstRow::kRows);
  }

  /// Blocks that run: those above every wanted hidden state need not.
  [[nodiscard]] Index num_layers_run() const noexcept {
    if (config_.feature_layers.empty()) return config_.num_hidden_layers;
    Index last = 0;
    for (const Index layer : config_.feature_layers) last = std::max(last, resolved(layer));
    return last;
  }

  /// Encodes the crops. The rows live in the workspace until the caller's frame ends.
  /// Errors  kShapeMismatch when the pixels are not of the size the encoder was built for
  template <class Observer = NoObserver>
  [[nodiscard]] Features encode(const VisualInput& input, Workspace& workspace, Observer&& observe = {}) const {
    check(input);
    const MatrixView out = workspace.matrix(input.num_crops() * num_features(), hidden_size());
    const auto frame = workspace.frame();
    const MatrixView hidden = embed(input, workspace);
    observe(Stage::kVisionEmbeds, 0, ConstMatrixView(hidden));
    if constexpr (!Recipe::StemNorm::kIdentity) stem_norm_.forward(hidden, hidden, workspace);
    const Index rows = rows_per_image();
    const auto visible = workspace.array<kernels::KeyRange>(rows);
    std::ranges::fill(visible, kernels::KeyRange{0, rows});
    take(hidden, 0, input.num_crops(), out);
    const Index last = std::remove_reference_t<Observer>::kLooks ? config_.num_hidden_layers : num_layers_run();
    for (Index i = 0; i < last; ++i) {
      blocks_[static_cast<std::size_t>(i)].forward(hidden, rows, visible, {}, workspace);
      observe(Stage::kVisionLayer, i, ConstMatrixView(hidden));
      take(hidden, i + 1, input.num_crops(), out);
    }
    if constexpr (!Recipe::OutputNorm::kIdentity) output_norm_.forward(hidden, hidden, workspace);
    observe(Stage::kVisionOut, 0, ConstMatrixView(hidden));
    if (config_.feature_layers.empty()) copy_rows(hidden, input.num_crops(), out);
    Features features{out, {}};
    for (const VisualInput::Crop& crop : input.crops) {
      const auto begin = static_cast<Index>(features.crops.size()) * num_features();
      features.crops.push_back({crop.picture, begin, num_features(), config_.grid_rows(), config_.grid_cols()});
    }
    return features;
  }

 private:
  [[nodiscard]] Index dropped_rows() const noexcept {
    return config_.feature_rows == FeatureRows::kPatches ? Recipe::FirstRow::kRows : 0;
  }
  [[nodiscard]] Index resolved(Index layer) const noexcept {
    return layer < 0 ? config_.num_hidden_layers + 1 + layer : layer;
  }

  void check(const VisualInput& input) const {
    for (const VisualInput::Crop& crop : input.crops) {
      if (input.num_channels == config_.num_channels && crop.size == PictureSize{config_.image_size, config_.width()}) continue;
      throw Error(ErrorKind::kShapeMismatch, "pixel_values",
                  shape_text(std::vector{input.num_channels, crop.size.height, crop.size.width}),
                  shape_text(std::vector{config_.num_channels, config_.image_size, config_.width()}),
                  "does preprocessor_config.json belong to this checkpoint?");
    }
  }

  /// [class token, patches] + positions.
  [[nodiscard]] MatrixView embed(const VisualInput& input, Workspace& workspace) const {
    const Index rows = rows_per_image();
    const MatrixView hidden = workspace.matrix(input.num_crops() * rows, config_.hidden_size);
    for (Index i = 0; i < input.num_crops(); ++i) {
      const MatrixView image = hidden.rows(i * rows, rows);
      patch_embedding_.forward(input.crop(i), config_.image_size, config_.width(),
                               image.rows(Recipe::FirstRow::kRows, num_patches()), workspace);
      std::ranges::copy(class_embedding_, image.data());
      for (Index j = 0; j < rows * config_.hidden_size; ++j) {
        image.data()[j] += position_embedding_[static_cast<std::size_t>(j)];
      }
    }
    return hidden;
  }

  /// Copies hidden state `index` to its place among the features, if it is wanted.
  void take(ConstMatrixView hidden, Index index, Index num_crops, MatrixView out) const {
    for (std::size_t k = 0; k < config_.feature_layers.size(); ++k) {
      if (resolved(config_.feature_layers[k]) != index) continue;
      copy_rows(hidden, num_crops, out.cols(static_cast<Index>(k) * config_.hidden_size, config_.hidden_size));
    }
  }
  void copy_rows(ConstMatrixView hidden, Index num_crops, MatrixView out) const {
    for (Index i = 0; i < num_crops; ++i) {
      copy(hidden.rows(i * rows_per_image() + dropped_rows(), num_features()), out.rows(i * num_features(), num_features()));
    }
  }

  VisionConfig config_;
  PatchEmbedding patch_embedding_;
  std::vector<float> position_embedding_;  // [rows_per_image, hidden_size]
  std::vector<float> class_embedding_;     // [hidden_size] or empty
  typename Recipe::StemNorm stem_norm_;
  std::vector<EncoderBlock<Recipe>> blocks_;
  typename Recipe::OutputNorm output_norm_;
};

}  // namespace duet
