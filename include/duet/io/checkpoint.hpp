#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/core/weights.hpp"
#include "duet/io/checkpoint_folder.hpp"
#include "duet/io/safetensors.hpp"

namespace duet {

/// A checkpoint folder with its weights, memory-mapped: one model.safetensors, or the shards that
/// model.safetensors.index.json lists. A WeightSource. Nothing is copied, so whoever holds views into it holds the shared
/// pointer too. A folder without weights (config and tokenizer only) is a CheckpointFolder.
///
///     const auto checkpoint = Checkpoint::open("SmolVLM-256M-Instruct");
///     const Weights weights(*checkpoint);
///
/// Errors  kFileNotReadable, with the way out where there is one; kMalformedFile and kMissingTensor, naming file and tensor
/// Cost    the headers are parsed; weights are read when they are used
class Checkpoint {
 public:
  [[nodiscard]] static std::shared_ptr<const Checkpoint> open(const std::filesystem::path& path,
                                                              FileAccess access = FileAccess::kMap) {
    return std::make_shared<const Checkpoint>(CheckpointFolder(path), access);
  }
  explicit Checkpoint(CheckpointFolder folder, FileAccess access = FileAccess::kMap) : folder_(std::move(folder)) {
    if (folder_.has(kWhole)) {
      const File& file = add_file(kWhole, access);
      for (const std::string& name : file.tensors.names()) file_of_.emplace(name, &file);
    } else if (folder_.has(kIndex)) {
      add_shards(access);
    } else {
      throw no_weights();
    }
  }

  [[nodiscard]] const CheckpointFolder& folder() const noexcept { return folder_; }
  [[nodiscard]] JsonView config() const { return folder_.config(); }
  [[nodiscard]] JsonView generation_config() const { return folder_.generation_config(); }

  /// The tensor where it lies, or nothing.
  /// Errors  kUnsupportedDtype for a dtype that the format has and Duet has not
  [[nodiscard]] std::optional<TensorView> find(std::string_view name, std::span<const Index> /*shape*/ = {}) const {
    const auto it = file_of_.find(name);
    if (it == file_of_.end()) return std::nullopt;
    return *it->second->tensors.find(name);
  }
  [[nodiscard]] bool contains(std::string_view name) const { return file_of_.find(name) != file_of_.end(); }
  /// Gives back the memory of a tensor that has been read and will not be soon.
  void release(std::string_view name) const noexcept {
    if (const auto it = file_of_.find(name); it != file_of_.end()) it->second->tensors.release(name);
  }
  /// The name of the file that holds a tensor, or would hold it.
  [[nodiscard]] std::string where(std::string_view name) const {
    const auto it = file_of_.find(name);
    return it != file_of_.end() ? it->second->name : folder_.has(kWhole) ? kWhole : kIndex;
  }

  /// All tensor names, sorted.
  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> result;
    result.reserve(file_of_.size());
    for (const auto& [name, file] : file_of_) result.push_back(name);
    return result;
  }
  /// Bytes of all tensors.
  [[nodiscard]] std::uint64_t bytes() const noexcept {
    std::uint64_t total = 0;
    for (const auto& file : files_) total += file->tensors.data_bytes();
    return total;
  }

 private:
  static constexpr const char* kWhole = "model.safetensors";
  static constexpr const char* kIndex = "model.safetensors.index.json";

  struct File {
    std::string name;
    SafetensorsFile tensors;
  };

  const File& add_file(std::string name, FileAccess access) {
    SafetensorsFile tensors(folder_.path() / name, access);
    files_.push_back(std::make_unique<const File>(File{std::move(name), std::move(tensors)}));
    return *files_.back();
  }

