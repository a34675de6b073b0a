#pragma once

#include <optional>
#include <string>

#include "duet/core/matrix.hpp"
#include "duet/core/token.hpp"

namespace duet {

/// Where a decoder finds the rows of pictures.
enum class PictureRows : unsigned char {
  kInPrompt,  ///< in the places of the prompt's image tokens, one a row (method A)
  kInMemory,  ///< in a visual memory; where a prompt has image tokens, one stands for each picture (method B)
  kInBoth,    ///< those of a picture's last crop, a view of the whole, as kInPrompt, and those of its tiles in a visual memory (hybrid)
};

/// What a family does with a prompt, beyond running it. Numbers come from the checkpoint's files; the wording around a
/// question is the family's documented one.
struct PromptRules {
  PictureRows picture_rows = PictureRows::kInPrompt;
  std::optional<TokenId> image_token_id;          ///< what stands for pictures in a prompt; absent: nothing does
  std::string image_token = "<image>";            ///< its spelling in a prompt
  Index tokens_per_image = 0;                     ///< rows that an image becomes
  std::optional<TokenId> decoder_start_token_id;  ///< of an encoder-decoder: the first token of every prompt, and all of one that is no text
  std::optional<TokenId> end_token_id;            ///< what ends a reply, where the reference does not leave that to generation_config.json
  std::string question_prefix;                    ///< before a question
  std::string image_prefix;                       ///< before each image token
  std::string image_suffix;                       ///< after each image token, before the question
  std::string question_suffix;                    ///< after a question
  std::string caption_question;                   ///< asked when there is a picture and no question
};

}  // namespace duet
