#include "duet/fusion/embedding_fusion.hpp"

#include <gmock/gmock.h>

#include "support/reference_layers.hpp"

namespace duet::testing {
namespace fusion_embedding_fusion {

using ::testing::ElementsAreArray;

/// Embeds an id as a row of it.
struct FakeDecoder {
  void embed(std::span<const TokenId> ids, MatrixView hidden) const {
    for (Index i = 0; i < hidden.rows(); ++i) std::ranges::fill(hidden.row(i), static_cast<float>(ids[static_cast<std::size_t>(i)]));
  }
  void forward(MatrixView, std::span<const Sequence>, Phase, Workspace&) const {}
  [[nodiscard]] Index hidden_size() const { return 3; }
};
static_assert(SelfAttentionDecoder<FakeDecoder> && !CrossAttentionDecoder<FakeDecoder>);
static_assert(FusionFor<EmbeddingFusion, FakeDecoder>);

Matrix fused(const Prompt& prompt, const ImageRows& rows) {
  Machine machine;
  Matrix hidden(prompt.size(), 3);
  EmbeddingFusion::Memory memory;
  FakeDecoder().embed(prompt.ids, hidden);
  EmbeddingFusion::fuse(FakeDecoder(), prompt, rows, hidden, memory, machine.workspace);
  EXPECT_EQ(EmbeddingFusion::memory_of(memory), nullptr);
  return hidden;
}

TEST(EmbeddingFusion, WritesImageRowsOverThePlaceholders) {
  Prompt prompt = Prompt::causal({1, 50, 50, 4, 50, 6});
  prompt.image_rows = {1, 2, 4};
  const ImageRows rows{reference::tiny_rows(3, 3), {{0, 2}, {2, 1}}};
  const Matrix hidden = fused(prompt, rows);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_THAT(hidden.view().row(prompt.image_rows[i]), ElementsAreArray(rows.rows.view().row(static_cast<Index>(i))));
  }
  for (const Index text : {0, 3, 5}) EXPECT_THAT(hidden.view().row(text), ::testing::Each(static_cast<float>(prompt.ids[static_cast<std::size_t>(text)])));
}

TEST(EmbeddingFusion, WithoutImagesTheTextStays) {
  const Matrix hidden = fused(Prompt::causal({7, 8}), {});
  EXPECT_THAT(hidden.view().row(0), ::testing::Each(7.0f));
  EXPECT_THAT(hidden.view().row(1), ::testing::Each(8.0f));
}

TEST(EmbeddingFusion, PlaceholdersAndImageTokensMustAgree) {
  const auto rejects = [](std::vector<Index> placeholders, Index tokens) {
    Prompt prompt = Prompt::causal({1, 50, 50, 4});
    prompt.image_rows = std::move(placeholders);
    const std::string got = std::to_string(prompt.image_rows.size()) + " image placeholders";
    try {
      fused(prompt, {reference::tiny_rows(tokens, 3), {}});
      ADD_FAILURE() << got << " took " << tokens << " rows";
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::kShapeMismatch);
      EXPECT_THAT(e.got(), ::testing::HasSubstr(got));
      EXPECT_THAT(e.expected(), ::testing::HasSubstr(std::to_string(tokens)));
    }
  };
  rejects({1, 2}, 3);
  rejects({1, 2}, 0);
  rejects({}, 5);
}

}  // namespace fusion_embedding_fusion
}  // namespace duet::testing
