#include "duet/blocks/encoder_block.hpp"

#include <gtest/gtest.h>

#include "support/reference.hpp"
#include "support/reference_layers.hpp"

namespace duet::testing {
namespace blocks_encoder_block {

using kernels::KeyRange;
using reference::Layers;
using reference::Rows;
using reference::rows_of;
using reference::tiny_rows;

struct Recipe {
  using Norm = LayerNorm;
  using HeadNorm = NoNorm;
  using Scale = NoGate;
  using FeedForward = duet::FeedForward<kernels::Gelu>;
};
struct ScaledRecipe : Recipe {
  using Scale = LayerScale;
};

/// Two images of different sizes through a block, and through the reference.
template <class R>
void expect_agreement() {
  AttentionConfig attention;
  attention.hidden_size = attention.key_value_size = 16;
  attention.num_attention_heads = attention.num_key_value_heads = 2;
  attention.head_dim = 8;
  attention.scale = 0.35f;
  attention.qkv_bias = attention.output_bias = Linear::Bias::kRequired;
  const FeedForwardConfig feed_forward{16, 24, "gelu", "hidden_act", Linear::Bias::kRequired};
  const TinyWeights weights;
  const EncoderBlock<R> block(attention, feed_forward, 1e-5f, Weights(weights));
  EXPECT_EQ(weights.made("attention_scale"), !R::Scale::kIdentity);

  const std::vector<KeyRange> first(5, KeyRange{0, 5}), second(3, KeyRange{0, 3});
  const RowGroup groups[] = {{0, 5, first}, {5, 3, second}};
  const Matrix before = tiny_rows(8, 16);
  Matrix hidden = Matrix::clone(before);
  Machine machine;
  block.forward(hidden, groups, {}, machine.workspace);

  const Layers layers(weights);
  const auto scaled = [&](const char* name, const Rows& rows) {
    if constexpr (!R::Scale::kIdentity) {
      const Rows factors(rows.size(), rows_of(ConstMatrixView(weights.at(name).data(), 1, 16)).front());
      return reference::product(rows, factors);
    }
    return rows;
  };
  for (const RowGroup& group : groups) {
    Rows x = rows_of(before.view().rows(group.begin, group.count));
    const Rows seen = layers.layer_norm("input_layernorm", x, 1e-5f);
    const std::vector<KeyRange> visible(group.visible.begin(), group.visible.end());
    x = reference::sum(x, scaled("attention_scale", layers.scope("self_attn").attention(seen, seen, visible, attention.shape())));
    x = reference::sum(x, scaled("feed_forward_scale", layers.scope("mlp").feed_forward(layers.layer_norm("post_attention_layernorm", x, 1e-5f), reference::gelu)));
    reference::expect_within(hidden.view().rows(group.begin, group.count), x);
  }
}

TEST(EncoderBlock, AgreesWithTheReference) { expect_agreement<Recipe>(); }
TEST(EncoderBlock, BranchesMayBeScaled) { expect_agreement<ScaledRecipe>(); }

}  // namespace blocks_encoder_block
}  // namespace duet::testing
