#pragma once

#include <utility>

#include "duet/fusion/concepts.hpp"

namespace duet {

/// A decoder on its own: the text-only model. It is no vision-language model with empty slots; it just offers what a
/// session asks of any model.
template <LanguageDecoder Text>
class TextModel {
 public:
  using Decoder = Text;
  struct Memory {};
  explicit TextModel(Text decoder) : decoder_(std::move(decoder)) {}

  [[nodiscard]] const Text& decoder() const noexcept { return decoder_; }
  void fuse(const Prompt& prompt, const ImageRows&, MatrixView hidden, Memory&, Workspace&) const {
    decoder_.embed(prompt.ids, hidden);
  }
  static const VisualMemory* memory_of(const Memory&) noexcept { return nullptr; }

 private:
  Text decoder_;
};

}  // namespace duet
