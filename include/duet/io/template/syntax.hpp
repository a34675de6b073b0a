#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "duet/io/template/arithmetic.hpp"
#include "duet/io/template/value.hpp"

namespace duet::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<const Expression>;

/// What stands in a call's parentheses.
struct CallSyntax {
  std::vector<ExpressionPtr> positional;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  ExpressionPtr more_positional, more_named;  ///< after * and **
};

enum class Comparison : unsigned char { kEqual, kNotEqual, kLess, kLessEqual, kGreater, kGreaterEqual, kIn, kNotIn };

/// An expression. `parts` are its operands, in the order of the template.
struct Expression {
  enum class Kind : unsigned char {
    kConstant,     ///< constant
    kName,         ///< name
    kTuple,        ///< parts
    kList,         ///< parts
    kDict,         ///< parts: key, value, key, value ...
    kAttribute,    ///< parts[0].name
    kItem,         ///< parts[0][parts[1]]
    kSlice,        ///< parts[0][parts[1]:parts[2]:parts[3]], of which all but the first may be absent
    kCall,         ///< parts[0](call)
    kFilter,       ///< parts[0] | name(call); parts[0] is absent in the filter of a block
    kTest,         ///< parts[0] is name(call)
    kNot,          ///< not parts[0]
    kNegative,     ///< -parts[0]
    kPositive,     ///< +parts[0]
    kBinary,       ///< parts[0] op parts[1]
    kConcatenate,  ///< parts[0] ~ parts[1] ~ ...
    kCompare,      ///< parts[0] comparisons[0] parts[1] comparisons[1] parts[2] ...
    kAnd,          ///< parts[0] and parts[1]
    kOr,           ///< parts[0] or parts[1]
    kConditional,  ///< parts[1] if parts[0] else parts[2], which may be absent
  };
  Kind kind;
  int line;
  std::string name;
  Value constant;
  std::vector<ExpressionPtr> parts;
  CallSyntax call;
  BinaryOperator op = BinaryOperator::kAdd;
  std::vector<Comparison> comparisons;
  int depth = 1;  ///< of expressions within it
};

struct Statement;
using Block = std::vector<std::unique_ptr<const Statement>>;

/// What is assigned to: a name, a namespace's attribute, or several targets.
struct Target {
  std::string name, attribute;
  std::vector<Target> parts;  ///< of a tuple
  bool tuple = false;
};

/// The parameters of a macro; the last ones have defaults.
struct Signature {
  std::vector<std::string> names;
  std::vector<ExpressionPtr> defaults;
};

struct Statement {
  enum class Kind : unsigned char {
    kData,         ///< text
    kPrint,        ///< {{ value }}
    kFor,          ///< for target in value if condition; body, other (else); recursive
    kIf,           ///< if value; body, other: elif is an if in there
    kSet,          ///< set target = value
    kSetBlock,     ///< set target | filters (value); body
    kMacro,        ///< macro text(signature); body
    kCallBlock,    ///< call(signature) value; body
    kFilterBlock,  ///< filter value; body
    kWith,         ///< with targets = values; body
    kGeneration,   ///< body, which transformers marks as the assistant's
    kBreak,
    kContinue,
  };
  Kind kind;
  int line;
  std::string text;
  ExpressionPtr value, condition;
  Target target;
  Block body, other;
  bool recursive = false;
  Signature signature;
  std::vector<std::pair<Target, ExpressionPtr>> assignments;  ///< of a with
};

}  // namespace duet::jinja
