#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "duet/core/error.hpp"
#include "duet/io/json.hpp"
#include "duet/io/tokenizer/tokenizer_file.hpp"

namespace duet::tokenization {

/// The files that tokenizers had before tokenizer.json, turned into one as transformers does when it loads them: vocab.json with
/// merges.txt (GPT-2, RoBERTa) and vocab.txt (BERT). tokenizer_config.json says which kind, and its settings.
///
/// Source  huggingface/transformers, convert_slow_tokenizer.py
class OlderFiles {
 public:
  [[nodiscard]] static bool are_in(const std::filesystem::path& folder) { return has(folder, "vocab.txt") || (has(folder, "vocab.json") && has(folder, "merges.txt")); }

  /// Requires are_in(folder)
  /// Errors   kUnsupportedModel for another class of tokenizer; kMalformedFile, kInvalidArgument
  [[nodiscard]] static TokenizerFile read(const std::filesystem::path& folder, const JsonView& config, const JsonView& special_tokens_map) {
    OlderFiles files(folder, {config, special_tokens_map});
    const bool bert = !has(folder, "vocab.json");
    auto kind = config.get_or<std::string>("tokenizer_class", bert ? "BertTokenizer" : "GPT2Tokenizer");
    if (kind.ends_with("Fast")) kind.resize(kind.size() - 4);
    if (bert && (kind == "BertTokenizer" || kind == "DistilBertTokenizer" || kind == "ElectraTokenizer")) {
      files.read_bert(config);
    } else if (!bert && kind == "GPT2Tokenizer") {
      files.read_gpt2(config);
    } else if (!bert && (kind == "RobertaTokenizer" || kind == "BartTokenizer")) {
      files.read_roberta(config);
    } else {
      throw Error(ErrorKind::kUnsupportedModel, "tokenizer_config.json: tokenizer_class", kind,
                  bert ? "BertTokenizer with vocab.txt alone" : "GPT2Tokenizer or RobertaTokenizer with vocab.json and merges.txt alone",
                  "load and save it once with transformers, which writes tokenizer.json");
    }
    return std::move(files.file_);
  }

 private:
  OlderFiles(const std::filesystem::path& folder, std::vector<JsonView> configs) : folder_(folder), configs_(std::move(configs)) {}

  static bool has(const std::filesystem::path& folder, const char* name) {
    std::error_code ignored;
    return std::filesystem::exists(std::filesystem::symlink_status(folder / name, ignored));
  }

  void read_gpt2(const JsonView& config) {
    read_bpe(config);
    add_tokens({{"bos_token", "<|endoftext|>"}, {"eos_token", "<|endoftext|>"}, {"unk_token", "<|endoftext|>"}});
    if (!config.get_or("add_bos_token", false)) return;
    const std::string bos = named("bos_token", "<|endoftext|>").content;
    file_.rest["post_processor"] = around({bos}, {});
  }
  void read_roberta(const JsonView& config) {
    read_bpe(config);
    add_tokens({{"bos_token", "<s>"}, {"eos_token", "</s>"}, {"unk_token", "<unk>"}, {"sep_token", "</s>"}, {"pad_token", "<pad>"}, {"cls_token", "<s>"}, {"mask_token", "<mask>"}});
    file_.rest["post_processor"] = around({named("cls_token", "<s>").content}, {named("sep_token", "</s>").content});
  }
  void read_bert(const JsonView& config) {
    const std::string text = read_text_file(folder_ / "vocab.txt");
    std::int64_t id = 0;
    for_each_line(text, [&](std::string_view token) { file_.vocabulary.add(token, id++, "vocab.txt"); });
    const std::string unk = named("unk_token", "[UNK]").content;
    nlohmann::json& rest = file_.rest;
    rest = json(R"({"model": {"type": "WordPiece", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100},
                    "normalizer": {"type": "BertNormalizer", "clean_text": true},
                    "pre_tokenizer": {"type": "BertPreTokenizer"},
                    "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true}})");
    rest["model"]["unk_token"] = unk;
    nlohmann::json& normalizer = rest["normalizer"];
    normalizer["handle_chinese_chars"] = config.get_or("tokenize_chinese_chars", true);
    normalizer["lowercase"] = config.get_or("do_lower_case", true);
    if (config.contains("strip_accents")) normalizer["strip_accents"] = config.get<bool>("strip_accents");
    add_tokens({{"unk_token", "[UNK]"}, {"sep_token", "[SEP]"}, {"pad_token", "[PAD]"}, {"cls_token", "[CLS]"}, {"mask_token", "[MASK]"}});
    rest["post_processor"] = around({named("cls_token", "[CLS]").content}, {named("sep_token", "[SEP]").content});
  }

