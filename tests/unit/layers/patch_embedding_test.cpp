#include "duet/layers/patch_embedding.hpp"

#include <gtest/gtest.h>

#include "support/reference_layers.hpp"

namespace duet::testing {
namespace layers_patch_embedding {

/// The convolution whose stride is its kernel, pixel by pixel.
reference::Rows convolution(std::span<const float> pixels, Index channels, Index height, Index width, Index patch,
                            std::span<const float> weight, std::span<const float> bias, Index out_channels) {
  reference::Rows result;
  for (Index top = 0; top + patch <= height; top += patch) {
    for (Index left = 0; left + patch <= width; left += patch) {
      reference::Row row;
      for (Index o = 0; o < out_channels; ++o) {
        double sum = bias.empty() ? 0.0 : static_cast<double>(bias[static_cast<std::size_t>(o)]), magnitude = std::abs(sum);
        for (Index c = 0; c < channels; ++c) {
          for (Index y = 0; y < patch; ++y) {
            for (Index x = 0; x < patch; ++x) {
              const float pixel = pixels[static_cast<std::size_t>((c * height + top + y) * width + left + x)];
              const float w = weight[static_cast<std::size_t>(((o * channels + c) * patch + y) * patch + x)];
              sum += static_cast<double>(pixel) * static_cast<double>(w);
              magnitude += std::abs(static_cast<double>(pixel) * static_cast<double>(w));
            }
          }
        }
        row.push_back({sum, reference::summation_error(static_cast<std::size_t>(channels * patch * patch + 1), magnitude)});
      }
      result.push_back(std::move(row));
    }
  }
  return result;
}

TEST(PatchEmbedding, IsTheConvolution) {
  struct Case {
    Index channels, height, width, patch, hidden;
    Linear::Bias bias;
  };
  for (const Case& c : {Case{3, 12, 12, 4, 10, Linear::Bias::kRequired}, Case{3, 6, 15, 3, 7, Linear::Bias::kNone},
                        Case{1, 5, 4, 1, 3, Linear::Bias::kRequired}, Case{2, 14, 14, 14, 33, Linear::Bias::kNone}}) {
    const TinyWeights weights;
    const PatchEmbedding layer({c.channels, c.patch, c.hidden, c.bias}, Weights(weights));
    const Matrix image = reference::tiny_rows(c.channels, c.height * c.width);
    const std::span<const float> pixels(image.view().data(), static_cast<std::size_t>(c.channels * c.height * c.width));
    ASSERT_EQ(layer.num_patches(c.height, c.width), c.height / c.patch * (c.width / c.patch));
    Machine machine;
    Matrix out(layer.num_patches(c.height, c.width), c.hidden);
    layer.forward(pixels, c.height, c.width, out, machine.workspace);
    const auto bias = weights.made("patch_embedding.bias") ? weights.at("patch_embedding.bias") : std::vector<float>();
    reference::expect_within(out, convolution(pixels, c.channels, c.height, c.width, c.patch, weights.at("patch_embedding.weight"), bias, c.hidden));
  }
}

}  // namespace layers_patch_embedding
}  // namespace duet::testing
