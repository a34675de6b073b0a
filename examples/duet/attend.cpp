#include <iostream>

#include "../drawing/png.hpp"
#include "commands.hpp"
#include "duet/io/json.hpp"
#include "duet/io/write_file.hpp"
#include "heat_map.hpp"
#include "load_model.hpp"
#include "progress.hpp"
#include "trace.hpp"

namespace {

using duet::AttentionTrace;
using duet::Image;

/// The picture once per word with the word's heat map over it, the word below; first the picture as it is.
Canvas strip(const Image& picture, const AttentionTrace& trace, const std::vector<HeatMap>& heats) {
  constexpr std::size_t kColumns = 6, kEdge = 160, kGap = 10, kScale = 2, kLine = (kGlyphHeight + 2) * kScale;
  constexpr Canvas::Colour kGround{250, 250, 250}, kInk{30, 30, 30}, kGrey{120, 120, 120};
  constexpr std::size_t kLetters = kEdge / ((kGlyphWidth + 1) * kScale);
  const std::size_t longer = static_cast<std::size_t>(std::max(picture.width(), picture.height()));
  const std::size_t width = std::max<std::size_t>(1, kEdge * static_cast<std::size_t>(picture.width()) / longer);
  const std::size_t height = std::max<std::size_t>(1, kEdge * static_cast<std::size_t>(picture.height()) / longer);
  const std::size_t cells = trace.words.size() + 1, columns = std::min(cells, kColumns), rows = (cells + columns - 1) / columns;
  Canvas canvas(columns * (kEdge + kGap) + kGap, rows * (kEdge + kLine + kGap) + kGap, kGround);
  for (std::size_t cell = 0; cell < cells; ++cell) {
    const std::size_t x = kGap + cell % columns * (kEdge + kGap), y = kGap + cell / columns * (kEdge + kLine + kGap);
    const HeatMap* heat = cell == 0 ? nullptr : &heats[cell - 1];
    canvas.picture(x, y, picture, width, height, [&](Canvas::Colour pixel, std::size_t column, std::size_t row) {
      if (heat == nullptr) return pixel;
      return HeatMap::over(pixel, heat->at((static_cast<double>(column) + 0.5) / static_cast<double>(width),
                                           (static_cast<double>(row) + 0.5) / static_cast<double>(height)));
    });
    const std::string& word = cell == 0 ? std::string("(picture)") : trace.words[cell - 1].text;
    canvas.text(x, y + kEdge + kScale, std::string_view(word).substr(0, kLetters), cell == 0 ? kGrey : kInk, kScale);
  }
  return canvas;
}

std::string base64(std::span<const std::byte> bytes) {
  static constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    unsigned group = 0;
    for (std::size_t k = 0; k < 3; ++k) group = group << 8 | (i + k < bytes.size() ? static_cast<unsigned>(bytes[i + k]) : 0u);
    for (std::size_t k = 0; k < 4; ++k) text += i + k <= bytes.size() ? kDigits[group >> (18 - 6 * k) & 63] : '=';
  }
  return text;
}

std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c == '<') result += "&lt;";
    else if (c == '>') result += "&gt;";
    else if (c == '&') result += "&amp;";
    else if (c == '"') result += "&quot;";
    else result += c;
  }
  return result;
}

