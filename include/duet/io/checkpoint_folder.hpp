#pragma once

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "duet/core/error.hpp"
#include "duet/core/token.hpp"
#include "duet/io/json.hpp"

namespace duet {

/// A checkpoint folder as downloaded, without its weights: config.json and the small files beside it.
///
/// Errors  kFileNotReadable for a path that is no such folder, with a hint at the right one where it can be seen;
///         kMalformedFile, naming file and position
class CheckpointFolder {
 public:
  explicit CheckpointFolder(const std::filesystem::path& path) : path_(path) {
    std::error_code ignored;
    if (!std::filesystem::exists(path, ignored)) throw not_a_folder("nothing there", where_from());
    if (!std::filesystem::is_directory(path, ignored)) {
      if (path.extension() == ".gguf") {
        throw not_a_folder("a GGUF file", "Duet reads the Hugging Face folder that it was made from");
      }
      throw not_a_folder("a file", concat("give the folder it lies in: ", parent_of(path)));
    }
    if (!has("config.json")) throw not_a_folder("a folder without config.json", where_else());
    config_ = read_json_file(path / "config.json");
    if (!config_.is_object()) {
      throw Error(ErrorKind::kMalformedFile, "config.json", config_.type_name(), "a JSON object");
    }
    generation_config_ = read_optional("generation_config.json");
    preprocessor_config_ = read_optional("preprocessor_config.json");
    processor_config_ = read_optional("processor_config.json");
  }

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  [[nodiscard]] JsonView config() const { return {config_, "config.json"}; }
  /// What config.json says of the image tower: all of it in a folder of a tower alone.
  [[nodiscard]] JsonView vision_config() const { return config().contains("vision_config") ? config().at("vision_config") : config(); }
  /// generation_config.json, or an empty object.
  [[nodiscard]] JsonView generation_config() const { return {generation_config_, "generation_config.json"}; }
  /// preprocessor_config.json, or an empty object.
  [[nodiscard]] JsonView preprocessor_config() const { return {preprocessor_config_, "preprocessor_config.json"}; }
  /// processor_config.json, or an empty object.
  [[nodiscard]] JsonView processor_config() const { return {processor_config_, "processor_config.json"}; }

  /// Whether the folder lists such a file; it may still be a link that leads nowhere, which opening it will tell.
  [[nodiscard]] bool has(std::string_view file) const {
    std::error_code ignored;
    return std::filesystem::exists(std::filesystem::symlink_status(path_ / file, ignored));
  }

  /// The id of a token that tokenizer_config.json lists as added, by its spelling; nothing where it does not.
  [[nodiscard]] std::optional<TokenId> added_token(std::string_view spelling) const {
    const nlohmann::json file = read_optional("tokenizer_config.json");
    const JsonView tokens = JsonView(file, "tokenizer_config.json").object_or_empty("added_tokens_decoder");
    for (const auto& [key, entry] : tokens.json().items()) {
      if (JsonView(entry, concat(tokens.where(), ".", key)).get_or<std::string>("content", "") != spelling) continue;
      TokenId id = -1;
      const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
      if (error == std::errc() && end == key.data() + key.size() && id >= 0) return id;
      throw Error(ErrorKind::kMalformedFile, tokens.where(), '"' + key + '"', "tokens under their ids");
    }
    return std::nullopt;
  }

 private:
  [[nodiscard]] nlohmann::json read_optional(const char* name) const {
    return has(name) ? read_json_file(path_ / name) : nlohmann::json::object();
  }

  /// What to do about a path that is not there: "organisation/model" may be the Hub's name of a model.
  [[nodiscard]] std::string where_from() const {
    const std::string text = path_.string();
    const bool hub_name = path_.is_relative() && !text.starts_with('.') && !text.ends_with('/') && std::ranges::count(text, '/') == 1;
    return hub_name ? concat("is the path right? Duet does not download; this does: hf download ", text, " --local-dir FOLDER") : "is the path right?";
  }

  [[nodiscard]] Error not_a_folder(std::string_view got, std::string_view hint) const {
    return {ErrorKind::kFileNotReadable, path_.string(), got, "a checkpoint folder with config.json", hint};
  }

  /// What to do about a folder without config.json, by what lies in it instead.
  [[nodiscard]] std::string where_else() const {
    if (has("snapshots")) {
      const std::string snapshot = hub_snapshot();
      return snapshot.empty() ? "this is a Hub cache without a complete snapshot: download the model again"
                              : concat("this is a Hub cache; its checkpoint is ", snapshot);
    }
    if (has("model_index.json")) return "this is a diffusers pipeline: Duet runs language and vision models of transformers";
    if (has("adapter_config.json")) return "this is an adapter: merge it into its base model and save that";
    std::string inner;
    std::error_code ignored;
    for (std::filesystem::directory_iterator it(path_, ignored), end; it != end; it.increment(ignored)) {
      if (it->path().extension() == ".gguf") return "GGUF files are not supported: Duet reads the Hugging Face folder that they were made from";
      if (it->path().filename().string().starts_with("models--")) return concat("this is the Hub's cache of all models; one is ", it->path().string());
      if (std::filesystem::exists(it->path() / "config.json", ignored)) inner = it->path().string();
    }
    return inner.empty() ? "give the folder that holds config.json and *.safetensors" : concat("do you mean ", inner, "?");
  }

  /// The Hub's cache keeps a checkpoint at snapshots/COMMIT, and the commit of a branch in refs/main.
  [[nodiscard]] std::string hub_snapshot() const {
    std::string main, found;
    std::ifstream(path_ / "refs" / "main") >> main;
    std::error_code ignored;
    for (std::filesystem::directory_iterator it(path_ / "snapshots", ignored), end; it != end; it.increment(ignored)) {
      if (!std::filesystem::exists(it->path() / "config.json", ignored)) continue;
      if (found.empty() || it->path().filename() == main) found = it->path().string();
    }
    return found;
  }

  static std::string parent_of(const std::filesystem::path& file) {
    return file.has_parent_path() ? file.parent_path().string() : std::string(".");
  }

  std::filesystem::path path_;
  nlohmann::json config_, generation_config_, preprocessor_config_, processor_config_;
};

}  // namespace duet
