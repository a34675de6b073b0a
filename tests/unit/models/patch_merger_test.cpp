#include "duet/models/patch_merger.hpp"

#include <gtest/gtest.h>

#include "support/kernel_machine.hpp"
#include "support/reference.hpp"
#include "support/reference_layers.hpp"

namespace duet::testing {
namespace models_patch_merger {

using reference::Layers;
using reference::Row;
using reference::Rows;
using reference::rows_of;

template <class N>
void expect_agreement() {
  const TinyWeights weights;
  const PatchMerger<N> merger({.input_size = 6, .output_size = 5, .spatial_merge_size = 2, .norm_eps = 1e-4f}, Weights(weights));
  EXPECT_EQ(merger.input_size(), 6);
  EXPECT_EQ(merger.output_size(), 5);
  Matrix rows = reference::tiny_rows(24, 6);
  const Features features{rows.view(), {{0, 0, 16, 4, 4}, {1, 16, 8, 2, 4}}};
  VisualInput input;
  input.add_picture({});
  input.add_picture({});
  Machine machine;
  const ImageRows got = merger.project(features, input, machine.workspace);

  const Layers layers(weights);
  const Rows normed = std::is_same_v<N, LayerNorm> ? layers.layer_norm("ln_q", rows_of(rows), 1e-4f) : layers.rms_norm("ln_q", rows_of(rows), 1e-4f);
  Rows cells;
  for (std::size_t k = 0; k < normed.size(); ++k) {
    if (k % 4 == 0) cells.emplace_back();
    cells.back().insert(cells.back().end(), normed[k].begin(), normed[k].end());
  }
  reference::expect_within(got.rows, layers.linear("linear_2", reference::map(layers.linear("linear_1", cells), reference::gelu)));
  ASSERT_EQ(got.spans.size(), 2u);
  EXPECT_EQ(got.spans[0].count, 4);
  EXPECT_EQ(got.spans[1].begin, 4);
  EXPECT_EQ(got.spans[1].count, 2);
}

TEST(PatchMerger, CellsOfPatchesBecomeImageTokens) {
  expect_agreement<LayerNorm>();
  expect_agreement<RmsNorm>();
}

}  // namespace models_patch_merger
}  // namespace duet::testing
