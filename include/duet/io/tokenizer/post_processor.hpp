#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "duet/core/error.hpp"
#include "duet/core/token.hpp"
#include "duet/io/json.hpp"

namespace duet::tokenization {

/// Which special tokens stand around a text: the "post_processor" of tokenizer.json, for one text alone (no pairs).
///
/// Errors  kUnsupportedModel for a kind it does not know, kInvalidArgument or kMalformedFile for wrong fields
/// Source  huggingface/tokenizers, src/processors
class PostProcessor {
 public:
  PostProcessor() = default;

  [[nodiscard]] static PostProcessor read(const JsonView& view) {
    PostProcessor result;
    if (!view.json().is_null()) result.add(view);
    return result;
  }

  [[nodiscard]] std::vector<TokenId> apply(std::vector<TokenId> ids) const {
    for (const Template& step : steps_) {
      std::vector<TokenId> result;
      result.reserve(ids.size() + 8);
      for (const Part& part : step) {
        const std::vector<TokenId>& source = part ? *part : ids;
        result.insert(result.end(), source.begin(), source.end());
      }
      ids = std::move(result);
    }
    return ids;
  }

  /// Calls visit(id) for every special token that this can add.
  template <class Visit>
  void for_each_id(const Visit& visit) const {
    for (const Template& step : steps_) {
      for (const Part& part : step) {
        if (!part) continue;
        for (const TokenId id : *part) visit(id);
      }
    }
  }

 private:
  using Part = std::optional<std::vector<TokenId>>;  ///< special tokens, or the text's
  using Template = std::vector<Part>;

  void add(const JsonView& view) {
    const auto type = view.get<std::string>("type");
    if (type == "Sequence") {
      for (const JsonView& part : view.at("processors").elements()) add(part);
    } else if (type == "ByteLevel") {
      // changes offsets only
    } else if (type == "TemplateProcessing") {
      add_template(view);
    } else if (type == "BertProcessing" || type == "RobertaProcessing") {
      using Ids = std::vector<TokenId>;
      steps_.push_back({Ids{id_of_pair(view.at("cls"))}, std::nullopt, Ids{id_of_pair(view.at("sep"))}});
    } else {
      throw Error(ErrorKind::kUnsupportedModel, view.where(), concat('"', type, '"'),
                  "Sequence, ByteLevel, TemplateProcessing, BertProcessing or RobertaProcessing");
    }
  }

  void add_template(const JsonView& view) {
    constexpr std::size_t kMaxTexts = 4;  // each doubles the prompt; real templates have one
    const JsonView special_tokens = view.object_or_empty("special_tokens");
    Template parts;
    std::size_t texts = 0;
    for (const JsonView& part : view.at("single").elements()) {
      if (part.contains("Sequence")) {
        const auto id = part.at("Sequence").get<std::string>("id");
        if (id != "A" || ++texts > kMaxTexts) throw Error(ErrorKind::kMalformedFile, part.where(), concat("sequence ", id), "sequence A, once");
        parts.emplace_back(std::nullopt);
      } else {
        const JsonView token = part.at("SpecialToken");
        parts.emplace_back(special_tokens.at(token.get<std::string>("id")).get<std::vector<TokenId>>("ids"));
      }
    }
    steps_.push_back(std::move(parts));
    if (steps_.size() > 8) throw Error(ErrorKind::kMalformedFile, view.where(), "more than 8 templates", "one");
  }

  static TokenId id_of_pair(const JsonView& view) {  // ["</s>", 2]
    const std::vector<JsonView> pair = view.elements();
    if (pair.size() != 2) throw Error(ErrorKind::kMalformedFile, view.where(), concat("a list of ", pair.size()), "a token and its id");
    return pair[1].as<TokenId>();
  }

  std::vector<Template> steps_;
};

}  // namespace duet::tokenization
