#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/io/safetensors.hpp"

namespace duet {

/// A checkpoint folder as downloaded, without its weights: config.json and the small files beside it.
///
/// Errors  kFileNotReadable, kMalformedFile
class CheckpointFolder {
 public:
  explicit CheckpointFolder(const std::filesystem::path& path) : path_(path) {
    std::error_code ignored;
    if (!std::filesystem::exists(path, ignored)) {
      throw Error(ErrorKind::kFileNotReadable, path.string(), "nothing there", "a checkpoint folder with config.json");
    }
    if (!std::filesystem::is_directory(path, ignored)) {
      const bool gguf = path.extension() == ".gguf";
      throw Error(ErrorKind::kFileNotReadable, path.string(), gguf ? "a GGUF file" : "a file",
                  "a checkpoint folder with config.json", gguf ? "Duet reads Hugging Face folders of safetensors" : "give the folder it lies in");
    }
    if (!std::filesystem::exists(path / "config.json", ignored)) throw no_config();
    config_ = read_json_file(path / "config.json");
    if (!config_.is_object()) {
      throw Error(ErrorKind::kMalformedFile, "config.json", config_.type_name(), "a JSON object");
    }
    generation_config_ = optional_json("generation_config.json");
  }

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  [[nodiscard]] JsonView config() const { return {config_, "config.json"}; }
  /// generation_config.json, or an empty object.
  [[nodiscard]] JsonView generation_config() const { return {generation_config_, "generation_config.json"}; }
  [[nodiscard]] bool has(std::string_view file) const {
    std::error_code ignored;
    return std::filesystem::exists(path_ / file, ignored);
  }

 private:
  [[nodiscard]] nlohmann::json optional_json(const char* name) const {
    return has(name) ? read_json_file(path_ / name) : nlohmann::json::object();
  }

  /// The Hub's cache keeps the folder one wants two levels below the one that people find.
  [[nodiscard]] Error no_config() const {
    std::string hint = "give the folder that holds config.json and *.safetensors";
    std::error_code ignored;
    if (std::filesystem::is_directory(path_ / "snapshots", ignored)) {
      for (const auto& entry : std::filesystem::directory_iterator(path_ / "snapshots", ignored)) {
        hint = concat("this is a Hub cache; its checkpoint is ", entry.path().string());
      }
    }
    return {ErrorKind::kFileNotReadable, path_.string(), "a folder without config.json", "a checkpoint folder", hint};
  }

  std::filesystem::path path_;
  nlohmann::json config_, generation_config_;
};

/// A checkpoint's weights, memory-mapped: one model.safetensors, or the shards that model.safetensors.index.json lists.
/// Nothing is copied; a model built from it keeps it alive.
///
/// Errors  kFileNotReadable, kMalformedFile
class Checkpoint {
 public:
  [[nodiscard]] static std::shared_ptr<const Checkpoint> open(const std::filesystem::path& path) {
    return std::make_shared<const Checkpoint>(CheckpointFolder(path));
  }
  explicit Checkpoint(CheckpointFolder folder) : folder_(std::move(folder)) {
    if (folder_.has("model.safetensors")) {
      add_file("model.safetensors");
      for (const std::string& name : files_.back()->tensors.names()) file_of_.emplace(name, files_.back().get());
    } else if (folder_.has("model.safetensors.index.json")) {
      add_shards();
    } else {
      throw no_weights();
    }
  }

  [[nodiscard]] const CheckpointFolder& folder() const noexcept { return folder_; }

  // A WeightSource.
  [[nodiscard]] std::optional<TensorView> find(std::string_view name, std::span<const Index>) const {
    const auto it = file_of_.find(name);
    if (it == file_of_.end()) return std::nullopt;
    const TensorView* view = it->second->tensors.find(name);
    if (view == nullptr) {
      throw Error(ErrorKind::kUnsupportedDtype, concat(it->second->tensors.where(), ": ", name), "a dtype of under 16 bits",
                  "F32, F16 or BF16", "convert the checkpoint to one of these");
    }
    return *view;
  }
  [[nodiscard]] bool contains(std::string_view name) const { return file_of_.contains(name); }
  /// The file that holds a tensor, or would.
  [[nodiscard]] std::string where(std::string_view name) const {
    const auto it = file_of_.find(name);
    return it != file_of_.end() ? it->second->tensors.where()
           : files_.size() == 1 ? files_.front()->tensors.where()
                                : std::string(kIndex);
  }

  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> result;
    for (const auto& [name, file] : file_of_) result.push_back(name);
    return result;
  }
  /// Bytes of all tensors.
  [[nodiscard]] std::uint64_t bytes() const {
    std::uint64_t total = 0;
    for (const auto& file : files_) total += file->tensors.data_bytes();
    return total;
  }