  /// Byte-level BPE: vocab.json and merges.txt.
  void read_bpe(const JsonView& config) {
    const std::string model = concat(R"({"model": {"type": "BPE", "vocab": )", read_text_file(folder_ / "vocab.json"), "}}");
    file_ = TokenizerFileReader::read(model, "vocab.json");
    const std::string merges = read_text_file(folder_ / "merges.txt");
    std::size_t line = 0;
    for_each_line(merges, [&](std::string_view merge) {
      ++line;
      if (merge.empty() || (line == 1 && merge.starts_with("#version"))) return;
      const std::size_t space = merge.find(' ');
      if (space == std::string_view::npos || merge.find(' ', space + 1) != std::string_view::npos) {
        throw Error(ErrorKind::kMalformedFile, concat("merges.txt, line ", line), merge, "two tokens");
      }
      file_.merges.add(merge.substr(0, space), merge.substr(space + 1));
    });
    file_.rest["pre_tokenizer"] = file_.rest["decoder"] = json(R"({"type": "ByteLevel"})");
    file_.rest["pre_tokenizer"]["add_prefix_space"] = config.get_or("add_prefix_space", false);
  }

  template <class Visit>
  static void for_each_line(std::string_view text, const Visit& visit) {
    while (!text.empty()) {
      const std::size_t end = std::min(text.find('\n'), text.size());
      std::string_view line = text.substr(0, end);
      if (line.ends_with('\r')) line.remove_suffix(1);
      visit(line);
      text.remove_prefix(std::min(end + 1, text.size()));
    }
  }

  static nlohmann::json json(std::string_view text) { return parse_json(text, "tokenizer.json"); }
  static const std::string& content_of(const nlohmann::json& token) { return token["content"].get_ref<const std::string&>(); }

  struct Special {
    std::string content;
    bool lstrip = false, rstrip = false, single_word = false;
  };
  static Special read_special(const JsonView& token) {
    if (!token.json().is_object()) return {token.as<std::string>()};
    return {token.get<std::string>("content"), token.get_or("lstrip", false), token.get_or("rstrip", false), token.get_or("single_word", false)};
  }
  /// The token that the files name so, else the class's own.
  [[nodiscard]] Special named(const char* key, const char* fallback) const {
    for (const JsonView& config : configs_) {
      if (config.contains(key)) return read_special(config.at(key));
    }
    return {fallback};
  }

  /// "added_tokens": those of added_tokens.json by their ids, then the special ones; new ones get the next free ids.
  void add_tokens(std::initializer_list<std::pair<const char*, const char*>> specials) {
    nlohmann::json& list = file_.rest["added_tokens"] = nlohmann::json::array();
    auto next = static_cast<std::int64_t>(file_.vocabulary.size());
    const auto add = [&](const Special& token, std::int64_t id, bool special) {
      for (const nlohmann::json& other : list) {
        if (content_of(other) == token.content) return;
      }
      next = std::max(next, id + 1);
      nlohmann::json entry;
      entry["id"] = id;
      entry["content"] = token.content;
      entry["lstrip"] = token.lstrip;
      entry["rstrip"] = token.rstrip;
      entry["single_word"] = token.single_word;
      entry["normalized"] = !special;
      entry["special"] = special;
      list.push_back(std::move(entry));
    };
    const auto id_of = [&](const std::string& content) {
      const auto known = file_.vocabulary.find(content);
      return known ? std::int64_t{*known} : next;
    };
    std::vector<Special> named_ones;
    for (const auto& [key, fallback] : specials) named_ones.push_back(named(key, fallback));
    for (const JsonView& config : configs_) {
      if (!config.contains("additional_special_tokens")) continue;
      for (const JsonView& token : config.at("additional_special_tokens").elements()) named_ones.push_back(read_special(token));
    }
    if (has(folder_, "added_tokens.json")) {
      const nlohmann::json added = read_json_file(folder_ / "added_tokens.json");
      const JsonView view(added, "added_tokens.json");
      std::multimap<TokenId, std::string> tokens;
      for (const auto& [content, id] : added.items()) tokens.emplace(view.get<TokenId>(content), content);
      for (const auto& [id, content] : tokens) {
        const auto it = std::ranges::find(named_ones, content, &Special::content);
        add(it != named_ones.end() ? *it : Special{content}, id, it != named_ones.end());
      }
    }
    for (const Special& token : named_ones) add(token, id_of(token.content), true);
  }

  /// A post-processor that puts tokens around a text.
  [[nodiscard]] nlohmann::json around(const std::vector<std::string>& before, const std::vector<std::string>& behind) const {
    nlohmann::json result = json(R"({"type": "TemplateProcessing", "single": [], "special_tokens": {}})");
    const auto add = [&](const char* kind, const std::string& id) {
      nlohmann::json part;
      part[kind]["id"] = id;
      result["single"].push_back(std::move(part));
    };
    const auto add_token = [&](const std::string& content) {
      add("SpecialToken", content);
      for (const nlohmann::json& token : file_.rest["added_tokens"]) {
        if (content_of(token) == content) result["special_tokens"][content]["ids"].push_back(token["id"]);
      }
    };
    for (const std::string& content : before) add_token(content);
    add("Sequence", "A");
    for (const std::string& content : behind) add_token(content);
    return result;
  }

  const std::filesystem::path& folder_;
  std::vector<JsonView> configs_;  // in which names are looked up, in this order
  TokenizerFile file_;
};

}  // namespace duet::tokenization
