#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/io/chat_message.hpp"
#include "duet/io/checkpoint_folder.hpp"
#include "duet/io/tokenizer.hpp"
#include "duet/io/tokenizer_in_folder.hpp"
#include "duet/pipeline/processor.hpp"

namespace duet {

/// What a checkpoint folder makes of prompts and pictures before a model runs: tokenizer, chat template and the family's
/// processor. Needs no weights. Const, and safe to share among threads.
class PromptEncoder {
 public:
  /// A folder's tokenizer that is missing or broken is an error only when it is needed: where text becomes ids, and ids text.
  PromptEncoder(const CheckpointFolder& folder, std::shared_ptr<const Processor> processor, std::optional<ChatWording> chat,
                TokenizerReading reading = TokenizerReading::kWhenNeeded)
      : path_(folder.path()), processor_(std::move(processor)), chat_(std::move(chat)), tokenizer_(path_, reading) {}

  [[nodiscard]] const Processor& processor() const noexcept { return *processor_; }
  [[nodiscard]] const PromptRules& rules() const noexcept { return processor_->rules(); }
  /// nullptr where the folder has none. Waits while it is read.
  /// Errors  those of Tokenizer::load
  [[nodiscard]] const Tokenizer* tokenizer() const { return tokenizer_.get(); }

  /// A picture as the family sees it: what becomes of transparency differs.
  /// Errors  those of Image::open
  [[nodiscard]] Image open(const std::filesystem::path& picture) const { return Image::open(picture, processor_->alpha()); }
  /// What pictures become.
  /// Errors  those of Processor::plan
  [[nodiscard]] std::vector<PicturePlan> plans(std::span<const Image> pictures) const {
    std::vector<PicturePlan> result;
    for (const Image& picture : pictures) result.push_back(processor_->plan({picture.height(), picture.width()}));
    return result;
  }
  /// Pictures as the encoder wants them.
  /// Errors  those of Processor::process
  [[nodiscard]] VisualInput preprocess(std::span<const Image> pictures) const {
    VisualInput input;
    for (const Image& picture : pictures) processor_->process(picture, input);
    return input;
  }

  /// Which turn of a conversation a text is.
  enum class Turn : unsigned char { kFirst, kLater };

  /// Whether turns are worded by the checkpoint's chat template. An encoder-decoder's pictures are not in the text, nor has it
  /// templates.
  [[nodiscard]] bool has_chat_template() const { return chat_.has_value() && !rules().decoder_start_token_id; }

  /// Whether a text holds image tokens, so that it is taken as it is.
  [[nodiscard]] bool spells_images_out(std::string_view text) const { return processor_->spells_images_out(text); }

  /// What the user says in a turn: images before text. Without text, images are captioned where the family can.
  /// Errors  kInvalidArgument when there is nothing to say
  [[nodiscard]] ChatMessage user_message(std::optional<std::string_view> text, Index num_pictures) const {
    if ((!text || text->empty()) && num_pictures == 0) throw nothing_to_say();
    ChatMessage message{"user", std::vector<ChatPart>(static_cast<std::size_t>(num_pictures), ChatPart{ChatPart::Kind::kImage})};
    const std::string_view words = text ? *text : std::string_view(rules().caption_question);
    if (!words.empty()) message.parts.push_back({ChatPart::Kind::kText, std::string(words)});
    return message;
  }

  /// Ids of a whole conversation as the chat template words it, every image token expanded. The tokenizer's own special tokens
  /// are added where the reference adds them: for models with eyes, unless the template began with the text's first token.
  /// Requires has_chat_template()
  /// Errors   those of the template and of Processor::expand; kFileNotReadable without tokenizer.json, and those of Tokenizer::load
  [[nodiscard]] std::vector<TokenId> encode_chat(std::span<const ChatMessage> messages, std::span<const PicturePlan> pictures) const {
    const std::string prompt = chat_->render(messages, rules().image_token);
    const Tokenizer& tokenizer = required_tokenizer();
    const std::optional<TokenId> bos = tokenizer.bos_token_id();
    const bool begun = bos && prompt.starts_with(tokenizer.id_to_token(*bos));
    const bool has_eyes = rules().image_token_id.has_value();
    return processor_->encode(tokenizer, prompt, pictures, has_eyes && !begun ? SpecialTokens::kAdd : SpecialTokens::kNone);
  }

  /// Ids of a text as it is, with special tokens, every image token expanded.
  /// Errors  kFileNotReadable without tokenizer.json; those of Tokenizer::load and Processor::expand
  [[nodiscard]] std::vector<TokenId> encode_exactly(std::string_view text, std::span<const PicturePlan> pictures) const {
    return processor_->encode(required_tokenizer(), text, pictures, SpecialTokens::kAdd);
  }

  /// Ids of a turn: the chat template's wording in the first, else the family's around `text`, special tokens, and every image
  /// token expanded. A text that already holds image tokens is taken as it is. Without text, images are captioned where the
  /// family can.
  /// Errors  kFileNotReadable without tokenizer.json; kInvalidArgument when there is nothing to say; those of Tokenizer::load and
  ///         Processor::expand
  [[nodiscard]] std::vector<TokenId> encode_turn(std::optional<std::string_view> text, std::span<const PicturePlan> pictures,
                                                 Turn turn) const {
    const PromptRules& rules = this->rules();
    const auto num_pictures = static_cast<Index>(pictures.size());
    if (rules.decoder_start_token_id) {  // an encoder-decoder: the picture is not in the text
      if ((!text || text->empty()) && num_pictures == 0) throw nothing_to_say();
      std::vector<TokenId> ids;
      if (turn == Turn::kFirst) ids.push_back(*rules.decoder_start_token_id);
      if (text && !text->empty()) {
        const std::vector<TokenId> words = required_tokenizer().encode(*text, SpecialTokens::kNone);
        ids.insert(ids.end(), words.begin(), words.end());
      }
      return ids;
    }
    const ChatMessage message = user_message(text, num_pictures);
    const bool as_it_is = text && spells_images_out(*text);
    if (!as_it_is && turn == Turn::kFirst && has_chat_template()) return encode_chat({&message, 1}, pictures);
    std::string whole;
    if (as_it_is) {
      whole = *text;
    } else {
      whole = rules.question_prefix;
      for (Index i = 0; i < num_pictures; ++i) whole += rules.image_prefix + rules.image_token + rules.image_suffix;
      whole += concat(text.value_or(rules.caption_question), rules.question_suffix);
    }
    return processor_->encode(required_tokenizer(), whole, pictures, turn == Turn::kFirst ? SpecialTokens::kAdd : SpecialTokens::kNone);
  }

 private:
  [[nodiscard]] static Error nothing_to_say() {
    return {ErrorKind::kInvalidArgument, "prompt", "neither text nor an image", "at least one of them"};
  }
  [[nodiscard]] const Tokenizer& required_tokenizer() const {
    const Tokenizer* const tokenizer = this->tokenizer();
    if (tokenizer == nullptr) throw Tokenizer::missing(path_);
    return *tokenizer;
  }

  std::filesystem::path path_;
  std::shared_ptr<const Processor> processor_;
  std::optional<ChatWording> chat_;
  TokenizerInFolder tokenizer_;
};

}  // namespace duet
