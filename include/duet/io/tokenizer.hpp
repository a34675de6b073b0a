#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

#include "duet/core/error.hpp"
#include "duet/core/token.hpp"
#include "duet/io/json.hpp"
#include "duet/io/tokenizer/added_vocabulary.hpp"
#include "duet/io/tokenizer/decode_run.hpp"
#include "duet/io/tokenizer/decoder.hpp"
#include "duet/io/tokenizer/normalizer.hpp"
#include "duet/io/tokenizer/older_files.hpp"
#include "duet/io/tokenizer/post_processor.hpp"
#include "duet/io/tokenizer/pre_tokenizer.hpp"
#include "duet/io/tokenizer/read_model.hpp"
#include "duet/io/tokenizer/tokenizer_file.hpp"
#include "duet/io/utf8.hpp"

namespace duet {

/// Whether encoding adds the special tokens that the tokenizer's file puts around a text (often one that begins it).
enum class SpecialTokens : unsigned char { kAdd, kNone };

struct DecodeOptions {
  bool skip_special_tokens = true;  ///< leave out <s>, <|im_end|> and the like
};

/// A tokenizer as Hugging Face stores it. Const, and safe to share among threads.
///
/// Text goes through added tokens, normalizer, pre-tokenizer, model and post-processor; ids go through the decoder. Ids
/// and texts are the reference's (huggingface/tokenizers). In a text that is no UTF-8, U+FFFD stands for each maximal
/// subpart. The file's "truncation" and "padding" are not applied, as in transformers.
class Tokenizer {
 public:
  /// Whether a folder has what load() reads.
  [[nodiscard]] static bool is_in(const std::filesystem::path& folder) {
    std::error_code ignored;
    return std::filesystem::exists(std::filesystem::symlink_status(folder / "tokenizer.json", ignored)) || tokenization::OlderFiles::are_in(folder);
  }

  /// Reads a folder's tokenizer.json, else the older files (vocab.json with merges.txt, vocab.txt), and its tokenizer_config.json
  /// and special_tokens_map.json where they are.
  ///
  /// Errors  kFileNotReadable without any of them; kUnsupportedModel for a kind of model or step that is not known here;
  ///         kMalformedFile and kInvalidArgument for files that contradict their format or themselves
  /// Cost    linear in the file: some 15 ms for 50,000 tokens with their merges
  [[nodiscard]] static Tokenizer load(const std::filesystem::path& folder) {
    const auto is_there = [&](const char* name) {  // a link that leads nowhere is there: reading it tells
      std::error_code ignored;
      return std::filesystem::exists(std::filesystem::symlink_status(folder / name, ignored));
    };
    const auto optional_json = [&](const char* name) {
      return is_there(name) ? read_json_file(folder / name) : nlohmann::json::object();
    };
    if (!is_there("tokenizer.json")) {
      if (!tokenization::OlderFiles::are_in(folder)) throw missing(folder);
      const nlohmann::json config = optional_json("tokenizer_config.json"), tokens = optional_json("special_tokens_map.json");
      const JsonView config_view(config, "tokenizer_config.json"), tokens_view(tokens, "special_tokens_map.json");
      tokenization::TokenizerFile file = tokenization::OlderFiles::read(folder, config_view, tokens_view);
      return Tokenizer(file, config_view, tokens_view);
    }
    return parse(read_text_file(folder / "tokenizer.json"), optional_json("tokenizer_config.json"),
                 optional_json("special_tokens_map.json"));
  }

  /// What to do about a folder without tokenizer.json, by what lies in it instead.
  [[nodiscard]] static Error missing(const std::filesystem::path& folder) {
    const auto has = [&](const char* name) {
      std::error_code ignored;
      return std::filesystem::exists(folder / name, ignored);
    };
    std::string got = "no tokenizer.json", hint = "is the download complete?";
    for (const char* older : {"tokenizer.model", "vocab.json", "spiece.model", "sentencepiece.bpe.model"}) {
      if (!has(older)) continue;
      got += concat(", but ", older);
      hint = concat("convert it once: python3 -c \"from transformers import AutoTokenizer as A; A.from_pretrained('", folder.string(),
                    "').save_pretrained('", folder.string(), "')\"");
      break;
    }
    if (!has("")) {
      got = "nothing there";
      hint = "is the path right?";
    }
    return {ErrorKind::kFileNotReadable, folder.string(), got, "a folder with tokenizer.json, to read text", hint};
  }

