#pragma once

#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/io/template/expression_parser.hpp"
#include "duet/io/template/lexer.hpp"
#include "duet/io/template/syntax.hpp"
#include "duet/io/template/token_stream.hpp"

namespace duet::jinja {

/// Parses a template: text, {{ values }} and blocks.
///
/// Errors  kMalformedFile, with the line; kUnsupportedModel for a block that needs other files (include, import, extends) or is
///         not known
class Parser {
 public:
  /// `where` names the template in errors.
  [[nodiscard]] static Block parse(std::string_view source, const std::string& where) {
    TokenStream tokens(Lexer::tokenize(source, where), where);
    return Parser(tokens).parse_block({});
  }

 private:
  using Kind = Statement::Kind;
  using TokenKind = Token::Kind;
  using Mutable = std::unique_ptr<Statement>;
  using Names = std::initializer_list<std::string_view>;

  explicit Parser(TokenStream& tokens) : tokens_(tokens), expressions_(tokens) {}

  /// Statements up to a block whose name is one of `ends`, which becomes the current token; without ends, all there are.
  Block parse_block(Names ends) {
    constexpr int kMostDepth = 100;
    if (++depth_ > kMostDepth) throw tokens_.wrong_here(concat("blocks nested deeper than ", kMostDepth), "flatter ones");
    Block block;
    for (;;) {
      const Token& token = tokens_.current();
      if (token.kind == TokenKind::kData) {
        Mutable data = make(Kind::kData);
        data->text = tokens_.take().text;
        block.push_back(std::move(data));
      } else if (token.kind == TokenKind::kVariableBegin) {
        tokens_.take();
        Mutable print = make(Kind::kPrint);
        print->value = expressions_.parse_tuple();
        tokens_.expect(TokenKind::kVariableEnd, "}}");
        block.push_back(std::move(print));
      } else if (token.kind == TokenKind::kBlockBegin) {
        tokens_.take();
        if (tokens_.at_any_name(ends)) break;
        block.push_back(parse_statement());
        tokens_.expect(TokenKind::kBlockEnd, "%}");
      } else {
        if (ends.size() > 0) throw tokens_.wrong(concat("{% ", *(ends.end() - 1), " %}"));
        break;
      }
    }
    --depth_;
    return block;
  }
  /// What stands between the rest of a block's tag and the block named `end`, whose name is taken.
  Block parse_body(std::string_view end) {
    Block body = parse_body_to({end});
    tokens_.take();
    return body;
  }
  Block parse_body_to(Names ends) {
    tokens_.skip_sign(":");
    tokens_.expect(TokenKind::kBlockEnd, "%}");
    return parse_block(ends);
  }

  Mutable make(Kind kind) const {
    return std::make_unique<Statement>(Statement{.kind = kind, .line = tokens_.current().line, .text = {}, .value = {}, .condition = {}, .target = {},
                                                 .body = {}, .other = {}, .signature = {}, .assignments = {}});
  }

  Mutable parse_statement() {
    const std::string name = tokens_.at(TokenKind::kName) ? tokens_.current().text : std::string();
    if (name.empty()) throw tokens_.wrong("the name of a block");
    if (name == "for") return parse_for();
    if (name == "if") return parse_if();
    if (name == "set") return parse_set();
    if (name == "macro") return parse_macro();
    if (name == "call") return parse_call_block();
    if (name == "filter") return parse_filter_block();
    if (name == "with") return parse_with();
    if (name == "generation") return parse_simple(Kind::kGeneration, "endgeneration");
    if (name == "break") return parse_simple(Kind::kBreak, {});
    if (name == "continue") return parse_simple(Kind::kContinue, {});
    if (name.starts_with("end") || name == "else" || name == "elif") throw tokens_.wrong("a block that begins");
    throw tokens_.unknown(concat("{% ", name, " %}"));
  }

  Mutable parse_simple(Kind kind, std::string_view end) {
    Mutable result = make(kind);
    tokens_.take();
    if (kind != Kind::kGeneration && loops_ == 0) throw tokens_.wrong_here("a jump outside of a loop", "one inside a for");
    if (!end.empty()) result->body = parse_body(end);
    return result;
  }

  Mutable parse_for() {
    using Conditionals = ExpressionParser::Conditionals;
    Mutable result = make(Kind::kFor);
    tokens_.take();
    result->target = parse_target();
    tokens_.expect_name("in");
    result->value = expressions_.parse_tuple(Conditionals::kNone, "recursive");
    if (tokens_.skip_name("if")) result->condition = expressions_.parse();
    result->recursive = tokens_.skip_name("recursive");
    ++loops_;
    result->body = parse_body_to({"else", "endfor"});
    --loops_;
    if (tokens_.take().text == "else") result->other = parse_body("endfor");
    return result;
  }

