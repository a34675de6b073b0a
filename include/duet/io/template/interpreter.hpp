#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/io/template/evaluator.hpp"
#include "duet/io/template/filters.hpp"
#include "duet/io/template/objects.hpp"
#include "duet/io/template/syntax.hpp"
#include "duet/io/template/value.hpp"

namespace duet::jinja {

/// Runs a template's statements.
///
/// Scopes are Jinja's: a turn of a for, a macro, a with and the body of a block that captures text have variables of their own,
/// an if has not. What is set in an inner scope is forgotten at its end; namespaces are not.
class Interpreter {
 public:
  /// `variables` are the template's globals. Their objects must not refer to the interpreter.
  Interpreter(Run& run, std::map<std::string, Value, std::less<>> variables) : run_(run), evaluator_(run) {
    auto globals = std::make_shared<Scope>();
    globals->variables = std::move(variables);
    globals->variables.emplace("range", make_function(make_range));
    globals->variables.emplace("dict", make_function(make_dict_of));
    globals->variables.emplace("namespace", make_function([this](Run& r, Arguments arguments) { return make_namespace(r, std::move(arguments)); }));
    globals_ = std::move(globals);
  }
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;
  ~Interpreter() {
    for (const auto& space : namespaces_) space->clear();  // they may hold each other
  }

  /// The text that the template gives.
  /// Errors  kInvalidArgument for what cannot be done, kUnsupportedModel for what is not known here; each with the line
  [[nodiscard]] std::string render(const Block& block) {
    return captured(block, std::make_shared<Scope>(Scope{{}, globals_}));
  }

 private:
  using ScopePtr = std::shared_ptr<Scope>;
  enum class Flow : unsigned char { kOn, kBreak, kContinue };

  [[nodiscard]] static ScopePtr inner(const ScopePtr& scope) { return std::make_shared<Scope>(Scope{{}, scope}); }
  [[nodiscard]] Value evaluate(const Expression& expression, const ScopePtr& scope) { return evaluator_.evaluate(expression, *scope); }

  /// The text that a block gives in a scope of its own.
  [[nodiscard]] std::string captured(const Block& block, const ScopePtr& scope) {
    std::string text;
    std::swap(text, output_);
    try {
      static_cast<void>(run_block(block, scope));
    } catch (...) {
      std::swap(text, output_);
      throw;
    }
    std::swap(text, output_);
    return text;
  }

  void print(std::string_view text) {
    run_.grow_text(output_.size(), text.size());
    output_ += text;
  }

  Flow run_block(const Block& block, const ScopePtr& scope) {
    const Run::Level level(run_);
    for (const auto& statement : block) {
      run_.at(statement->line);
      run_.step();
      const Flow flow = run_statement(*statement, scope);
      if (flow != Flow::kOn) return flow;
    }
    return Flow::kOn;
  }

  Flow run_statement(const Statement& s, const ScopePtr& scope) {
    using Kind = Statement::Kind;
    switch (s.kind) {
      case Kind::kData: print(s.text); return Flow::kOn;
      case Kind::kPrint: print(to_text(run_, evaluate(*s.value, scope))); return Flow::kOn;
      case Kind::kFor: return run_loop(s, items_of(run_, evaluate(*s.value, scope)), scope, 0);
      case Kind::kIf: return run_block(truth(evaluate(*s.value, scope)) ? s.body : s.other, scope);
      case Kind::kSet: assign(s.target, evaluate(*s.value, scope), *scope); return Flow::kOn;
      case Kind::kSetBlock: {
        Value text = make_text(run_, captured(s.body, inner(scope)));
        if (s.value) text = evaluator_.filter(*s.value, std::move(text), *scope);
        assign(s.target, std::move(text), *scope);
        return Flow::kOn;
      }
      case Kind::kMacro: scope->variables.insert_or_assign(s.text, make_macro(s, scope)); return Flow::kOn;
      case Kind::kCallBlock: {
        Arguments arguments = evaluator_.arguments(s.value->call, *scope);
        arguments.named.emplace_back("caller", make_macro(s, scope));
        print(to_text(run_, evaluator_.call(evaluate(*s.value->parts[0], scope), std::move(arguments))));
        return Flow::kOn;
      }
      case Kind::kFilterBlock: {
        Value text = make_text(run_, captured(s.body, inner(scope)));
        print(to_text(run_, evaluator_.filter(*s.value, std::move(text), *scope)));
        return Flow::kOn;
      }
      case Kind::kWith: {
        const ScopePtr within = inner(scope);
        for (const auto& [target, value] : s.assignments) assign(target, evaluate(*value, scope), *within);
        return run_block(s.body, within);
      }
      case Kind::kGeneration: return run_block(s.body, inner(scope));
      case Kind::kBreak: return Flow::kBreak;
      case Kind::kContinue: return Flow::kContinue;
    }
    return Flow::kOn;
  }

