#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "duet/io/named_tensor.hpp"
#include "duet/models/visual_input.hpp"

// How the reference's image processors lay prepared pictures out: padded to the largest.

namespace duet::detail {

/// The largest height and the largest width among crops.
inline PictureSize largest_crop(const VisualInput& input) {
  PictureSize most;
  for (const VisualInput::Crop& crop : input.crops) most = {std::max(most.height, crop.size.height), std::max(most.width, crop.size.width)};
  return most;
}

/// All crops with zeros below and at the right, [crops, channels, height, width] of the largest.
inline std::vector<float> padded_crops(const VisualInput& input) {
  const PictureSize most = largest_crop(input);
  std::vector<float> out(static_cast<std::size_t>(input.num_crops() * input.num_channels * most.height * most.width));
  auto to = out.begin();
  for (Index i = 0; i < input.num_crops(); ++i) {
    const PictureSize size = input.crops[static_cast<std::size_t>(i)].size;
    auto from = input.crop(i).begin();
    for (Index c = 0; c < input.num_channels; ++c, to += most.height * most.width) {
      for (Index y = 0; y < size.height; ++y, from += size.width) std::copy_n(from, size.width, to + y * most.width);
    }
  }
  return out;
}

/// Ones where padded_crops has pixels, [crops, height, width].
inline std::vector<std::int64_t> crop_mask(const VisualInput& input) {
  const PictureSize most = largest_crop(input);
  std::vector<std::int64_t> out(static_cast<std::size_t>(input.num_crops() * most.height * most.width));
  auto to = out.begin();
  for (const VisualInput::Crop& crop : input.crops) {
    for (Index y = 0; y < most.height; ++y, to += most.width) {
      if (y < crop.size.height) std::fill_n(to, crop.size.width, 1);
    }
  }
  return out;
}

/// pixel_values [1, crops, channels, height, width] and pixel_attention_mask [1, crops, height, width].
inline std::vector<NamedTensor> masked_tensors(const VisualInput& input) {
  const PictureSize most = largest_crop(input);
  const Index crops = input.num_crops();
  return {NamedTensor::floats("pixel_values", {1, crops, input.num_channels, most.height, most.width}, padded_crops(input)),
          NamedTensor::int64s("pixel_attention_mask", {1, crops, most.height, most.width}, crop_mask(input))};
}

/// pixel_values [pictures, most, channels, height, width]: of each picture its crops, all of one size, and zeros behind them.
inline NamedTensor padded_pictures(const VisualInput& input, Index most) {
  const PictureSize size = largest_crop(input);
  const Index count = input.num_channels * size.height * size.width;
  std::vector<float> out(static_cast<std::size_t>(input.num_pictures() * most * count));
  std::vector<Index> done(static_cast<std::size_t>(input.num_pictures()));  // crops of each picture
  for (Index i = 0; i < input.num_crops(); ++i) {
    const Index picture = input.crops[static_cast<std::size_t>(i)].picture;
    const auto from = input.crop(i);
    std::copy(from.begin(), from.end(), out.begin() + (picture * most + done[static_cast<std::size_t>(picture)]++) * count);
  }
  return NamedTensor::floats("pixel_values", {input.num_pictures(), most, input.num_channels, size.height, size.width}, out);
}

/// [pictures, 2] of what `size_of` says of each picture.
template <class SizeOf>
NamedTensor sizes_tensor(std::string name, const VisualInput& input, SizeOf&& size_of) {
  std::vector<std::int64_t> sizes;
  for (const PicturePlan& picture : input.pictures) {
    const PictureSize size = size_of(picture);
    sizes.insert(sizes.end(), {size.height, size.width});
  }
  return NamedTensor::int64s(std::move(name), {input.num_pictures(), 2}, sizes);
}

}  // namespace duet::detail
