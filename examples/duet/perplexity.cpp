#include <cmath>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <vector>

#include "commands.hpp"
#include "duet/io/image.hpp"
#include "duet/pipeline/pipeline.hpp"
#include "load_model.hpp"
#include "progress.hpp"

namespace {

using duet::Index;
using duet::TokenId;

struct Total {
  double log_probability = 0.0;
  Index tokens = 0;

  void add(const std::vector<double>& scores) {
    for (const double score : scores) log_probability += score;
    tokens += static_cast<Index>(scores.size());
  }
  [[nodiscard]] double perplexity() const { return std::exp(-log_probability / static_cast<double>(tokens)); }
};

/// What stands in front of a text, without what ends one.
std::vector<TokenId> beginning(const duet::Pipeline& pipeline) {
  const duet::Tokenizer* tokenizer = pipeline.tokenizer();
  if (tokenizer == nullptr) throw duet::Tokenizer::missing(pipeline.model().folder().path());
  std::vector<TokenId> start = tokenizer->encode("", duet::SpecialTokens::kAdd);
  if (start.size() > 1) start.resize(1);
  return start;
}

/// A text in windows of `context` tokens, each beginning as a text does.
Total score_text(const duet::Pipeline& pipeline, const std::string& text, Index context, const Progress& progress) {
  const std::vector<TokenId> start = beginning(pipeline), ids = pipeline.tokenizer()->encode(text, duet::SpecialTokens::kNone);
  const auto width = static_cast<std::size_t>(context) - start.size();
  Total total;
  for (std::size_t begin = 0; begin < ids.size(); begin += width) {
    std::vector<TokenId> window = start;
    window.insert(window.end(), ids.begin() + static_cast<std::ptrdiff_t>(begin),
                  ids.begin() + static_cast<std::ptrdiff_t>(std::min(ids.size(), begin + width)));
    if (window.size() < 2) continue;
    total.add(score_model(pipeline.model(), pipeline.make_prompt(std::move(window), {}, {}, 0), {}, 1));
    progress.say(duet::concat("scoring ", 100 * begin / ids.size(), " %"));
  }
  return total;
}

/// One line of a list: the picture and what is said of it.
void score_line(const duet::Pipeline& pipeline, const duet::JsonView& line, const std::filesystem::path& folder, Total& total) {
  std::vector<duet::Image> images;
  if (const auto file = line.get_or<std::string>("file", ""); !file.empty()) images.push_back(pipeline.prompts().open(folder / file));
  const std::string text = line.contains("text") ? line.get<std::string>("text") : line.at("captions").elements().at(0).as<std::string>();
  std::optional<std::string> prompt;
  if (line.contains("prompt")) prompt = line.get<std::string>("prompt");
  const std::vector<duet::PicturePlan> plans = pipeline.prompts().plans(images);
  std::vector<TokenId> ids = prompt || !images.empty() ? pipeline.prompts().encode_turn(prompt, plans, duet::PromptEncoder::Turn::kFirst)
                                                       : beginning(pipeline);
  const Index first = std::max<Index>(1, static_cast<Index>(ids.size()));
  const std::vector<TokenId> more = pipeline.tokenizer()->encode(text, duet::SpecialTokens::kNone);
  if (ids.size() + more.size() < 2) return;
  ids.insert(ids.end(), more.begin(), more.end());
  duet::ImageRows rows;
  if (!images.empty()) {
    duet::Workspace workspace(pipeline.model().compute());
    rows = pipeline.model().encode(pipeline.prompts().preprocess(images), workspace);
  }
  const Index memory = pipeline.model().info().cross_attention_layers > 0 ? rows.rows.rows() : 0;
  total.add(score_model(pipeline.model(), pipeline.make_prompt(std::move(ids), plans, {}, memory), rows, first));
}

Total score_lines(const duet::Pipeline& pipeline, const std::string& text, const std::filesystem::path& file, const Progress& progress) {
  Total total;
  std::size_t number = 0;
  for (std::size_t begin = 0; begin < text.size(); ++number) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = duet::concat(file.string(), ": line ", number + 1);
    const nlohmann::json json = duet::parse_json(line, where);
    const duet::JsonView view(json, where);
    if (!view.contains("text") && (!view.contains("captions") || view.at("captions").elements().empty())) {
      throw duet::Error(duet::ErrorKind::kMalformedFile, where, "neither text nor captions", "what is said of the picture, in one of them");
    }
    score_line(pipeline, view, file.parent_path(), total);
    progress.say(duet::concat("scoring line ", number + 1));
  }
  return total;
}

}  // namespace

int perplexity(const PerplexityOptions& options) {
  Progress progress("loading");
  const duet::Pipeline pipeline(load_model(options.model, load_options(options.weights, options.threads)));
  const duet::ModelInfo& info = pipeline.model().info();
  const std::string text = duet::read_text_file(options.file);
  const bool is_list = std::filesystem::path(options.file).extension() == ".jsonl";
  const Index context = std::min(options.context, info.context);
  const Total total = is_list ? score_lines(pipeline, text, options.file, progress) : score_text(pipeline, text, std::max<Index>(2, context), progress);
  progress.clear();
  if (total.tokens == 0) {
    throw duet::Error(duet::ErrorKind::kInvalidArgument, options.file, "nothing to score", "a text, or lines of JSON with pictures and texts");
  }
  if (options.json) {
    const nlohmann::ordered_json json{{"perplexity", total.perplexity()}, {"tokens", total.tokens}};
    std::cout << json.dump() << '\n';
  } else {
    std::printf("perplexity %.4f over %ld tokens\n", total.perplexity(), static_cast<long>(total.tokens));
  }
  return 0;
}