  Flow run_loop(const Statement& s, std::vector<Value> items, const ScopePtr& scope, std::int64_t depth0) {
    const Run::Level level(run_);
    if (s.condition) {
      std::vector<Value> kept;
      for (Value& item : items) {
        const ScopePtr turn = inner(scope);
        assign(s.target, item, *turn);
        if (truth(evaluate(*s.condition, turn))) kept.push_back(std::move(item));
      }
      items = std::move(kept);
    }
    if (items.empty()) return run_block(s.other, inner(scope));
    Function::Body recurse;
    if (s.recursive) {
      capture(scope);
      recurse = [this, &s, outer = std::weak_ptr<Scope>(scope), depth0](Run& run, Arguments arguments) {
        const Parameters p(run, "loop", "iterable", std::move(arguments));
        std::string text;
        std::swap(text, output_);
        static_cast<void>(run_loop(s, items_of(run, p.at(0)), outer.lock(), depth0 + 1));
        std::swap(text, output_);
        return make_text(run, std::move(text));
      };
    }
    const int nesting = depth_around(run_, items);
    const auto loop = std::make_shared<Loop>(std::move(items), depth0, nesting, std::move(recurse));
    for (std::size_t i = 0; i < loop->size(); ++i) {
      const ScopePtr turn = inner(scope);
      assign(s.target, loop->turn(i), *turn);
      turn->variables.insert_or_assign("loop", Value(Value::ObjectPtr(loop)));
      if (run_block(s.body, turn) == Flow::kBreak) break;
      run_.at(s.line);
    }
    return Flow::kOn;
  }

  void assign(const Target& target, Value value, Scope& scope) {
    if (target.tuple) {
      const std::vector<Value> items = items_of(run_, value);
      if (items.size() != target.parts.size()) {
        throw run_.error(concat(items.size(), " values for ", target.parts.size(), " names"), "one for each");
      }
      for (std::size_t i = 0; i < items.size(); ++i) assign(target.parts[i], items[i], scope);
    } else if (target.attribute.empty()) {
      scope.variables.insert_or_assign(target.name, std::move(value));
    } else {
      auto* const space = evaluator_.variable(target.name, scope).object_as<Namespace>();
      if (space == nullptr) throw run_.error(concat("an assignment to ", target.name, '.', target.attribute), "the attribute of a namespace");
      run_.make(sizeof(Value) + target.attribute.size());
      space->set(target.attribute, std::move(value));
    }
  }

  [[nodiscard]] Value make_namespace(Run& run, Arguments arguments) {
    auto space = std::make_shared<Namespace>();
    for (const Value& mapping : arguments.positional) {
      if (mapping.dict() == nullptr) throw run.error(concat("a namespace from a ", mapping.type_name()), "a dictionary");
      for (const auto& [key, value] : mapping.dict()->items) space->set(to_text(run, key), value);
    }
    for (auto& [name, value] : arguments.named) space->set(name, std::move(value));
    run.make(sizeof(Namespace));
    namespaces_.push_back(space);
    return Value::ObjectPtr(std::move(space));
  }

  /// Keeps a scope, and those around it, until the interpreter ends: what refers to one that it may itself lie in does so weakly.
  void capture(const ScopePtr& scope) {
    constexpr std::uint64_t kBytes = 1024;
    run_.make(kBytes);
    if (captured_.empty() || captured_.back() != scope) captured_.push_back(scope);
  }

  /// A macro, or the caller that a call block passes to one. It sees the scope that it stands in, as that is when it is called.
  [[nodiscard]] Value make_macro(const Statement& s, const ScopePtr& scope) {
    capture(scope);
    return make_function([this, &s, scope = std::weak_ptr<Scope>(scope)](Run& run, Arguments arguments) {
      return make_text(run, call_macro(s, scope.lock(), std::move(arguments)));
    });
  }
  [[nodiscard]] std::string call_macro(const Statement& s, const ScopePtr& outer, Arguments arguments) {
    const Run::Level level(run_);
    const int line = run_.line();
    const ScopePtr scope = inner(outer);
    auto& variables = scope->variables;
    const auto& names = s.signature.names;
    const std::string name = s.text.empty() ? "caller" : s.text;
    for (std::size_t i = 0; i < arguments.positional.size(); ++i) {
      if (i >= names.size()) throw run_.error(concat(arguments.positional.size(), " arguments of ", name), concat("at most ", names.size()));
      variables.emplace(names[i], std::move(arguments.positional[i]));
    }
    for (auto& [key, value] : arguments.named) {
      if (key != "caller" && std::ranges::find(names, key) == names.end()) throw run_.error(concat("the argument ", key, " of ", name), "an argument that it has");
      if (!variables.emplace(key, std::move(value)).second) throw run_.error(concat("the argument ", key, " of ", name, " twice"), "it once");
    }
    const std::size_t required = names.size() - s.signature.defaults.size();
    std::vector<std::size_t> absent;
    for (std::size_t i = 0; i < names.size(); ++i) {
      if (variables.emplace(names[i], make_undefined(run_, concat("no argument ", names[i], " of ", name))).second) absent.push_back(i);
    }
    for (const std::size_t i : absent) {
      if (i >= required) variables.insert_or_assign(names[i], evaluate(*s.signature.defaults[i - required], scope));
    }
    std::string text = captured(s.body, scope);
    run_.at(line);
    return text;
  }

  Run& run_;
  Evaluator evaluator_;
  std::string output_;
  ScopePtr globals_;
  std::vector<ScopePtr> captured_;
  std::vector<std::shared_ptr<Namespace>> namespaces_;
};

}  // namespace duet::jinja
