#include "duet/pipeline/image_processor.hpp"

#include <gmock/gmock.h>

namespace duet {
namespace pipeline_image_processor {

Image striped(Index width, Index height) {
  std::vector<std::uint8_t> rgb;
  for (Index i = 0; i < 3 * width * height; ++i) rgb.push_back(static_cast<std::uint8_t>(i * 7 % 256));
  return Image::from_rgb(rgb, width, height);
}

struct Pixels {
  Index height = 0, width = 0;
  std::vector<float> values;
};

Pixels processed(const nlohmann::json& config, const Image& image) {
  const ImageProcessor processor(JsonView(config, "preprocessor_config.json"));
  const PictureSize size = processor.output_size({image.height(), image.width()});
  Pixels pixels{size.height, size.width, std::vector<float>(static_cast<std::size_t>(3 * size.height * size.width))};
  processor.process(image, pixels.values);
  return pixels;
}

TEST(ImageProcessor, ReadsOldAndNewSpellingsOfSize) {
  const Image image = striped(40, 20);
  const auto clip = processed({{"feature_extractor_type", "CLIPFeatureExtractor"}, {"size", 16}, {"crop_size", 12}}, image);
  EXPECT_EQ(clip.width, 12);
  EXPECT_EQ(clip.height, 12);
  const auto shortest = processed({{"image_processor_type", "CLIPImageProcessor"}, {"size", {{"shortest_edge", 16}}}, {"do_center_crop", false}}, image);
  EXPECT_EQ(shortest.width, 32);
  EXPECT_EQ(shortest.height, 16);
  const auto vit = processed({{"image_processor_type", "ViTImageProcessorFast"}, {"size", {{"height", 8}, {"width", 24}}}}, image);
  EXPECT_EQ(vit.width, 24);
  EXPECT_EQ(vit.height, 8);
}

TEST(ImageProcessor, RescalesAndNormalises) {
  const nlohmann::json config = {{"image_processor_type", "ViTImageProcessor"}, {"do_resize", false}, {"image_mean", {0.5, 0.5, 0.5}}, {"image_std", {0.25, 0.5, 1.0}}};
  const auto pixels = processed(config, Image::from_rgb(std::vector<std::uint8_t>{255, 0, 51}, 1, 1));
  EXPECT_THAT(pixels.values, ::testing::Pointwise(::testing::FloatNear(1e-6f), {2.0f, -1.0f, -0.3f}));
}

TEST(ImageProcessor, OneMeanMayStandForAllChannels) {
  const nlohmann::json config = {{"image_processor_type", "CLIPImageProcessor"}, {"do_resize", false}, {"do_center_crop", false}, {"image_mean", 0.5}, {"image_std", 0.25}};
  const auto pixels = processed(config, Image::from_rgb(std::vector<std::uint8_t>{255, 0, 51}, 1, 1));
  EXPECT_THAT(pixels.values, ::testing::Pointwise(::testing::FloatNear(1e-6f), {2.0f, -2.0f, -1.2f}));
}

TEST(ImageProcessor, EveryChannelHasItsOwnMean) {
  const nlohmann::json config = {{"image_processor_type", "ViTImageProcessor"}, {"do_resize", false}, {"image_mean", {0.0, 0.25, 0.5}}, {"image_std", 1.0}};
  const auto pixels = processed(config, Image::from_rgb(std::vector<std::uint8_t>{255, 255, 255}, 1, 1));
  EXPECT_THAT(pixels.values, ::testing::Pointwise(::testing::FloatNear(1e-6f), {1.0f, 0.75f, 0.5f}));
}

TEST(ImageProcessor, TheLongerEdgeIsCutOffToAWholePixel) {
  const auto pixels = processed({{"image_processor_type", "CLIPImageProcessor"}, {"size", {{"shortest_edge", 16}}}, {"do_center_crop", false}}, striped(5, 3));
  EXPECT_EQ(pixels.height, 16);
  EXPECT_EQ(pixels.width, 26) << "16 * 5 / 3";
}

TEST(PadToSquare, PutsTheOddRowBelow) {
  const Image padded = pad_to_square(Image::from_rgb(std::vector<std::uint8_t>(3 * 4 * 1, 9), 4, 1), {1, 2, 3});
  EXPECT_THAT(std::vector<int>(padded.rgb().begin() + 9, padded.rgb().begin() + 27),
              ::testing::ElementsAre(1, 2, 3, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 1, 2, 3));
}

TEST(ImageProcessor, ThoseThatDoNotCropIgnoreACropSize) {
  const auto vit = processed({{"image_processor_type", "ViTImageProcessor"}, {"size", 16}, {"do_center_crop", true}, {"crop_size", 8}}, striped(40, 20));
  EXPECT_EQ(vit.width, 16);
  EXPECT_EQ(vit.height, 16);
}

TEST(CenterCrop, PadsWithBlackWhereThePictureIsSmaller) {
  const Image image = Image::from_rgb(std::vector<std::uint8_t>(3 * 3 * 1, 9), 3, 1);
  const Image cropped = center_crop(image, 4, 1);
  // ceil((4 - 1) / 2) black rows above, as the reference pads.
  EXPECT_THAT(std::vector<int>(cropped.rgb().begin(), cropped.rgb().end()), ::testing::ElementsAre(0, 0, 0, 0, 0, 0, 9, 9, 9, 0, 0, 0));
}

TEST(ImageProcessor, WrongConfigsAreErrors) {
  const Image image = striped(4, 4);
  EXPECT_THROW(processed({{"image_processor_type", "MysteryProcessor"}}, image), Error);
  EXPECT_THROW(processed({{"image_processor_type", "ViTImageProcessor"}, {"size", 0}}, image), Error);
  EXPECT_THROW(processed({{"image_processor_type", "ViTImageProcessor"}, {"size", "big"}}, image), Error);
  EXPECT_THROW(processed({{"image_processor_type", "ViTImageProcessor"}, {"image_mean", {0.5}}}, image), Error);
  EXPECT_THROW(processed({{"image_processor_type", "ViTImageProcessor"}, {"resample", 9}}, image), Error);
  EXPECT_THROW(processed({{"image_processor_type", "ViTImageProcessor"}, {"size", 65536}}, image), Error);
  EXPECT_THROW(processed({{"image_processor_type", "ViTImageProcessor"}, {"image_std", {1, 0, 1}}}, image), Error);
}

TEST(ImageProcessor, LongPicturesDoNotTakeAllMemory) {
  const Image line = striped(1, 1'000'000);
  EXPECT_THROW(processed({{"image_processor_type", "CLIPImageProcessor"}, {"size", 224}, {"do_center_crop", false}}, line), Error);
  EXPECT_THROW(processed({{"image_processor_type", "LlavaImageProcessor"}, {"do_pad", true}}, line), Error);
  EXPECT_THROW(processed({{"image_processor_type", "ViTImageProcessor"}, {"size", 500}}, line), Error);
  EXPECT_EQ(resize(line, 1, 1, Filter::kLanczos).height(), 1);
}

TEST(ImageProcessor, MakesOnlyTheCropOfALongPicture) {
  // 1'000'000 · 24 by 24 pixels as a whole; the crop is the middle of a picture that is the same all along.
  std::vector<std::uint8_t> rgb;
  for (Index i = 0; i < 1'000'000; ++i) rgb.insert(rgb.end(), {10, 20, 30});
  const auto pixels = processed({{"image_processor_type", "CLIPImageProcessor"}, {"size", 24}, {"crop_size", 16}, {"do_rescale", false}, {"do_normalize", false}},
                                Image::from_rgb(rgb, 1'000'000, 1));
  EXPECT_EQ(pixels.values.size(), 3u * 16 * 16);
  EXPECT_EQ(pixels.values.front(), 10.0f);
  EXPECT_EQ(pixels.values.back(), 30.0f);
}

TEST(ResizePart, IsThatPartOfTheWhole) {
  const Image image = striped(57, 31);
  for (const Filter filter : {Filter::kNearest, Filter::kBox, Filter::kBilinear, Filter::kHamming, Filter::kBicubic, Filter::kLanczos}) {
    for (const auto& [w, h] : {std::pair<Index, Index>{20, 90}, {57, 12}, {80, 31}, {57, 31}}) {
      const Image whole = window(resize(image, w, h, filter), 5, 7, {6, 11});
      const Image part = resize_part(image, w, h, filter, 5, 7, 6, 11);
      EXPECT_TRUE(std::ranges::equal(part.rgb(), whole.rgb())) << w << " x " << h << " by " << static_cast<int>(filter);
    }
  }
}

TEST(Resize, KeepsConstantColoursAndExtremeShapes) {
  const Image flat = Image::from_rgb(std::vector<std::uint8_t>(3 * 50 * 2, 77), 50, 2);
  for (const Filter filter : {Filter::kNearest, Filter::kBox, Filter::kBilinear, Filter::kHamming, Filter::kBicubic, Filter::kLanczos}) {
    for (const auto& [w, h] : {std::pair<Index, Index>{1, 1}, {3, 200}, {500, 1}}) {
      const Image out = resize(flat, w, h, filter);
      EXPECT_THAT(out.rgb(), ::testing::Each(77));
    }
  }
  EXPECT_THROW(resize(flat, 0, 1, Filter::kBox), Error);
}

TEST(Resize, NearestStepsAsPillowDoes) {
  // From 14 pixels to 5, some places are sums of steps that round to a whole number. By Pillow 9.4.
  std::vector<std::uint8_t> rgb;
  for (int x = 0; x < 14; ++x) rgb.insert(rgb.end(), 3, static_cast<std::uint8_t>(x));
  const Image out = resize(Image::from_rgb(rgb, 14, 1), 5, 1, Filter::kNearest);
  std::vector<int> columns;
  for (std::size_t i = 0; i < 5; ++i) columns.push_back(out.rgb()[3 * i]);
  EXPECT_THAT(columns, ::testing::ElementsAre(1, 4, 6, 9, 12));
}

}  // namespace pipeline_image_processor
}  // namespace duet