  Mutable parse_if() {
    Mutable first = make(Kind::kIf);
    Statement* last = first.get();
    for (int elifs = 0;; ++elifs) {
      if (elifs > 50) throw tokens_.wrong_here("more than 50 elif", "fewer");
      tokens_.take();
      last->value = expressions_.parse_tuple(ExpressionParser::Conditionals::kNone);
      last->body = parse_body_to({"elif", "else", "endif"});
      if (!tokens_.at_name("elif")) break;
      Mutable next = make(Kind::kIf);
      Statement* const inner = next.get();
      last->other.push_back(std::move(next));
      last = inner;
    }
    if (tokens_.take().text == "else") last->other = parse_body("endif");
    return first;
  }

  Mutable parse_set() {
    Mutable result = make(Kind::kSet);
    tokens_.take();
    result->target = parse_target();
    if (tokens_.skip_sign("=")) {
      result->value = expressions_.parse_tuple();
      return result;
    }
    result->kind = Kind::kSetBlock;
    result->value = expressions_.parse_filters(nullptr);
    result->body = parse_body("endset");
    return result;
  }

  Mutable parse_macro() {
    Mutable result = make(Kind::kMacro);
    tokens_.take();
    result->text = tokens_.take_name();
    if (!tokens_.at_sign("(")) throw tokens_.wrong("(");
    parse_macro_body(*result, "endmacro", [] {});
    return result;
  }
  Mutable parse_call_block() {
    Mutable result = make(Kind::kCallBlock);
    tokens_.take();
    parse_macro_body(*result, "endcall", [&] {
      result->value = expressions_.parse();
      if (result->value->kind != Expression::Kind::kCall) throw tokens_.wrong("a call");
    });
    return result;
  }
  /// The signature if there is one, what follows it, and the body, out of which no jump leads.
  template <class ParseMore>
  void parse_macro_body(Statement& result, std::string_view end, const ParseMore& parse_more) {
    if (tokens_.at_sign("(")) result.signature = parse_signature();
    parse_more();
    const int loops = std::exchange(loops_, 0);
    result.body = parse_body(end);
    loops_ = loops;
  }
  Signature parse_signature() {
    Signature signature;
    tokens_.expect_sign("(");
    while (!tokens_.at_sign(")")) {
      if (!signature.names.empty()) tokens_.expect_sign(",");
      signature.names.push_back(tokens_.take_name());
      if (tokens_.skip_sign("=")) {
        signature.defaults.push_back(expressions_.parse());
      } else if (!signature.defaults.empty()) {
        throw tokens_.wrong("a default, as before");
      }
    }
    tokens_.expect_sign(")");
    return signature;
  }

  Mutable parse_filter_block() {
    Mutable result = make(Kind::kFilterBlock);
    tokens_.take();
    result->value = expressions_.parse_filters(expressions_.parse_filter(nullptr));
    result->body = parse_body("endfilter");
    return result;
  }

  Mutable parse_with() {
    Mutable result = make(Kind::kWith);
    tokens_.take();
    while (!tokens_.at(TokenKind::kBlockEnd)) {
      if (!result->assignments.empty()) tokens_.expect_sign(",");
      Target target = parse_target();
      tokens_.expect_sign("=");
      result->assignments.emplace_back(std::move(target), expressions_.parse());
    }
    result->body = parse_body("endwith");
    return result;
  }

  Target parse_target() {
    Target first = parse_single_target();
    if (!tokens_.at_sign(",")) return first;
    Target result;
    result.tuple = true;
    result.parts.push_back(std::move(first));
    while (tokens_.skip_sign(",") && (tokens_.at(TokenKind::kName) || tokens_.at_sign("(")) && !tokens_.at_name("in")) result.parts.push_back(parse_single_target());
    return result;
  }
  Target parse_single_target() {
    constexpr int kMostDepth = 20;
    if (tokens_.skip_sign("(")) {
      if (++depth_ > kMostDepth + 100) throw tokens_.wrong_here("targets nested too deep", "flatter ones");
      Target inner = parse_target();
      --depth_;
      tokens_.expect_sign(")");
      return inner;
    }
    Target result;
    if (tokens_.at_any_name({"true", "false", "none", "True", "False", "None"})) throw tokens_.wrong("a name to assign to");
    result.name = tokens_.take_name();
    if (tokens_.skip_sign(".")) result.attribute = tokens_.take_name();
    return result;
  }

  TokenStream& tokens_;
  ExpressionParser expressions_;
  int depth_ = 0, loops_ = 0;
};

}  // namespace duet::jinja
