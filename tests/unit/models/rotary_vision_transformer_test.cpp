#include "duet/models/rotary_vision_transformer.hpp"

#include <gmock/gmock.h>

#include <map>

#include "support/kernel_machine.hpp"
#include "support/reference.hpp"
#include "support/reference_layers.hpp"

namespace duet::testing {
namespace models_rotary_vision_transformer {

using kernels::KeyRange;
using reference::Bounded;
using reference::Layers;
using reference::Rows;
using reference::rows_of;

struct Recipe : RotaryVisionRecipeDefaults {
  using Norm = LayerNorm;
  using FeedForward = duet::FeedForward<kernels::Gelu>;
  static constexpr GridFrequencies kFrequencies = GridFrequencies::kShared;
};
struct StemRecipe : Recipe {
  using StemNorm = RmsNorm;
};

RotaryVisionConfig tiny() {
  RotaryVisionConfig config;
  config.image_size = 16;
  config.patch_size = 4;
  config.temporal_patch_size = 2;
  config.spatial_merge_size = 2;
  config.hidden_size = 16;
  config.intermediate_size = 24;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 2;
  config.rope_theta = 50.0f;
  config.hidden_act = "gelu";
  return config;
}

VisualInput pictures(std::initializer_list<PictureSize> sizes, int seed = 1) {
  VisualInput input;
  for (const PictureSize size : sizes) {
    const Matrix values = reference::tiny_rows(3, size.height * size.width, seed++);
    std::copy_n(values.view().data(), 3 * size.height * size.width, input.add_whole(size).begin());
  }
  return input;
}

struct Seen {
  static constexpr bool kLooks = true;
  std::map<std::pair<Stage, Index>, Matrix> stages;
  void operator()(Stage stage, Index index, ConstMatrixView rows) { stages[{stage, index}] = Matrix::clone(rows); }
};

template <class R = Recipe>
Matrix encoded(const RotaryVisionConfig& config, const TinyWeights& weights, const VisualInput& input, Seen* seen = nullptr) {
  const RotaryVisionTransformer<R> model(config, Weights(weights));
  Machine machine;
  const Features features = seen == nullptr ? model.encode(input, machine.workspace) : model.encode(input, machine.workspace, *seen);
  EXPECT_EQ(features.rows.cols(), model.hidden_size());
  return Matrix::clone(features.rows);
}

/// Both halves of each head's pairs turned by the patch's row and column.
Rows turned(Rows x, std::span<const kernels::PatchPlace> places, float theta) {
  for (std::size_t i = 0; i < x.size(); ++i) {
    for (std::size_t head = 0; head < x[i].size(); head += 8) {
      for (std::size_t pair = 0; pair < 4; ++pair) {
        const auto at = static_cast<float>(pair < 2 ? places[i].row : places[i].col);
        const auto angle = static_cast<double>(at * (1.0f / std::pow(theta, static_cast<float>(4 * (pair % 2)) / 8.0f)));
        Bounded &first = x[i][head + pair], &second = x[i][head + pair + 4];
        const double c = std::cos(angle), s = std::sin(angle), a = first.value, b = second.value;
        const double error = first.error + second.error + 4.0 * reference::kUnit * (std::abs(a) + std::abs(b));
        first = {a * c - b * s, error};
        second = {b * c + a * s, error};
      }
    }
  }
  return x;
}

/// One picture through the encoder, written down naively: patches row by row, and in layers with windows every patch asks those
/// of its own window, `edge` patches wide.
Rows naive(const TinyWeights& weights, const RotaryVisionConfig& config, const VisualInput& input, Index edge) {
  const PictureSize size = input.crops[0].size;
  const Index rows = size.height / 4, cols = size.width / 4;
  Matrix patches(rows * cols, 3 * 2 * 16);
  kernels::patchify(input.crop(0), 3, size.height, size.width, {.patch_size = 4, .frames = 2}, patches);
  const Layers model(weights);
  Rows x = model.linear("patch_embedding", rows_of(patches));
  for (Index layer = 0; layer < config.num_hidden_layers; ++layer) {
    const Layers l = model.scope("layers." + std::to_string(layer));
    const Rows normed = l.layer_norm("input_layernorm", x, config.norm_eps);
    std::map<std::pair<Index, Index>, std::vector<std::size_t>> groups;
    for (std::size_t k = 0; k < x.size(); ++k) {
      const Index width = config.sees_all(layer) ? 1000 : edge;
      groups[{static_cast<Index>(k) / cols / width, static_cast<Index>(k) % cols / width}].push_back(k);
    }
    Rows attended = x;
    for (const auto& [window, members] : groups) {
      Rows own;
      std::vector<kernels::PatchPlace> places;
      for (const std::size_t k : members) {
        own.push_back(normed[k]);
        places.push_back({static_cast<Index>(k) / cols, static_cast<Index>(k) % cols});
      }
      const std::vector<KeyRange> visible(own.size(), KeyRange{0, static_cast<Index>(own.size())});
      const Rows out = l.scope("self_attn").attention(own, own, visible, {2, 2, 8, 1.0f / std::sqrt(8.0f), 0.0f},
                                                      [&](const char*, const Rows& heads) { return turned(heads, places, config.rope_theta); });
      for (std::size_t i = 0; i < members.size(); ++i) attended[members[i]] = out[i];
    }
    x = reference::sum(x, attended);
    x = reference::sum(x, l.scope("mlp").feed_forward(l.layer_norm("post_attention_layernorm", x, config.norm_eps), reference::gelu));
  }
  return x;
}

/// Rows row by row in the order of the features: cell by cell.
Rows in_cells(const Rows& x, Index cols) {
  Rows result;
  for (std::size_t k = 0; k < x.size(); ++k) {
    const auto place = kernels::place_of_patch(static_cast<Index>(k), cols, 2);
    result.push_back(x[static_cast<std::size_t>(place.row * cols + place.col)]);
  }
  return result;
}

TEST(RotaryVisionTransformer, AgreesWithTheReferenceForAnySize) {
  for (const PictureSize size : {PictureSize{8, 8}, PictureSize{16, 24}, PictureSize{32, 8}}) {
    const TinyWeights weights;
    const VisualInput input = pictures({size});
    const Matrix got = encoded(tiny(), weights, input);
    reference::expect_within(got, in_cells(naive(weights, tiny(), input, 0), size.width / 4));
  }
}

TEST(RotaryVisionTransformer, InWindowsPatchesSeeTheirWindowAlone) {
  for (const std::vector<Index>& full : {std::vector<Index>{}, {0}, {1}}) {
    for (const PictureSize size : {PictureSize{24, 40}, PictureSize{16, 24}, PictureSize{8, 8}}) {  // windows cut off at the edges
      RotaryVisionConfig config = tiny();
      config.window_size = 16;  // two cells
      config.fullatt_block_indexes = full;
      const TinyWeights weights;
      const VisualInput input = pictures({size});
      const Matrix got = encoded(config, weights, input);
      reference::expect_within(got, in_cells(naive(weights, config, input, 4), size.width / 4));
    }
  }
}

TEST(RotaryVisionTransformer, CropsDoNotSeeOneAnother) {
  RotaryVisionConfig config = tiny();
  config.window_size = 16;
  config.fullatt_block_indexes = {1};
  const TinyWeights weights;
  const PictureSize first{24, 16}, second{8, 40};
  const Matrix both = encoded(config, weights, pictures({first, second}));
  EXPECT_TRUE(test::same_bits(both.view().rows(0, 24), encoded(config, weights, pictures({first}))));
  EXPECT_TRUE(test::same_bits(both.view().rows(24, 20), encoded(config, weights, pictures({second}, 2))));
}

TEST(RotaryVisionTransformer, GivesTheHiddenStatesThatTheConfigNames) {
  RotaryVisionConfig config = tiny();
  const TinyWeights weights;
  Seen seen;
  const VisualInput input = pictures({{16, 8}, {8, 8}});
  const Matrix last = encoded<StemRecipe>(config, weights, input, &seen);
  EXPECT_TRUE(test::same_bits(last, seen.stages.at({Stage::kVisionLayer, 1})));
  config.feature_layers = {0, -2};
  EXPECT_EQ((RotaryVisionTransformer<StemRecipe>(config, Weights(weights)).num_layers_run()), 1);
  const Matrix got = encoded<StemRecipe>(config, weights, input);
  EXPECT_TRUE(test::same_bits(got.view().cols(0, 16), seen.stages.at({Stage::kVisionEmbeds, 0})));
  EXPECT_TRUE(test::same_bits(got.view().cols(16, 16), seen.stages.at({Stage::kVisionLayer, 0})));
}

TEST(RotaryVisionTransformer, PicturesAreWholeCellsWithinTheGrid) {
  const auto complaint_about = [](PictureSize size) -> std::string {
    RotaryVisionConfig config = tiny();
    config.max_grid = 6;
    try {
      encoded(config, TinyWeights(), pictures({size}));
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_EQ(complaint_about({24, 8}), "");
  EXPECT_THAT(complaint_about({20, 8}), ::testing::HasSubstr("got [3, 20, 8], expected [3, height, width], multiples of 8"));
  EXPECT_THAT(complaint_about({8, 4}), ::testing::HasSubstr("multiples of 8"));
  EXPECT_THAT(complaint_about({8, 32}), ::testing::HasSubstr("multiples of 8 up to 24"));
}

TEST(RotaryVisionConfig, SizesMustFitOneAnother) {
  const auto rejects = [](auto&& change, const char* key) {
    RotaryVisionConfig config = tiny();
    change(config);
    try {
      config.check();
      ADD_FAILURE() << key;
    } catch (const Error& e) {
      EXPECT_THAT(e.where(), ::testing::HasSubstr(key));
    }
  };
  tiny().check();
  rejects([](RotaryVisionConfig& c) { c.patch_size = 0; }, "patch_size");
  rejects([](RotaryVisionConfig& c) { c.spatial_merge_size = 0; }, "spatial_merge_size");
  rejects([](RotaryVisionConfig& c) { c.temporal_patch_size = Index{1} << 40; }, "temporal_patch_size");
  rejects([](RotaryVisionConfig& c) { c.num_attention_heads = 3; }, "num_attention_heads");
  rejects([](RotaryVisionConfig& c) { c.window_size = 7; }, "window_size");
  rejects([](RotaryVisionConfig& c) { c.window_size = -8; }, "window_size");
  rejects([](RotaryVisionConfig& c) { c.feature_layers = {3}; }, "vision_feature_layer");
  rejects([](RotaryVisionConfig& c) { c.image_size = 4; }, "image_size");
}

}  // namespace models_rotary_vision_transformer
}  // namespace duet::testing
