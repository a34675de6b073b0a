#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/io/json.hpp"
#include "duet/io/tokenizer/byte_alphabet.hpp"
#include "duet/io/tokenizer/metaspace.hpp"
#include "duet/io/tokenizer/pattern.hpp"
#include "duet/io/tokenizer/pieces.hpp"
#include "duet/io/unicode_class.hpp"
#include "duet/io/utf8.hpp"

namespace duet::tokenization {

/// Cuts normalized text into the pieces across which no token reaches: the "pre_tokenizer" of tokenizer.json.
///
/// Errors  kUnsupportedModel for a kind it does not know, kInvalidArgument or kMalformedFile for wrong fields
/// Cost    linear in the text for each step, as far as its regular expressions are
/// Source  huggingface/tokenizers, src/pre_tokenizers
class PreTokenizer {
 public:
  PreTokenizer() = default;

  [[nodiscard]] static PreTokenizer read(const JsonView& view) {
    PreTokenizer result;
    if (!view.json().is_null()) result.add(view);
    return result;
  }

  /// Pieces of `text`, which stands at the start of the whole input or later.
  [[nodiscard]] Pieces apply(std::string text, Pieces::Piece::Place place) const {
    Pieces pieces;
    if (!text.empty()) pieces.pieces.push_back({{0, text.size()}, place});
    pieces.text = std::move(text);
    for (const Step& step : steps_) pieces = step(std::move(pieces));
    return pieces;
  }

 private:
  using Piece = Pieces::Piece;
  using Step = std::function<Pieces(Pieces)>;

  struct Split {
    Pattern pattern;
    SplitBehavior behavior;
    enum class Delimiter : unsigned char { kMatches, kBetween } delimiter = Delimiter::kMatches;  // what "invert" exchanges

    Pieces operator()(Pieces from) const {
      Pieces result;
      std::vector<Section> sections;
      for (const Piece& piece : from.pieces) {
        sections.clear();
        pattern.for_each_section(from.view(piece), [&](Section section) {
          if (delimiter == Delimiter::kBetween) {
            section.kind = section.kind == Section::Kind::kMatch ? Section::Kind::kBetween : Section::Kind::kMatch;
          }
          sections.push_back(section);
        });
        add_split(sections, behavior, piece, result);
      }
      result.text = std::move(from.text);
      return result;
    }
  };

  /// Splits at characters of a class: each is a match of its own.
  struct SplitAt {
    bool (*is_delimiter)(char32_t);
    SplitBehavior behavior;

    Pieces operator()(Pieces from) const {
      Pieces result;
      std::vector<Section> sections;
      for (const Piece& piece : from.pieces) {
        sections.clear();
        const std::string_view text = from.view(piece);
        std::size_t between = 0;  // where the section between matches began
        for (std::size_t i = 0; i < text.size();) {
          const Utf8Step c = decode_utf8(text, i);
          if (is_delimiter(c.code_point)) {
            if (between < i) sections.push_back({{between, i}, Section::Kind::kBetween});
            sections.push_back({{i, i + c.length}, Section::Kind::kMatch});
            between = i + c.length;
          }
          i += c.length;
        }
        if (between < text.size()) sections.push_back({{between, text.size()}, Section::Kind::kBetween});
        add_split(sections, behavior, piece, result);
      }
      result.text = std::move(from.text);
      return result;
    }
  };

  /// Rewrites every piece: change(view, place, text) appends its new text.
  template <class Change>
  static Pieces rewrite(const Pieces& from, const Change& change) {
    Pieces result;
    result.text.reserve(from.text.size() + from.text.size() / 4);
    result.pieces.reserve(from.pieces.size());
    for (const Piece& piece : from.pieces) {
      const std::size_t begin = result.text.size();
      change(from.view(piece), piece.place, result.text);
      if (result.text.size() > begin) result.pieces.push_back({{begin, result.text.size()}, piece.place});
    }
    return result;
  }

  struct ByteLevel {
    std::optional<Split> words;
    enum class Prefix : unsigned char { kNone, kSpace } prefix = Prefix::kNone;

