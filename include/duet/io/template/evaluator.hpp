#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/io/template/access.hpp"
#include "duet/io/template/filters.hpp"
#include "duet/io/template/syntax.hpp"
#include "duet/io/template/tests.hpp"
#include "duet/io/template/value.hpp"

namespace duet::jinja {

/// Variables, and those around them.
struct Scope {
  std::map<std::string, Value, std::less<>> variables;
  std::shared_ptr<Scope> outer;
};

/// Evaluates expressions.
class Evaluator {
 public:
  explicit Evaluator(Run& run) : run_(run) {}

  [[nodiscard]] Value variable(std::string_view name, const Scope& scope) {
    for (const Scope* s = &scope; s != nullptr; s = s->outer.get()) {
      run_.step();
      const auto it = s->variables.find(name);
      if (it != s->variables.end()) return it->second;
    }
    return make_undefined(run_, concat("no variable ", name));
  }

  [[nodiscard]] Value evaluate(const Expression& e, const Scope& scope) {
    using Kind = Expression::Kind;
    const Run::Level level(run_);
    run_.step();
    const auto part = [&](std::size_t i) { return evaluate(*e.parts[i], scope); };
    const auto optional_part = [&](std::size_t i) { return e.parts[i] ? part(i) : Value(None{}); };
    switch (e.kind) {
      case Kind::kConstant: return e.constant;
      case Kind::kName: return variable(e.name, scope);
      case Kind::kTuple: return make_tuple(run_, all_parts(e, scope));
      case Kind::kList: return make_list(run_, all_parts(e, scope));
      case Kind::kDict: return dict(e, scope);
      case Kind::kAttribute: return placed(e, [&] { return get_attribute(run_, part(0), e.name); });
      case Kind::kItem: return placed(e, [&] { return get_item(run_, part(0), part(1)); });
      case Kind::kSlice: return placed(e, [&] { return get_slice(run_, part(0), optional_part(1), optional_part(2), optional_part(3)); });
      case Kind::kCall: {
        Value callee = part(0);
        Arguments given = arguments(e.call, scope);
        return placed(e, [&] { return call(callee, std::move(given)); });
      }
      case Kind::kFilter: return filter(e, Value(), scope);
      case Kind::kTest: {
        const Value subject = part(0);
        Arguments given = arguments(e.call, scope);
        return placed(e, [&] { return Value(apply_test(run_, e.name, subject, std::move(given))); });
      }
      case Kind::kNot: return !truth(part(0));
      case Kind::kNegative: return placed(e, [&] { return negated(run_, part(0)); });
      case Kind::kPositive: return placed(e, [&] { return posited(run_, part(0)); });
      case Kind::kBinary: return placed(e, [&] {
        const Value left = part(0), right = part(1);
        return apply(run_, e.op, left, right);
      });
      case Kind::kConcatenate: return concatenation(e, scope);
      case Kind::kCompare: return comparison(e, scope);
      case Kind::kAnd: {
        Value left = part(0);
        return truth(left) ? part(1) : left;
      }
      case Kind::kOr: {
        Value left = part(0);
        return truth(left) ? left : part(1);
      }
      case Kind::kConditional:
        if (truth(part(0))) return part(1);
        return e.parts[2] ? part(2) : make_undefined(run_, "an if without else, whose condition is false");
    }
    return {};
  }

  /// The filters of `e`, the innermost of which has no operand but `value`.
  [[nodiscard]] Value filter(const Expression& e, Value value, const Scope& scope) {
    const Run::Level level(run_);
    if (e.kind != Expression::Kind::kFilter) return evaluate(e, scope);
    if (e.parts[0]) value = filter(*e.parts[0], std::move(value), scope);
    Arguments given = arguments(e.call, scope);
    return placed(e, [&] { return apply_filter(run_, e.name, value, std::move(given)); });
  }

  [[nodiscard]] Value call(const Value& callee, Arguments given) {
    if (callee.is_undefined()) throw undefined_error(run_, callee);
    if (callee.object() == nullptr) throw run_.error(concat("a call of a ", callee.type_name()), "something callable");
    return callee.object()->call(run_, std::move(given));
  }

  [[nodiscard]] Arguments arguments(const CallSyntax& syntax, const Scope& scope) {
    Arguments result;
    for (const ExpressionPtr& argument : syntax.positional) result.positional.push_back(evaluate(*argument, scope));
    for (const auto& [name, argument] : syntax.named) result.named.emplace_back(name, evaluate(*argument, scope));
    if (syntax.more_positional) {
      for (Value& item : items_of(run_, evaluate(*syntax.more_positional, scope))) result.positional.push_back(std::move(item));
    }
    if (syntax.more_named) {
      const Value more = evaluate(*syntax.more_named, scope);
      if (more.dict() == nullptr) throw run_.error(concat("a ", more.type_name(), " after **"), "a dictionary");
      for (const auto& [name, item] : more.dict()->items) result.named.emplace_back(to_text(run_, name), item);
    }
    return result;
  }

 private:
  /// What `compute` gives; a problem of its own is one of this expression's line.
  template <class Compute>
  [[nodiscard]] Value placed(const Expression& e, const Compute& compute) {
    run_.at(e.line);
    return compute();
  }

  [[nodiscard]] std::vector<Value> all_parts(const Expression& e, const Scope& scope) {
    std::vector<Value> items;
    for (const ExpressionPtr& part : e.parts) items.push_back(evaluate(*part, scope));
    return items;
  }

  [[nodiscard]] Value dict(const Expression& e, const Scope& scope) {
    std::vector<std::pair<Value, Value>> items;
    for (std::size_t i = 0; i < e.parts.size(); i += 2) {
      Value key = evaluate(*e.parts[i], scope), value = evaluate(*e.parts[i + 1], scope);
      require_key(run_, key);
      const auto there = std::ranges::find_if(items, [&](const auto& item) { return equal(run_, item.first, key); });
      if (there != items.end()) {
        there->second = std::move(value);
      } else {
        items.emplace_back(std::move(key), std::move(value));
      }
    }
    return make_dict(run_, std::move(items));
  }

  [[nodiscard]] Value concatenation(const Expression& e, const Scope& scope) {
    std::string text;
    for (const ExpressionPtr& part : e.parts) {
      const Value value = evaluate(*part, scope);
      const std::string more = to_text(run_, value);
      run_.grow_text(text.size(), more.size());
      text += more;
    }
    return make_text(run_, std::move(text));
  }

  [[nodiscard]] Value comparison(const Expression& e, const Scope& scope) {
    Value left = evaluate(*e.parts[0], scope);
    for (std::size_t i = 0; i < e.comparisons.size(); ++i) {
      Value right = evaluate(*e.parts[i + 1], scope);
      run_.at(e.line);
      if (!holds(e.comparisons[i], left, right)) return false;
      left = std::move(right);
    }
    return true;
  }
  [[nodiscard]] bool holds(Comparison comparison, const Value& left, const Value& right) {
    switch (comparison) {
      case Comparison::kEqual: return equal(run_, left, right);
      case Comparison::kNotEqual: return !equal(run_, left, right);
      case Comparison::kLess: return order(run_, left, right) < 0;
      case Comparison::kLessEqual: return order(run_, left, right) <= 0;
      case Comparison::kGreater: return order(run_, left, right) > 0;
      case Comparison::kGreaterEqual: return order(run_, left, right) >= 0;
      case Comparison::kIn: return contains(run_, right, left);
      case Comparison::kNotIn: return !contains(run_, right, left);
    }
    return false;
  }

  Run& run_;
};

}  // namespace duet::jinja
