#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/io/template/syntax.hpp"
#include "duet/io/template/token_stream.hpp"

namespace duet::jinja {

/// Parses Jinja's expressions. From the loosest: if-else, or, and, not, comparisons, + -, ~, * / // %, **, signs, and what
/// stands behind a value: attributes, items, calls, filters, tests.
///
/// Errors  kMalformedFile, with the line
class ExpressionParser {
 public:
  explicit ExpressionParser(TokenStream& tokens) : tokens_(tokens) {}

  enum class Conditionals : unsigned char { kAllowed, kNone };

  [[nodiscard]] ExpressionPtr parse(Conditionals conditionals = Conditionals::kAllowed) {
    const Level level(*this);
    return conditionals == Conditionals::kAllowed ? parse_conditional() : parse_or();
  }

  /// Expressions with commas between are a tuple.
  [[nodiscard]] ExpressionPtr parse_tuple(Conditionals conditionals = Conditionals::kAllowed, std::string_view end = {}) {
    const int line = tokens_.current().line;
    std::vector<ExpressionPtr> items;
    bool tuple = false;
    while (!ends_tuple(end)) {
      items.push_back(parse(conditionals));
      if (!tokens_.skip_sign(",")) break;
      tuple = true;
    }
    if (!tuple && items.size() == 1) return std::move(items.front());
    if (items.empty() && !tokens_.at_sign(")")) throw tokens_.wrong("an expression");
    return make(Kind::kTuple, line, std::move(items));
  }

  /// `| name(...) | name(...)`, around `inner`, which may be absent.
  [[nodiscard]] ExpressionPtr parse_filters(ExpressionPtr inner) {
    while (tokens_.skip_sign("|")) inner = parse_filter(std::move(inner));
    return inner;
  }
  [[nodiscard]] ExpressionPtr parse_filter(ExpressionPtr inner) {
    const int line = tokens_.current().line;
    std::string name = tokens_.take_name();
    while (tokens_.skip_sign(".")) name += concat('.', tokens_.take_name());
    std::vector<ExpressionPtr> parts;
    parts.push_back(std::move(inner));
    auto result = make(Kind::kFilter, line, std::move(parts));
    result->name = std::move(name);
    if (tokens_.at_sign("(")) parse_arguments(*result);
    return result;
  }

 private:
  using Kind = Expression::Kind;
  using Mutable = std::unique_ptr<Expression>;
  static constexpr int kMostDepth = 200;

  /// While it lives, the parser is one level deeper.
  class Level {
   public:
    explicit Level(ExpressionParser& parser) : parser_(parser) {
      if (parser_.depth_ >= kMostDepth) throw parser_.too_deep();
      ++parser_.depth_;
    }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;
    ~Level() { --parser_.depth_; }

   private:
    ExpressionParser& parser_;
  };

  [[nodiscard]] Error too_deep() const { return tokens_.wrong_here(concat("expressions nested deeper than ", kMostDepth), "flatter ones"); }

  Mutable make(Kind kind, int line, std::vector<ExpressionPtr> parts) {
    auto result = std::make_unique<Expression>(Expression{.kind = kind, .line = line, .name = {}, .constant = {}, .parts = std::move(parts), .call = {}, .comparisons = {}});
    for (const ExpressionPtr& part : result->parts) deepen(*result, part);
    return result;
  }
  void deepen(Expression& result, const ExpressionPtr& part) {
    if (part) result.depth = std::max(result.depth, part->depth + 1);
    if (result.depth > kMostDepth) throw too_deep();
  }
  template <class... Parts>
  Mutable make(Kind kind, int line, Parts... parts) {
    std::vector<ExpressionPtr> all;
    (all.push_back(std::move(parts)), ...);
    return make(kind, line, std::move(all));
  }
  Mutable make_constant(int line, Value value) {
    auto result = make(Kind::kConstant, line);
    result->constant = std::move(value);
    return result;
  }
  static Value text_constant(std::string text) { return std::make_shared<const Text>(Text{std::move(text), false}); }

