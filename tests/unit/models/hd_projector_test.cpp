#include "duet/models/hd_projector.hpp"

#include <gmock/gmock.h>

#include "support/kernel_machine.hpp"
#include "support/reference.hpp"
#include "support/reference_layers.hpp"

namespace duet::testing {
namespace models_hd_projector {

using reference::Layers;
using reference::Rows;
using reference::rows_of;

constexpr Index kWidth = 3;
const ProjectorConfig kSizes{.input_size = kWidth, .output_size = 5};

/// Crops of 4 x 4 patches.
Features features_of(MatrixView rows, const VisualInput& input) {
  Features features{rows, {}};
  Index begin = 0;
  for (std::size_t i = 0; i < input.pictures.size(); ++i) {
    for (Index k = 0; k < input.pictures[i].num_crops; ++k, begin += 16) features.crops.push_back({static_cast<Index>(i), begin, 16, 4, 4});
  }
  return features;
}
/// Pictures of 1 x 1 and 2 x 3 tiles.
VisualInput two_pictures() {
  VisualInput input;
  input.add_picture({.original = {}, .resized = {}, .num_crops = 2, .tile_rows = 1, .tile_cols = 1});
  input.add_picture({.original = {}, .resized = {}, .num_crops = 7, .tile_rows = 2, .tile_cols = 3});
  return input;
}

/// A learned row as the projector reads it, or the merged row of patches (2 y, 2 x) … of a grid of tiles whose first crop is given.
std::vector<float> merged(ConstMatrixView rows, Index first_crop, Index tile_cols, Index y, Index x) {
  std::vector<float> row;
  for (const auto& [dy, dx] : {std::pair<Index, Index>{0, 0}, {0, 1}, {1, 0}, {1, 1}}) {
    const Index py = 2 * y + dy, px = 2 * x + dx, crop = first_crop + py / 4 * tile_cols + px / 4;
    const auto values = rows.row(crop * 16 + py % 4 * 4 + px % 4);
    row.insert(row.end(), values.begin(), values.end());
  }
  return row;
}

TEST(HdProjector, PacksTilesAndWholeWithSeparators) {
  for (const HdOrder order : {HdOrder::kTilesFirst, HdOrder::kWholeFirst}) {
    const TinyWeights weights;
    const HdProjector projector(kSizes, order, Weights(weights));
    EXPECT_EQ(projector.input_size(), kWidth);
    EXPECT_EQ(projector.output_size(), 5);
    const VisualInput input = two_pictures();
    Matrix rows = reference::tiny_rows(9 * 16, kWidth);
    Machine machine;
    const ImageRows got = projector.project(features_of(rows, input), input, machine.workspace);

    std::vector<std::vector<float>> packed;
    const auto add_grid = [&](Index first, Index tile_rows, Index tile_cols) {
      for (Index y = 0; y < 2 * tile_rows; ++y) {
        for (Index x = 0; x < 2 * tile_cols; ++x) packed.push_back(merged(rows.view(), first, tile_cols, y, x));
        packed.push_back(weights.at("sub_GN"));
      }
    };
    Index whole = 0;
    std::vector<std::size_t> ends;
    for (const PicturePlan& plan : input.pictures) {
      if (order == HdOrder::kWholeFirst) add_grid(whole, 1, 1);
      if (order == HdOrder::kTilesFirst) add_grid(whole + 1, plan.tile_rows, plan.tile_cols);
      packed.push_back(weights.at("glb_GN"));
      if (order == HdOrder::kTilesFirst) add_grid(whole, 1, 1);
      if (order == HdOrder::kWholeFirst) add_grid(whole + 1, plan.tile_rows, plan.tile_cols);
      whole += plan.num_crops;
      ends.push_back(packed.size());
    }
    Matrix expected(static_cast<Index>(packed.size()), 4 * kWidth);
    for (std::size_t i = 0; i < packed.size(); ++i) std::ranges::copy(packed[i], expected.view().row(static_cast<Index>(i)).begin());
    const Layers layers(weights);
    reference::expect_within(got.rows, layers.linear("linear_2", reference::map(layers.linear("linear_1", rows_of(expected)), reference::gelu)));
    ASSERT_EQ(got.spans.size(), 2u);
    EXPECT_EQ(got.spans[0].count, static_cast<Index>(ends[0]));
    EXPECT_EQ(got.spans[0].count, 2 * 4 + 1 + 2 * 2);  // (tiles + 1) · patches / 4 + 1 + lines
    EXPECT_EQ(got.spans[1].begin, static_cast<Index>(ends[0]));
    EXPECT_EQ(got.spans[1].count, 7 * 4 + 1 + (2 + 1) * 2);
  }
}

TEST(HdProjector, CropsMustBeAWholeAndItsTiles) {
  const TinyWeights weights;
  const HdProjector projector(kSizes, HdOrder::kTilesFirst, Weights(weights));
  const auto complaint_about = [&](auto&& change) -> std::string {
    VisualInput input = two_pictures();
    Matrix rows(9 * 16, kWidth);
    Features features = features_of(rows, input);
    change(input, features);
    Machine machine;
    try {
      static_cast<void>(projector.project(features, input, machine.workspace));
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_EQ(complaint_about([](VisualInput&, Features&) {}), "");
  EXPECT_THAT(complaint_about([](VisualInput& input, Features&) { input.pictures[1].tile_cols = 2; }),
              ::testing::HasSubstr("picture 1: got 7 crops, expected a view of the whole, and 2 x 2 tiles"));
  EXPECT_THAT(complaint_about([](VisualInput& input, Features&) { input.pictures[0].tile_rows = 0; }), ::testing::HasSubstr("picture 0: got 2 crops"));
  EXPECT_THAT(complaint_about([](VisualInput&, Features& features) { features.crops.pop_back(); }), ::testing::HasSubstr("picture 1: got 6 crops"));
  EXPECT_THAT(complaint_about([](VisualInput&, Features& features) { features.crops[0].grid_rows = 3, features.crops[0].count = 12; }),
              ::testing::HasSubstr("3 x 4 patches"));
  EXPECT_THAT(complaint_about([](VisualInput&, Features& features) { features.crops[4].count = 17; }), ::testing::HasSubstr("17 rows"));
}

}  // namespace models_hd_projector
}  // namespace duet::testing
