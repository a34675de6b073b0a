#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../drawing/canvas.hpp"

/// A picture with what was expected and what was said about it.
struct Exhibit {
  duet::Image picture;
  std::string title, question, expected, given;  // a caption has no question
};

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
