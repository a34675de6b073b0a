#pragma once

#include <algorithm>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "duet/models/decoder.hpp"

namespace duet {

/// Texts of one length, padded where they are shorter.
struct TextInput {
  std::span<const TokenId> ids;                    ///< [num_texts, length]
  Index num_texts = 0;
  std::span<const kernels::KeyRange> seen = {};  ///< of each text, the tokens that are no padding; empty: all of them

  [[nodiscard]] Index length() const noexcept { return num_texts == 0 ? 0 : static_cast<Index>(ids.size()) / num_texts; }
};

/// How a text encoder reads a text, and which row stands for it.
struct TextEncoderConfig {
  enum class Mask : unsigned char { kCausal, kBidirectional };
  Mask mask = Mask::kCausal;
  std::optional<TokenId> eos_token_id;  ///< the row of the end-of-text token; absent: the last row
};

/// A stack without a head, one row of which stands for the text. It may have a projection, which maps that row into a space
/// shared with images.
///
/// Source  Radford et al. 2021, 2103.00020 (CLIP), section 2.4; Zhai et al. 2023, 2303.15343 (SigLIP)
template <class Stack>
class TextEncoder {
 public:
  TextEncoder(Stack stack, TextEncoderConfig config, std::optional<Linear> projection = std::nullopt)
      : stack_(std::move(stack)), config_(config), projection_(std::move(projection)) {}

  [[nodiscard]] const Stack& stack() const noexcept { return stack_; }
  [[nodiscard]] Index hidden_size() const noexcept { return stack_.hidden_size(); }
  [[nodiscard]] bool projects() const noexcept { return projection_.has_value(); }

  /// Rows after the final norm [num_texts * length, hidden_size]. They live in the workspace until the caller's frame ends.
  /// Requires ids below vocab_size, and length at most max_position_embeddings
  template <class Observer = NoObserver>
  [[nodiscard]] MatrixView encode(const TextInput& texts, Workspace& workspace, Observer&& observe = {}) const {
    const Index length = texts.length();
    const MatrixView hidden = workspace.matrix(texts.num_texts * length, hidden_size());
    const auto frame = workspace.frame();
    const auto positions = workspace.array<Index>(length);
    for (Index i = 0; i < length; ++i) positions[static_cast<std::size_t>(i)] = i;
    std::vector<KvCache> caches;
    for (Index i = 0; i < texts.num_texts; ++i) caches.push_back(stack_.make_cache(length));
    std::vector<Sequence> sequences;
    for (Index i = 0; i < texts.num_texts; ++i) {
      const auto at = static_cast<std::size_t>(i);
      const kernels::KeyRange seen = texts.seen.empty() ? kernels::KeyRange{0, length} : texts.seen[at];
      const auto visible = workspace.array<kernels::KeyRange>(length);
      for (Index row = 0; row < length; ++row) {
        const Index end = config_.mask == TextEncoderConfig::Mask::kCausal ? row + 1 : length;
        visible[static_cast<std::size_t>(row)] = {seen.begin, std::max(seen.begin, std::min(end, seen.end))};
      }
      sequences.push_back({&caches[at], nullptr, positions, visible, {}, i * length, length});
    }
    stack_.embed(texts.ids, hidden);
    stack_.forward(hidden, sequences, Phase::kPrefill, workspace, observe);
    stack_.normalize(hidden, hidden, workspace);
    observe(Stage::kFinalNorm, 0, ConstMatrixView(hidden));
    return hidden;
  }

  /// The rows that stand for the texts [num_texts, hidden_size], of those that `encode` returned.
  [[nodiscard]] Matrix pool(const TextInput& texts, ConstMatrixView rows) const {
    Matrix pooled(texts.num_texts, rows.cols());
    const Index length = texts.length();
    for (Index i = 0; i < texts.num_texts; ++i) {
      const auto text = texts.ids.subspan(static_cast<std::size_t>(i * length), static_cast<std::size_t>(length));
      copy(rows.rows(i * length + row_of_text(text), 1), pooled.view().rows(i, 1));
    }
    return pooled;
  }

  /// Pooled rows in the shared space [num_texts, projection_dim].
  /// Requires projects()
  [[nodiscard]] Matrix project(ConstMatrixView pooled, Workspace& workspace) const {
    return projection_->map(pooled, Phase::kPrefill, workspace);
  }

 private:
  /// Checkpoints whose config still says eos_token_id 2, an old mistake of the reference's, mark a text's end with their
  /// largest id; the others with the first end-of-text token.
  [[nodiscard]] Index row_of_text(std::span<const TokenId> ids) const {
    constexpr TokenId kMistakenEos = 2;
    if (!config_.eos_token_id) return static_cast<Index>(ids.size()) - 1;
    const auto at = config_.eos_token_id == kMistakenEos ? std::ranges::max_element(ids) : std::ranges::find(ids, *config_.eos_token_id);
    return at == ids.end() ? 0 : static_cast<Index>(at - ids.begin());
  }

  Stack stack_;
  TextEncoderConfig config_;
  std::optional<Linear> projection_;
};

}  // namespace duet
