#pragma once

#include <filesystem>

#include <nlohmann/json.hpp>

/// An earlier run's `duet bench --json`, to hold a new one against.
class BenchComparison {
 public:
  /// Errors  kFileNotReadable, kMalformedFile for anything else than such a run
  explicit BenchComparison(const std::filesystem::path& file);

  /// Prints what both runs measured, side by side. Runs of other models, weights, threads or kernels are told apart.
  void print(const nlohmann::ordered_json& now) const;

 private:
  nlohmann::json before_;
};
