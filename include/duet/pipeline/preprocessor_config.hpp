#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "duet/io/image.hpp"
#include "duet/io/json.hpp"
#include "duet/models/visual_input.hpp"
#include "duet/pipeline/resize.hpp"

// What preprocessor_config.json says, in all spellings that it has had.

namespace duet {

/// Means and deviations that checkpoints leave out.
inline constexpr std::array<double, 3> kHalves{0.5, 0.5, 0.5};
inline constexpr std::array<double, 3> kClipMean{0.48145466, 0.4578275, 0.40821073}, kClipStd{0.26862954, 0.26130258, 0.27577711};
inline constexpr std::array<double, 3> kImagenetMean{0.485, 0.456, 0.406}, kImagenetStd{0.229, 0.224, 0.225};

/// A size as preprocessor_config.json gives it: both edges, the shortest, or the longest one.
struct TargetSize {
  std::optional<Index> height, width, shortest_edge, longest_edge;
};

/// An integer within [least, most].
/// Errors  kInvalidArgument
inline Index read_between(const JsonView& config, std::string_view key, Index fallback, Index least, Index most) {
  const auto value = config.get_or<Index>(key, fallback);
  if (value >= least && value <= most) return value;
  throw Error(ErrorKind::kInvalidArgument, concat(config.where(), ": ", key), std::to_string(value),
              concat("between ", least, " and ", most));
}

/// Errors  kInvalidArgument for edges that no picture has
inline TargetSize read_size(const JsonView& config, std::string_view key, const TargetSize& fallback) {
  if (!config.contains(key)) return fallback;
  const JsonView value = config.at(key);
  const auto positive = [](const JsonView& at, Index edge) {
    constexpr Index kLongest = Image::kLongestSquareEdge;
    if (edge >= 1 && edge <= kLongest) return edge;
    throw Error(ErrorKind::kInvalidArgument, at.where(), std::to_string(edge), concat("between 1 and ", kLongest, " pixels"));
  };
  if (value.json().is_number()) {  // an old spelling: of one edge or of both, as the processor has it
    const Index edge = positive(value, value.as<Index>());
    if (fallback.shortest_edge && !fallback.longest_edge) return {{}, {}, edge, {}};
    if (fallback.longest_edge) return {{}, {}, fallback.shortest_edge, edge};
    return {edge, edge, {}, {}};
  }
  if (value.json().is_array()) {
    const auto edges = value.as<std::vector<Index>>();
    if (edges.size() != 2) throw Error(ErrorKind::kInvalidArgument, value.where(), value.shown(), "[height, width]");
    return {positive(value, edges[0]), positive(value, edges[1]), {}, {}};
  }
  TargetSize size;
  if (value.contains("shortest_edge")) size.shortest_edge = positive(value, value.get<Index>("shortest_edge"));
  if (value.contains("longest_edge")) size.longest_edge = positive(value, value.get<Index>("longest_edge"));
  if (size.shortest_edge || size.longest_edge) return size;
  return {positive(value, value.get<Index>("height")), positive(value, value.get<Index>("width")), {}, {}};
}

/// One number a channel, or one for all.
/// Errors  kInvalidArgument
inline std::array<double, 3> read_color(const JsonView& config, std::string_view key, const std::array<double, 3>& fallback) {
  if (!config.contains(key)) return fallback;
  if (config.at(key).json().is_number()) {
    const auto value = config.get<double>(key);
    return {value, value, value};
  }
  const auto values = config.get<std::vector<double>>(key);
  if (values.size() != 3) {
    throw Error(ErrorKind::kInvalidArgument, config.at(key).where(), concat(values.size(), " values"), "3, one a channel");
  }
  return {values[0], values[1], values[2]};
}

/// Errors  kInvalidArgument
inline Filter read_filter(const JsonView& config, Filter fallback) {
  const int filter = config.get_or("resample", static_cast<int>(fallback));
  if (filter >= 0 && filter <= 5) return static_cast<Filter>(filter);
  throw Error(ErrorKind::kInvalidArgument, config.where() + ": resample", std::to_string(filter), "one of Pillow's filters, 0 to 5");
}

/// What bytes become on their way to an encoder: x · rescale_factor, then (x - image_mean) / image_std, channel by channel, where
/// do_rescale and do_normalize say so.
class PixelScale {
 public:
  PixelScale() = default;
  /// Errors  kInvalidArgument
  PixelScale(const JsonView& config, const std::array<double, 3>& mean, const std::array<double, 3>& deviation)
      : do_rescale_(config.get_or("do_rescale", true)), do_normalize_(config.get_or("do_normalize", true)),
        factor_(config.get_or("rescale_factor", 1.0 / 255.0)), mean_(read_color(config, "image_mean", mean)),
        deviation_(read_color(config, "image_std", deviation)) {
    for (const double d : deviation_) {
      if (!do_normalize_ || d > 0.0) continue;
      throw Error(ErrorKind::kInvalidArgument, config.where() + ": image_std", concat(d), "positive numbers");
    }
  }

