#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "duet/kernels/key_value_format.hpp"
#include "duet/pipeline/sampler.hpp"

// The verbs of the program, each in a file of its own. They return an exit code, and throw duet::Error for bad input.

struct RunOptions {
  std::string model;
  std::vector<std::string> images;
  std::optional<std::string> prompt;
  std::vector<duet::TokenId> prompt_ids;
  std::optional<duet::Index> max_new_tokens;
  std::optional<float> temperature, top_p, min_p, repetition_penalty;
  std::optional<duet::Index> top_k;
  std::uint64_t seed = 0;
  std::vector<std::string> stop;
  std::string weights;  ///< as stored if empty
  duet::KeyValueFormat kv_format = duet::KeyValueFormat::kF32;
  int threads = 0;
  bool json = false;
  bool raw = false;      ///< the prompt is the exact text
  bool dry_run = false;  ///< show the prompt's ids and do not run the model
};
int run(const RunOptions& options);

struct ChatOptions {
  std::string model;
  duet::Index context = 4096;
  duet::KeyValueFormat kv_format = duet::KeyValueFormat::kF32;
  std::optional<duet::Index> max_new_tokens;
  std::optional<float> temperature;
  std::uint64_t seed = 0;
  std::string weights;
  int threads = 0;
};
int chat(const ChatOptions& options);

struct ForwardOptions {
  std::string model, input, output;
  duet::Index max_new_tokens = 0;
  int threads = 0;
};
int forward(const ForwardOptions& options);

struct PreprocessOptions {
  std::string model;
  std::vector<std::string> images;
  std::string output;
};
int preprocess(const PreprocessOptions& options);

int tokenize(const std::string& model);

struct TemplateOptions {
  std::string model;
  std::string date;  ///< what the template takes for today, YYYY-MM-DD; empty: today
};
int render_template(const TemplateOptions& options);

struct InspectOptions {
  std::string model, image_size;  ///< "WIDTHxHEIGHT": what a picture of that size becomes; empty: the checkpoint
  bool json = false;
};
int inspect(const InspectOptions& options);

struct CheckOptions {
  std::string model;
  duet::KeyValueFormat kv_format = duet::KeyValueFormat::kF32;
  int threads = 0;
};
int check(const CheckOptions& options);

struct QuantizeOptions {
  std::string model, output, weights;
};
int quantize(const QuantizeOptions& options);

struct PerplexityOptions {
  std::string model, file, weights;
  duet::Index context = 512;
  int threads = 0;
  bool json = false;
};
int perplexity(const PerplexityOptions& options);

struct AttendOptions {
  std::string model, image, output, html, weights;
  std::optional<std::string> prompt;
  std::optional<duet::Index> layer, head, max_new_tokens;
  duet::KeyValueFormat kv_format = duet::KeyValueFormat::kF32;
  int threads = 0;
  bool json = false;
};
int attend(const AttendOptions& options);

struct BenchOptions {
  std::string model, shape, weights;
  std::optional<duet::Index> prefill, decode;  ///< absent: 512 and 64, or what the context has room for
  std::optional<duet::Index> context;          ///< positions read before decoding begins; absent: 32, or what there is room for
  duet::KeyValueFormat kv_format = duet::KeyValueFormat::kF32;
  bool image = false;
  int threads = 0;
  bool json = false;
  std::string compare;  ///< an earlier run's JSON, or empty
};
int bench(const BenchOptions& options);

/// What --version prints. It stands in bench.cpp, which has kernels in it anyway: they take long to compile.
std::string version_text();