  [[nodiscard]] bool ends_tuple(std::string_view end) const {
    using TokenKind = Token::Kind;
    return tokens_.at(TokenKind::kVariableEnd) || tokens_.at(TokenKind::kBlockEnd) || tokens_.at_sign(")") || (!end.empty() && tokens_.at_name(end));
  }

  ExpressionPtr parse_conditional() {
    int line = tokens_.current().line;
    ExpressionPtr result = parse_or();
    while (tokens_.skip_name("if")) {
      ExpressionPtr condition = parse_or(), other;
      if (tokens_.skip_name("else")) other = parse();
      result = make(Kind::kConditional, line, std::move(condition), std::move(result), std::move(other));
      line = tokens_.current().line;
    }
    return result;
  }
  ExpressionPtr parse_or() {
    ExpressionPtr left = parse_and();
    while (tokens_.at_name("or")) {
      const int line = tokens_.take().line;
      left = make(Kind::kOr, line, std::move(left), parse_and());
    }
    return left;
  }
  ExpressionPtr parse_and() {
    ExpressionPtr left = parse_not();
    while (tokens_.at_name("and")) {
      const int line = tokens_.take().line;
      left = make(Kind::kAnd, line, std::move(left), parse_not());
    }
    return left;
  }
  ExpressionPtr parse_not() {
    const Level level(*this);
    if (!tokens_.at_name("not")) return parse_comparison();
    const int line = tokens_.take().line;
    return make(Kind::kNot, line, parse_not());
  }

  std::optional<Comparison> take_comparison() {
    static constexpr std::pair<std::string_view, Comparison> kSigns[] = {
        {"==", Comparison::kEqual}, {"!=", Comparison::kNotEqual},   {"<", Comparison::kLess},
        {"<=", Comparison::kLessEqual}, {">", Comparison::kGreater}, {">=", Comparison::kGreaterEqual}};
    for (const auto& [sign, comparison] : kSigns) {
      if (tokens_.skip_sign(sign)) return comparison;
    }
    if (tokens_.skip_name("in")) return Comparison::kIn;
    if (!tokens_.at_name("not") || tokens_.ahead().kind != Token::Kind::kName || tokens_.ahead().text != "in") return std::nullopt;
    tokens_.take();
    tokens_.take();
    return Comparison::kNotIn;
  }
  ExpressionPtr parse_comparison() {
    const int line = tokens_.current().line;
    std::vector<ExpressionPtr> parts;
    std::vector<Comparison> comparisons;
    parts.push_back(parse_sum());
    while (const auto comparison = take_comparison()) {
      comparisons.push_back(*comparison);
      parts.push_back(parse_sum());
    }
    if (comparisons.empty()) return std::move(parts.front());
    auto result = make(Kind::kCompare, line, std::move(parts));
    result->comparisons = std::move(comparisons);
    return result;
  }

  using Operators = std::initializer_list<std::pair<std::string_view, BinaryOperator>>;
  ExpressionPtr parse_binary(Operators operators, ExpressionPtr (ExpressionParser::*operand)()) {
    ExpressionPtr left = (this->*operand)();
    for (bool more = true; more;) {
      more = false;
      for (const auto& [sign, op] : operators) {
        if (!tokens_.at_sign(sign)) continue;
        const int line = tokens_.take().line;
        auto result = make(Kind::kBinary, line, std::move(left), (this->*operand)());
        result->op = op;
        left = std::move(result);
        more = true;
        break;
      }
    }
    return left;
  }
  ExpressionPtr parse_sum() {
    return parse_binary({{"+", BinaryOperator::kAdd}, {"-", BinaryOperator::kSubtract}}, &ExpressionParser::parse_concatenation);
  }
  ExpressionPtr parse_concatenation() {
    const int line = tokens_.current().line;
    std::vector<ExpressionPtr> parts;
    parts.push_back(parse_product());
    while (tokens_.skip_sign("~")) parts.push_back(parse_product());
    return parts.size() == 1 ? std::move(parts.front()) : make(Kind::kConcatenate, line, std::move(parts));
  }
  ExpressionPtr parse_product() {
    return parse_binary({{"*", BinaryOperator::kMultiply}, {"/", BinaryOperator::kDivide}, {"//", BinaryOperator::kFloorDivide}, {"%", BinaryOperator::kModulo}},
                        &ExpressionParser::parse_power);
  }
  ExpressionPtr parse_power() { return parse_binary({{"**", BinaryOperator::kPower}}, &ExpressionParser::parse_filtered); }