    Pieces operator()(Pieces from) const {
      if (prefix == Prefix::kSpace) {
        from = rewrite(from, [](std::string_view piece, Piece::Place, std::string& text) {
          if (!piece.starts_with(' ')) text += ' ';
          text += piece;
        });
      }
      if (words) from = (*words)(std::move(from));
      return rewrite(from, [](std::string_view piece, Piece::Place, std::string& text) {
        for (const char c : piece) append_utf8(text, kByteAlphabet.character[static_cast<std::uint8_t>(c)]);
      });
    }
  };

  struct MarkSpaces {
    Metaspace metaspace;
    std::optional<Split> split;

    Pieces operator()(Pieces from) const {
      const Pattern space(std::string(" "));
      from = rewrite(from, [&](std::string_view piece, Piece::Place place, std::string& text) {
        const std::string marked = space.replace_all(piece, metaspace.replacement);
        const bool wanted = metaspace.prepend == Metaspace::Prepend::kAlways ||
                            (metaspace.prepend == Metaspace::Prepend::kFirst && place == Piece::Place::kBeginsText);
        if (wanted && !marked.starts_with(metaspace.replacement)) text += metaspace.replacement;
        text += marked;
      });
      return split ? (*split)(std::move(from)) : from;
    }
  };

  static Split::Delimiter read_invert(const JsonView& view) {
    return view.get_or("invert", false) ? Split::Delimiter::kBetween : Split::Delimiter::kMatches;
  }

  void add(const JsonView& view) {
    static constexpr std::string_view kGpt2Words = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
    static constexpr std::string_view kRustWord =
        R"(\p{L}\p{M}\p{Nl}\p{Nd}\p{Pc}\x{200c}\x{200d}\x{24b6}-\x{24e9}\x{1f130}-\x{1f149}\x{1f150}-\x{1f169}\x{1f170}-\x{1f189})";
    const auto type = view.get<std::string>("type");
    if (type == "Sequence") {
      for (const JsonView& part : view.at("pretokenizers").elements()) add(part);
    } else if (type == "ByteLevel") {
      ByteLevel step;
      if (view.get_or("add_prefix_space", true)) step.prefix = ByteLevel::Prefix::kSpace;
      if (view.get_or("use_regex", true)) step.words = Split{Pattern(kGpt2Words, view.where()), SplitBehavior::kIsolated};
      steps_.push_back(std::move(step));
    } else if (type == "Split") {
      steps_.push_back(Split{Pattern::read(view.at("pattern")), read_split_behavior(view.at("behavior")), read_invert(view)});
    } else if (type == "Digits") {
      const bool individual = view.get_or("individual_digits", false);
      steps_.push_back(SplitAt{unicode::is_numeric, individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous});
    } else if (type == "Punctuation") {
      const auto behavior = view.contains("behavior") ? read_split_behavior(view.at("behavior")) : SplitBehavior::kIsolated;
      steps_.push_back(SplitAt{unicode::is_punctuation, behavior});
    } else if (type == "Whitespace") {
      // \w and \s of Rust's regular expressions, not Oniguruma's: \w+|[^\w\s]+
      steps_.push_back(Split{Pattern("[" + std::string(kRustWord) + "]+|[^" + std::string(kRustWord) + "\\s]+", view.where()),
                                SplitBehavior::kRemoved, Split::Delimiter::kBetween});
    } else if (type == "WhitespaceSplit") {
      steps_.push_back(SplitAt{unicode::is_white_space, SplitBehavior::kRemoved});
    } else if (type == "BertPreTokenizer") {
      steps_.push_back(SplitAt{unicode::is_white_space, SplitBehavior::kRemoved});
      steps_.push_back(SplitAt{unicode::is_punctuation, SplitBehavior::kIsolated});
    } else if (type == "CharDelimiterSplit") {
      steps_.push_back(Split{Pattern::read(view.at("delimiter")), SplitBehavior::kRemoved});
    } else if (type == "Metaspace") {
      MarkSpaces step{Metaspace::read(view), std::nullopt};
      if (view.get_or("split", true)) step.split = Split{Pattern(step.metaspace.replacement), SplitBehavior::kMergedWithNext};
      steps_.push_back(std::move(step));
    } else {
      throw Error(ErrorKind::kUnsupportedModel, view.where(), concat('"', type, '"'),
                  "Sequence, ByteLevel, Split, Digits, Punctuation, Whitespace, WhitespaceSplit, BertPreTokenizer, "
                  "CharDelimiterSplit or Metaspace");
    }
  }

  std::vector<Step> steps_;
};

}  // namespace duet::tokenization
