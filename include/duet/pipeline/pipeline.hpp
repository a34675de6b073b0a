#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "duet/pipeline/any_model.hpp"
#include "duet/pipeline/generate.hpp"
#include "duet/pipeline/image_processor.hpp"

namespace duet {

/// A model with what stands around it in a checkpoint folder: tokenizer, chat template, image processor, generation defaults.
/// Const, and safe to share among threads; a Conversation holds what changes.
class Pipeline {
 public:
  /// Reads the tokenizer and preprocessor_config.json where they are; what is missing is an error only when it is needed.
  explicit Pipeline(std::shared_ptr<const AnyModel> model)
      : model_(std::move(model)),
        defaults_(GenerationDefaults::read(model_->folder().generation_config(), model_->folder().config())) {
    const CheckpointFolder& folder = model_->folder();
    if (Tokenizer::is_in(folder.path())) tokenizer_.emplace(Tokenizer::load(folder.path()));
    if (folder.has("preprocessor_config.json")) processor_.emplace(ImageProcessor::load(folder.path()));
  }

  [[nodiscard]] const AnyModel& model() const noexcept { return *model_; }
  [[nodiscard]] const std::shared_ptr<const AnyModel>& shared_model() const noexcept { return model_; }
  [[nodiscard]] const GenerationDefaults& defaults() const noexcept { return defaults_; }
  [[nodiscard]] const Tokenizer* tokenizer() const noexcept { return tokenizer_ ? &*tokenizer_ : nullptr; }

  /// Pictures as the encoder wants them.
  /// Errors  kUnsupportedModel for a model without eyes; kFileNotReadable without preprocessor_config.json; kShapeMismatch when pictures come out in different sizes
  [[nodiscard]] VisualInput preprocess(std::span<const Image> images) const {
    if (!images.empty() && !model_->info().reads_images()) {
      throw Error(ErrorKind::kUnsupportedModel, model_->folder().path().string(), concat("a model that reads text alone (", model_->info().family, ")"),
                  "one that reads images");
    }
    if (!processor_) throw missing("preprocessor_config.json", "to prepare images");
    VisualInput input;
    for (const Image& image : images) {
      const PixelValues pixels = processor_->process(image);
      if (input.num_images > 0 && (pixels.height != input.height || pixels.width != input.width)) {
        throw Error(ErrorKind::kShapeMismatch, "images", concat(pixels.width, " x ", pixels.height),
                    concat("the size of the first, ", input.width, " x ", input.height));
      }
      input.num_channels = pixels.channels;
      input.height = pixels.height;
      input.width = pixels.width;
      input.pixels.insert(input.pixels.end(), pixels.values.begin(), pixels.values.end());
      ++input.num_images;
    }
    return input;
  }

  /// A picture as its patches are cut from it: padded, resized and cropped.
  /// Errors  kFileNotReadable without preprocessor_config.json
  [[nodiscard]] Image seen(const Image& picture) const {
    if (!processor_) throw missing("preprocessor_config.json", "to prepare images");
    return processor_->seen(picture);
  }

  /// Which turn of a conversation a text is.
  enum class Turn : unsigned char { kFirst, kLater };

  /// Whether turns are worded by the checkpoint's chat template. Method B's pictures are not in the text, nor has it templates.
  [[nodiscard]] bool has_chat_template() const { return model_->chat_wording() != nullptr && !model_->rules().decoder_start_token_id; }

  /// Whether a text holds image tokens, so that it is taken as it is.
  [[nodiscard]] bool spells_images_out(std::string_view text) const {
    const PromptRules& rules = model_->rules();
    return rules.image_token_id && text.find(rules.image_token) != std::string_view::npos;
  }

  /// What the user says in a turn: images before text. Without text, images are captioned where the family can.
  /// Errors  kInvalidArgument when there is nothing to say
  [[nodiscard]] ChatMessage user_message(std::optional<std::string_view> text, Index num_images) const {
    if ((!text || text->empty()) && num_images == 0) throw nothing_to_say();
    ChatMessage message{"user", std::vector<ChatPart>(static_cast<std::size_t>(num_images), ChatPart{ChatPart::Kind::kImage})};
    const std::string_view words = text ? *text : std::string_view(model_->rules().caption_question);
    if (!words.empty()) message.parts.push_back({ChatPart::Kind::kText, std::string(words)});
    return message;
  }

  /// Ids of a whole conversation as the chat template words it, every image's placeholder expanded. The tokenizer's own special
  /// tokens are added where the reference adds them: for models with eyes, unless the template began with the text's first token.
  /// Requires has_chat_template()
  /// Errors   those of the template; kFileNotReadable without tokenizer.json
  [[nodiscard]] std::vector<TokenId> encode_chat(std::span<const ChatMessage> messages) const {
    const std::string prompt = model_->chat_wording()->render(messages, model_->rules().image_token);
    const Tokenizer& tokenizer = required_tokenizer();
    const std::optional<TokenId> bos = tokenizer.bos_token_id();
    const bool begun = bos && prompt.starts_with(tokenizer.id_to_token(*bos));
    return expanded(tokenizer.encode(prompt, model_->info().reads_images() && !begun ? SpecialTokens::kAdd : SpecialTokens::kNone));
  }

