#include "duet/models/mllama_vision.hpp"

#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "support/kernel_machine.hpp"
#include "support/reference.hpp"
#include "support/reference_layers.hpp"

namespace duet::testing {
namespace models_mllama_vision {

using kernels::KeyRange;
using reference::Bounded;
using reference::Layers;
using reference::Row;
using reference::Rows;

constexpr Index kTiles = 3, kRows = 5, kPadded = 8, kWidth = 12;  // a tile's rows, with padding

MllamaVisionConfig small_config() {
  MllamaVisionConfig config;
  config.image_size = 8;
  config.patch_size = 4;
  config.hidden_size = kWidth;
  config.intermediate_size = 20;
  config.num_hidden_layers = 2;
  config.num_global_layers = 1;
  config.attention_heads = 2;
  config.max_num_tiles = kTiles;
  config.intermediate_layers_indices = {1, 0};
  config.supported_aspect_ratios = {{1, 1}, {1, 2}, {1, 3}, {2, 1}, {3, 1}};
  return config;
}

/// Pictures on canvases of these grids.
VisualInput pictures(std::initializer_list<std::array<Index, 2>> grids) {
  VisualInput input;
  int seed = 1;
  for (const auto& [rows, cols] : grids) {
    input.add_picture({.original = {}, .resized = {}, .num_crops = rows * cols, .tile_rows = rows, .tile_cols = cols});
    for (Index t = 0; t < kTiles; ++t) {
      const std::span<float> pixels = input.add_crop({8, 8});
      if (t < std::max<Index>(1, rows * cols)) {
        const Matrix tile = reference::tiny_rows(1, 3 * 64, ++seed);
        std::ranges::copy(tile.view().row(0), pixels.begin());
      }
    }
  }
  return input;
}

/// The encoder as the reference's formulas have it: tiles padded where they are, and a mask between all pairs of rows.
class Naive {
 public:
  Naive(const MllamaVisionConfig& config, const TinyWeights& weights) : config_(config), weights_(weights), layers_(weights) {}

  /// Features of one picture whose canvas has this id, `used` of its tiles used.
  Rows features(const VisualInput& input, Index picture, Index canvas, Index used) {
    Rows x;
    for (Index t = 0; t < kTiles; ++t) {
      Rows tile = patches(input.crop(picture * kTiles + t));
      for (Row& row : tile) add(row, vector("pre_tile.weight", canvas * kTiles + t), gate("pre_tile_gate"));
      tile.insert(tile.begin(), vector("class_embedding", 0));
      for (Index i = 0; i < kRows; ++i) {
        add(tile[static_cast<std::size_t>(i)], vector("position_embedding", i), 1.0 - gate("position_gate"));
        add(tile[static_cast<std::size_t>(i)], vector("canvas_positions.weight", (canvas * kTiles + t) * kRows + i), gate("position_gate"));
      }
      for (Row& row : layers_.layer_norm("pre_layernorm", tile, 1e-5f)) x.push_back(row);
      x.resize(static_cast<std::size_t>((t + 1) * kPadded), Row(kWidth));
    }
    std::vector<Rows> states;
    for (Index i = 0; i < config_.num_hidden_layers; ++i) {
      states.push_back(x);
      block(layers_.scope("local").scope(std::to_string(i)), x, used, 1.0, 1.0);
    }
    if (config_.intermediate_states == IntermediateStates::kOutputs) {
      states.erase(states.begin());
      states.push_back(x);
    }
    x = layers_.layer_norm("post_layernorm", x, 1e-5f);
    for (Index t = 0; t < kTiles; ++t) {
      for (Index i = 0; i < kPadded; ++i) add(x[static_cast<std::size_t>(t * kPadded + i)], vector("post_tile.weight", canvas * kTiles + t), gate("post_tile_gate"));
    }
    block(layers_.scope("global").scope("0"), x, used, gate("global.0.attention_scale"), gate("global.0.feed_forward_scale"));
    Rows result;
    for (std::size_t i = 0; i < x.size(); ++i) {
      if (i % kPadded >= kRows) continue;
      Row row = x[i];
      for (std::size_t c = 0; c < kWidth; ++c) {
        for (const Index state : config_.intermediate_layers_indices) row.push_back(states[static_cast<std::size_t>(state)][i][c]);
      }
      result.push_back(std::move(row));
    }
    return result;
  }

