#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "duet/io/json.hpp"
#include "duet/io/tokenizer/metaspace.hpp"
#include "duet/io/tokenizer/pattern.hpp"

namespace duet::tokenization {

/// The steps of the "decoder" of tokenizer.json. Each takes a list of strings, at first the tokens, and makes another;
/// the last list, joined, is the text. `DecodeRun` does it.
///
/// Source  huggingface/tokenizers, src/decoders
namespace decode_step {
/// Joins the bytes that all strings spell, and reads them as UTF-8.
struct ByteLevel {};
/// Replaces what matches.
struct Replace {
  Pattern pattern;
  std::string content;
};
/// A row of strings like <0xE2> becomes one string if it is UTF-8 as a whole, else each becomes U+FFFD.
struct ByteFallback {};
/// Joins all strings into one.
struct Fuse {};
/// Takes up to `start` characters that are `content` from the front of each string, and up to `stop` from its back.
struct Strip {
  std::string content;
  std::uint64_t start;
  std::uint64_t stop;
};
/// Turns marks into spaces; drops those of the first string.
struct Metaspace {
  tokenization::Metaspace metaspace;
};
/// The end-of-word mark becomes a space, that of the last string nothing.
struct EndOfWord {
  std::string suffix;
};
/// A string that does not begin with `prefix` has a space before it, unless it is the first; with `cleanup`, no space before
/// punctuation and English contractions.
struct WordPiece {
  std::string prefix;
  bool cleanup;
};
/// Puts a space between strings: what happens when the file has no decoder.
struct JoinWithSpaces {};
}  // namespace decode_step

using DecodeStep = std::variant<decode_step::ByteLevel, decode_step::Replace, decode_step::ByteFallback, decode_step::Fuse,
                                decode_step::Strip, decode_step::Metaspace, decode_step::EndOfWord, decode_step::WordPiece, decode_step::JoinWithSpaces>;

/// Reads the "decoder" of tokenizer.json, its sequences flattened.
/// Errors  kUnsupportedModel for a kind it does not know, kInvalidArgument or kMalformedFile for wrong fields
class DecoderReader {
 public:
  [[nodiscard]] static std::vector<DecodeStep> read(const JsonView& view) {
    if (view.json().is_null()) return {decode_step::JoinWithSpaces{}};
    constexpr std::size_t kMaxSteps = 64;  // text runs through all of them at once
    DecoderReader reader;
    reader.add(view);
    if (reader.steps_.size() > kMaxSteps) {
      throw Error(ErrorKind::kMalformedFile, view.where(), concat(reader.steps_.size(), " steps"), concat("at most ", kMaxSteps));
    }
    return std::move(reader.steps_);
  }

 private:
  void add(const JsonView& view) {
    const auto type = view.get<std::string>("type");
    if (type == "Sequence") {
      for (const JsonView& part : view.at("decoders").elements()) add(part);
    } else if (type == "ByteLevel") {
      steps_.push_back(decode_step::ByteLevel{});
    } else if (type == "Replace") {
      steps_.push_back(decode_step::Replace{Pattern::read(view.at("pattern")), view.get<std::string>("content")});
    } else if (type == "ByteFallback") {
      steps_.push_back(decode_step::ByteFallback{});
    } else if (type == "Fuse") {
      steps_.push_back(decode_step::Fuse{});
    } else if (type == "Strip") {
      const auto content = view.get<std::string>("content");
      if (content.empty() || decode_utf8(content, 0).length != content.size()) {
        throw Error(ErrorKind::kMalformedFile, view.where(), concat("content \"", content, '"'), "one character");
      }
      steps_.push_back(decode_step::Strip{content, view.get<std::uint64_t>("start"), view.get<std::uint64_t>("stop")});
    } else if (type == "Metaspace") {
      steps_.push_back(decode_step::Metaspace{Metaspace::read(view)});
    } else if (type == "BPEDecoder") {
      const auto suffix = view.get_or<std::string>("suffix", "</w>");
      if (suffix.empty()) throw Error(ErrorKind::kMalformedFile, view.where(), "an empty suffix", "an end-of-word mark");
      steps_.push_back(decode_step::EndOfWord{suffix});
    } else if (type == "WordPiece") {
      steps_.push_back(decode_step::WordPiece{view.get_or<std::string>("prefix", "##"), view.get_or("cleanup", true)});
    } else {
      throw Error(ErrorKind::kUnsupportedModel, view.where(), concat('"', type, '"'),
                  "Sequence, ByteLevel, Replace, ByteFallback, Fuse, Strip, Metaspace, BPEDecoder or WordPiece");
    }
  }

  std::vector<DecodeStep> steps_;
};

}  // namespace duet::tokenization
