#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <map>
#include <numeric>
#include <set>

#include "commands.hpp"
#include "load_model.hpp"
#include "tensor_file.hpp"

namespace {

using duet::Index;
using duet::NamedTensor;
using duet::TensorView;

struct Tolerances {
  double pixels = 1e-5;   ///< absolute
  double stages = 1e-4;   ///< relative to the largest golden magnitude of the tensor
};

/// golden.json's own tolerances. Its keys carry explanations behind the word that matters.
Tolerances read_tolerances(const std::filesystem::path& folder) {
  Tolerances result;
  if (!std::filesystem::exists(folder / "golden.json")) return result;
  const nlohmann::json golden = duet::read_json_file(folder / "golden.json");
  const duet::JsonView tolerance = duet::JsonView(golden, "golden.json").object_or_empty("tolerance");
  for (const auto& [key, value] : tolerance.json().items()) {
    if (!value.is_number()) continue;
    if (key.starts_with("pixel_values")) result.pixels = value.get<double>();
    if (key.starts_with("hidden")) result.stages = value.get<double>();
  }
  return result;
}

/// Collects verdicts in the order of the model's stages and prints one line each.
class Report {
 public:
  struct Worst {
    double error = 0;
    Index position = 0;
  };

  void compared(const std::string& file, const std::string& stage, const TensorView& golden, Worst worst, double bound,
                const char* unit) {
    ++compared_;
    const bool good = worst.error <= bound;  // false for NaN
    std::printf("%-9s %s %s: worst error %.3g at %s, allowed %.3g%s\n", good ? "equal" : "DIFFERENT", file.c_str(), stage.c_str(),
                worst.error, place(golden.shape, worst.position).c_str(), bound, unit);
    if (!good) differs(file + " " + stage);
  }
  void wrong_shape(const std::string& file, const std::string& stage, const std::string& got, const std::string& expected) {
    ++compared_;
    std::printf("DIFFERENT %s %s: got shape %s, expected %s\n", file.c_str(), stage.c_str(), got.c_str(), expected.c_str());
    differs(file + " " + stage);
  }
  void skipped(const std::string& file, const std::string& name) { skipped_.push_back(file + " " + name); }

  [[nodiscard]] int finish() const {
    if (!skipped_.empty()) {
      std::printf("not compared:\n");
      for (const std::string& name : skipped_) std::printf("  %s\n", name.c_str());
    }
    if (compared_ == 0) {
      std::fprintf(stderr, "duet check: nothing was compared: no golden*.safetensors with tensors that this model makes\n");
      return 1;
    }
    if (!first_.empty()) {
      std::fprintf(stderr, "duet check: %d of %d stages differ; the first is %s\n", different_, compared_, first_.c_str());
      return 1;
    }
    std::printf("all %d stages agree\n", compared_);
    return 0;
  }

 private:
  void differs(const std::string& stage) {
    ++different_;
    if (first_.empty()) first_ = stage;
  }
  static std::string place(const std::vector<Index>& shape, Index position) {
    std::vector<Index> at(shape.size());
    for (std::size_t i = shape.size(); i-- > 0;) {
      at[i] = shape[i] == 0 ? 0 : position % shape[i];
      position = shape[i] == 0 ? 0 : position / shape[i];
    }
    return duet::shape_text(at);
  }

