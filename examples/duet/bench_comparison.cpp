#include "bench_comparison.hpp"

#include <cstdio>
#include <optional>
#include <string>

#include "duet/io/json.hpp"

namespace {

struct Row {
  const char *name, *part, *key;  ///< result[part][key], or result[key] without a part
  int decimals;
};
constexpr Row kRows[] = {
    {"load ms", nullptr, "load_ms", 1},
    {"tokenizer ms", nullptr, "tokenizer_ms", 1},
    {"first token ms", "first_token", "ms", 1},
    {"prefill tokens/s", "prefill", "tokens_per_s", 1},
    {"  of the FMA peak", "prefill", "fraction_of_fma_peak", 3},
    {"decode tokens/s", "decode", "tokens_per_s", 1},
    {"  of the bandwidth", "decode", "fraction_of_bandwidth", 3},
    {"image ms", "image", "ms", 1},
    {"  of the FMA peak", "image", "fraction_of_fma_peak", 3},
    {"peak memory MB", nullptr, "peak_rss_mb", 0},
    {"machine GFLOP/s", "machine", "fma_gflop_s", 1},
    {"machine GB/s", "machine", "read_gb_s", 1},
};

template <class AnyJson>
std::optional<double> value_of(const AnyJson& result, const Row& row) {
  const auto read = [&](const AnyJson& in) -> std::optional<double> {
    const auto it = in.find(row.key);
    if (it == in.end() || !it->is_number()) return std::nullopt;
    return it->template get<double>();
  };
  if (row.part == nullptr) return read(result);
  const auto part = result.find(row.part);
  return part == result.end() ? std::nullopt : read(*part);
}

template <class AnyJson>
std::string shown(const AnyJson& result, const char* key) {
  const auto it = result.find(key);
  return it == result.end() ? "?" : it->is_string() ? it->template get<std::string>() : it->dump();
}

}  // namespace

BenchComparison::BenchComparison(const std::filesystem::path& file) : before_(duet::read_json_file(file)) {
  if (before_.is_object() && before_.contains("machine") && before_["machine"].is_object() && before_.contains("probes")) return;
  throw duet::Error(duet::ErrorKind::kMalformedFile, file.string(), "no result of a measurement", "what bench --json prints",
                    "duet bench MODEL --json > FILE");
}

void BenchComparison::print(const nlohmann::ordered_json& now) const {
  for (const char* key : {"model", "weights", "threads", "kernels"}) {
    const std::string then = shown(before_, key), here = shown(now, key);
    if (then != here) std::printf("not the same %s: %s before, %s now\n", key, then.c_str(), here.c_str());
  }
  std::printf("%-20s %12s %12s %12s\n", "", "before", "now", "now/before");
  for (const Row& row : kRows) {
    const std::optional<double> before = value_of(before_, row), here = value_of(now, row);
    if (!before || !here) continue;
    std::printf("%-20s %12.*f %12.*f %12.2f\n", row.name, row.decimals, *before, row.decimals, *here, *here / *before);
  }
}
