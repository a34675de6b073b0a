#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/io/template/operators.hpp"
#include "duet/io/template/percent_format.hpp"
#include "duet/io/template/value.hpp"

namespace duet::jinja {

enum class BinaryOperator : unsigned char { kAdd, kSubtract, kMultiply, kDivide, kFloorDivide, kModulo, kPower };

namespace detail {

[[nodiscard]] inline Error beyond_integers(Run& run) { return run.error("an integer beyond 64 bits", "a smaller one"); }
[[nodiscard]] inline Error division_by_zero(Run& run) { return run.error("a division by zero", "another divisor"); }

/// Python's integers have no limit; these end with an error.
inline Value integer_result(Run& run, BinaryOperator op, std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  switch (op) {
    case BinaryOperator::kAdd:
      if (__builtin_add_overflow(a, b, &result)) throw beyond_integers(run);
      return result;
    case BinaryOperator::kSubtract:
      if (__builtin_sub_overflow(a, b, &result)) throw beyond_integers(run);
      return result;
    case BinaryOperator::kMultiply:
      if (__builtin_mul_overflow(a, b, &result)) throw beyond_integers(run);
      return result;
    case BinaryOperator::kDivide:
      if (b == 0) throw division_by_zero(run);
      return static_cast<double>(a) / static_cast<double>(b);
    case BinaryOperator::kFloorDivide:
    case BinaryOperator::kModulo: {
      if (b == 0) throw division_by_zero(run);
      if (b == -1) return op == BinaryOperator::kModulo ? Value(std::int64_t{0}) : integer_result(run, BinaryOperator::kSubtract, 0, a);
      std::int64_t quotient = a / b, remainder = a % b;
      if (remainder != 0 && (remainder < 0) != (b < 0)) {
        --quotient;
        remainder += b;
      }
      return op == BinaryOperator::kModulo ? remainder : quotient;
    }
    case BinaryOperator::kPower:
      if (b < 0) {
        if (a == 0) throw division_by_zero(run);
        return std::pow(static_cast<double>(a), static_cast<double>(b));
      }
      result = 1;
      for (std::int64_t base = a; b > 0; b >>= 1) {
        if ((b & 1) != 0 && __builtin_mul_overflow(result, base, &result)) throw beyond_integers(run);
        if (b > 1 && __builtin_mul_overflow(base, base, &base)) throw beyond_integers(run);
      }
      return result;
  }
  return {};
}

inline Value float_result(Run& run, BinaryOperator op, double a, double b) {
  switch (op) {
    case BinaryOperator::kAdd: return a + b;
    case BinaryOperator::kSubtract: return a - b;
    case BinaryOperator::kMultiply: return a * b;
    case BinaryOperator::kDivide:
      if (b == 0) throw division_by_zero(run);
      return a / b;
    case BinaryOperator::kFloorDivide:
    case BinaryOperator::kModulo: {
      if (b == 0) throw division_by_zero(run);
      double remainder = std::fmod(a, b);
      const bool borrows = remainder != 0 && (remainder < 0) != (b < 0);
      if (borrows) remainder += b;
      if (op == BinaryOperator::kModulo) return remainder == 0 ? std::copysign(0.0, b) : remainder;
      const double quotient = (a - remainder) / b;
      return quotient == 0 ? std::copysign(0.0, a / b) : std::floor(quotient + 0.5);
    }
    case BinaryOperator::kPower: {
      const double result = std::pow(a, b);
      if (a == 0 && b < 0) throw division_by_zero(run);
      if (a < 0 && b != std::trunc(b)) throw run.unknown("a complex number");
      if (std::isinf(result) && std::isfinite(a) && std::isfinite(b)) throw run.error("a power beyond all floats", "a smaller one");
      return result;
    }
  }
  return {};
}

inline Value repeated(Run& run, const Value& value, std::int64_t times) {
  const auto count = static_cast<std::uint64_t>(std::clamp<std::int64_t>(times, 0, std::int64_t{1} << 32));
  if (value.is_text()) {
    run.make_text(count * value.text().size());
    std::string result;
    for (std::uint64_t i = 0; i < count && !value.text().empty(); ++i) result += value.text();
    return make_text(run, std::move(result));
  }
  const Sequence& s = *value.sequence();
  run.make(count * s.items.size() * sizeof(Value));
  std::vector<Value> items;
  for (std::uint64_t i = 0; i < count && !s.items.empty(); ++i) items.insert(items.end(), s.items.begin(), s.items.end());
  return make_sequence(run, s.kind, std::move(items));
}

inline Value added_texts(Run& run, const Value& a, const Value& b) {
  run.make_text(a.text().size() + b.text().size());
  if (!a.is_safe() && !b.is_safe()) return make_text(run, a.text() + b.text());
  return make_safe_text(run, (a.is_safe() ? a.text() : html_escaped(a.text())) + (b.is_safe() ? b.text() : html_escaped(b.text())));
}

}  // namespace detail

/// Python's binary operators.
/// Errors  kInvalidArgument for types that the operator does not take, division by zero, and integers beyond 64 bits
[[nodiscard]] inline Value apply(Run& run, BinaryOperator op, const Value& a, const Value& b) {
  static constexpr std::string_view kSigns[] = {"+", "-", "*", "/", "//", "%", "**"};
  if (op == BinaryOperator::kModulo && a.is_text()) return make_text(run, PercentFormat(run, a.text(), b).apply());
  if (a.is_undefined()) throw undefined_error(run, a);
  if (b.is_undefined()) throw undefined_error(run, b);
  if (a.is_number() && b.is_number()) {
    const auto x = a.integer(), y = b.integer();
    return x && y ? detail::integer_result(run, op, *x, *y) : detail::float_result(run, op, a.number(), b.number());
  }
  const auto repeatable = [](const Value& v) { return v.is_text() || (v.sequence() != nullptr && v.sequence()->kind <= Sequence::Kind::kTuple); };
  if (op == BinaryOperator::kAdd && a.is_text() && b.is_text()) return detail::added_texts(run, a, b);
  if (op == BinaryOperator::kAdd && repeatable(a) && repeatable(b) && a.type_name() == b.type_name()) {
    std::vector<Value> items = a.sequence()->items;
    items.insert(items.end(), b.sequence()->items.begin(), b.sequence()->items.end());
    return make_sequence(run, a.sequence()->kind, std::move(items));
  }
  if (op == BinaryOperator::kMultiply && repeatable(a) && b.integer()) return detail::repeated(run, a, *b.integer());
  if (op == BinaryOperator::kMultiply && repeatable(b) && a.integer()) return detail::repeated(run, b, *a.integer());
  throw run.error(concat(a.type_name(), " ", kSigns[static_cast<std::size_t>(op)], " ", b.type_name()), "types that the operator takes");
}

/// Python's -x and +x.
[[nodiscard]] inline Value negated(Run& run, const Value& x) {
  if (x.is_undefined()) throw undefined_error(run, x);
  if (!x.is_number()) throw run.error(concat("the negative of a ", x.type_name()), "a number");
  if (const auto i = x.integer()) return detail::integer_result(run, BinaryOperator::kSubtract, 0, *i);
  return -x.number();
}
[[nodiscard]] inline Value posited(Run& run, const Value& x) {
  if (x.is_undefined()) throw undefined_error(run, x);
  if (!x.is_number()) throw run.error(concat("+ before a ", x.type_name()), "a number");
  if (const auto i = x.integer()) return *i;
  return x;
}

}  // namespace duet::jinja
