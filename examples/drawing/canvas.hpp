#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "duet/io/image.hpp"
#include "font.hpp"

/// RGB bytes that things are drawn on.
class Canvas {
 public:
  using Colour = std::array<std::uint8_t, 3>;

  Canvas(std::size_t width, std::size_t height, Colour ground) : width_(width), height_(height) {
    rgb_.reserve(3 * width * height);
    for (std::size_t i = 0; i < width * height; ++i) rgb_.insert(rgb_.end(), ground.begin(), ground.end());
  }
  [[nodiscard]] std::size_t width() const noexcept { return width_; }
  [[nodiscard]] std::size_t height() const noexcept { return height_; }
  [[nodiscard]] const std::uint8_t* data() const noexcept { return rgb_.data(); }

  /// What lies outside is left out.
  void set(std::size_t x, std::size_t y, Colour colour) {
    if (x < width_ && y < height_) std::copy_n(colour.begin(), 3, rgb_.begin() + static_cast<std::ptrdiff_t>(3 * (y * width_ + x)));
  }
  /// Letters of kGlyphWidth x kGlyphHeight squares, each `scale` pixels wide.
  void text(std::size_t x, std::size_t y, std::string_view line, Colour colour, std::size_t scale = 1) {
    for (const char c : line) {
      const std::string_view glyph = glyph_of(c);
      for (std::size_t i = 0; i < glyph.size(); ++i) {
        if (glyph[i] != '#') continue;
        const std::size_t left = x + i % (kGlyphWidth + 1) * scale, top = y + i / (kGlyphWidth + 1) * scale;
        for (std::size_t k = 0; k < scale * scale; ++k) set(left + k % scale, top + k / scale, colour);
      }
      x += (kGlyphWidth + 1) * scale;
    }
  }
  /// `edge` x `edge` pixels from (x, y) on, each the nearest one of the picture.
  void picture(std::size_t x, std::size_t y, const duet::Image& image, std::size_t edge) {
    picture(x, y, image, edge, edge, [](Colour pixel, std::size_t, std::size_t) { return pixel; });
  }
  /// `width` x `height` pixels from (x, y) on, each paint(the picture's nearest pixel, column, row).
  template <class Paint>
  void picture(std::size_t x, std::size_t y, const duet::Image& image, std::size_t width, std::size_t height, const Paint& paint) {
    const auto from_width = static_cast<std::size_t>(image.width()), from_height = static_cast<std::size_t>(image.height());
    for (std::size_t i = 0; i < height; ++i) {
      for (std::size_t j = 0; j < width; ++j) {
        const auto from = image.rgb().subspan(3 * (i * from_height / height * from_width + j * from_width / width), 3);
        set(x + j, y + i, paint(Colour{from[0], from[1], from[2]}, j, i));
      }
    }
  }

 private:
  std::size_t width_, height_;
  std::vector<std::uint8_t> rgb_;
};

/// `text` in lines of at most `width` characters, broken at spaces where there are any.
inline std::vector<std::string> wrap(std::string_view text, std::size_t width) {
  std::vector<std::string> lines;
  while (text.size() > width) {
    const std::size_t space = text.rfind(' ', width);
    const bool found = space != std::string_view::npos && space > 0;
    lines.emplace_back(text.substr(0, found ? space : width));
    text.remove_prefix(found ? space + 1 : width);
  }
  lines.emplace_back(text);
  return lines;
}
