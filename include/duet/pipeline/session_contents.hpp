#pragma once

#include <limits>
#include <type_traits>

#include "duet/pipeline/read_rows.hpp"

namespace duet {

/// What a session holds that changes, the images' memory apart: keys and values of the text, where the rows read so far are and
/// what they see, and the logits of the last one.
struct TextContents {
  KvCache cache;
  Matrix logits;          ///< [1, vocab_size]
  ReadRows rows;          ///< what the cache holds
  bool switched = false;  ///< whether the cache's rows were read as those of a long sequence
};

/// All that a session holds that changes.
template <class Model>
struct SessionContents : TextContents {
  using Memory = typename Model::Memory;
  static constexpr bool kKeepsImages = std::is_same_v<Memory, VisualMemory>;

  SessionContents(const Model& model, KeyValueFormat format, Index max_length)
      : TextContents{model.decoder().make_cache(max_length, format),
                     Matrix(1, model.decoder().vocab_size()),
                     ReadRows({.views = kKeepsImages, .rows = can_switch(model)}, max_length, model.decoder().hidden_size())},
        memory(empty_memory(format)) {}

  Memory memory;

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
  [[nodiscard]] static bool can_switch(const Model& model) noexcept { return switch_length(model) < std::numeric_limits<Index>::max(); }
};

}  // namespace duet
