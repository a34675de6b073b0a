#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/core/error.hpp"
#include "duet/core/token.hpp"
#include "duet/io/tokenizer/pattern.hpp"
#include "duet/io/unicode_class.hpp"
#include "duet/io/utf8.hpp"

namespace duet::tokenization {

/// A token that is found in the text itself, before the model sees it; fields named as in tokenizer.json.
struct AddedToken {
  TokenId id = 0;
  std::string content;
  bool single_word = false;  ///< only where no word reaches into it
  bool lstrip = false;       ///< takes the blanks before it along
  bool rstrip = false;
  bool normalized = false;  ///< is looked for in normalized text
  bool special = false;     ///< left out when decoding without special tokens
};

/// Finds added tokens: leftmost first, the longest at each place, then what the token's fields say.
///
/// Cost    linear in the text, times the longest token at worst
/// Source  huggingface/tokenizers, src/tokenizer/added_vocabulary.rs
class AddedTokenFinder {
 public:
  /// A stretch of text: an added token, or what lies between.
  struct Stretch {
    TextRange range;
    std::optional<TokenId> id;
  };

  AddedTokenFinder() { first_.fill(kNone); }

  /// Looks for `content` from now on, which stands for `token`. The first of equal contents counts.
  void add(const AddedToken& token, std::string_view content) {
    if (content.empty()) return;
    std::int32_t* link = &first_[static_cast<std::uint8_t>(content[0])];
    for (std::size_t i = 0;; ++i) {
      while (*link != kNone && node(*link).byte != content[i]) link = &node(*link).sibling;
      if (*link == kNone) {
        *link = static_cast<std::int32_t>(nodes_.size());
        const std::int32_t created = *link;
        nodes_.push_back({content[i], kNone, kNone, kNone});  // may move what link points into
        if (i + 1 == content.size()) return set_token(created, token);
        link = &node(created).child;
      } else {
        if (i + 1 == content.size()) return set_token(*link, token);
        link = &node(*link).child;
      }
    }
  }
  [[nodiscard]] bool empty() const noexcept { return tokens_.empty(); }

  /// Cuts `text` at its added tokens. One that takes blanks along may overlap one that is a blank, as in the reference.
  [[nodiscard]] std::vector<Stretch> cut(std::string_view text) const {
    std::vector<Stretch> result;
    std::size_t done = 0;
    for (std::size_t from = 0; from < text.size();) {
      const auto [length, index] = longest_at(text, from);
      if (index == kNone) {
        ++from;
        continue;
      }
      const AddedToken& token = tokens_[static_cast<std::size_t>(index)];
      TextRange range{from, from + length};
      from = range.end;
      if (token.single_word && (ends_with_word(text.substr(0, range.begin)) || starts_with_word(text.substr(range.end)))) continue;
      if (token.lstrip) range.begin = std::max(without_blanks_at_end(text, range.begin, done), done);
      if (token.rstrip) range.end = after_blanks(text, range.end);
      if (done < range.begin) result.push_back({{done, range.begin}, std::nullopt});
      if (range.begin < range.end) result.push_back({range, token.id});  // else the one before took it all
      done = range.end;
    }
    if (done != text.size()) result.push_back({{done, text.size()}, std::nullopt});
    return result;
  }

 private:
  static constexpr std::int32_t kNone = -1;

  /// A trie: children of a node are a list of siblings.
  struct Node {
    char byte;
    std::int32_t child;
    std::int32_t sibling;
    std::int32_t token;  ///< index into tokens_
  };
  [[nodiscard]] Node& node(std::int32_t index) { return nodes_[static_cast<std::size_t>(index)]; }
  [[nodiscard]] const Node& node(std::int32_t index) const { return nodes_[static_cast<std::size_t>(index)]; }

  void set_token(std::int32_t at, const AddedToken& token) {
    if (node(at).token != kNone) return;
    node(at).token = static_cast<std::int32_t>(tokens_.size());
    tokens_.push_back(token);
  }

  /// Length and index of the longest token at `from`; the index is kNone if there is none.
  [[nodiscard]] std::pair<std::size_t, std::int32_t> longest_at(std::string_view text, std::size_t from) const {
    std::pair<std::size_t, std::int32_t> best{0, kNone};
    std::int32_t at = first_[static_cast<std::uint8_t>(text[from])];
    for (std::size_t i = from; at != kNone;) {
      if (node(at).token != kNone) best = {i + 1 - from, node(at).token};
      if (++i == text.size()) break;
      at = node(at).child;
      while (at != kNone && node(at).byte != text[i]) at = node(at).sibling;
    }
    return best;
  }

  static std::size_t start_of_last_character(std::string_view text) {
    std::size_t i = text.size() - 1;
    while (i > 0 && (static_cast<std::uint8_t>(text[i]) & 0xC0) == 0x80) --i;
    return i;
  }
  static bool ends_with_word(std::string_view text) {
    return !text.empty() && unicode::is_word(decode_utf8(text, start_of_last_character(text)).code_point);
  }
  static bool starts_with_word(std::string_view text) {
    return !text.empty() && unicode::is_word(decode_utf8(text, 0).code_point);
  }
  static std::size_t without_blanks_at_end(std::string_view text, std::size_t end, std::size_t stop) {
    while (end > stop) {
      const std::size_t last = start_of_last_character(text.substr(0, end));
      if (!unicode::is_white_space(decode_utf8(text, last).code_point)) break;
      end = last;
    }
    return end;
  }
  static std::size_t after_blanks(std::string_view text, std::size_t begin) {
    while (begin < text.size()) {
      const Utf8Step c = decode_utf8(text, begin);
      if (!unicode::is_white_space(c.code_point)) break;
      begin += c.length;
    }
    return begin;
  }

  std::array<std::int32_t, 256> first_{};
  std::vector<Node> nodes_;
  std::vector<AddedToken> tokens_;
};

/// Reads an entry of "added_tokens".
/// Errors  kInvalidArgument for wrong types; kMalformedFile for a token that is empty or longer than any real one
[[nodiscard]] inline AddedToken read_added_token(const JsonView& view) {
  constexpr std::size_t kLimit = 4096;
  AddedToken token{view.get<TokenId>("id"),       view.get<std::string>("content"), view.get_or("single_word", false),
                   view.get_or("lstrip", false),  view.get_or("rstrip", false),     view.get_or("normalized", true),
                   view.get_or("special", false)};
  if (token.content.empty() || token.content.size() > kLimit) {
    throw Error(ErrorKind::kMalformedFile, view.where(), concat(token.content.size(), " bytes of content"), concat("between 1 and ", kLimit));
  }
  return token;
}

}  // namespace duet::tokenization
