#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

#include "duet/core/error.hpp"
#include "duet/io/image.hpp"

namespace duet {

/// Resampling filters, numbered as Pillow and preprocessor_config.json number them.
enum class Filter : unsigned char { kNearest = 0, kLanczos = 1, kBilinear = 2, kBicubic = 3, kBox = 4, kHamming = 5 };

namespace detail {

/// Half-width of a filter at scale 1.
inline double filter_support(Filter filter) {
  switch (filter) {
    case Filter::kBox: return 0.5;
    case Filter::kBilinear:
    case Filter::kHamming: return 1.0;
    case Filter::kBicubic: return 2.0;
    default: return 3.0;
  }
}

inline double filter_value(Filter filter, double x) {
  const auto sinc = [](double t) { return t == 0.0 ? 1.0 : std::sin(t * std::numbers::pi) / (t * std::numbers::pi); };
  switch (filter) {
    case Filter::kBox: return x > -0.5 && x <= 0.5 ? 1.0 : 0.0;
    case Filter::kBilinear: return std::max(0.0, 1.0 - std::abs(x));
    case Filter::kHamming: {
      const double t = std::abs(x);
      if (t == 0.0) return 1.0;
      if (t >= 1.0) return 0.0;
      return std::sin(t * std::numbers::pi) / (t * std::numbers::pi) * (0.54 + 0.46 * std::cos(t * std::numbers::pi));
    }
    case Filter::kBicubic: {
      constexpr double a = -0.5;
      const double t = std::abs(x);
      if (t < 1.0) return ((a + 2.0) * t - (a + 3.0)) * t * t + 1;
      if (t < 2.0) return (((t - 5) * t + 8) * t - 4) * a;
      return 0.0;
    }
    default: return -3.0 <= x && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0;
  }
}

/// Pixels [begin, begin + count) along an axis.
struct PixelRange {
  Index begin = 0, count = 0;
};

/// One axis of a resize: for each output pixel that is wanted the first input pixel and fixed-point weights.
struct ResizeAxis {
  static constexpr int kBits = 32 - 8 - 2;  // 8 bits of result, 2 of head room for overshooting filters
  Index taps = 0;                           ///< weights kept for each output
  std::vector<Index> first, count;          ///< [wanted outputs]
  std::vector<std::int32_t> weights;        ///< [wanted outputs, taps]

  ResizeAxis(Index from, Index to, PixelRange wanted, Filter filter) {
    const double scale = static_cast<double>(from) / static_cast<double>(to), filter_scale = std::max(scale, 1.0);
    const double support = filter_support(filter) * filter_scale;  // grows when shrinking: antialiasing
    taps = std::min(from, static_cast<Index>(std::ceil(support)) * 2 + 1);
    weights.resize(static_cast<std::size_t>(wanted.count * taps));
    std::vector<double> exact(static_cast<std::size_t>(taps));
    for (Index i = 0; i < wanted.count; ++i) {
      const double center = (static_cast<double>(wanted.begin + i) + 0.5) * scale;
      const Index begin = std::max<Index>(0, static_cast<Index>(center - support + 0.5));
      const Index end = std::min(from, static_cast<Index>(center + support + 0.5));
      double sum = 0.0;
      for (Index j = begin; j < end; ++j) {
        const double w = filter_value(filter, (static_cast<double>(j) - center + 0.5) * (1.0 / filter_scale));
        exact[static_cast<std::size_t>(j - begin)] = w;
        sum += w;
      }
      for (Index j = 0; j < end - begin; ++j) {
        double w = exact[static_cast<std::size_t>(j)];
        if (sum != 0.0) w /= sum;
        const double fixed = w * (1 << kBits);
        weights[static_cast<std::size_t>(i * taps + j)] = static_cast<std::int32_t>(w < 0 ? fixed - 0.5 : fixed + 0.5);
      }
      first.push_back(begin);
      count.push_back(end - begin);
    }
  }

