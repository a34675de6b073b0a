#include "duet/models/raw_patches.hpp"

#include <gmock/gmock.h>

#include "support/kernel_machine.hpp"
#include "support/tiny_weights.hpp"

namespace duet::testing {
namespace models_raw_patches {

RawPatches tiny() { return RawPatches({.image_size = 8, .patch_size = 2, .num_channels = 3}); }

TEST(RawPatches, PixelsOfAPatchAreItsFeatures) {
  VisualInput input;
  for (const PictureSize size : {PictureSize{4, 6}, PictureSize{2, 2}}) {
    const std::span<float> pixels = input.add_whole(size);
    for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<float>(i + 100 * input.crops.size());
  }
  Machine machine;
  const Features features = tiny().encode(input, machine.workspace);
  ASSERT_EQ(features.rows.rows(), 7);
  ASSERT_EQ(features.rows.cols(), tiny().hidden_size());
  ASSERT_EQ(features.crops.size(), 2u);
  EXPECT_EQ(features.crops[1].begin, 6);
  EXPECT_EQ(features.crops[1].picture, 1);
  EXPECT_EQ(features.crops[0].grid_cols, 3);
  for (std::size_t i = 0; i < 2; ++i) {
    const Index height = input.crops[i].size.height, width = input.crops[i].size.width;
    for (Index k = 0; k < features.crops[i].count; ++k) {
      for (Index at = 0; at < 12; ++at) {
        const Index y = k / features.crops[i].grid_cols * 2 + at / 6, x = k % features.crops[i].grid_cols * 2 + at / 3 % 2, c = at % 3;
        EXPECT_EQ(features.rows(features.crops[i].begin + k, at),
                  input.crop(static_cast<Index>(i))[static_cast<std::size_t>((c * height + y) * width + x)]);
      }
    }
  }
}

TEST(RawPatches, PicturesAreWholePatches) {
  const auto complaint_about = [](PictureSize size, Index channels) -> std::string {
    VisualInput input;
    input.num_channels = channels;
    input.add_whole(size);
    Machine machine;
    try {
      static_cast<void>(tiny().encode(input, machine.workspace));
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_EQ(complaint_about({4, 2}, 3), "");
  EXPECT_THAT(complaint_about({5, 4}, 3), ::testing::HasSubstr("got [3, 5, 4], expected [3, height, width], multiples of 2"));
  EXPECT_THAT(complaint_about({4, 1}, 3), ::testing::HasSubstr("[3, 4, 1]"));
  EXPECT_THAT(complaint_about({4, 4}, 1), ::testing::HasSubstr("[1, 4, 4]"));
}

TEST(RawPatches, SizesMustBePossible) {
  for (const RawPatchesConfig& wrong : {RawPatchesConfig{8, 0, 3}, RawPatchesConfig{8, -1, 3}, RawPatchesConfig{8, 2, 0}, RawPatchesConfig{8, 9, 3},
                                        RawPatchesConfig{Index{1} << 40, 2, 3}, RawPatchesConfig{Index{1} << 16, 4000, 3}}) {
    EXPECT_THROW(RawPatches{wrong}, Error);
  }
}

}  // namespace models_raw_patches
}  // namespace duet::testing
