#pragma once

#include <span>

#include "duet/core/stored_floats.hpp"
#include "duet/core/token.hpp"
#include "duet/core/weights.hpp"

namespace duet {

/// A table of rows looked up by id: token embeddings, learned positions.
///
/// Shapes   ids [n] → rows [n, hidden_size]; weight [num_embeddings, hidden_size], read where it is stored
/// Requires 0 <= id < num_embeddings: callers check ids that come from outside
/// Cost     n · hidden_size loads: a lookup, no arithmetic
class Embedding {
 public:
  Embedding() = default;
  /// Takes "name.weight".
  Embedding(const Weights& weights, std::string_view name, Index num_embeddings, Index hidden_size)
      : table_(weights.table(name, num_embeddings, hidden_size)), hidden_size_(hidden_size) {}

  [[nodiscard]] Index num_embeddings() const noexcept { return table_.shape.empty() ? 0 : table_.shape[0]; }
  [[nodiscard]] Index hidden_size() const noexcept { return hidden_size_; }

  /// out = table[id][begin, begin + out.size()).
  void row(Index id, Index begin, std::span<float> out) const {
    DUET_ASSERT(id >= 0 && id < num_embeddings(), "embedding id out of range");
    read_floats(as_head().row(id), table_.dtype, static_cast<std::size_t>(begin), out);
  }
  void forward(std::span<const TokenId> ids, MatrixView out) const {
    for (std::size_t i = 0; i < ids.size(); ++i) row(ids[i], 0, out.row(static_cast<Index>(i)));
  }

  /// The same table as the weights of a linear map onto the vocabulary: a tied language-model head.
  [[nodiscard]] WeightMatrix as_head() const noexcept {
    const auto block = static_cast<Index>(block_size(table_.dtype));
    return {table_.data, table_.dtype, WeightLayout::kOutIn, num_embeddings(), hidden_size_, (hidden_size_ + block - 1) / block * block};
  }

 private:
  TensorView table_;  // [num_embeddings, hidden_size]
  Index hidden_size_ = 0;
};

}  // namespace duet