  /// Ids of a text as it is, with special tokens, every image's placeholder expanded.
  /// Errors  kFileNotReadable without tokenizer.json; kUnsupportedModel for a model that writes no text
  [[nodiscard]] std::vector<TokenId> encode_exactly(std::string_view text) const {
    require_text_model();
    return expanded(required_tokenizer().encode(text));
  }

  /// Ids of a turn: the chat template's wording in the first, else the family's around `text`, special tokens, and every image's
  /// placeholder expanded. A text that already holds image tokens is taken as it is. Without text, images are captioned where the
  /// family can.
  /// Errors  kFileNotReadable without tokenizer.json; kInvalidArgument when there is nothing to say
  [[nodiscard]] std::vector<TokenId> encode_turn(std::optional<std::string_view> text, Index num_images, Turn turn) const {
    require_text_model();
    const PromptRules& rules = model_->rules();
    if (rules.decoder_start_token_id) {  // method B: the picture is not in the text
      if ((!text || text->empty()) && num_images == 0) throw nothing_to_say();
      std::vector<TokenId> ids;
      if (turn == Turn::kFirst) ids.push_back(*rules.decoder_start_token_id);
      if (text && !text->empty()) append(ids, required_tokenizer().encode(*text, SpecialTokens::kNone));
      return ids;
    }
    const ChatMessage message = user_message(text, num_images);
    const bool as_it_is = text && spells_images_out(*text);
    if (!as_it_is && turn == Turn::kFirst && has_chat_template()) return encode_chat({&message, 1});
    std::string whole;
    if (as_it_is) {
      whole = *text;
    } else {
      whole = rules.question_prefix;
      for (Index i = 0; i < num_images; ++i) whole += rules.image_token + rules.image_suffix;
      whole += concat(text.value_or(rules.caption_question), rules.question_suffix);
    }
    return expanded(required_tokenizer().encode(whole, turn == Turn::kFirst ? SpecialTokens::kAdd : SpecialTokens::kNone));
  }

  /// A prompt that goes on after `length` positions; rows of image placeholders are noted.
  [[nodiscard]] Prompt make_prompt(std::vector<TokenId> ids, Index length, Index num_image_rows) const {
    Prompt prompt = Prompt::causal(std::move(ids), length, num_image_rows);
    const PromptRules& rules = model_->rules();
    for (Index i = 0; rules.image_token_id && i < prompt.size(); ++i) {
      TokenId& id = prompt.ids[static_cast<std::size_t>(i)];
      if (id != *rules.image_token_id) continue;
      prompt.image_rows.push_back(i);
      if (id >= model_->info().vocab_size) id = 0;  // its row is replaced anyway
    }
    return prompt;
  }

  /// A sampler that never draws image placeholders nor rows that pad the embedding table.
  [[nodiscard]] Sampler make_sampler(const ReplyOptions& options) const {
    std::vector<TokenId> suppressed;
    if (model_->rules().image_token_id) suppressed.push_back(*model_->rules().image_token_id);
    const Index vocab = model_->info().vocab_size;
    const Index known = tokenizer_ ? static_cast<Index>(tokenizer_->vocab_size()) : vocab;
    return Sampler(defaults_.with(options), vocab, known, suppressed);
  }

 private:
  [[nodiscard]] Error missing(std::string_view file, std::string_view why) const {
    return {ErrorKind::kFileNotReadable, model_->folder().path().string(), concat("no ", file), concat("one, ", why), "is the download complete?"};
  }

  void require_text_model() const {
    if (model_->info().writes_text()) return;
    throw Error(ErrorKind::kUnsupportedModel, model_->folder().path().string(),
                concat("a model that writes no text (", model_->info().family, ")"), "a language model");
  }
  /// Every image's placeholder as often as it has rows.
  [[nodiscard]] std::vector<TokenId> expanded(const std::vector<TokenId>& ids) const {
    const PromptRules& rules = model_->rules();
    std::vector<TokenId> result;
    for (const TokenId id : ids) {
      const bool placeholder = rules.image_token_id && id == *rules.image_token_id;
      result.insert(result.end(), placeholder ? static_cast<std::size_t>(rules.tokens_per_image) : 1, id);
    }
    return result;
  }

  [[nodiscard]] Error nothing_to_say() const {
    return {ErrorKind::kInvalidArgument, "prompt", "neither text nor an image", "at least one of them"};
  }
  [[nodiscard]] const Tokenizer& required_tokenizer() const {
    if (!tokenizer_) throw Tokenizer::missing(model_->folder().path());
    return *tokenizer_;
  }
  static void append(std::vector<TokenId>& ids, const std::vector<TokenId>& more) { ids.insert(ids.end(), more.begin(), more.end()); }

  std::shared_ptr<const AnyModel> model_;
  GenerationDefaults defaults_;
  std::optional<Tokenizer> tokenizer_;
  std::optional<ImageProcessor> processor_;
};

}  // namespace duet
