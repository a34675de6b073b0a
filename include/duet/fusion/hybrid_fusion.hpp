#pragma once

#include "duet/fusion/concepts.hpp"
#include "duet/fusion/embedding_fusion.hpp"

namespace duet {

/// Both methods at once: every picture's thumbnail takes the places of the prompt's placeholders, so that the text reasons over the
/// whole, and its tiles are keys and values that the decoder's gated cross-attention asks for detail.
///
/// Source  Dai et al. 2024, 2409.11402 (NVLM-H), section 2.2.3
struct HybridFusion {
  static constexpr std::string_view kName = "hybrid";
  static constexpr bool kWritesRows = true;
  using Memory = VisualMemory;

  /// Writes rows.thumbnails over the rows prompt.image_rows of hidden [prompt, hidden_size] and memorises all other rows, in
  /// their order and in the memory's format. Without new rows the memory stays as it is.
  /// Errors  kShapeMismatch when placeholders and rows of thumbnails differ in number
  template <CrossAttentionDecoder D>
  static void fuse(const D& decoder, const Prompt& prompt, const ImageRows& rows, MatrixView hidden, Memory& memory,
                   Workspace& workspace) {
    const Index count = rows.num_thumbnail_rows();
    require_placeholders(prompt, count);
    auto placeholder = prompt.image_rows.begin();
    const auto frame = workspace.frame();
    const MatrixView tiles = workspace.matrix(rows.rows.rows() - count, rows.rows.cols());  // [rows of tiles, hidden_size]
    Index from = 0, to = 0;
    const auto keep_until = [&](Index end) {
      copy(rows.rows.view().rows(from, end - from), tiles.rows(to, end - from));
      to += end - from;
    };
    for (const ImageRows::Span& span : rows.thumbnails) {
      keep_until(span.begin);
      from = span.begin + span.count;
      for (Index i = span.begin; i < from; ++i) std::ranges::copy(rows.rows.view().row(i), hidden.row(*placeholder++).begin());
    }
    keep_until(rows.rows.rows());
    if (rows.empty()) return;
    memory = tiles.rows() > 0 ? decoder.memorize(tiles, workspace, memory.format()) : Memory(memory.format());
  }
  static const VisualMemory* memory_of(const Memory& memory) noexcept { return &memory; }
};

}  // namespace duet
