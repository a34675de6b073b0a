#pragma once

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "duet/pipeline/processor.hpp"

namespace duet::detail {

inline Error wrong_argument(std::string_view name, const Argument& got, std::string_view expected) {
  return {ErrorKind::kShapeMismatch, concat("inputs.", name), shape_text(got.shape), expected};
}

/// An argument of the reference's forward() of this many extents, or nothing where it is not given.
/// Errors  kShapeMismatch
inline std::optional<Argument> find_argument(const FindArgument& find, std::string_view name, std::size_t rank, std::string_view expected) {
  std::optional<Argument> found = find(name);
  if (found && found->shape.size() != rank) throw wrong_argument(name, *found, expected);
  return found;
}

/// The same where it must be given.
/// Errors  kMissingTensor, kShapeMismatch
inline Argument get_argument(const FindArgument& find, std::string_view name, std::size_t rank, std::string_view expected) {
  if (std::optional<Argument> found = find_argument(find, name, rank, expected)) return *std::move(found);
  throw Error(ErrorKind::kMissingTensor, concat("inputs.", name), "nothing", expected);
}

/// [pictures, 2] of heights and widths, each between 1 and `largest`.
/// Errors  kMissingTensor, kShapeMismatch, kInvalidArgument
inline std::vector<PictureSize> sizes_argument(const FindArgument& find, std::string_view name, Index pictures, Index largest) {
  const Argument sizes = get_argument(find, name, 2, "[pictures, 2]");
  if (sizes.shape[0] != pictures || sizes.shape[1] != 2) throw wrong_argument(name, sizes, concat("[", pictures, ", 2]"));
  std::vector<PictureSize> result;
  for (std::size_t i = 0; i < sizes.values.size(); i += 2) {
    for (const double edge : {sizes.values[i], sizes.values[i + 1]}) {
      if (edge >= 1.0 && edge <= static_cast<double>(largest) && edge == std::floor(edge)) continue;
      throw Error(ErrorKind::kInvalidArgument, concat("inputs.", name, "[", i / 2, "]"), concat(edge), concat("between 1 and ", largest));
    }
    result.push_back({static_cast<Index>(sizes.values[i]), static_cast<Index>(sizes.values[i + 1])});
  }
  return result;
}

/// How many [channels, height, width] an argument with such last extents holds.
inline Index stored_crops(const Argument& pixels) {
  Index count = 1;
  for (std::size_t i = 0; i + 3 < pixels.shape.size(); ++i) count *= pixels.shape[i];
  return count;
}
/// Height and width of an argument [..., channels, height, width].
inline PictureSize stored_size(const Argument& pixels) { return {pixels.shape[pixels.shape.size() - 2], pixels.shape.back()}; }

/// Adds the upper left part, of size `part`, of the i-th crop of [..., channels, height, width] to the last picture.
/// Requires  part within the crop
inline void add_stored_crop(VisualInput& input, const Argument& pixels, Index i, PictureSize part) {
  const PictureSize size = stored_size(pixels);
  input.num_channels = pixels.shape[pixels.shape.size() - 3];
  const Index plane = size.height * size.width;
  auto out = input.add_crop(part).begin();
  for (Index c = 0; c < input.num_channels; ++c) {
    for (Index y = 0; y < part.height; ++y) {
      const auto from = pixels.values.begin() + (i * input.num_channels + c) * plane + y * size.width;
      out = std::transform(from, from + part.width, out, [](double value) { return static_cast<float>(value); });
    }
  }
}

/// Whether the i-th crop of [..., channels, height, width] is nothing but zeros: padding of a batch.
inline bool is_padding_crop(const Argument& pixels, Index i) {
  const PictureSize size = stored_size(pixels);
  const Index count = pixels.shape[pixels.shape.size() - 3] * size.height * size.width;
  const auto from = pixels.values.begin() + i * count;
  return std::all_of(from, from + count, [](double value) { return value == 0.0; });
}

/// Pictures of [batch, pictures, channels, height, width], each cut to where pixel_attention_mask [batch, pictures, height, width] has
/// ones, without those that are padding of a batch: what Idefics 2 and 3 get. `plan(size)` plans a crop that came as a whole picture.
/// Errors  kShapeMismatch
template <class Plan>
VisualInput masked_pictures(const FindArgument& find, Plan&& plan) {
  VisualInput input;
  auto pixels = find("pixel_values");
  if (!pixels) return input;
  const bool of_tower = pixels->shape.size() == 4;
  if (of_tower) pixels->shape.insert(pixels->shape.begin(), 1);
  if (pixels->shape.size() != 5) throw wrong_argument("pixel_values", *pixels, "[batch, pictures, channels, height, width]");
  if (const auto patches = find("patch_attention_mask"); patches && std::ranges::find(patches->values, 0.0) != patches->values.end()) {
    throw wrong_argument("patch_attention_mask", *patches, "ones; pixel_attention_mask [batch, pictures, height, width] says what is padding");
  }
  const auto mask = find_argument(find, "pixel_attention_mask", 4, "[batch, pictures, height, width]");
  const PictureSize size = stored_size(*pixels);
  if (mask && mask->shape != std::vector<Index>{pixels->shape[0], pixels->shape[1], size.height, size.width}) {
    throw wrong_argument("pixel_attention_mask", *mask, "that of pixel_values without channels");
  }
  for (Index i = 0; i < stored_crops(*pixels); ++i) {
    if (!of_tower && is_padding_crop(*pixels, i)) continue;
    PictureSize part = size;
    if (mask) {
      part = {};
      for (Index y = 0; y < size.height; ++y) {
        for (Index x = 0; x < size.width; ++x) {
          if (mask->values[static_cast<std::size_t>((i * size.height + y) * size.width + x)] == 0.0) continue;
          part = {std::max(part.height, y + 1), std::max(part.width, x + 1)};
        }
      }
      if (part == PictureSize{}) part = size;
    }
    input.add_picture(plan(part));
    add_stored_crop(input, *pixels, i, part);
  }
  return input;
}

}  // namespace duet::detail
