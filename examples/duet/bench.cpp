#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <functional>
#include <iostream>
#include <optional>

#include "bench_comparison.hpp"
#include "commands.hpp"
#include "duet/core/large_pages.hpp"
#include "duet/kernels/build_info.hpp"
#include "duet/kernels/machine.hpp"
#include "duet/pipeline/pipeline.hpp"
#include "load_model.hpp"
#include "progress.hpp"
#include "random_model.hpp"

namespace {

using duet::Index;
using Json = nlohmann::ordered_json;

double seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double best_of(int repeats, const std::function<void()>& work) {
  double best = seconds(work);
  for (int i = 1; i < repeats; ++i) best = std::min(best, seconds(work));
  return best;
}

/// This machine's limits: the best of probes taken before, between and after what is measured, because the machine's own
/// speed changes under us.
class Limits {
 public:
  explicit Limits(const duet::Compute& compute) : compute_(compute), buffer_((std::size_t{256} << 20) / sizeof(float)) {
    duet::prefer_large_pages(buffer_.data(), buffer_.size() * sizeof(float));
    std::fill_n(buffer_.data(), buffer_.size(), 1.0f);
  }

  void probe() {
    for (int i = 0; i < 4; ++i) {
      const double fma = duet::kernels::probe_fma_peak(compute_), read = duet::kernels::probe_read_bandwidth(compute_, {buffer_.data(), buffer_.size()});
      fma_ = std::max(fma_, fma);
      read_ = std::max(read_, read);
      probes_.push_back({{"read_gb_s", read}, {"fma_gflop_s", fma}});
    }
  }
  [[nodiscard]] double fma() const { return fma_; }
  [[nodiscard]] double read() const { return read_; }
  [[nodiscard]] const Json& probes() const { return probes_; }
  /// Memory that the probes hold, which is not the model's.
  [[nodiscard]] double megabytes() const { return static_cast<double>(buffer_.size() * sizeof(float)) / 1e6; }

 private:
  duet::Compute compute_;
  duet::AlignedBuffer<float> buffer_;
  double fma_ = 0, read_ = 0;
  Json probes_ = Json::array();
};

double peak_megabytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stod(line.substr(6)) * 1024 / 1e6;
  }
  return 0;
}

/// Ids that a model has.
std::vector<duet::TokenId> made_up_ids(const duet::ModelInfo& info, Index count) {
  std::vector<duet::TokenId> ids;
  for (Index i = 0; i < count; ++i) ids.push_back(static_cast<duet::TokenId>((i * 7919 + 1) % info.vocab_size));
  return ids;
}

struct Text {
  Index prompt = 0, replies = 0;  ///< tokens
  double prefill_seconds = 0, prefill_gflop = 0, decode_seconds = 0, decode_bytes = 0, kv_bytes = 0;
  Index before = 0;  ///< positions read before decoding began
};

/// A picture of the encoder's size.
duet::VisualInput made_up_picture(const duet::ModelInfo& info) {
  duet::VisualInput input;
  input.num_channels = info.num_channels;
  const std::span<float> pixels = input.add_whole({info.image_size, info.image_width});
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<float>(i % 255) / 127.5f - 1.0f;
  return input;
}

/// What a visual memory gets of one picture. Of a hybrid's it is a tile: the prompts here have no place for a view of the whole.
duet::ImageRows picture_in_memory(const duet::AnyModel& model) {
  duet::Workspace workspace(model.compute());
  duet::ImageRows rows = model.encode(made_up_picture(model.info()), workspace);
  rows.thumbnails.clear();
  return rows;
}

struct Loading {
  double model_seconds = 0;                        ///< mapping the weights and building the model
  std::optional<double> tokenizer_seconds = {};    ///< its files alone
  std::optional<double> first_token_seconds = {};  ///< from nothing to the first token's text
  Index prompt = 0;                                ///< tokens before it
};

/// Loads a checkpoint as a program does that wants an answer: the tokenizer is read meanwhile, and a picture is looked at where the
/// decoder asks for one.
std::shared_ptr<const duet::AnyModel> load_and_begin(const BenchOptions& options, Loading& loading) {
  std::shared_ptr<const duet::AnyModel> model;
  const double until_text = seconds([&] {
    loading.model_seconds = seconds([&] { model = load_model(options.model, load_options(options.weights, options.threads)); });
    const duet::ModelInfo& info = model->info();
    if (!info.writes_text()) return;
    const duet::Pipeline pipeline(model);
    loading.prompt = std::min<Index>(32, info.context);
    const auto session = model->start({.max_length = loading.prompt, .kv_format = options.kv_format});
    duet::ImageRows rows;
    if (info.cross_attention_layers > 0) rows = picture_in_memory(*model);
    const duet::Prompt prompt = duet::Prompt::causal(made_up_ids(info, loading.prompt), 0, rows.rows.rows());
    const std::span<const float> logits = session->prefill(prompt, rows);
    const duet::TokenId id = pipeline.make_sampler({}).sample(logits);
    if (const duet::Tokenizer* tokenizer = pipeline.tokenizer()) static_cast<void>(tokenizer->decode({&id, 1}));
  });
  if (model->info().writes_text()) loading.first_token_seconds = until_text;
  const std::filesystem::path folder = model->folder().path();
  if (duet::Tokenizer::is_in(folder)) loading.tokenizer_seconds = seconds([&] { static_cast<void>(duet::Tokenizer::load(folder)); });
  return model;
}

