#include "duet/layers/embedding.hpp"

#include <gmock/gmock.h>

#include <vector>

namespace duet {
namespace layers_embedding {

using ::testing::ElementsAre;

/// A table whose row i holds i, i + 0.25, i + 0.5 …, at an odd address: exact in every dtype.
class TableSource {
 public:
  TableSource(Index rows, Index cols, DType dtype) : dtype_(dtype), shape_{rows, cols}, bytes_(1) {
    for (Index i = 0; i < rows; ++i) {
      for (Index j = 0; j < cols; ++j) append(static_cast<float>(i) + 0.25f * static_cast<float>(j));
    }
  }
  std::optional<TensorView> find(std::string_view name, std::span<const Index>) const {
    if (name != "tokens.weight") return std::nullopt;
    return TensorView{bytes_.data() + 1, dtype_, shape_};
  }
  bool contains(std::string_view name) const { return name == "tokens.weight"; }
  std::string where(std::string_view) const { return "memory"; }

 private:
  void append(float value) {
    const std::uint16_t half = dtype_ == DType::kF16 ? to_f16(value).bits : to_bf16(value).bits;
    const auto* begin = dtype_ == DType::kF32 ? reinterpret_cast<const std::byte*>(&value) : reinterpret_cast<const std::byte*>(&half);
    bytes_.insert(bytes_.end(), begin, begin + size_of(dtype_));
  }
  DType dtype_;
  std::vector<Index> shape_;
  std::vector<std::byte> bytes_;
};

TEST(Embedding, LooksRowsUpInEveryDType) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    const TableSource source(9, 3, dtype);
    const Embedding embedding(Weights(source), "tokens", 9, 3);
    EXPECT_EQ(embedding.num_embeddings(), 9);
    EXPECT_EQ(embedding.hidden_size(), 3);
    Matrix out(3, 3);
    embedding.forward(std::vector<TokenId>{8, 0, 8}, out);
    EXPECT_THAT(out.view().row(0), ElementsAre(8.0f, 8.25f, 8.5f));
    EXPECT_THAT(out.view().row(1), ElementsAre(0.0f, 0.25f, 0.5f));
    EXPECT_THAT(out.view().row(2), ElementsAre(8.0f, 8.25f, 8.5f));
  }
}

TEST(Embedding, GivesPartsOfRows) {
  const TableSource source(4, 5, DType::kBF16);
  const Embedding embedding(Weights(source), "tokens", 4, 5);
  std::vector<float> part(2);
  embedding.row(3, 2, part);
  EXPECT_THAT(part, ElementsAre(3.5f, 3.75f));
}

TEST(Embedding, IsAHeadWithoutACopy) {
  const TableSource source(6, 4, DType::kF16);
  const WeightMatrix head = Embedding(Weights(source), "tokens", 6, 4).as_head();
  EXPECT_EQ(head.data, source.find("tokens.weight", {})->data);
  EXPECT_EQ(head.dtype, DType::kF16);
  EXPECT_EQ(head.layout, WeightLayout::kOutIn);
  EXPECT_EQ(head.out_features, 6);
  EXPECT_EQ(head.in_features, 4);
  EXPECT_EQ(head.stride, 4);
}

TEST(Embedding, MissingOrOfAnotherShapeIsAnError) {
  const TableSource source(6, 4, DType::kF32);
  EXPECT_THROW(Embedding(Weights(source), "positions", 6, 4), Error);
  EXPECT_THROW(Embedding(Weights(source), "tokens", 7, 4), Error);
}

}  // namespace layers_embedding
}  // namespace duet
