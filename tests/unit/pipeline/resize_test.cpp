#include "duet/pipeline/resize.hpp"

#include <gmock/gmock.h>

namespace duet {
namespace pipeline_resize {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;

constexpr Filter kFilters[] = {Filter::kNearest, Filter::kBox, Filter::kBilinear, Filter::kHamming, Filter::kBicubic, Filter::kLanczos};

/// Grey pixels in a row, or in a column.
Image grey(const std::vector<std::uint8_t>& values, bool column = false) {
  std::vector<std::uint8_t> rgb;
  for (const std::uint8_t value : values) rgb.insert(rgb.end(), 3, value);
  const auto n = static_cast<Index>(values.size());
  return column ? Image::from_rgb(rgb, 1, n) : Image::from_rgb(rgb, n, 1);
}
std::vector<int> red(const Image& image) {
  std::vector<int> result;
  for (std::size_t i = 0; i < image.rgb().size(); i += 3) result.push_back(image.rgb()[i]);
  return result;
}

TEST(Resize, ToItsOwnSizeChangesNothing) {
  const Image image = grey({0, 255, 3, 77, 128});
  for (const Filter filter : kFilters) EXPECT_THAT(resize(image, 5, 1, filter).rgb(), ElementsAreArray(image.rgb()));
}

TEST(Resize, NearestTakesThePixelUnderTheCentre) {
  EXPECT_THAT(red(resize(grey({10, 20, 30}), 2, 1, Filter::kNearest)), ElementsAre(10, 30));
  EXPECT_THAT(red(resize(grey({10, 20}), 4, 1, Filter::kNearest)), ElementsAre(10, 10, 20, 20));
}

TEST(Resize, BoxAveragesAndRoundsHalvesUp) {
  EXPECT_THAT(red(resize(grey({10, 21, 100, 103}), 2, 1, Filter::kBox)), ElementsAre(16, 102));
}

TEST(Resize, BilinearInterpolatesBetweenCentres) {
  EXPECT_THAT(red(resize(grey({0, 100}), 4, 1, Filter::kBilinear)), ElementsAre(0, 25, 75, 100));
}

TEST(Resize, OvershootIsClipped) {
  for (const Filter filter : {Filter::kBicubic, Filter::kLanczos}) {
    const auto edge = red(resize(grey({0, 0, 0, 255, 255, 255}), 24, 1, filter));
    EXPECT_EQ(*std::ranges::min_element(edge), 0);
    EXPECT_EQ(*std::ranges::max_element(edge), 255);
    EXPECT_TRUE(std::ranges::is_sorted(std::vector(edge.begin() + 9, edge.begin() + 15))) << "the edge itself rises";
  }
}

TEST(Resize, ColumnsAreAsRows) {
  const std::vector<std::uint8_t> values = {7, 200, 31, 90, 255, 0, 14};
  for (const Filter filter : kFilters) {
    for (const Index size : {1, 3, 12}) {
      EXPECT_EQ(red(resize(grey(values), size, 1, filter)), red(resize(grey(values, true), 1, size, filter)));
    }
  }
}

TEST(Resize, SizesThatCannotBeAreErrors) {
  const Image image = grey({1, 2});
  for (const auto& [width, height] : {std::pair<Index, Index>{0, 1}, {1, 0}, {-5, 3}, {1 << 20, 1 << 20}, {Index{1} << 62, Index{1} << 62}}) {
    EXPECT_THROW(static_cast<void>(resize(image, width, height, Filter::kBicubic)), Error) << width << ' ' << height;
  }
}

}  // namespace pipeline_resize
}  // namespace duet