  /// The same from memory.
  [[nodiscard]] static Tokenizer parse(std::string_view tokenizer_json, const nlohmann::json& tokenizer_config = nlohmann::json::object(),
                                       const nlohmann::json& special_tokens_map = nlohmann::json::object()) {
    tokenization::TokenizerFile file = tokenization::TokenizerFileReader::read(tokenizer_json, "tokenizer.json");
    return Tokenizer(file, JsonView(tokenizer_config, "tokenizer_config.json"), JsonView(special_tokens_map, "special_tokens_map.json"));
  }

  /// The tokens of `text`.
  ///
  /// Errors  kInvalidArgument when a regular expression of the file explodes on this text; kMalformedFile when the text
  ///         needs an unk_token that the vocabulary lacks
  /// Cost    linear in the text where the pre-tokenizer splits words, else n log n
  [[nodiscard]] std::vector<TokenId> encode(std::string_view text, SpecialTokens mode = SpecialTokens::kAdd) const {
    std::string repaired;
    if (!is_valid_utf8(text)) {
      repaired = replace_invalid_utf8(text);
      text = repaired;
    }
    std::vector<TokenId> ids;
    for (const auto& [range, added] : added_.plain().cut(text)) {
      if (added) {
        ids.push_back(*added);
      } else {
        encode_between(text.substr(range.begin, range.end - range.begin), range.begin, ids);
      }
    }
    return mode == SpecialTokens::kAdd ? post_processor_.apply(std::move(ids)) : ids;
  }

  /// The text of `ids`. Ids that are no tokens have none.
  [[nodiscard]] std::string decode(std::span<const TokenId> ids, DecodeOptions options = {}) const {
    tokenization::DecodeRun run(decoder_);
    for (const TokenId id : ids) {
      if (const auto token = shown_token(id, options)) run.push(*token);
    }
    run.finish();
    return run.take();
  }

  [[nodiscard]] std::optional<TokenId> token_to_id(std::string_view token) const {
    const std::optional<TokenId> added = added_.find(token);
    return added ? added : vocabulary().find(token);
  }
  /// The token as the file spells it ("Ġhello", "<0x0A>"), or nothing for an id that is no token.
  [[nodiscard]] std::string_view id_to_token(TokenId id) const { return token(id).value_or(std::string_view()); }
  /// One more than the largest id.
  [[nodiscard]] std::size_t vocab_size() const { return std::max(vocabulary().id_end(), added_.id_end()); }
  /// Whether decoding may leave this token out.
  [[nodiscard]] bool is_special(TokenId id) const { return added_.is_special(id); }

  // What tokenizer_config.json or special_tokens_map.json names, if it is a token.
  [[nodiscard]] std::optional<TokenId> bos_token_id() const noexcept { return bos_token_id_; }
  [[nodiscard]] std::optional<TokenId> eos_token_id() const noexcept { return eos_token_id_; }
  [[nodiscard]] std::optional<TokenId> pad_token_id() const noexcept { return pad_token_id_; }
  /// The model's unk_token if those name none.
  [[nodiscard]] std::optional<TokenId> unk_token_id() const noexcept { return unk_token_id_; }

 private:
  friend class StreamDecoder;

  Tokenizer(tokenization::TokenizerFile& file, const JsonView& config, const JsonView& special_tokens_map)
      : model_(tokenization::read_model(file)),
        normalizer_(tokenization::Normalizer::read(part(file, "normalizer"))),
        pre_tokenizer_(tokenization::PreTokenizer::read(part(file, "pre_tokenizer"))),
        post_processor_(tokenization::PostProcessor::read(part(file, "post_processor"))),
        decoder_(tokenization::DecoderReader::read(part(file, "decoder"))),
        added_(JsonView(file.rest, "tokenizer.json"), config, vocabulary(), normalizer_),
        bos_token_id_(named_token({config, special_tokens_map}, "bos_token")),
        eos_token_id_(named_token({config, special_tokens_map}, "eos_token")),
        pad_token_id_(named_token({config, special_tokens_map}, "pad_token")),
        unk_token_id_(named_token({config, special_tokens_map}, "unk_token")) {
    if (!unk_token_id_) {
      const auto unk = std::visit([](const auto& model) { return model.unk_token(); }, model_);
      if (unk) unk_token_id_ = token_to_id(*unk);
    }
    post_processor_.for_each_id([&](TokenId id) {
      if (!token(id)) throw Error(ErrorKind::kMalformedFile, "tokenizer.json: post_processor", concat("id ", id), "the id of a token");
    });
  }