  ExpressionPtr parse_filtered() { return parse_behind(parse_signed()); }
  ExpressionPtr parse_signed() {
    const Level level(*this);
    for (const auto& [sign, kind] : {std::pair("-", Kind::kNegative), std::pair("+", Kind::kPositive)}) {
      if (!tokens_.at_sign(sign)) continue;
      const int line = tokens_.take().line;
      return parse_postfix(make(kind, line, parse_signed()));
    }
    return parse_postfix(parse_primary());
  }

  ExpressionPtr parse_primary() {
    const Token token = tokens_.current();
    switch (token.kind) {
      case Token::Kind::kName: return parse_name();
      case Token::Kind::kString: {
        std::string text;
        while (tokens_.at(Token::Kind::kString)) text += tokens_.take().text;
        return make_constant(token.line, text_constant(std::move(text)));
      }
      case Token::Kind::kInteger: tokens_.take(); return make_constant(token.line, token.integer);
      case Token::Kind::kFloat: tokens_.take(); return make_constant(token.line, token.number);
      default: break;
    }
    if (tokens_.skip_sign("(")) {
      ExpressionPtr result = parse_tuple();
      tokens_.expect_sign(")");
      return result;
    }
    if (tokens_.skip_sign("[")) return make(Kind::kList, token.line, parse_items("]"));
    if (tokens_.skip_sign("{")) return make(Kind::kDict, token.line, parse_items("}"));
    throw tokens_.wrong("an expression");
  }
  ExpressionPtr parse_name() {
    const Token& token = tokens_.take();
    if (token.text == "true" || token.text == "True") return make_constant(token.line, true);
    if (token.text == "false" || token.text == "False") return make_constant(token.line, false);
    if (token.text == "none" || token.text == "None") return make_constant(token.line, None{});
    auto result = make(Kind::kName, token.line);
    result->name = token.text;
    return result;
  }
  /// The items of a list, or the keys and values of a dictionary, to the closing bracket.
  std::vector<ExpressionPtr> parse_items(std::string_view end) {
    std::vector<ExpressionPtr> items;
    while (!tokens_.at_sign(end)) {
      items.push_back(parse());
      if (end == "}") {
        tokens_.expect_sign(":");
        items.push_back(parse());
      }
      if (!tokens_.skip_sign(",")) break;
    }
    tokens_.expect_sign(end);
    return items;
  }

  ExpressionPtr parse_postfix(ExpressionPtr inner) {
    for (;;) {
      const int line = tokens_.current().line;
      if (tokens_.skip_sign(".")) {
        inner = parse_attribute(std::move(inner), line);
      } else if (tokens_.skip_sign("[")) {
        inner = parse_subscript(std::move(inner), line);
      } else if (tokens_.at_sign("(")) {
        inner = parse_call(std::move(inner), line);
      } else {
        return inner;
      }
    }
  }
  ExpressionPtr parse_attribute(ExpressionPtr inner, int line) {
    if (tokens_.at(Token::Kind::kInteger)) return make(Kind::kItem, line, std::move(inner), ExpressionPtr(make_constant(line, tokens_.take().integer)));
    auto result = make(Kind::kAttribute, line, std::move(inner));
    result->name = tokens_.take_name();
    return result;
  }
  ExpressionPtr parse_subscript(ExpressionPtr inner, int line) {
    ExpressionPtr bounds[3];
    const auto at_end = [&] { return tokens_.at_sign("]") || tokens_.at_sign(","); };
    if (!tokens_.at_sign(":")) bounds[0] = parse_tuple_in_brackets();
    if (!tokens_.skip_sign(":")) {
      tokens_.expect_sign("]");
      return make(Kind::kItem, line, std::move(inner), std::move(bounds[0]));
    }
    if (!tokens_.at_sign(":") && !at_end()) bounds[1] = parse();
    if (tokens_.skip_sign(":") && !at_end()) bounds[2] = parse();
    if (tokens_.at_sign(",")) throw tokens_.unknown("a slice in several dimensions");
    tokens_.expect_sign("]");
    return make(Kind::kSlice, line, std::move(inner), std::move(bounds[0]), std::move(bounds[1]), std::move(bounds[2]));
  }
  ExpressionPtr parse_tuple_in_brackets() {
    const int line = tokens_.current().line;
    ExpressionPtr first = parse();
    if (!tokens_.at_sign(",")) return first;
    std::vector<ExpressionPtr> items;
    items.push_back(std::move(first));
    while (tokens_.skip_sign(",") && !tokens_.at_sign("]")) items.push_back(parse());
    return make(Kind::kTuple, line, std::move(items));
  }
  ExpressionPtr parse_call(ExpressionPtr inner, int line) {
    auto result = make(Kind::kCall, line, std::move(inner));
    parse_arguments(*result);
    return result;
  }