  /// image_mean as a colour, as it fills padding.
  [[nodiscard]] std::array<std::uint8_t, 3> mean_color() const {
    std::array<std::uint8_t, 3> color{};
    for (std::size_t c = 0; c < 3; ++c) color[c] = static_cast<std::uint8_t>(std::clamp(mean_[c] * 255.0, 0.0, 255.0));
    return color;
  }
  /// What a value of 0 … 255 becomes.
  [[nodiscard]] float operator()(double value, std::size_t channel) const {
    auto x = static_cast<float>(value);
    if (do_rescale_) x = static_cast<float>(value * factor_);
    if (do_normalize_) x = (x - static_cast<float>(mean_[channel])) / static_cast<float>(deviation_[channel]);
    return x;
  }
  /// Writes a part of a picture, [3, part.height, part.width], from (top, left) on, which may lie outside: there `fill` is.
  void write(const Image& image, Index top, Index left, PictureSize part, std::span<float> out, double fill = 0.0) const {
    for (std::size_t c = 0; c < 3; ++c) {
      float table[256];  // every step is a function of the byte
      for (int value = 0; value < 256; ++value) table[value] = (*this)(value, c);
      const float outside = (*this)(fill, c);
      float* to = out.data() + static_cast<Index>(c) * part.height * part.width;
      for (Index y = top; y < top + part.height; ++y) {
        for (Index x = left; x < left + part.width; ++x) {
          const bool inside = y >= 0 && y < image.height() && x >= 0 && x < image.width();
          *to++ = inside ? table[image.rgb()[static_cast<std::size_t>(3 * (y * image.width() + x)) + c]] : outside;
        }
      }
    }
  }
  void write(const Image& image, std::span<float> out) const { write(image, 0, 0, {image.height(), image.width()}, out); }

 private:
  bool do_rescale_ = true, do_normalize_ = true;
  double factor_ = 1.0 / 255.0;
  std::array<double, 3> mean_ = kHalves, deviation_ = kHalves;
};

/// For a picture of a size that a family does not take.
inline Error wrong_picture(PictureSize size, std::string_view expected, std::string_view hint) {
  return {ErrorKind::kInvalidArgument, "image", concat(size.width, " x ", size.height), std::string(expected), std::string(hint)};
}

/// A part of a picture, which may go beyond its edges: there the colour is `fill`.
inline Image window(const Image& image, Index top, Index left, PictureSize part, std::array<std::uint8_t, 3> fill = {}) {
  std::vector<std::uint8_t> out(static_cast<std::size_t>(3 * part.height * part.width));
  if (fill != std::array<std::uint8_t, 3>{}) {
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = fill[i % 3];
  }
  const Index begin = std::max<Index>(0, left), end = std::min(image.width(), left + part.width);
  for (Index y = std::max<Index>(0, top); begin < end && y < std::min(image.height(), top + part.height); ++y) {
    std::copy_n(image.rgb().begin() + 3 * (y * image.width() + begin), 3 * (end - begin),
                out.begin() + 3 * ((y - top) * part.width + begin - left));
  }
  return Image::from_rgb(out, part.width, part.height);
}

}  // namespace duet
