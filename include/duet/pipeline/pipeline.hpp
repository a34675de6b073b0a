#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "duet/pipeline/any_model.hpp"
#include "duet/pipeline/generate.hpp"
#include "duet/pipeline/prompt_encoder.hpp"

namespace duet {

/// A model with what stands around it in a checkpoint folder: prompts and pictures, generation defaults. Const, and safe to share
/// among threads; a Conversation holds what changes.
///
/// The tokenizer is read in the background: beside the model's own threads (LoadOptions) one more runs until that is done, and
/// ids can be read and pictures encoded meanwhile. With kWhenNeeded there is no such thread.
class Pipeline {
 public:
  /// What is missing, or wrong with the tokenizer's files, is an error only when it is needed: where text becomes ids, and where the
  /// first token of a reply is drawn. A prompt of ids alone is read without.
  explicit Pipeline(std::shared_ptr<const AnyModel> model, TokenizerReading reading = TokenizerReading::kInBackground)
      : model_(std::move(model)),
        prompts_(model_->folder(), model_->processor(), model_->chat_wording(), reading),
        defaults_(GenerationDefaults::read(model_->folder().generation_config(), model_->folder().config())) {
    if (const std::optional<TokenId> end = model_->rules().end_token_id) defaults_.eos_token_ids = {*end};
  }

  [[nodiscard]] const AnyModel& model() const noexcept { return *model_; }
  [[nodiscard]] const std::shared_ptr<const AnyModel>& shared_model() const noexcept { return model_; }
  [[nodiscard]] const PromptEncoder& prompts() const noexcept { return prompts_; }
  [[nodiscard]] const GenerationDefaults& defaults() const noexcept { return defaults_; }
  /// nullptr where the folder has none. Waits while it is read.
  /// Errors  those of Tokenizer::load
  [[nodiscard]] const Tokenizer* tokenizer() const { return prompts_.tokenizer(); }

  /// Where a prompt goes on: behind `length` rows, with `position`, which is another number where pictures have stood in a grid.
  struct Place {
    Index length = 0, position = 0;
  };
  /// A prompt that goes on at `place`, with the pictures among its ids.
  [[nodiscard]] Prompt make_prompt(std::vector<TokenId> ids, std::span<const PicturePlan> pictures, Place place, Index num_image_rows) const {
    Prompt prompt = Prompt::causal(std::move(ids), place.length, num_image_rows);
    for (Index& position : prompt.positions) position += place.position - place.length;
    prompts_.processor().arrange(prompt, pictures);
    for (const Index row : prompt.image_rows) {  // rows that are replaced anyway may have an id beyond the table
      TokenId& id = prompt.ids[static_cast<std::size_t>(row)];
      if (id < 0 || id >= model_->info().vocab_size) id = 0;
    }
    return prompt;
  }

  /// A sampler that never draws image placeholders nor rows that pad the embedding table: those beyond the tokenizer's ids.
  /// Errors  kInvalidArgument for options out of range; those of tokenizer()
  [[nodiscard]] Sampler make_sampler(const ReplyOptions& options) const {
    std::vector<TokenId> suppressed;
    if (model_->rules().image_token_id) suppressed.push_back(*model_->rules().image_token_id);
    const Index vocab = model_->info().vocab_size;
    const Tokenizer* const tokenizer = this->tokenizer();
    const Index known = tokenizer != nullptr ? static_cast<Index>(tokenizer->vocab_size()) : vocab;
    return Sampler(defaults_.with(options), vocab, known, suppressed);
  }
  /// Errors  kUnsupportedModel for a model that writes no text
  void require_text_model() const {
    if (model_->info().writes_text()) return;
    throw Error(ErrorKind::kUnsupportedModel, model_->folder().path().string(),
                concat("a model that writes no text (", model_->info().family, ")"), "a language model");
  }

 private:
  std::shared_ptr<const AnyModel> model_;
  PromptEncoder prompts_;
  GenerationDefaults defaults_;
};

}  // namespace duet