  /// A member of tokenizer.json, which may be null or absent.
  static JsonView part(const tokenization::TokenizerFile& file, const char* key) {
    static const nlohmann::json null;
    const JsonView rest(file.rest, "tokenizer.json");
    return rest.contains(key) ? rest.at(key) : JsonView(null, concat(rest.where(), ": ", key));
  }

  /// The token that the first of `configs` to mention it names under `key`: "bos_token": "<s>" or {"content": "<s>"}.
  [[nodiscard]] std::optional<TokenId> named_token(std::initializer_list<JsonView> configs, const char* key) const {
    for (const JsonView& config : configs) {
      if (!config.contains(key)) continue;
      const JsonView named = config.at(key);
      return token_to_id(named.json().is_object() ? named.get<std::string>("content") : named.as<std::string>());
    }
    return std::nullopt;
  }

  /// Encodes what lies between added tokens, `offset` bytes into the whole text.
  void encode_between(std::string_view text, std::size_t offset, std::vector<TokenId>& ids) const {
    using Place = tokenization::Pieces::Piece::Place;
    const std::string normalized = normalizer_.apply(std::string(text));
    for (const auto& [range, added] : added_.normalized().cut(normalized)) {
      if (added) {
        ids.push_back(*added);
        continue;
      }
      const Place place = offset == 0 && range.begin == 0 ? Place::kBeginsText : Place::kLater;
      const auto pieces = pre_tokenizer_.apply(normalized.substr(range.begin, range.end - range.begin), place);
      std::visit([&](const auto& model) { model.encode(pieces, ids); }, model_);
    }
  }

  [[nodiscard]] const tokenization::Vocabulary& vocabulary() const {
    return std::visit([](const auto& model) -> const tokenization::Vocabulary& { return model.vocabulary(); }, model_);
  }
  [[nodiscard]] std::optional<std::string_view> token(TokenId id) const {
    const auto added = added_.token(id);
    return added ? added : vocabulary().token(id);
  }
  [[nodiscard]] std::optional<std::string_view> shown_token(TokenId id, DecodeOptions options) const {
    return options.skip_special_tokens && is_special(id) ? std::nullopt : token(id);
  }

  tokenization::Model model_;
  tokenization::Normalizer normalizer_;
  tokenization::PreTokenizer pre_tokenizer_;
  tokenization::PostProcessor post_processor_;
  std::vector<tokenization::DecodeStep> decoder_;
  tokenization::AddedVocabulary added_;
  std::optional<TokenId> bos_token_id_, eos_token_id_, pad_token_id_, unk_token_id_;
};

/// Decodes the tokens of one conversation as they are drawn: the pieces, joined, are decode() of all of them.
///
///     StreamDecoder decoder(tokenizer);
///     while (…) std::cout << decoder.push(next_id());
///     std::cout << decoder.flush();
///
/// Requires  the tokenizer outlives it, at its place
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, DecodeOptions options = {})
      : tokenizer_(&tokenizer), options_(options), run_(tokenizer.decoder_) {}

  /// The text that is certain now and was not before: whole UTF-8 characters, possibly none.
  [[nodiscard]] std::string push(TokenId id) {
    if (const auto token = tokenizer_->shown_token(id, options_)) run_.push(*token);
    return run_.take();
  }
  /// What was held back; afterwards a new text begins.
  [[nodiscard]] std::string flush() {
    run_.finish();
    std::string text = run_.take();
    run_ = tokenization::DecodeRun(tokenizer_->decoder_);
    return text;
  }

 private:
  const Tokenizer* tokenizer_;
  DecodeOptions options_;
  tokenization::DecodeRun run_;
};

}  // namespace duet