 private:
  static constexpr const char* kIndex = "model.safetensors.index.json";

  struct File {
    explicit File(const std::filesystem::path& path) : mapping(path), tensors(mapping.bytes(), path.filename().string()) {}
    MappedFile mapping;
    SafetensorsFile tensors;
  };

  void add_file(const std::string& name) { files_.push_back(std::make_unique<const File>(folder_.path() / name)); }

  void add_shards() {
    const nlohmann::json index = read_json_file(folder_.path() / kIndex);
    const JsonView map = JsonView(index, kIndex).at("weight_map");
    if (!map.json().is_object() || map.json().empty()) {
      throw Error(ErrorKind::kMalformedFile, map.where(), map.json().type_name(), "an object of tensor names to files");
    }
    std::map<std::string, const File*, std::less<>> shards;
    for (const auto& [tensor, value] : map.json().items()) {
      const std::string shard = value.is_string() ? value.get<std::string>() : std::string();
      // The name must stay inside the folder; where a symlink of that name leads is the user's own business (Hub cache).
      if (shard.empty() || shard == "." || shard == ".." || shard.find_first_of(std::string_view("/\\\0", 3)) != std::string::npos) {
        throw Error(ErrorKind::kMalformedFile, concat(kIndex, ": ", tensor), value.dump(), "the plain name of a file in the folder");
      }
      const auto [it, is_new] = shards.try_emplace(shard, nullptr);
      if (is_new) {
        if (!folder_.has(shard)) {
          throw Error(ErrorKind::kFileNotReadable, (folder_.path() / shard).string(), "no such file",
                      concat("a shard that ", kIndex, " lists"), "is the download complete?");
        }
        add_file(shard);
        it->second = files_.back().get();
      }
      if (std::ranges::find(it->second->tensors.names(), tensor) == it->second->tensors.names().end()) {
        throw Error(ErrorKind::kMissingTensor, shard, concat("no tensor ", tensor), concat("it, as ", kIndex, " says"));
      }
      file_of_.emplace(tensor, it->second);
    }
    for (const auto& file : files_) {
      for (const std::string& name : file->tensors.names()) {
        const auto it = file_of_.find(name);
        if (it != file_of_.end() && it->second == file.get()) continue;
        throw Error(ErrorKind::kMalformedFile, concat(file->tensors.where(), ": ", name),
                    it == file_of_.end() ? "a tensor missing from the index" : "a tensor of two shards",
                    concat("each tensor in one shard, as ", kIndex, " says"));
      }
    }
  }

  [[nodiscard]] Error no_weights() const {
    const std::string where = folder_.path().string();
    if (folder_.has("pytorch_model.bin") || folder_.has("pytorch_model.bin.index.json")) {
      return {ErrorKind::kFileNotReadable, where, "weights as a Python pickle (pytorch_model.bin), which can run code when read",
              "model.safetensors",
              "convert it once, in the folder: python3 -c \"import glob, torch, safetensors.torch as s; s.save_file({k: "
              "v.contiguous().clone() for f in glob.glob('pytorch_model*.bin') for k, v in torch.load(f, 'cpu').items()}, "
              "'model.safetensors', {'format': 'pt'})\""};
    }
    return {ErrorKind::kFileNotReadable, where, "a folder without weights", "model.safetensors or model.safetensors.index.json",
            "is the download complete?"};
  }

  CheckpointFolder folder_;
  std::vector<std::unique_ptr<const File>> files_;
  std::map<std::string, const File*, std::less<>> file_of_;
};

}  // namespace duet
