#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "duet/pipeline/processors/arguments.hpp"
#include "duet/pipeline/single_view_processor.hpp"

namespace duet {

/// Idefics (Laurençon et al. 2023, 2306.16527): every picture is stretched to one square; a text row sees the picture before it.
class Idefics1Processor : public SingleViewProcessor {
 public:
  Idefics1Processor(PromptRules rules, const CheckpointFolder& folder) : SingleViewProcessor(std::move(rules), folder) {
    const JsonView config = folder.config();
    if (!config.contains("eos_token_id")) return;
    const JsonView ends = config.at("eos_token_id");
    ends_ = ends.json().is_array() ? ends.as<std::vector<TokenId>>() : std::vector<TokenId>{ends.as<TokenId>()};
  }

  [[nodiscard]] Alpha alpha() const noexcept override { return Alpha::kCompositeWhite; }

  [[nodiscard]] std::string expand(std::string_view text, std::span<const PicturePlan> pictures) const override {
    static constexpr std::string_view kAround = "<fake_token_around_image>";
    std::string result;  // no spaces around pictures, and neighbours share the token between them
    std::size_t begin = 0, count = 0;
    const auto add = [&](std::string_view words) {
      while (words.starts_with(' ')) words.remove_prefix(1);
      while (words.ends_with(' ')) words.remove_suffix(1);
      result += words;
    };
    for (std::size_t at; (at = text.find(rules().image_token, begin)) != std::string_view::npos; begin = at + rules().image_token.size()) {
      add(text.substr(begin, at - begin));
      if (!result.ends_with(kAround)) result += kAround;
      result += concat(rules().image_token, kAround);
      ++count;
    }
    if (count != pictures.size()) throw wrong_number(count, pictures.size());
    add(text.substr(begin));
    return result;
  }
  /// A row sees the last picture before it, none behind the end of a text.
  void arrange(Prompt& prompt, std::span<const PicturePlan> pictures) const override {
    const auto first = std::ranges::find_if(prompt.ids, [this](TokenId id) { return is_image_token(id); });
    if (first == prompt.ids.end()) return;  // all rows see what the memory holds, which is nothing or older
    Index begin = 0, next = 0;  // of the memory's rows
    std::size_t picture = 0;
    bool ended = true;
    for (std::size_t i = 0; i < prompt.ids.size(); ++i) {
      if (is_image_token(prompt.ids[i]) && picture < pictures.size()) {
        begin = next;
        next += pictures[picture++].num_tokens;
        ended = false;
      }
      prompt.visible_images[i] = ended ? kernels::KeyRange{0, 0} : kernels::KeyRange{begin, next};
      if (std::ranges::find(ends_, prompt.ids[i]) != ends_.end()) ended = true;
    }
  }

  [[nodiscard]] VisualInput from_arguments(const FindArgument& find) const override {
    VisualInput input;
    const auto pixels = detail::find_argument(find, "pixel_values", 5, "[batch, pictures, channels, height, width]");
    for (Index i = 0; pixels && i < detail::stored_crops(*pixels); ++i) {
      if (detail::is_padding_crop(*pixels, i)) continue;  // of a batch, which no row sees
      const PictureSize size = detail::stored_size(*pixels);
      input.add_picture({.original = size, .resized = size, .num_tokens = rules().tokens_per_image});
      detail::add_stored_crop(input, *pixels, i, size);
    }
    return input;
  }

 private:
  std::vector<TokenId> ends_;  ///< of texts
};

}  // namespace duet
