#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "duet/io/json.hpp"
#include "support/temp_folder.hpp"

// What the reference's processors make of prompts and pictures: DUET_SHARED_DIR/prompts, where it is there.

namespace duet::test {

inline std::filesystem::path shared(const std::filesystem::path& name) { return std::filesystem::path(DUET_SHARED_DIR) / name; }

/// One family's cases and counts.
class ReferencePrompts {
 public:
  explicit ReferencePrompts(std::string name) : name_(std::move(name)) {
    if (!exists()) return;
    head_ = read_json_file(source() / "cases.json");
    counts_ = read_json_file(source() / "counts.json");
  }
  [[nodiscard]] bool exists() const { return std::filesystem::exists(source() / "cases.json"); }
  [[nodiscard]] const nlohmann::json& head() const { return head_; }
  [[nodiscard]] const nlohmann::json& cases() const { return head_["cases"]; }
  [[nodiscard]] const nlohmann::json& sizes() const { return counts_["sizes"]; }
  [[nodiscard]] std::filesystem::path source() const { return shared("prompts") / name_; }

  /// The checkpoint folder, with a tokenizer where there is one and with a case's changes of preprocessor_config.json.
  void lay_out(const std::filesystem::path& folder, const nlohmann::json& changes = nlohmann::json::object()) const {
    const auto overwrite = std::filesystem::copy_options::overwrite_existing;
    if (head_.contains("tokenizer") && head_["tokenizer"].is_string()) {
      const std::string from = head_["tokenizer"];
      const auto path = from.find('/') == std::string::npos ? shared("tokenizers") / from : shared("prompts") / from.substr(from.find('/') + 1);
      for (const char* file : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}) {
        if (std::filesystem::exists(path / file)) std::filesystem::copy_file(path / file, folder / file, overwrite);
      }
    }
    for (const auto& entry : std::filesystem::directory_iterator(source())) {
      const std::string file = entry.path().filename();
      if (file != "cases.json" && file != "counts.json" && file != "mrope.json") std::filesystem::copy_file(entry.path(), folder / file, overwrite);
    }
    if (changes.empty()) return;
    nlohmann::json config = read_json_file(folder / "preprocessor_config.json");
    config.update(changes);
    std::filesystem::remove(folder / "preprocessor_config.json");
    std::ofstream(folder / "preprocessor_config.json") << config;
  }
  /// What a case changes in preprocessor_config.json, be it there or in the call.
  [[nodiscard]] static nlohmann::json changes_of(const nlohmann::json& one) {
    nlohmann::json changes = one.value("preprocessor_override", nlohmann::json::object());
    changes.update(one.value("processor_kwargs", nlohmann::json::object()));
    return changes;
  }
  [[nodiscard]] static std::vector<std::filesystem::path> images_of(const nlohmann::json& one) {
    std::vector<std::filesystem::path> paths;
    for (const auto& image : one["images"]) paths.push_back(shared("images") / image.get<std::string>());
    return paths;
  }

 private:
  std::string name_;
  nlohmann::json head_, counts_;
};

inline std::vector<std::string> reference_prompt_families() {
  return {"fuyu", "gemma3", "llava-1.5", "llava-next", "llava-onevision", "mllama", "paligemma", "pixtral", "qwen2-vl", "qwen2.5-vl", "smolvlm", "smolvlm2"};
}

}  // namespace duet::test