/// A page that needs nothing else: hovering over a word shows where it looked.
std::string page(const Image& picture, const AttentionTrace& trace, const std::vector<std::vector<float>>& heats, std::string_view question) {
  static constexpr std::string_view kStyle = R"(
body { font: 18px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 40rem; padding: 0 1rem; color: #222; background: #fafafa }
figure { position: relative; margin: 0 0 1rem } img { width: 100%; image-rendering: pixelated; display: block }
canvas { position: absolute; inset: 0; width: 100%; height: 100%; opacity: 0; transition: opacity .15s }
span { padding: .15em .25em; border-radius: .3em; cursor: default } span:hover, span:focus { background: #ffd54d; outline: none }
.question { color: #666 })";
  static constexpr std::string_view kScript = R"(
const canvas = document.querySelector('canvas'), words = document.querySelectorAll('span');
canvas.width = data.cols; canvas.height = data.rows;
function show(heat) {
  const context = canvas.getContext('2d'), pixels = context.createImageData(data.cols, data.rows), most = Math.max(...heat) || 1;
  heat.forEach((h, i) => {
    const t = h / most;
    pixels.data.set([t * 255, t * 230 * Math.min(1, 2 - 1.6 * t), t * 40 * (1 - t), 255 * (t * 0.65 + (1 - t) * 0.55)], 4 * i);
  });
  context.putImageData(pixels, 0, 0);
  canvas.style.opacity = 1;
}
words.forEach((word, i) => {
  for (const on of ['mouseenter', 'focus']) word.addEventListener(on, () => show(data.heat[i]));
  for (const off of ['mouseleave', 'blur']) word.addEventListener(off, () => { canvas.style.opacity = 0; });
});)";
  const std::vector<std::byte> png = encode_png(picture.rgb(), static_cast<std::size_t>(picture.width()), static_cast<std::size_t>(picture.height()));
  std::string html = "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>Where it looks</title>\n<style>";
  html += kStyle;
  html += "\n</style></head>\n<body>\n<figure><img alt=\"the picture as the model sees it\" src=\"data:image/png;base64," + base64(png) +
          "\"><canvas></canvas></figure>\n";
  if (!question.empty()) html += "<p class=\"question\">" + escaped(question) + "</p>\n";
  html += "<p>";
  for (const AttentionTrace::Word& word : trace.words) html += "<span tabindex=\"0\">" + escaped(word.text) + "</span> ";
  const nlohmann::json data = {{"rows", trace.rows}, {"cols", trace.cols}, {"heat", heats}};
  html += "</p>\n<script>\nconst data = " + data.dump() + ";";
  html += kScript;
  return html + "\n</script>\n</body>\n</html>\n";
}

}  // namespace

int attend(const AttendOptions& options) {
  const Progress progress("loading");
  const duet::Pipeline pipeline(load_model(options.model, load_options(options.weights, options.threads)));
  const Image picture = pipeline.prompts().open(options.image);
  progress.say("looking");
  constexpr duet::Index kDefaultReply = 64;
  const duet::Index longest = options.max_new_tokens.value_or(pipeline.defaults().max_new_tokens.value_or(kDefaultReply));
  const AttentionTrace trace_of_reply =
      trace(pipeline, picture, options.prompt ? std::optional<std::string_view>(*options.prompt) : std::nullopt, longest, options.kv_format);
  const duet::HeatChoice choice{options.layer, options.head};
  std::vector<std::vector<float>> heats;
  std::vector<HeatMap> maps;
  for (const AttentionTrace::Word& word : trace_of_reply.words) {
    heats.push_back(trace_of_reply.heat(word, choice));
    maps.emplace_back(heats.back(), static_cast<std::size_t>(trace_of_reply.rows), static_cast<std::size_t>(trace_of_reply.cols));
  }
  const Image seen = pipeline.prompts().processor().seen(picture);
  if (!options.html.empty()) {
    const std::string html = page(seen, trace_of_reply, heats, options.prompt.value_or(""));
    duet::write_file(options.html, std::as_bytes(std::span(html)));
  }
  if (!options.output.empty()) {
    const Canvas canvas = strip(seen, trace_of_reply, maps);
    duet::write_file(options.output, encode_png({canvas.data(), 3 * canvas.width() * canvas.height()}, canvas.width(), canvas.height()));
  }
  progress.clear();
  if (!options.json) {
    std::cout << trace_of_reply.text << '\n';
    return 0;
  }
  nlohmann::ordered_json result;
  result["text"] = trace_of_reply.text;
  result["rows"] = trace_of_reply.rows;
  result["cols"] = trace_of_reply.cols;
  result["layers"] = trace_of_reply.num_layers;
  result["heads"] = trace_of_reply.num_heads;
  result["words"] = nlohmann::ordered_json::array();
  for (std::size_t i = 0; i < heats.size(); ++i) {
    result["words"].push_back({{"text", trace_of_reply.words[i].text}, {"heat", heats[i]}});
  }
  std::cout << result.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
  return 0;
}