  /// The input pixels that are looked at.
  [[nodiscard]] PixelRange inputs() const {
    const Index begin = first.front();  // windows move forward only
    return {begin, first.back() + count.back() - begin};
  }
};

inline std::uint8_t clip8(std::int32_t sum) {
  return static_cast<std::uint8_t>(std::clamp(sum >> ResizeAxis::kBits, 0, 255));
}

/// Rows [rows, from, 3] to [rows, to, 3].
inline std::vector<std::uint8_t> resize_rows(std::span<const std::uint8_t> pixels, Index rows, Index from, const ResizeAxis& axis) {
  const auto to = static_cast<Index>(axis.first.size());
  std::vector<std::uint8_t> out(static_cast<std::size_t>(rows * to * 3));
  for (Index y = 0; y < rows; ++y) {
    const std::uint8_t* row = pixels.data() + y * from * 3;
    std::uint8_t* result = out.data() + y * to * 3;
    for (Index x = 0; x < to; ++x) {
      const auto i = static_cast<std::size_t>(x);
      const std::int32_t* w = axis.weights.data() + x * axis.taps;
      const std::uint8_t* at = row + axis.first[i] * 3;
      std::int32_t r = 1 << (ResizeAxis::kBits - 1), g = r, b = r;
      for (Index j = 0; j < axis.count[i]; ++j) {
        r += at[3 * j] * w[j];
        g += at[3 * j + 1] * w[j];
        b += at[3 * j + 2] * w[j];
      }
      result[3 * x] = clip8(r);
      result[3 * x + 1] = clip8(g);
      result[3 * x + 2] = clip8(b);
    }
  }
  return out;
}

/// Columns: [from, width, 3] to [to, width, 3]; row by row, so that compilers see plain loops. `pixels` begin with row `begin`.
inline std::vector<std::uint8_t> resize_columns(std::span<const std::uint8_t> pixels, Index width, Index begin, const ResizeAxis& axis) {
  const auto to = static_cast<Index>(axis.first.size());
  const Index row_size = width * 3;
  std::vector<std::uint8_t> out(static_cast<std::size_t>(to * row_size));
  std::vector<std::int32_t> sums(static_cast<std::size_t>(row_size));
  for (Index y = 0; y < to; ++y) {
    const auto i = static_cast<std::size_t>(y);
    std::ranges::fill(sums, 1 << (ResizeAxis::kBits - 1));
    for (Index j = 0; j < axis.count[i]; ++j) {
      const std::int32_t w = axis.weights[static_cast<std::size_t>(y * axis.taps + j)];
      const std::uint8_t* row = pixels.data() + (axis.first[i] - begin + j) * row_size;
      for (Index x = 0; x < row_size; ++x) sums[static_cast<std::size_t>(x)] += row[x] * w;
    }
    for (Index x = 0; x < row_size; ++x) out[static_cast<std::size_t>(y * row_size + x)] = clip8(sums[static_cast<std::size_t>(x)]);
  }
  return out;
}

}  // namespace detail

/// The part [top, top + part_height) x [left, left + part_width) of a picture at another size, bit for bit as Pillow's Image.resize
/// makes it: separable, antialiased when shrinking, each pass in 8-bit fixed point and rounded to 8 bits. The whole is never made.
///
/// Units   pixels
/// Requires  a part within [height, width]
/// Errors  kInvalidArgument for a size of less than one pixel, for a part beyond 100 megapixels, and for a picture so long and
///         narrow that the step between the passes is beyond 400
/// Cost    part_width · rows looked at · taps + part_width · part_height · taps multiply-adds per channel
/// Source  Pillow, Resample.c and Geometry.c (nearest)
inline Image resize_part(const Image& image, Index width, Index height, Filter filter, Index top, Index left, Index part_height, Index part_width) {
  constexpr Index kMaxPixels = Image::kMaxPixels;
  if (part_width < 1 || part_height < 1 || part_width > kMaxPixels / part_height) {
    throw Error(ErrorKind::kInvalidArgument, "resize", concat(part_width, " x ", part_height), "at least 1 x 1 and at most 100 megapixels");
  }
  const detail::PixelRange rows{top, part_height}, columns{left, part_width};
  if (filter == Filter::kNearest) {
    std::vector<std::uint8_t> out(static_cast<std::size_t>(part_width * part_height * 3));
    const auto sources = [](Index from, Index to, detail::PixelRange wanted) {
      const double scale = static_cast<double>(from) / static_cast<double>(to);
      std::vector<Index> result;
      double at = scale * 0.5;  // stepped, not multiplied, so that halves round as Pillow's do
      for (Index i = 0; i < wanted.begin + wanted.count; ++i, at += scale) {
        if (i >= wanted.begin) result.push_back(std::min(from - 1, static_cast<Index>(at)));
      }
      return result;
    };
    const std::vector<Index> ys = sources(image.height(), height, rows), xs = sources(image.width(), width, columns);
    for (Index y = 0; y < part_height; ++y) {
      for (Index x = 0; x < part_width; ++x) {
        const Index from = ys[static_cast<std::size_t>(y)] * image.width() + xs[static_cast<std::size_t>(x)];
        std::copy_n(image.rgb().begin() + 3 * from, 3, out.begin() + 3 * (y * part_width + x));
      }
    }
    return Image::from_rgb(out, part_width, part_height);
  }
  // The rows that the second pass looks at; all of an axis that keeps its size are copied.
  const detail::ResizeAxis vertical(image.height(), height, rows, filter);
  const detail::PixelRange looked = height == image.height() ? rows : vertical.inputs();
  if (part_width > 4 * kMaxPixels / looked.count) {
    throw Error(ErrorKind::kInvalidArgument, "resize", concat("a picture of ", image.width(), " x ", image.height()),
                concat("one that is less long for a width of ", width), "crop it");
  }
  const auto line = static_cast<std::size_t>(3 * image.width());
  const auto used = image.rgb().subspan(static_cast<std::size_t>(looked.begin) * line, static_cast<std::size_t>(looked.count) * line);
  std::vector<std::uint8_t> pixels;  // [looked.count, part_width, 3]
  if (width != image.width()) {
    pixels = detail::resize_rows(used, looked.count, image.width(), detail::ResizeAxis(image.width(), width, columns, filter));
  } else {
    pixels.resize(static_cast<std::size_t>(looked.count * part_width * 3));
    for (Index y = 0; y < looked.count; ++y) {
      std::copy_n(used.begin() + 3 * (y * image.width() + left), 3 * part_width, pixels.begin() + 3 * y * part_width);
    }
  }
  if (height != image.height()) pixels = detail::resize_columns(pixels, part_width, looked.begin, vertical);
  return Image::from_rgb(pixels, part_width, part_height);
}

/// A whole picture at another size: see resize_part.
inline Image resize(const Image& image, Index width, Index height, Filter filter) {
  return resize_part(image, width, height, filter, 0, 0, height, width);
}

}  // namespace duet
