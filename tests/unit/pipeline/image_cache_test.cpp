#include "duet/pipeline/image_cache.hpp"

#include <gmock/gmock.h>

namespace duet {
namespace pipeline_image_cache {

using ::testing::ElementsAre;

/// A picture of 2 x 2 pixels of one value for each number.
VisualInput pictures(std::initializer_list<float> values) {
  VisualInput input;
  input.num_channels = 1;
  for (const float value : values) std::ranges::fill(input.add_whole({2, 2}), value);
  return input;
}

/// Two rows a picture, [value, value], and a count of the pictures encoded.
struct Encoder {
  std::vector<float> asked;
  ImageRows operator()(const VisualInput& input) {
    EXPECT_EQ(input.num_pictures(), 1);
    asked.push_back(input.pixels.front());
    ImageRows result{Matrix(2, 2), {{0, 2}}};
    for (Index i = 0; i < 4; ++i) result.rows(i / 2, i % 2) = input.pixels.front();
    return result;
  }
};

ImageRows rows(ImageCache& cache, const VisualInput& input, Encoder& encode) { return cache.rows(input, ImageKey::all_of(input), encode); }

ImageKey key_of(const VisualInput& picture) { return ImageKey::all_of(picture).front(); }

std::vector<float> first_column(const ImageRows& rows) {
  std::vector<float> values;
  for (Index i = 0; i < rows.rows.rows(); ++i) values.push_back(rows.rows(i, 0));
  return values;
}

TEST(ImageCache, EncodesAPictureOnce) {
  ImageCache cache;
  Encoder encode;
  EXPECT_THAT(first_column(rows(cache, pictures({1, 2}), encode)), ElementsAre(1, 1, 2, 2));
  const ImageRows again = rows(cache, pictures({2, 3, 1, 3}), encode);
  EXPECT_THAT(first_column(again), ElementsAre(2, 2, 3, 3, 1, 1, 3, 3));
  EXPECT_THAT(encode.asked, ElementsAre(1, 2, 3));
  ASSERT_EQ(again.spans.size(), 4u);
  EXPECT_EQ(again.spans[2].begin, 4);
  EXPECT_EQ(again.spans[2].count, 2);
}

TEST(ImageCache, ForgetsWhatWasUsedLongestAgo) {
  ImageCache cache(2 * 16);  // rows of two pictures
  Encoder encode;
  for (const float value : {1.0f, 2.0f, 1.0f, 3.0f, 1.0f, 2.0f}) static_cast<void>(rows(cache, pictures({value}), encode));
  EXPECT_THAT(encode.asked, ElementsAre(1, 2, 3, 2)) << "2 went when 3 came";
  EXPECT_EQ(cache.bytes(), 32u);
}

TEST(ImageCache, WhatDoesNotFitIsNotKept) {
  ImageCache cache(15);
  Encoder encode;
  for (int i = 0; i < 2; ++i) EXPECT_THAT(first_column(rows(cache, pictures({1}), encode)), ElementsAre(1, 1));
  EXPECT_EQ(encode.asked.size(), 2u);
  EXPECT_EQ(cache.bytes(), 0u);
}

TEST(ImageCache, AKeyTellsEveryPixelAndTheSizeApart) {
  const VisualInput picture = pictures({1});
  const ImageKey key = key_of(picture);
  EXPECT_EQ(ImageKey::all_of(pictures({7, 1}))[1], key);
  for (std::size_t i = 0; i < 4; ++i) {
    VisualInput other = picture;
    other.pixels[i] = 1.0000001f;
    EXPECT_FALSE(key_of(other) == key) << i;
  }
  VisualInput swapped = picture, flat = picture;
  swapped.pixels = {1, 1, 2, 1};
  VisualInput otherwise = picture;
  otherwise.pixels = {1, 2, 1, 1};
  EXPECT_FALSE(key_of(swapped) == key_of(otherwise));
  flat.crops[0].size = {1, 4};
  EXPECT_FALSE(key_of(flat) == key);
}

TEST(ImageCache, AKeyTellsHowAPictureWasCutApart) {
  VisualInput cut;
  cut.num_channels = 1;
  cut.add_picture({.original = {20, 30}, .resized = {4, 2}, .num_crops = 2, .tile_rows = 2, .tile_cols = 1});
  for (int i = 0; i < 2; ++i) std::ranges::fill(cut.add_crop({2, 2}), 1.0f);
  VisualInput across = cut, larger = cut, whole = cut;
  std::swap(across.pictures[0].tile_rows, across.pictures[0].tile_cols);
  larger.pictures[0].original.width = 31;
  whole.crops.pop_back();
  whole.crops[0].size = {4, 2};
  for (const VisualInput& other : {across, larger, whole}) EXPECT_FALSE(key_of(other) == key_of(cut));
}

}  // namespace pipeline_image_cache
}  // namespace duet
