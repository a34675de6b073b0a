#pragma once

#include <utility>
#include <vector>

#include "duet/pipeline/single_view_processor.hpp"

namespace duet {

/// BLIP-2 (Li et al. 2023, 2301.12597): every picture is stretched to one square, and its tokens come before all that the tokenizer makes
/// of the text.
class Blip2Processor : public SingleViewProcessor {
 public:
  using SingleViewProcessor::SingleViewProcessor;

  [[nodiscard]] std::vector<TokenId> encode(const Tokenizer& tokenizer, std::string_view text, std::span<const PicturePlan> pictures,
                                            SpecialTokens special) const override {
    Index count = 0;
    for (const PicturePlan& picture : pictures) count += picture.num_tokens;
    std::vector<TokenId> ids(static_cast<std::size_t>(rules().image_token_id ? count : 0), rules().image_token_id.value_or(0));
    const std::vector<TokenId> words = tokenizer.encode(without_images(text, pictures), special);
    ids.insert(ids.end(), words.begin(), words.end());
    return ids;
  }
};

}  // namespace duet
