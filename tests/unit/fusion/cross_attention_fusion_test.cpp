#include "duet/fusion/cross_attention_fusion.hpp"

#include <gmock/gmock.h>

#include "support/reference_layers.hpp"

namespace duet::testing {
namespace fusion_cross_attention_fusion {

/// Counts how often it is asked to memorise.
struct FakeDecoder {
  int* memorised = nullptr;
  void embed(std::span<const TokenId>, MatrixView) const {}
  void forward(MatrixView, std::span<const Sequence>, Phase, Workspace&) const {}
  [[nodiscard]] Index hidden_size() const { return 3; }
  [[nodiscard]] VisualMemory memorize(ConstMatrixView rows, Workspace&, KeyValueFormat) const {
    ++*memorised;
    return {1, rows.rows(), 1, 3};
  }
};
static_assert(CrossAttentionDecoder<FakeDecoder> && !SelfAttentionDecoder<FakeDecoder>);
static_assert(FusionFor<CrossAttentionFusion, FakeDecoder>);

TEST(CrossAttentionFusion, MemorisesEveryImageOnce) {
  int memorised = 0;
  const FakeDecoder decoder{&memorised};
  Machine machine;
  VisualMemory memory;
  Matrix hidden(2, 3);
  const auto fuse = [&](const ImageRows& rows) {
    CrossAttentionFusion::fuse(decoder, Prompt::causal({1, 2}), rows, hidden, memory, machine.workspace);
    return CrossAttentionFusion::memory_of(memory)->num_rows();
  };
  EXPECT_EQ(fuse({}), 0);
  EXPECT_EQ(memorised, 0);
  EXPECT_EQ(fuse({reference::tiny_rows(4, 3), {{0, 4}}}), 4);
  EXPECT_EQ(fuse({}), 4) << "later turns keep the picture";
  EXPECT_EQ(fuse({}), 4);
  EXPECT_EQ(memorised, 1);
  EXPECT_EQ(fuse({reference::tiny_rows(6, 3), {{0, 6}}}), 6) << "a new picture replaces the old one";
  EXPECT_EQ(memorised, 2);
  EXPECT_THAT(hidden.view().row(0), ::testing::Each(0.0f)) << "hidden stays text";
}

}  // namespace fusion_cross_attention_fusion
}  // namespace duet::testing
