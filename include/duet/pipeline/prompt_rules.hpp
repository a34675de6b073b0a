#pragma once

#include <optional>
#include <string>

#include "duet/core/matrix.hpp"
#include "duet/core/token.hpp"

namespace duet {

/// What a family does with a prompt, beyond running it. Numbers come from the checkpoint's files; the wording around a
/// question is the family's documented one.
struct PromptRules {
  std::optional<TokenId> image_token_id;          ///< placeholder that image rows replace (method A)
  std::string image_token = "<image>";            ///< its spelling in a prompt
  Index tokens_per_image = 0;                     ///< rows that an image becomes
  std::optional<TokenId> decoder_start_token_id;  ///< first token of every prompt (method B)
  std::string question_prefix;                    ///< before a question
  std::string image_prefix;                       ///< before each image token
  std::string image_suffix;                       ///< after each image token, before the question
  std::string question_suffix;                    ///< after a question
  std::string caption_question;                   ///< asked when there is a picture and no question
};

}  // namespace duet
