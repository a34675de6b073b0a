#include "duet/blocks/encoder_block.hpp"

#include <gtest/gtest.h>

#include "support/reference.hpp"
#include "support/reference_layers.hpp"

namespace duet::testing {
namespace {

using kernels::KeyRange;
using reference::Layers;
using reference::Rows;
using reference::rows_of;
using reference::tiny_rows;

struct Recipe {
  using Norm = LayerNorm;
  using HeadNorm = NoNorm;
  using FeedForward = duet::FeedForward<kernels::Gelu>;
};

TEST(EncoderBlock, AgreesWithTheReference) {
  AttentionConfig attention;
  attention.hidden_size = attention.key_value_size = 16;
  attention.num_attention_heads = attention.num_key_value_heads = 2;
  attention.head_dim = 8;
  attention.scale = 0.35f;
  attention.qkv_bias = attention.output_bias = Linear::Bias::kRequired;
  const FeedForwardConfig feed_forward{16, 24, "gelu", "hidden_act", Linear::Bias::kRequired};
  const TinyWeights weights;
  const EncoderBlock<Recipe> block(attention, feed_forward, 1e-5f, Weights(weights));

  const Index group = 5;
  const Matrix before = tiny_rows(2 * group, 16);
  Matrix hidden = Matrix::clone(before);
  const std::vector<KeyRange> visible(group, KeyRange{0, group});
  Machine machine;
  block.forward(hidden, group, visible, {}, machine.workspace);

  const Layers layers(weights);
  for (Index image = 0; image < 2; ++image) {
    Rows x = rows_of(before.view().rows(image * group, group));
    const Rows seen = layers.layer_norm("input_layernorm", x, 1e-5f);
    x = reference::sum(x, layers.scope("self_attn").attention(seen, seen, visible, attention.shape()));
    x = reference::sum(x, layers.scope("mlp").feed_forward(layers.layer_norm("post_attention_layernorm", x, 1e-5f), reference::gelu));
    reference::expect_within(hidden.view().rows(image * group, group), x);
  }
}

}  // namespace
}  // namespace duet::testing
