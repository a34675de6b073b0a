#pragma once

#include <string>
#include <utility>
#include <vector>

#include "duet/pipeline/single_view_processor.hpp"

namespace duet {

/// PaliGemma (Beyer et al. 2024, 2407.07726): every picture is stretched to one square. Image tokens come before the token that begins
/// the text, a newline ends it, and the prompt is read as a whole, every row seeing all others.
class PaliGemmaProcessor : public SingleViewProcessor {
 public:
  using SingleViewProcessor::SingleViewProcessor;

  /// The tokenizer's own special tokens are never added. Where the text says where pictures are, it begins behind the last of them.
  [[nodiscard]] std::vector<TokenId> encode(const Tokenizer& tokenizer, std::string_view text, std::span<const PicturePlan> pictures,
                                            SpecialTokens special) const override {
    std::string whole = spells_images_out(text) ? expand(text, pictures) : concat(image_tokens(pictures), text);
    if (special == SpecialTokens::kAdd) {
      const std::size_t last = whole.rfind(rules().image_token);
      whole.insert(last == std::string::npos ? 0 : last + rules().image_token.size(), begin_of_text(tokenizer));
    }
    return tokenizer.encode(whole + '\n', SpecialTokens::kNone);
  }
  /// Positions begin with 1.
  void arrange(Prompt& prompt, std::span<const PicturePlan>) const override {
    mark_image_rows(prompt);
    const Index end = prompt.visible.empty() ? 0 : prompt.visible.back().end;
    for (kernels::KeyRange& visible : prompt.visible) visible.end = end;
    if (prompt.positions.empty() || prompt.positions.front() != 0) return;  // behind others, whose positions began with 1
    for (Index& position : prompt.positions) ++position;
  }
  [[nodiscard]] bool reads_ahead() const noexcept override { return true; }
};

}  // namespace duet