  void parse_arguments(Expression& result) {
    CallSyntax& call = result.call;
    tokens_.expect_sign("(");
    while (!tokens_.at_sign(")")) {
      if (tokens_.skip_sign("*")) {
        if (call.more_positional || call.more_named) throw tokens_.wrong("one * before one **");
        call.more_positional = parse();
      } else if (tokens_.skip_sign("**")) {
        if (call.more_named) throw tokens_.wrong("one **");
        call.more_named = parse();
      } else if (tokens_.at(Token::Kind::kName) && tokens_.ahead().kind == Token::Kind::kOperator && tokens_.ahead().text == "=") {
        std::string name = tokens_.take_name();
        tokens_.take();
        call.named.emplace_back(std::move(name), parse());
      } else {
        if (!call.named.empty() || call.more_positional || call.more_named) throw tokens_.wrong("a name with =, as before");
        call.positional.push_back(parse());
      }
      if (!tokens_.skip_sign(",")) break;
    }
    tokens_.expect_sign(")");
    for (const ExpressionPtr& part : call.positional) deepen(result, part);
    for (const auto& [name, part] : call.named) deepen(result, part);
    deepen(result, call.more_positional);
    deepen(result, call.more_named);
  }

  /// Filters, tests and calls behind a value.
  ExpressionPtr parse_behind(ExpressionPtr inner) {
    for (;;) {
      const int line = tokens_.current().line;
      if (tokens_.skip_sign("|")) {
        inner = parse_filter(std::move(inner));
      } else if (tokens_.skip_name("is")) {
        inner = parse_test(std::move(inner), line);
      } else if (tokens_.at_sign("(")) {
        inner = parse_call(std::move(inner), line);
      } else {
        return inner;
      }
    }
  }
  ExpressionPtr parse_test(ExpressionPtr inner, int line) {
    const bool negated = tokens_.skip_name("not");
    auto result = make(Kind::kTest, line, std::move(inner));
    result->name = tokens_.take_name();
    using TokenKind = Token::Kind;
    const bool value = tokens_.at(TokenKind::kName) || tokens_.at(TokenKind::kString) || tokens_.at(TokenKind::kInteger) || tokens_.at(TokenKind::kFloat) ||
                       tokens_.at_sign("[") || tokens_.at_sign("{");
    if (tokens_.at_sign("(")) {
      parse_arguments(*result);
    } else if (value && !tokens_.at_any_name({"else", "or", "and"})) {
      if (tokens_.at_name("is")) throw tokens_.wrong("one test after another with and");
      result->call.positional.push_back(parse_postfix(parse_primary()));
      deepen(*result, result->call.positional.back());
    }
    return negated ? make(Kind::kNot, line, ExpressionPtr(std::move(result))) : std::move(result);
  }

  TokenStream& tokens_;
  int depth_ = 0;
};

}  // namespace duet::jinja
