#pragma once

#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "duet/io/image.hpp"
#include "duet/io/json.hpp"
#include "duet/models/visual_input.hpp"
#include "duet/pipeline/preprocessor_config.hpp"
#include "duet/pipeline/resize.hpp"

namespace duet {

/// Where the middle `to` pixels of `from` begin; negative: where `to` is larger, with black around.
/// Source  the reference's image_transforms.center_crop, whose offsets round differently when padding is needed
inline Index center_offset(Index from, Index to) {
  if (from >= to) return (from - to) / 2;
  const Index before = (to - from + 1) / 2;  // ceil
  return -before;
}

/// The middle [height, width] of a picture; where the picture is smaller, black around it.
inline Image center_crop(const Image& image, Index height, Index width) {
  return window(image, center_offset(image.height(), height), center_offset(image.width(), width), {height, width});
}

/// The middle [height, width] of a picture at another size, which is never made as a whole.
/// Errors  those of resize_part
inline Image resize_and_crop(const Image& image, PictureSize size, Filter filter, Index height, Index width) {
  const Index top = center_offset(size.height, height), left = center_offset(size.width, width);
  const Index first_y = std::max<Index>(0, top), first_x = std::max<Index>(0, left);
  const Image part = resize_part(image, size.width, size.height, filter, first_y, first_x, std::min(size.height, top + height) - first_y,
                                 std::min(size.width, left + width) - first_x);
  return window(part, top - first_y, left - first_x, {height, width});
}

/// The picture in the middle of a square of one colour.
/// Source  Liu et al. 2023, 2310.03744 (LLaVA 1.5's "pad"), as the reference's LlavaImageProcessor does it
/// Errors  kInvalidArgument where the square would be beyond 100 megapixels
inline Image pad_to_square(const Image& image, std::array<std::uint8_t, 3> color) {
  constexpr Index kLongest = Image::kLongestSquareEdge;
  const Index edge = std::max(image.height(), image.width());
  if (edge > kLongest) {
    throw Error(ErrorKind::kInvalidArgument, "image", concat(image.width(), " x ", image.height()),
                concat("edges of at most ", kLongest, " pixels where pictures are padded to squares"), "make it smaller");
  }
  return window(image, -((edge - image.height()) / 2), -((edge - image.width()) / 2), {edge, edge}, color);
}

/// Prepares pictures as a checkpoint's preprocessor_config.json says: resize, centre crop, rescale, normalise; the same
/// floats as the reference's Pillow-based processors.
///
/// Errors  kUnsupportedModel for a processor it does not know; kInvalidArgument for a value of the wrong type or range
class ImageProcessor {
 public:
  [[nodiscard]] static ImageProcessor load(const std::filesystem::path& folder) {
    const nlohmann::json config = read_json_file(folder / "preprocessor_config.json");
    return ImageProcessor(JsonView(config, "preprocessor_config.json"));
  }
  explicit ImageProcessor(const JsonView& config);

  /// The size that a picture of this size comes out in.
  /// Errors  kInvalidArgument for pictures that become too large on the way
  [[nodiscard]] PictureSize output_size(PictureSize size) const;
  /// Writes the picture's pixels as the encoder reads them, [3, height, width] of output_size.
  void process(const Image& picture, std::span<float> out) const;
  /// The picture after padding, resizing and cropping: the pixels that patches are cut from, as bytes.
  [[nodiscard]] Image seen(const Image& picture) const;

 private:
  struct Defaults {
    std::string_view name;
    TargetSize size;
    Filter resample;
    bool center_crop;  ///< whether it crops unless told not to; the others never do
    std::array<double, 3> mean, std;
  };
  static Defaults defaults_for(const JsonView& config);
  [[nodiscard]] Image resized_and_cropped(const Image& image) const;
  [[nodiscard]] PictureSize resized(PictureSize size) const {
    if (!size_.shortest_edge) return {size_.height.value_or(size_.longest_edge.value_or(1)), size_.width.value_or(size_.longest_edge.value_or(1))};
    // The other edge keeps the aspect, cut off to a whole pixel.
    const Index edge = *size_.shortest_edge, shorter = std::min(size.height, size.width);
    const Index longer = std::max(size.height, size.width);
    const Index other = edge * longer / shorter;
    if (!do_center_crop_ && edge * other > Image::kMaxPixels) {
      throw Error(ErrorKind::kInvalidArgument, "image", concat(size.width, " x ", size.height),
                  concat("one that stays below ", Image::kMaxPixels, " pixels when its shorter edge becomes ", edge), "crop it");
    }
    return size.width <= size.height ? PictureSize{other, edge} : PictureSize{edge, other};
  }

