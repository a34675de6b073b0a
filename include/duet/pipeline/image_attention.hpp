#pragma once

#include <utility>
#include <vector>

#include "duet/kernels/attention_weights.hpp"
#include "duet/layers/attention_taps.hpp"
#include "duet/models/stages.hpp"

namespace duet {

/// An observer that keeps how the last row of a forward pass, the one that the next token is drawn from, looks at the image:
/// cross-attention's weights on the visual memory (method B), or self-attention's on the cache slots of the image tokens
/// (method A; text gets the rest of each row's attention). One session's; later passes replace earlier ones.
class ImageAttention {
 public:
  static constexpr bool kLooks = false;
  static constexpr bool kTapsAttention = true;

  /// `image_keys` are the memory's rows or the cache's slots to look at.
  ImageAttention(AttentionKind kind, std::vector<Index> image_keys) : kind_(kind), image_keys_(std::move(image_keys)) {}

  [[nodiscard]] Index num_layers() const noexcept { return static_cast<Index>(layers_.size()); }
  [[nodiscard]] Index num_heads() const noexcept { return layers_.empty() ? 0 : layers_.front().rows(); }
  /// [num_attention_heads, image keys] of one layer.
  [[nodiscard]] ConstMatrixView layer(Index i) const noexcept { return layers_[static_cast<std::size_t>(i)]; }

  void operator()(Stage, Index, ConstMatrixView) const noexcept {}
  void tap(const AttentionTap& tap) {
    if (tap.kind != kind_) return;
    const Index row = tap.job.q.rows() - 1;
    const kernels::KeyRange seen = tap.job.visible[static_cast<std::size_t>(row)];
    Matrix weights(tap.shape.num_attention_heads, std::max<Index>(0, seen.end - seen.begin));
    kernels::attention_weights(tap.job, tap.shape, row, weights);
    if (num_layers() <= tap.layer) layers_.resize(static_cast<std::size_t>(tap.layer) + 1);
    Matrix& kept = layers_[static_cast<std::size_t>(tap.layer)] = Matrix(weights.rows(), static_cast<Index>(image_keys_.size()));
    for (Index k = 0; k < kept.cols(); ++k) {
      const Index key = image_keys_[static_cast<std::size_t>(k)];
      if (key < seen.begin || key >= seen.end) continue;
      for (Index head = 0; head < kept.rows(); ++head) kept(head, k) = weights(head, key - seen.begin);
    }
  }

 private:
  AttentionKind kind_;
  std::vector<Index> image_keys_;
  std::vector<Matrix> layers_;
};

}  // namespace duet