  int compared_ = 0, different_ = 0;
  std::string first_;
  std::vector<std::string> skipped_;
};

/// The largest |got - golden| over positions where `counts` holds, and the largest golden magnitude there.
template <class Counts>
std::pair<Report::Worst, double> compare(const std::vector<double>& got, const std::vector<double>& golden, Counts&& counts) {
  Report::Worst worst;
  double largest = 0;
  for (std::size_t i = 0; i < golden.size(); ++i) {
    if (!counts(i)) continue;
    largest = std::max(largest, std::abs(golden[i]));
    const double error = std::abs(got[i] - golden[i]);
    if (error > worst.error || std::isnan(error)) worst = {error, static_cast<Index>(i)};
    if (std::isnan(error)) break;
  }
  return {worst, largest};
}

/// Whether two shapes hold the same rows: crops and pictures may be counted in one extent or in several.
bool is_same_layout(const std::vector<Index>& a, const std::vector<Index>& b) {
  const auto size = [](const std::vector<Index>& shape) { return std::accumulate(shape.begin(), shape.end(), Index{1}, std::multiplies<>()); };
  return a == b || (!a.empty() && !b.empty() && a.back() == b.back() && size(a) == size(b));
}

TensorView view_of(const NamedTensor& tensor) { return {tensor.data.data(), tensor.dtype, tensor.shape}; }

/// How far keys and values may be from what they were, relative to the largest of a block.
double rounding_of(duet::KeyValueFormat format) {
  switch (format) {
    case duet::KeyValueFormat::kF32: return 0.0;
    case duet::KeyValueFormat::kBF16: return 0x1p-8;
    case duet::KeyValueFormat::kF16: return 0x1p-11;
    case duet::KeyValueFormat::kQ8: return 1.0 / 254.0 + 0x1p-11;
  }
  return 0.0;
}

/// Of every batch entry, the first step at which another token than the reference's was drawn because the two are as good
/// as equal: rounded keys and values may tip the scales, and what follows is another text. Without such a step, all of them.
std::vector<Index> steps_in_common(std::span<const NamedTensor> stages, const TensorView& golden, double bound) {
  const auto own = [&](std::string_view name) {
    const auto it = std::ranges::find(stages, name, &NamedTensor::name);
    return it == stages.end() ? std::vector<double>() : numbers(view_of(*it));
  };
  const std::vector<double> ids = own("generated_ids"), logits = own("generated_logits"), expected = numbers(golden);
  const auto entries = static_cast<std::size_t>(golden.shape[0]), steps = static_cast<std::size_t>(golden.shape[1]);
  std::vector<Index> result(entries, golden.shape[1]);
  if (ids.size() != expected.size() || ids.empty()) return result;
  const std::size_t vocab = logits.size() / ids.size();
  for (std::size_t entry = 0; entry < entries; ++entry) {
    std::size_t step = 0;
    while (step < steps && ids[entry * steps + step] == expected[entry * steps + step]) ++step;
    if (step == steps) continue;
    const auto row = std::span(logits).subspan((entry * steps + step) * vocab, vocab);
    const double id = expected[entry * steps + step];
    if (id < 0 || id >= static_cast<double>(vocab)) continue;
    double largest = 0;
    for (const double logit : row) largest = std::max(largest, std::abs(logit));
    const double lead = row[static_cast<std::size_t>(ids[entry * steps + step])] - row[static_cast<std::size_t>(id)];
    if (lead <= 2.0 * bound * largest) result[entry] = static_cast<Index>(step);
  }
  return result;
}

void check_run(const duet::AnyModel& model, const std::filesystem::path& path, duet::KeyValueFormat kv_format,
               const Tolerances& tolerances, Report& report) {
  const TensorFile file(path);
  const std::string name = path.filename().string();
  const duet::ReferenceInputs inputs = read_inputs(file, *model.processor());
  const TensorView* ids = file.tensors().find("generated_ids");
  const bool has_ids = ids != nullptr && ids->shape.size() == 2 && ids->shape[0] > 0;  // else shape[1] may be anything
  const Index new_tokens = has_ids ? ids->shape[1] : 0;
  const std::vector<NamedTensor> stages = forward_model(model, inputs, new_tokens, kv_format);
  // Keys' errors move the weights of values, and values' errors remain: a layer adds about two roundings to what it hands on.
  const Index layers = model.info().self_attention_layers + model.info().cross_attention_layers;
  const double rounding = 2.0 * rounding_of(kv_format) * static_cast<double>(layers);
  std::vector<Index> common;
  if (has_ids && rounding > 0) common = steps_in_common(stages, *ids, rounding);
  std::set<std::string> done;
  for (const NamedTensor& stage : stages) {
    const TensorView* golden = file.tensors().find(stage.name);
    if (golden == nullptr) continue;
    done.insert(stage.name);
    if (!is_same_layout(golden->shape, stage.shape)) {
      report.wrong_shape(name, stage.name, duet::shape_text(stage.shape), duet::shape_text(golden->shape));
      continue;
    }
    const bool per_token = stage.shape.size() == 3 && stage.shape[0] == inputs.batch && stage.shape[1] == inputs.length &&
                           !stage.name.starts_with("vision") && stage.name != "projected";
    const auto counts = [&](std::size_t i) {  // rows of padding mean nothing
      if (!common.empty() && stage.name.starts_with("generated_")) {
        const std::size_t width = stage.shape.size() == 3 ? static_cast<std::size_t>(stage.shape[2]) : 1;
        const auto step = static_cast<Index>(i / width) % new_tokens, last = common[i / width / static_cast<std::size_t>(new_tokens)];
        return step < last || (step == last && stage.name == "generated_logits");
      }
      return !per_token || inputs.attention_mask.empty() || inputs.attention_mask[i / static_cast<std::size_t>(stage.shape[2])] != 0;
    };
    auto [worst, largest] = compare(numbers(view_of(stage)), numbers(*golden), counts);
    if (stage.name == "embeds") {  // what the reference's embedding hands on is, by its version, scaled already or not yet
      const auto unscaled = std::ranges::find(stages, "embeds_unscaled", &NamedTensor::name);
      if (unscaled != stages.end()) {
        const auto [other, same] = compare(numbers(view_of(*unscaled)), numbers(*golden), counts);
        if (other.error < worst.error) worst = other;
      }
    }
    const bool exact = stage.name == "generated_ids";
    report.compared(name, stage.name, *golden, worst, exact ? 0 : (tolerances.stages + rounding) * largest, "");
  }
  for (const std::string& stored : file.tensors().names()) {
    if (!stored.starts_with("inputs.") && !done.contains(stored)) report.skipped(name, stored);
  }
}

/// Tensors "IMAGE.png:pixel_values" and the like: each picture through the folder's own preprocessing.
void check_preprocessing(const duet::Processor& processor, const std::filesystem::path& folder, const std::filesystem::path& path, const Tolerances& tolerances,
                         Report& report) {
  const TensorFile file(path);
  const std::string name = path.filename().string();
  std::map<std::string, std::vector<NamedTensor>> prepared;  // by picture
  for (const std::string& stored : file.tensors().names()) {
    const auto colon = stored.find(':');
    if (colon == std::string::npos) {
      report.skipped(name, stored);
      continue;
    }
    const auto [at, made] = prepared.try_emplace(stored.substr(0, colon));
    if (made) {
      duet::VisualInput input;
      processor.process(duet::Image::open(folder / at->first, processor.alpha()), input);
      at->second = processor.tensors(input);
    }
    const auto own = std::ranges::find(at->second, stored.substr(colon + 1), &NamedTensor::name);
    if (own == at->second.end()) {
      report.skipped(name, stored);
      continue;
    }
    const TensorView& golden = file.get(stored);
    if (golden.shape != own->shape) {
      report.wrong_shape(name, stored, duet::shape_text(own->shape), duet::shape_text(golden.shape));
      continue;
    }
    const auto [worst, largest] = compare(numbers(view_of(*own)), numbers(golden), [](std::size_t) { return true; });
    report.compared(name, stored, golden, worst, tolerances.pixels, "");
  }
}

}  // namespace

