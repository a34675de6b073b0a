#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "duet/io/json.hpp"
#include "duet/io/unicode_regex.hpp"
#include "duet/io/utf8.hpp"

namespace duet::tokenization {

/// A part of a text that a pattern matched, or one between matches.
struct Section {
  TextRange range;
  enum class Kind : unsigned char { kBetween, kMatch } kind;
};

/// What a step looks for: {"String": "…"} or {"Regex": "…"}.
/// Errors  kMalformedFile for an empty string, neither of the two, or a bad regular expression
class Pattern {
 public:
  explicit Pattern(std::string literal) : literal_(std::move(literal)) {}
  Pattern(std::string_view regex, std::string where) : regex_(std::make_shared<const UnicodeRegex>(regex, std::move(where))) {}

  [[nodiscard]] static Pattern read(const JsonView& view) {
    if (view.json().is_string()) return literal(view.as<std::string>(), view.where());
    if (view.contains("String")) return literal(view.get<std::string>("String"), view.where());
    if (view.contains("Regex")) return {view.get<std::string>("Regex"), view.at("Regex").where()};
    throw Error(ErrorKind::kMalformedFile, view.where(), "neither String nor Regex", "one of them");
  }

  /// The string, when this is one.
  [[nodiscard]] std::optional<std::string_view> literal() const {
    return regex_ ? std::nullopt : std::optional<std::string_view>(literal_);
  }

  /// Calls visit(section) for each section of `text`, in order; together they are the text. An empty text is one section
  /// between matches.
  template <class Visit>
  void for_each_section(std::string_view text, const Visit& visit) const {
    std::size_t done = 0;
    const auto match = [&](TextRange range) {
      if (done != range.begin) visit(Section{{done, range.begin}, Section::Kind::kBetween});
      visit(Section{range, Section::Kind::kMatch});
      done = range.end;
    };
    if (text.empty()) {
      visit(Section{{0, 0}, Section::Kind::kBetween});
      return;
    }
    if (regex_) {
      for_each_regex_match(text, match);
    } else {
      for (std::size_t at = text.find(literal_); at != std::string_view::npos; at = text.find(literal_, at + literal_.size())) {
        match({at, at + literal_.size()});
      }
    }
    if (done != text.size()) visit(Section{{done, text.size()}, Section::Kind::kBetween});
  }

  [[nodiscard]] std::string replace_all(std::string_view text, std::string_view content) const {
    std::string result;
    result.reserve(text.size());
    for_each_section(text, [&](const Section& section) {
      const auto [begin, end] = section.range;
      result += section.kind == Section::Kind::kMatch ? content : text.substr(begin, end - begin);
    });
    return result;
  }

 private:
  static Pattern literal(std::string text, const std::string& where) {
    if (text.empty()) throw Error(ErrorKind::kMalformedFile, where, "an empty pattern", "something to look for");
    return Pattern(std::move(text));
  }

  template <class Match>
  void for_each_regex_match(std::string_view text, const Match& match) const {
    UnicodeRegex::Search search(*regex_);
    std::optional<std::size_t> last_end;
    for (std::size_t from = 0; from <= text.size();) {
      const std::optional<TextRange> found = search.find(text, from);
      if (!found) return;
      if (found->begin == found->end && last_end == found->end) {  // an empty match right behind the last one is none
        from += from < text.size() ? decode_utf8(text, from).length : 1;
        continue;
      }
      from = found->end;
      last_end = found->end;
      match(*found);
    }
  }

  std::string literal_;
  std::shared_ptr<const UnicodeRegex> regex_;  ///< shared, so that steps can be copied
};

}  // namespace duet::tokenization
