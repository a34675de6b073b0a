#pragma once

#include "duet/fusion/concepts.hpp"

namespace duet {

/// Method B, cross-modality attention: the decoder reads text alone, and asks a memory of image keys and values that are
/// computed once per image.
///
/// Source  Alayrac et al. 2022, 2204.14198 (Flamingo); Li et al. 2021, 2109.10282 (TrOCR)
struct CrossAttentionFusion {
  static constexpr std::string_view kName = "cross-attention";
  using Memory = VisualMemory;

  /// Memorises the image rows in the memory's format; hidden stays text. Without new rows the memory stays as it is.
  template <CrossAttentionDecoder D>
  static void fuse(const D& decoder, const Prompt&, const ImageRows& rows, MatrixView, Memory& memory,
                   Workspace& workspace) {
    if (!rows.empty()) memory = decoder.memorize(rows.rows, workspace, memory.format());
  }
  static const VisualMemory* memory_of(const Memory& memory) noexcept { return &memory; }
};

}  // namespace duet
