#pragma once

#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "duet/pipeline/read_rows.hpp"

namespace duet {

/// What a session holds that changes, and what a file keeps of it: keys and values of text and images, where the rows read so far
/// are and what they see, and the logits of the last one.
template <class Model>
struct SessionContents {
  using Memory = typename Model::Memory;
  static constexpr bool kKeepsImages = std::is_same_v<Memory, VisualMemory>;

  SessionContents(const Model& model, KeyValueFormat format, Index max_length)
      : cache(model.decoder().make_cache(max_length, format)),
        memory(empty_memory(format)),
        logits(1, model.decoder().vocab_size()),
        rows({.views = kKeepsImages, .rows = can_switch(model)}, max_length, model.decoder().hidden_size()) {}

  KvCache cache;
  Memory memory;
  Matrix logits;          ///< [1, vocab_size]
  ReadRows rows;          ///< what the cache holds
  bool switched = false;  ///< whether the cache's rows were read as those of a long sequence

  /// A memory without images.
  [[nodiscard]] static Memory empty_memory(KeyValueFormat format) {
    if constexpr (std::is_constructible_v<Memory, KeyValueFormat>) {
      return Memory(format);
    } else {
      return {};
    }
  }
  static const VisualMemory* memory_of(const Memory& memory) noexcept {
    if constexpr (requires { typename Model::FusionPolicy; }) {
      return Model::FusionPolicy::memory_of(memory);
    } else {
      return nullptr;
    }
  }
  /// Sequences longer than this are read otherwise (Decoder::switch_length).
  [[nodiscard]] static Index switch_length(const Model& model) noexcept {
    if constexpr (requires { model.decoder().switch_length(); }) {
      return model.decoder().switch_length();
    } else {
      return std::numeric_limits<Index>::max();
    }
  }

  [[nodiscard]] SessionState state(const Model& model, KeyValueFormat format) const {
    SessionState state;
    static_assert(kKeepsImages || std::is_empty_v<Memory>, "duet: a session with a memory of another kind has no file");
    state.metadata.merge(session_identity(model, format));
    for (Index i = 0; i < cache.num_layers(); ++i) state.add(concat("layers.", i), cache.layer(i), cache.length());
    rows.save(state);
    if (can_switch(model)) state.add("switched", std::vector<std::int64_t>{switched ? 1 : 0});
    state.tensors.push_back(NamedTensor::matrix("logits", logits));
    if constexpr (kKeepsImages) {
      state.add("num_image_rows", std::vector<std::int64_t>{memory.num_rows()});
      for (Index i = 0; i < memory.num_layers(); ++i) state.add(concat("images.", i), memory.layer(i), memory.num_rows());
    }
    return state;
  }
  /// Becomes what state() was of, whatever was here before.
  /// Errors  as Session::restore; the contents are then as they were
  void restore(const SessionFile& file, const Model& model, KeyValueFormat format, Index max_length, Workspace& workspace) {
    for (const auto& [key, value] : session_identity(model, format)) file.expect(key, value);
    Memory images = empty_memory(format);
    if constexpr (kKeepsImages) images = read_memory(file, model, format, workspace);
    const auto length = static_cast<Index>(file.numbers("positions").size());
    if (length > max_length) {
      throw Error(ErrorKind::kContextFull, file.where(), concat(length, " positions"), concat("at most ", max_length),
                  "start with a larger max_length");
    }
    const auto& decoder = model.decoder();
    const VisualMemory* const visual = memory_of(images);
    ReadRows read = rows.load(file, max_length, decoder.num_positions(), decoder.num_embeddings(), visual == nullptr ? 0 : visual->num_rows());
    const bool was_switched = can_switch(model) && file.numbers("switched") == std::vector<std::int64_t>{1};
    for (Index i = 0; i < cache.num_layers(); ++i) file.check(concat("layers.", i), cache.layer(i), length);
    const Index one_row[] = {1, logits.cols()};
    const TensorView& last = file.tensor("logits", DType::kF32, one_row);
    const auto& c = decoder.config();
    const Index floats = length * c.num_key_value_heads * c.head_dim;  // of a layer's keys, and of its values
    workspace.reserve(2 * (static_cast<std::size_t>(floats) * sizeof(float) + kAlignment));
    // From here on nothing fails.
    for (Index i = 0; i < cache.num_layers(); ++i) file.read(concat("layers.", i), cache.layer(i), length, workspace);
    std::memcpy(logits.view().data(), last.data, static_cast<std::size_t>(logits.cols()) * sizeof(float));
    cache.truncate(0);
    cache.advance(length);
    rows = std::move(read);
    switched = was_switched;
    memory = std::move(images);
  }

 private:
  [[nodiscard]] static bool can_switch(const Model& model) noexcept { return switch_length(model) < std::numeric_limits<Index>::max(); }

  [[nodiscard]] static VisualMemory read_memory(const SessionFile& file, const Model& model, KeyValueFormat format, Workspace& workspace) {
    const std::vector<std::int64_t> counts = file.numbers("num_image_rows");
    if (counts.size() != 1 || counts[0] < 0) {
      throw Error(ErrorKind::kMalformedFile, concat(file.where(), ": tensor num_image_rows"), concat(counts.size(), " numbers"),
                  "one, which is not negative");
    }
    if (counts[0] == 0) return VisualMemory(format);
    const auto& c = model.decoder().config();
    const Index layers = model.decoder().cost().cross_layers;
    // Looked at before there is room for it: a file holds as much as it says.
    const KeyValueStore shape(0, c.num_key_value_heads, c.head_dim, format);
    for (Index i = 0; i < layers; ++i) file.check(concat("images.", i), shape, counts[0]);
    VisualMemory memory(layers, counts[0], c.num_key_value_heads, c.head_dim, format);
    for (Index i = 0; i < layers; ++i) file.read(concat("images.", i), memory.layer(i), counts[0], workspace);
    return memory;
  }
};

}  // namespace duet
