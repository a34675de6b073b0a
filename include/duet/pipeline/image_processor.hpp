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
#include "duet/pipeline/resize.hpp"

namespace duet {

/// A size as preprocessor_config.json gives it: both edges, or the shortest one.
struct TargetSize {
  std::optional<Index> height, width, shortest_edge;
};

/// The middle [height, width] of a picture; where the picture is smaller, black around it.
/// Source  the reference's image_transforms.center_crop, whose offsets round differently when padding is needed
inline Image center_crop(const Image& image, Index height, Index width) {
  const auto offset = [](Index from, Index to) {  // of the crop within the picture; negative: padding
    if (from >= to) return (from - to) / 2;
    const Index padded = std::max(to, from);
    const Index before = (padded - from + 1) / 2;  // ceil
    return (padded - to) / 2 - before;
  };
  // When one edge is too small, the reference pads first and crops the other edge by its shifted top or left.
  const Index top = offset(image.height(), height), left = offset(image.width(), width);
  std::vector<std::uint8_t> out(static_cast<std::size_t>(3 * height * width), 0);
  for (Index y = 0; y < height; ++y) {
    const Index from_y = y + top;
    if (from_y < 0 || from_y >= image.height()) continue;
    for (Index x = 0; x < width; ++x) {
      const Index from_x = x + left;
      if (from_x < 0 || from_x >= image.width()) continue;
      std::copy_n(image.rgb().begin() + 3 * (from_y * image.width() + from_x), 3, out.begin() + 3 * (y * width + x));
    }
  }
  return Image::from_rgb(out, width, height);
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
  const Index top = (edge - image.height()) / 2, left = (edge - image.width()) / 2;
  std::vector<std::uint8_t> out(static_cast<std::size_t>(3 * edge * edge));
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = color[i % 3];
  for (Index y = 0; y < image.height(); ++y) {
    std::copy_n(image.rgb().begin() + 3 * y * image.width(), 3 * image.width(), out.begin() + 3 * ((y + top) * edge + left));
  }
  return Image::from_rgb(out, edge, edge);
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
  [[nodiscard]] static TargetSize read_size(const JsonView& config, std::string_view key, const TargetSize& fallback);
  static std::array<double, 3> read_color(const JsonView& config, std::string_view key, const std::array<double, 3>& fallback);

  [[nodiscard]] PictureSize resized(PictureSize size) const {
    if (!size_.shortest_edge) return {*size_.height, *size_.width};
    // The other edge keeps the aspect, cut off to a whole pixel.
    const Index edge = *size_.shortest_edge, shorter = std::min(size.height, size.width);
    const Index longer = std::max(size.height, size.width);
    const Index other = edge * longer / shorter;
    if (edge * other > Image::kMaxPixels) {
      throw Error(ErrorKind::kInvalidArgument, "image", concat(size.width, " x ", size.height),
                  concat("one that stays below ", Image::kMaxPixels, " pixels when its shorter edge becomes ", edge), "crop it");
    }
    return size.width <= size.height ? PictureSize{other, edge} : PictureSize{edge, other};
  }

  bool do_resize_ = true, do_center_crop_ = false, do_rescale_ = true, do_normalize_ = true, do_pad_ = false;
  TargetSize size_;
  Index crop_height_ = 0, crop_width_ = 0;
  Filter resample_ = Filter::kBicubic;
  double rescale_factor_ = 1.0 / 255.0;
  std::array<double, 3> mean_{}, std_{};
};

inline ImageProcessor::Defaults ImageProcessor::defaults_for(const JsonView& config) {
  constexpr std::array<double, 3> half{0.5, 0.5, 0.5};
  constexpr std::array<double, 3> clip_mean{0.48145466, 0.4578275, 0.40821073}, clip_std{0.26862954, 0.26130258, 0.27577711};
  const auto square = [](Index edge) { return TargetSize{edge, edge, {}}; };
  const auto shortest = [](Index edge) { return TargetSize{{}, {}, edge}; };
  const Defaults known[] = {
      {"ViT", square(224), Filter::kBilinear, false, half, half},
      {"CLIP", shortest(224), Filter::kBicubic, true, clip_mean, clip_std},
      {"Siglip", square(224), Filter::kBicubic, false, half, half},
      {"DeiT", square(256), Filter::kBicubic, true, half, half},
      {"Bit", shortest(224), Filter::kBicubic, true, clip_mean, clip_std},
      {"Llava", shortest(224), Filter::kBicubic, true, clip_mean, clip_std},
      {"Blip", square(384), Filter::kBicubic, false, clip_mean, clip_std},
      {"LlavaNext", shortest(224), Filter::kBicubic, true, clip_mean, clip_std},
      {"LlavaOnevision", square(384), Filter::kBicubic, false, clip_mean, clip_std},
      {"Gemma3", square(224), Filter::kBilinear, false, half, half},
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

inline TargetSize ImageProcessor::read_size(const JsonView& config, std::string_view key, const TargetSize& fallback) {
  if (!config.contains(key)) return fallback;
  const JsonView value = config.at(key);
  static constexpr Index kLongest = Image::kLongestSquareEdge;
  const auto positive = [](const JsonView& at, Index edge) {
    if (edge >= 1 && edge <= kLongest) return edge;
    throw Error(ErrorKind::kInvalidArgument, at.where(), std::to_string(edge), concat("between 1 and ", kLongest, " pixels"));
  };
  if (value.json().is_number()) {  // an old spelling: of the shortest edge, or of both, as the processor has it
    const Index edge = positive(value, value.as<Index>());
    return fallback.shortest_edge ? TargetSize{{}, {}, edge} : TargetSize{edge, edge, {}};
  }
  if (value.json().is_array()) {
    const auto edges = value.as<std::vector<Index>>();
    if (edges.size() != 2) throw Error(ErrorKind::kInvalidArgument, value.where(), value.shown(), "[height, width]");
    return {positive(value, edges[0]), positive(value, edges[1]), {}};
  }
  if (value.contains("shortest_edge")) return {{}, {}, positive(value, value.get<Index>("shortest_edge"))};
  return {positive(value, value.get<Index>("height")), positive(value, value.get<Index>("width")), {}};
}

inline std::array<double, 3> ImageProcessor::read_color(const JsonView& config, std::string_view key, const std::array<double, 3>& fallback) {
  if (!config.contains(key)) return fallback;
  if (config.at(key).json().is_number()) {  // of every channel
    const auto value = config.get<double>(key);
    return {value, value, value};
  }
  const auto values = config.get<std::vector<double>>(key);
  if (values.size() != 3) {
    throw Error(ErrorKind::kInvalidArgument, config.at(key).where(), concat(values.size(), " values"), "3, one a channel");
  }
  return {values[0], values[1], values[2]};
}

inline ImageProcessor::ImageProcessor(const JsonView& config) {
  const Defaults defaults = defaults_for(config);
  do_resize_ = config.get_or("do_resize", true);
  do_center_crop_ = defaults.center_crop && config.get_or("do_center_crop", true);
  do_rescale_ = config.get_or("do_rescale", true);
  do_normalize_ = config.get_or("do_normalize", true);
  do_pad_ = defaults.name == "Llava" && config.get_or("do_pad", false);
  size_ = read_size(config, "size", defaults.size);
  const TargetSize crop = read_size(config, "crop_size", TargetSize{224, 224, {}});
  crop_height_ = crop.height.value_or(crop.shortest_edge.value_or(224));
  crop_width_ = crop.width.value_or(crop.shortest_edge.value_or(224));
  const int filter = config.get_or("resample", static_cast<int>(defaults.resample));
  if (filter < 0 || filter > 5) {
    throw Error(ErrorKind::kInvalidArgument, config.where() + ": resample", std::to_string(filter), "one of Pillow's filters, 0 to 5");
  }
  resample_ = static_cast<Filter>(filter);
  rescale_factor_ = config.get_or("rescale_factor", 1.0 / 255.0);
  mean_ = read_color(config, "image_mean", defaults.mean);
  std_ = read_color(config, "image_std", defaults.std);
  for (const double deviation : std_) {
    if (do_normalize_ && !(deviation > 0.0)) {
      throw Error(ErrorKind::kInvalidArgument, config.where() + ": image_std", concat(deviation), "positive numbers");
    }
  }
}

inline Image ImageProcessor::seen(const Image& picture) const {
  Image image = picture;
  if (do_pad_) {
    std::array<std::uint8_t, 3> color{};
    for (std::size_t c = 0; c < 3; ++c) color[c] = static_cast<std::uint8_t>(std::clamp(mean_[c] * 255.0, 0.0, 255.0));
    image = pad_to_square(image, color);
  }
  if (do_resize_) {
    const PictureSize size = resized({image.height(), image.width()});
    image = resize(image, size.width, size.height, resample_);
  }
  if (do_center_crop_) image = center_crop(image, crop_height_, crop_width_);
  return image;
}

inline PictureSize ImageProcessor::output_size(PictureSize size) const {
  if (do_center_crop_) return {crop_height_, crop_width_};
  if (do_pad_) size.height = size.width = std::max(size.height, size.width);
  return do_resize_ ? resized(size) : size;
}

inline void ImageProcessor::process(const Image& picture, std::span<float> out) const {
  const Image image = seen(picture);
  const auto plane = static_cast<std::size_t>(image.height() * image.width());
  for (std::size_t c = 0; c < 3; ++c) {
    float table[256];  // every step is a function of the byte
    for (int value = 0; value < 256; ++value) {
      float x = static_cast<float>(value);
      if (do_rescale_) x = static_cast<float>(static_cast<double>(value) * rescale_factor_);
      if (do_normalize_) x = (x - static_cast<float>(mean_[c])) / static_cast<float>(std_[c]);
      table[value] = x;
    }
    for (std::size_t i = 0; i < plane; ++i) out[c * plane + i] = table[image.rgb()[3 * i + c]];
  }
}

}  // namespace duet