  /// The index says in which file each tensor is, and must be right. Tensors that it forgets are taken all the same, as
  /// the reference does; a tensor that two files hold is refused.
  void add_shards(FileAccess access) {
    const nlohmann::json index = read_json_file(folder_.path() / kIndex);
    const nlohmann::json* map = nullptr;
    if (const auto it = index.is_object() ? index.find("weight_map") : index.end(); it != index.end()) map = &*it;
    if (map == nullptr || !map->is_object() || map->empty()) {
      throw Error(ErrorKind::kMalformedFile, index_text(), map == nullptr ? "no weight_map" : concat("a weight_map that is ", map->empty() ? "empty" : map->type_name()),
                  "a weight_map of tensor names to file names", "is the download complete?");
    }
    std::map<std::string, const File*, std::less<>> shards;
    for (const auto& [tensor, value] : map->items()) {
      const std::string& shard = shard_name(tensor, value);
      const auto [it, is_new] = shards.try_emplace(shard, nullptr);
      if (is_new) {
        if (!folder_.has(shard)) {
          throw Error(ErrorKind::kFileNotReadable, (folder_.path() / shard).string(), "no such file",
                      concat("the shard that ", kIndex, " lists"), "is the download complete?");
        }
        it->second = &add_file(shard, access);
      }
      if (!it->second->tensors.contains(tensor)) {
        throw Error(ErrorKind::kMissingTensor, it->second->tensors.where(), concat("no tensor ", detail::shown(tensor)),
                    concat("it, as ", kIndex, " says"), "do all files come from the same download?");
      }
    }
    for (const auto& file : files_) {
      for (const std::string& name : file->tensors.names()) {
        const auto [it, is_new] = file_of_.emplace(name, file.get());
        if (is_new) continue;
        throw Error(ErrorKind::kMalformedFile, concat(file->tensors.where(), ": tensor ", detail::shown(name)),
                    concat("one that ", it->second->name, " holds too"), "each tensor in one file",
                    "do all files come from the same download?");
      }
    }
  }

  /// A shard must be a plain name, so that it stays inside the folder. Where a symlink of that name leads is the user's
  /// own business: a Hub cache consists of them.
  [[nodiscard]] const std::string& shard_name(const std::string& tensor, const nlohmann::json& value) const {
    const std::string* name = value.get_ptr<const std::string*>();
    if (name == nullptr || name->empty() || *name == "." || *name == ".." ||
        name->find_first_of(std::string_view("/\\:\0", 4)) != std::string::npos) {
      throw Error(ErrorKind::kMalformedFile, concat(index_text(), ": tensor ", detail::shown(tensor)),
                  name == nullptr ? value.type_name() : concat("the file name \"", detail::shown(*name), "\""),
                  "the plain name of a file in the folder");
    }
    return *name;
  }
  [[nodiscard]] std::string index_text() const { return (folder_.path() / kIndex).string(); }

  /// What to do about a folder without weights, by what lies in it instead.
  [[nodiscard]] Error no_weights() const {
    std::string got = "no weights", hint = "is the download complete?";
    std::error_code ignored;
    for (std::filesystem::directory_iterator it(folder_.path(), ignored), end; it != end; it.increment(ignored)) {
      const std::string name = it->path().filename().string();
      if (name.starts_with("pytorch_model") && name.ends_with(".bin")) {
        got = concat("weights as a Python pickle (", name, "), which may run code when it is read");
        hint = concat("if you trust it, convert it once: cd '", folder_.path().string(), "' && ", kConvertPickle);
        break;
      }
      if (name.ends_with(".gguf")) {
        got = concat("a GGUF file (", name, ")");
        hint = "GGUF is not supported: download the model's safetensors";
      } else if (name.ends_with(".safetensors")) {
        got = concat("weights under another name (", name, ")");
        hint = concat("rename it to ", kWhole, " if they are this config.json's");
      }
    }
    return {ErrorKind::kFileNotReadable, folder_.path().string(), got, concat(kWhole, " or ", kIndex), hint};
  }

  /// Works for any architecture and for sharded pickles; clone() undoes the sharing of tied tensors.
  static constexpr const char* kConvertPickle =
      "python3 -c \"import glob, torch, safetensors.torch as s; "
      "s.save_file({k: v.clone().contiguous() for f in sorted(glob.glob('pytorch_model*.bin')) "
      "for k, v in torch.load(f, map_location='cpu', weights_only=True).items()}, "
      "'model.safetensors', {'format': 'pt'})\"";

  CheckpointFolder folder_;
  std::vector<std::unique_ptr<const File>> files_;
  std::map<std::string, const File*, std::less<>> file_of_;
};

static_assert(WeightSource<Checkpoint>);

}  // namespace duet
