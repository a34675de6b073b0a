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

/// A picture with what was expected and what was said about it.
struct Exhibit {
  duet::Image picture;
  std::string title, question, expected, given;  // a caption has no question
};

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
  void text(std::size_t x, std::size_t y, std::string_view line, Colour colour) {
    for (const char c : line) {
      const std::string_view glyph = glyph_of(c);
      for (std::size_t i = 0; i < glyph.size(); ++i) {
        if (glyph[i] == '#') set(x + i % (kGlyphWidth + 1), y + i / (kGlyphWidth + 1), colour);
      }
      x += kGlyphWidth + 1;
    }
  }
  /// `edge` x `edge` pixels from (x, y) on, each the nearest one of the picture.
  void picture(std::size_t x, std::size_t y, const duet::Image& image, std::size_t edge) {
    const auto width = static_cast<std::size_t>(image.width()), height = static_cast<std::size_t>(image.height());
    for (std::size_t i = 0; i < edge; ++i) {
      for (std::size_t j = 0; j < edge; ++j) {
        const auto from = image.rgb().subspan(3 * (i * height / edge * width + j * width / edge), 3);
        set(x + j, y + i, {from[0], from[1], from[2]});
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

/// Exhibits in rows of four under a heading: the picture, and below it what it is, the question, the truth and the answer.
inline Canvas contact_sheet(std::string_view heading, const std::vector<Exhibit>& exhibits) {
  constexpr std::size_t kColumns = 4, kEdge = 256, kGap = 12, kLine = kGlyphHeight + 3;
  constexpr Canvas::Colour kGround{250, 250, 250}, kInk{30, 30, 30}, kGrey{110, 110, 110}, kGreen{0, 110, 40}, kRed{190, 0, 0};
  struct Line {
    std::string text;
    Canvas::Colour colour;
  };
  std::vector<std::vector<Line>> captions;
  for (const Exhibit& e : exhibits) {
    std::vector<Line>& lines = captions.emplace_back();
    const auto add = [&](std::string_view text, Canvas::Colour colour) {
      for (std::string& line : wrap(text, kEdge / (kGlyphWidth + 1))) lines.push_back({std::move(line), colour});
    };
    add(e.title, kGrey);
    if (!e.question.empty()) add(e.question, kInk);
    add("expected: " + e.expected, kGreen);
    add("given: " + e.given, kRed);
  }
  constexpr std::size_t kWidth = kColumns * (kEdge + kGap) + kGap;
  const std::vector<std::string> headings = wrap(heading, (kWidth - 2 * kGap) / (kGlyphWidth + 1));
  std::vector<std::size_t> tops{kGap + headings.size() * kLine + kGap};  // of the rows, and of what would follow the last
  for (std::size_t i = 0; i < exhibits.size(); i += kColumns) {
    std::size_t most = 0;
    for (std::size_t j = i; j < std::min(i + kColumns, exhibits.size()); ++j) most = std::max(most, captions[j].size());
    tops.push_back(tops.back() + kEdge + kGap / 2 + most * kLine + kGap);
  }
  Canvas canvas(kWidth, tops.back(), kGround);
  for (std::size_t i = 0; i < headings.size(); ++i) canvas.text(kGap, kGap + i * kLine, headings[i], kInk);
  for (std::size_t i = 0; i < exhibits.size(); ++i) {
    const std::size_t x = kGap + i % kColumns * (kEdge + kGap), y = tops[i / kColumns];
    canvas.picture(x, y, exhibits[i].picture, kEdge);
    for (std::size_t k = 0; k < captions[i].size(); ++k) {
      canvas.text(x, y + kEdge + kGap / 2 + k * kLine, captions[i][k].text, captions[i][k].colour);
    }
  }
  return canvas;
}