 private:
  [[nodiscard]] double gate(const std::string& name) const { return std::tanh(static_cast<double>(weights_.at(name)[0])); }
  [[nodiscard]] Row vector(const std::string& name, Index index) const {
    Row row;
    for (Index c = 0; c < kWidth; ++c) row.push_back({static_cast<double>(weights_.at(name)[static_cast<std::size_t>(index * kWidth + c)]), 0.0});
    return row;
  }
  static void add(Row& row, const Row& other, double factor) { row = reference::sum({row}, {other}, factor).front(); }
  [[nodiscard]] Rows patches(std::span<const float> pixels) const {
    Matrix flat(4, 48);
    kernels::patchify(pixels, 3, 8, 8, 4, flat);
    return reference::linear(reference::rows_of(flat), weights_.at("patch_embedding.weight"));
  }
  /// A pair of rows is masked when both are padding: a tile's, or of an unused tile.
  void block(const Layers& layer, Rows& x, Index used, double attention_gate, double feed_forward_gate) const {
    const auto is_padding = [used](std::size_t i) { return static_cast<Index>(i) / kPadded >= used || i % kPadded >= kRows; };
    const Rows seen = layer.layer_norm("input_layernorm", x, 1e-5f);
    const kernels::AttentionShape shape{2, 2, kWidth / 2, 1.0f / std::sqrt(6.0f), 0.0f};
    Rows real;
    for (std::size_t i = 0; i < seen.size(); ++i) {
      if (!is_padding(i)) real.push_back(seen[i]);
    }
    const auto attend = [&](const Rows& to) {
      return layer.scope("self_attn").attention(seen, to, std::vector<KeyRange>(seen.size(), KeyRange{0, static_cast<Index>(to.size())}), shape);
    };
    Rows branch = attend(seen);
    const Rows of_padding = attend(real);
    for (std::size_t i = 0; i < seen.size(); ++i) {
      if (is_padding(i)) branch[i] = of_padding[i];
    }
    x = reference::sum(x, branch, attention_gate);
    x = reference::sum(x, layer.scope("mlp").feed_forward(layer.layer_norm("post_attention_layernorm", x, 1e-5f), reference::gelu), feed_forward_gate);
  }

  MllamaVisionConfig config_;
  TinyWeights weights_;
  Layers layers_;
};

void expect_as_the_reference(IntermediateStates states) {
  const TinyWeights weights;
  MllamaVisionConfig config = small_config();
  config.intermediate_states = states;
  const MllamaVision vision(config, Weights(weights));
  const VisualInput input = pictures({{1, 2}, {3, 1}, {1, 1}, {0, 0}});  // the last is padding of a batch
  Machine machine(2);
  const Features got = vision.encode(input, machine.workspace);
  ASSERT_EQ(got.rows.rows(), 4 * kTiles * kRows);
  ASSERT_EQ(got.crops.size(), 12u);
  Naive naive(config, weights);
  const Index canvases[] = {2, 5, 1, 0}, used[] = {2, 3, 1, 1};
  for (Index i = 0; i < 4; ++i) {
    reference::expect_within(got.rows.rows(i * kTiles * kRows, kTiles * kRows), naive.features(input, i, canvases[i], used[i]),
                             "picture " + std::to_string(i));
  }
}

TEST(MllamaVision, AgreesWithTheReferenceWhateverTilesAreUsed) { expect_as_the_reference(IntermediateStates::kInputs); }
TEST(MllamaVision, IntermediateStatesMayBeThoseThatBlocksMake) { expect_as_the_reference(IntermediateStates::kOutputs); }

TEST(MllamaVision, APictureIsEncodedAsIfItWereAlone) {
  const TinyWeights weights;
  const MllamaVision vision(small_config(), Weights(weights));
  Machine machine;
  const VisualInput input = pictures({{1, 2}, {3, 1}});
  const Features both = vision.encode(input, machine.workspace), alone = vision.encode(input.part(1, 1), machine.workspace);
  EXPECT_TRUE(test::same_bits(both.rows.rows(kTiles * kRows, kTiles * kRows), alone.rows));
}

/// Shows the padded rows of every block where the reference has them.
struct Padded {
  static constexpr bool kLooks = true;
  std::map<Index, Index>* seen;
  void operator()(Stage stage, Index index, ConstMatrixView rows) const {
    if (stage == Stage::kVisionLayer) (*seen)[index] = rows.rows();
  }
};
TEST(MllamaVision, ShowsBothStacks) {
  const TinyWeights weights;
  const MllamaVision vision(small_config(), Weights(weights));
  Machine machine;
  std::map<Index, Index> seen;
  static_cast<void>(vision.encode(pictures({{2, 1}}), machine.workspace, Padded{&seen}));
  EXPECT_EQ(seen, (std::map<Index, Index>{{0, kTiles * kPadded}, {1, kTiles * kPadded}, {2, kTiles * kPadded}}));
}

TEST(MllamaVision, WrongInputIsAnError) {
  const TinyWeights weights;
  const MllamaVision vision(small_config(), Weights(weights));
  Machine machine;
  EXPECT_THROW(static_cast<void>(vision.encode(pictures({{2, 2}}), machine.workspace)), Error) << "no such canvas";
  VisualInput few = pictures({{1, 1}});
  few.crops.pop_back();
  EXPECT_THROW(static_cast<void>(vision.encode(few, machine.workspace)), Error);
  MllamaVisionConfig config = small_config();
  config.intermediate_layers_indices = {3};
  EXPECT_THROW(MllamaVision(config, Weights(weights)), Error);
}

}  // namespace models_mllama_vision
}  // namespace duet::testing