  bool do_resize_ = true, do_center_crop_ = false, do_pad_ = false;
  TargetSize size_;
  Index crop_height_ = 0, crop_width_ = 0;
  Filter resample_ = Filter::kBicubic;
  PixelScale scale_;
};

inline ImageProcessor::Defaults ImageProcessor::defaults_for(const JsonView& config) {
  const auto square = [](Index edge) { return TargetSize{edge, edge, {}, {}}; };
  const auto shortest = [](Index edge) { return TargetSize{{}, {}, edge, {}}; };
  const Defaults known[] = {
      {"ViT", square(224), Filter::kBilinear, false, kHalves, kHalves},
      {"CLIP", shortest(224), Filter::kBicubic, true, kClipMean, kClipStd},
      {"Siglip", square(224), Filter::kBicubic, false, kHalves, kHalves},
      {"DeiT", square(256), Filter::kBicubic, true, kHalves, kHalves},
      {"Bit", shortest(224), Filter::kBicubic, true, kClipMean, kClipStd},
      {"Llava", shortest(224), Filter::kBicubic, true, kClipMean, kClipStd},
      {"Blip", square(384), Filter::kBicubic, false, kClipMean, kClipStd},
      {"LlavaNext", shortest(224), Filter::kBicubic, true, kClipMean, kClipStd},
      {"LlavaOnevision", square(384), Filter::kBicubic, false, kClipMean, kClipStd},
      {"Idefics", square(224), Filter::kBicubic, false, kClipMean, kClipStd},
      {"Gemma3", square(224), Filter::kBilinear, false, kHalves, kHalves},
  };
  const auto type = config.get_any<std::string>({"image_processor_type", "feature_extractor_type"}, "");
  std::string name = type;
  for (const std::string_view ending : {"Fast", "ImageProcessor", "FeatureExtractor"}) {
    if (name.ends_with(ending)) name.resize(name.size() - ending.size());
  }
  for (const Defaults& defaults : known) {
    if (defaults.name == name) return defaults;
  }
  throw Error(ErrorKind::kUnsupportedModel, config.where() + ": image_processor_type", type.empty() ? "nothing" : '"' + type + '"',
              "one that Duet knows");
}

inline ImageProcessor::ImageProcessor(const JsonView& config) {
  const Defaults defaults = defaults_for(config);
  do_resize_ = config.get_or("do_resize", true);
  do_center_crop_ = defaults.center_crop && config.get_or("do_center_crop", true);
  do_pad_ = defaults.name == "Llava" && config.get_or("do_pad", false);
  size_ = read_size(config, defaults.name == "Idefics" ? "image_size" : "size", defaults.size);
  const TargetSize crop = read_size(config, "crop_size", TargetSize{224, 224, {}, {}});
  crop_height_ = crop.height.value_or(crop.shortest_edge.value_or(224));
  crop_width_ = crop.width.value_or(crop.shortest_edge.value_or(224));
  resample_ = read_filter(config, defaults.resample);
  scale_ = PixelScale(config, defaults.mean, defaults.std);
}

inline Image ImageProcessor::seen(const Image& picture) const {
  if (do_pad_ && picture.height() != picture.width()) return resized_and_cropped(pad_to_square(picture, scale_.mean_color()));
  return resized_and_cropped(picture);
}

inline Image ImageProcessor::resized_and_cropped(const Image& image) const {
  const PictureSize size = do_resize_ ? resized({image.height(), image.width()}) : PictureSize{image.height(), image.width()};
  if (do_center_crop_) return resize_and_crop(image, size, resample_, crop_height_, crop_width_);
  return do_resize_ ? resize(image, size.width, size.height, resample_) : image;
}

inline PictureSize ImageProcessor::output_size(PictureSize size) const {
  if (do_center_crop_) return {crop_height_, crop_width_};
  if (do_pad_) size.height = size.width = std::max(size.height, size.width);
  return do_resize_ ? resized(size) : size;
}

inline void ImageProcessor::process(const Image& picture, std::span<float> out) const { scale_.write(seen(picture), out); }

}  // namespace duet