int check(const CheckOptions& options) {
  const std::filesystem::path folder(options.model);
  const auto model = load_model(folder, {options.threads});
  std::vector<std::filesystem::path> files;
  std::error_code unlisted;
  for (std::filesystem::directory_iterator it(folder, unlisted), end; it != end; it.increment(unlisted)) {
    const std::string name = it->path().filename().string();
    if (name.starts_with("golden") && name.ends_with(".safetensors")) files.push_back(it->path());
  }
  if (unlisted) throw duet::Error(duet::ErrorKind::kFileNotReadable, options.model, unlisted.message(), "a folder that can be listed");
  // Preprocessing comes first in a model, then the main run.
  const auto rank = [](const std::filesystem::path& p) { return p.filename() == "golden_preproc.safetensors" ? 0 : 1; };
  std::ranges::sort(files, [&](const auto& a, const auto& b) { return std::pair(rank(a), a) < std::pair(rank(b), b); });
  if (files.empty()) {
    throw duet::Error(duet::ErrorKind::kFileNotReadable, options.model, "no golden*.safetensors", "at least one",
                      "check replays the reference's outputs that lie beside a checkpoint");
  }
  const Tolerances tolerances = read_tolerances(folder);
  Report report;
  for (const auto& file : files) {
    if (rank(file) == 0) {
      check_preprocessing(*model->processor(), folder, file, tolerances, report);
    } else {
      check_run(*model, file, options.kv_format, tolerances, report);
    }
  }
  return report.finish();
}