/// Prefill and decode; arithmetic and bytes are those really done. A model that reads a visual memory has one picture in it.
Text measure_text(const duet::AnyModel& model, const BenchOptions& options, Limits& limits) {
  const duet::ModelInfo& info = model.info();
  const Index replies = options.decode.value_or(std::min<Index>(64, std::max<Index>(1, info.context / 4)));
  const Index prompt = options.prefill.value_or(std::min<Index>(512, std::max<Index>(1, info.context - replies)));
  const Index before = options.context.value_or(std::min<Index>(32, prompt)), longest = std::max(prompt, before);
  if (longest + replies > info.context) {
    throw duet::Error(duet::ErrorKind::kContextFull, "bench", duet::concat(longest, " + ", replies, " positions"),
                      duet::concat("at most the context, ", info.context));
  }
  const auto session = model.start({.max_length = longest + replies, .kv_format = options.kv_format});
  const std::vector<duet::TokenId> ids = made_up_ids(info, longest);
  Index image_rows = 0;
  if (info.cross_attention_layers > 0) {
    const duet::ImageRows rows = picture_in_memory(model);
    image_rows = rows.rows.rows();
    session->prefill(duet::Prompt::causal({ids.front()}, 0, image_rows), rows);  // from here on it stays in the memory
  }
  Text text{.prompt = prompt, .replies = replies, .before = before};
  const duet::Prompt whole = duet::Prompt::causal({ids.begin(), ids.begin() + prompt}, 0, image_rows);
  text.prefill_seconds = best_of(3, [&] {
    session->restart();
    session->prefill(whole, {});
  });
  limits.probe();
  const auto n = static_cast<double>(prompt), layers = static_cast<double>(info.num_hidden_layers);
  const double head_width = static_cast<double>(info.num_attention_heads * info.head_dim);
  const double image_keys = static_cast<double>(info.cross_attention_layers * image_rows);  // that a row of text reads
  text.prefill_gflop = n * info.text_gflop_per_token + info.head_gflop + 4e-9 * head_width * n * (layers * (n + 1) / 2 + image_keys);

  const duet::Prompt beginning = duet::Prompt::causal({ids.begin(), ids.begin() + before}, 0, image_rows);
  text.decode_seconds = 1e30;
  session->restart();
  session->prefill(beginning, {});
  for (int repeat = 0; repeat < 3; ++repeat) {
    session->truncate(before);
    text.decode_seconds = std::min(text.decode_seconds, seconds([&] {
      for (Index i = 0; i < replies; ++i) session->decode(ids[static_cast<std::size_t>(i % longest)]);
    }));
  }
  const double positions = static_cast<double>(before) + static_cast<double>(replies + 1) / 2;  // read on average
  text.kv_bytes = positions * static_cast<double>(info.kv_bytes_per_token(options.kv_format)) +
                  static_cast<double>(image_rows * info.image_bytes_per_row(options.kv_format));
  text.decode_bytes = static_cast<double>(info.text_bytes_per_token) + text.kv_bytes;
  return text;
}

}  // namespace

