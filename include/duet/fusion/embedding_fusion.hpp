#pragma once

#include <algorithm>

#include "duet/fusion/concepts.hpp"

namespace duet {

/// Errors  kShapeMismatch unless the prompt has as many placeholders as there are image tokens to take their places
inline void require_placeholders(const Prompt& prompt, Index image_tokens) {
  const auto placeholders = static_cast<Index>(prompt.image_rows.size());
  if (placeholders == image_tokens) return;
  throw Error(ErrorKind::kShapeMismatch, "prompt", concat(placeholders, " image placeholders"),
              concat(image_tokens, ", one for each image token"),
              "a prompt needs one placeholder per image, expanded to that image's number of tokens");
}

/// Method A, the unified embedding decoder: image tokens take the places of the prompt's placeholders, and an unmodified
/// decoder reads one sequence of rows.
///
/// Source  Liu et al. 2023, 2304.08485 (LLaVA)
struct EmbeddingFusion {
  static constexpr std::string_view kName = "embedding";
  static constexpr bool kWritesRows = true;
  struct Memory {};  ///< nothing to keep: the image lives in the KV cache

  /// Writes rows.rows [num_image_tokens, hidden_size] over the rows prompt.image_rows of hidden [prompt, hidden_size].
  /// Errors  kShapeMismatch when placeholders and image tokens differ in number
  template <SelfAttentionDecoder D>
  static void fuse(const D&, const Prompt& prompt, const ImageRows& rows, MatrixView hidden, Memory&, Workspace&) {
    require_placeholders(prompt, rows.rows.rows());
    for (Index i = 0; i < rows.rows.rows(); ++i) {
      std::ranges::copy(rows.rows.view().row(i), hidden.row(prompt.image_rows[static_cast<std::size_t>(i)]).begin());
    }
  }
  static const VisualMemory* memory_of(const Memory&) noexcept { return nullptr; }
};

}  // namespace duet
