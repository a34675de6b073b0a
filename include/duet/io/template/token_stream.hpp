#pragma once

#include <cstddef>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/core/error.hpp"
#include "duet/io/template/lexer.hpp"

namespace duet::jinja {

/// The tokens of a template, read one after the other, with one look ahead.
class TokenStream {
 public:
  /// `where` names the template in errors; it must outlive the stream.
  TokenStream(std::vector<Token> tokens, const std::string& where) : tokens_(std::move(tokens)), where_(where) {}

  [[nodiscard]] const Token& current() const { return tokens_[at_]; }
  [[nodiscard]] const Token& ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  const Token& take() {
    const Token& token = current();
    if (token.kind != Token::Kind::kEnd) ++at_;
    return token;
  }
  [[nodiscard]] bool at(Token::Kind kind) const { return current().kind == kind; }
  [[nodiscard]] bool at_sign(std::string_view sign) const { return at(Token::Kind::kOperator) && current().text == sign; }
  [[nodiscard]] bool at_name(std::string_view name) const { return at(Token::Kind::kName) && current().text == name; }
  [[nodiscard]] bool at_any_name(std::initializer_list<std::string_view> names) const {
    for (const std::string_view name : names) {
      if (at_name(name)) return true;
    }
    return false;
  }
  bool skip_sign(std::string_view sign) { return at_sign(sign) && (take(), true); }
  bool skip_name(std::string_view name) { return at_name(name) && (take(), true); }

  /// Errors  kMalformedFile where the next token is another
  void expect_sign(std::string_view sign) {
    if (!skip_sign(sign)) throw wrong(sign);
  }
  void expect_name(std::string_view name) {
    if (!skip_name(name)) throw wrong(name);
  }
  void expect(Token::Kind kind, std::string_view what) {
    if (!at(kind)) throw wrong(what);
    take();
  }
  std::string take_name() {
    if (!at(Token::Kind::kName)) throw wrong("a name");
    return take().text;
  }

  [[nodiscard]] Error wrong(std::string_view expected) const {
    static constexpr std::string_view kKinds[] = {"text", "{{", "}}", "{%", "%}", "", "a string", "a number", "a number", "", "the end of the template"};
    const std::string_view kind = kKinds[static_cast<std::size_t>(current().kind)];
    return wrong_here(kind.empty() ? std::string_view(current().text) : kind, expected);
  }
  [[nodiscard]] Error wrong_here(std::string_view got, std::string_view expected) const {
    return {ErrorKind::kMalformedFile, concat(where_, ", line ", current().line), got, expected};
  }
  /// Something that Jinja knows and this interpreter does not.
  [[nodiscard]] Error unknown(std::string_view what) const {
    return {ErrorKind::kUnsupportedModel, concat(where_, ", line ", current().line), what, "what chat templates use of Jinja"};
  }

 private:
  std::vector<Token> tokens_;
  const std::string& where_;
  std::size_t at_ = 0;
};

}  // namespace duet::jinja