int bench(const BenchOptions& options) {
  if (options.model.empty() == options.shape.empty()) {
    throw duet::Error(duet::ErrorKind::kInvalidArgument, "bench", "no model", "a checkpoint folder or --shape NAME");
  }
  Progress progress("loading");
  std::optional<BenchComparison> earlier;  // read first: a wrong file is told before anything runs
  if (!options.compare.empty()) earlier.emplace(options.compare);
  std::shared_ptr<const duet::AnyModel> model;
  Loading loading;
  if (options.shape.empty()) {
    model = load_and_begin(options, loading);
  } else {
    const duet::DType weights = dtype_named(options.weights.empty() ? "bf16" : options.weights);
    loading.model_seconds = seconds([&] { model = random_model(options.shape, weights, options.threads); });
  }
  const duet::ModelInfo& info = model->info();
  const bool has_text = info.writes_text(), has_vision = info.reads_images();
  const bool with_image = has_vision && (options.image || !has_text);
  if (options.image && !has_vision) {
    throw duet::Error(duet::ErrorKind::kInvalidArgument, "--image", "a model that reads text alone", "one that reads images");
  }
  progress.say("measuring");
  Limits limits(model->compute());
  limits.probe();
  Text text;
  if (has_text) text = measure_text(*model, options, limits);
  limits.probe();
  double image_seconds = 0;
  if (with_image) {
    duet::Workspace workspace(model->compute());
    const duet::VisualInput input = made_up_picture(info);
    image_seconds = best_of(3, [&] { static_cast<void>(model->encode(input, workspace)); });
  }
  limits.probe();
  progress.clear();

  Json result;
  result["model"] = options.shape.empty() ? options.model : options.shape;
  const bool converted = options.shape.empty() && !options.weights.empty();
  result["weights"] = converted ? duet::concat(info.dtypes, " as ", options.weights) : info.dtypes;
  result["threads"] = model->compute().threads->size();
  result["kernels"] = model->compute().kernels->name;
  result["machine"] = {{"read_gb_s", limits.read()}, {"fma_gflop_s", limits.fma()}};
  result["load_ms"] = 1e3 * loading.model_seconds;
  if (loading.tokenizer_seconds) result["tokenizer_ms"] = 1e3 * *loading.tokenizer_seconds;
  if (loading.first_token_seconds) result["first_token"] = {{"ms", 1e3 * *loading.first_token_seconds}, {"prompt", loading.prompt}};
  if (has_text) {
    const double rate = text.prefill_gflop / text.prefill_seconds;
    result["prefill"] = {{"tokens", text.prompt},
                         {"tokens_per_s", static_cast<double>(text.prompt) / text.prefill_seconds},
                         {"gflop", text.prefill_gflop},
                         {"gflop_s", rate},
                         {"fraction_of_fma_peak", rate / limits.fma()}};
    const double read = 1e-9 * text.decode_bytes * static_cast<double>(text.replies) / text.decode_seconds;
    result["decode"] = {{"tokens", text.replies},
                        {"context", text.before},
                        {"kv", name_of(options.kv_format)},
                        {"tokens_per_s", static_cast<double>(text.replies) / text.decode_seconds},
                        {"bytes_per_token", text.decode_bytes},
                        {"kv_bytes_per_token", text.kv_bytes},
                        {"gb_s", read},
                        {"fraction_of_bandwidth", read / limits.read()}};
  }
  if (with_image) {
    const double rate = info.vision_gflop / image_seconds;
    result["image"] = {{"ms", 1e3 * image_seconds}, {"gflop", info.vision_gflop}, {"gflop_s", rate}, {"fraction_of_fma_peak", rate / limits.fma()}};
  }
  result["peak_rss_mb"] = peak_megabytes() - limits.megabytes();
  result["probes"] = limits.probes();
  if (options.json) {
    std::cout << result.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
    return 0;
  }
  std::printf("%s, %s weights, %d threads, %s kernels\n", result["model"].get<std::string>().c_str(), result["weights"].get<std::string>().c_str(),
              model->compute().threads->size(), std::string(model->compute().kernels->name).c_str());
  std::printf("machine  reads %.1f GB/s, multiplies %.1f GFLOP/s (best of %zu probes)\n", limits.read(), limits.fma(), limits.probes().size());
  std::printf("load     model %.1f ms", 1e3 * loading.model_seconds);
  if (loading.tokenizer_seconds) std::printf(", tokenizer %.1f ms", 1e3 * *loading.tokenizer_seconds);
  if (loading.first_token_seconds) {
    std::printf("; first token after %.1f ms, with a prompt of %ld", 1e3 * *loading.first_token_seconds, static_cast<long>(loading.prompt));
  }
  std::printf("; peak memory %.0f MB\n", result["peak_rss_mb"].get<double>());
  if (has_text) {
    const auto& p = result["prefill"];
    const auto& d = result["decode"];
    std::printf("prefill  %ld tokens: %.1f tokens/s, %.1f GFLOP/s, %.2f of the FMA peak\n", static_cast<long>(text.prompt),
                p["tokens_per_s"].get<double>(), p["gflop_s"].get<double>(), p["fraction_of_fma_peak"].get<double>());
    std::printf("decode   %ld tokens after %ld, %s keys and values: %.1f tokens/s, %.1f GB/s, %.2f of the bandwidth\n",
                static_cast<long>(text.replies), static_cast<long>(text.before), std::string(name_of(options.kv_format)).c_str(),
                d["tokens_per_s"].get<double>(), d["gb_s"].get<double>(), d["fraction_of_bandwidth"].get<double>());
  }
  if (with_image) {
    const auto& i = result["image"];
    std::printf("image    %.1f ms, %.1f GFLOP/s, %.2f of the FMA peak\n", i["ms"].get<double>(), i["gflop_s"].get<double>(),
                i["fraction_of_fma_peak"].get<double>());
  }
  if (earlier) earlier->print(result);
  return 0;
}

std::string version_text() {
  const duet::BuildInfo info = duet::build_info();
  return duet::concat("duet ", info.version, ", ", info.compiler, "\nkernels ", info.kernels, " (of ", info.available, ")");
}
