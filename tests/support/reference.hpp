#pragma once

#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "duet/core/matrix.hpp"

/// What the kernels compute, written down naively and in double precision: from the formulas, not from the kernels.
namespace duet::reference {

inline double gelu(double x) { return 0.5 * x * std::erfc(-x / std::sqrt(2.0)); }
inline double gelu_tanh(double x) {
  const double pi = 3.14159265358979323846;
  return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / pi) * (x + 0.044715 * x * x * x)));
}
inline double quick_gelu(double x) { return x / (1.0 + std::exp(-1.702 * x)); }
inline double silu(double x) { return x / (1.0 + std::exp(-x)); }
inline double relu(double x) { return x < 0.0 ? 0.0 : x; }
inline double relu2(double x) { return relu(x) * relu(x); }

inline std::vector<double> softmax(const std::vector<double>& scores) {
  double most = -std::numeric_limits<double>::infinity(), sum = 0.0;
  for (const double s : scores) most = std::max(most, s);
  std::vector<double> result;
  for (const double s : scores) result.push_back(std::exp(s - most));
  for (const double p : result) sum += p;
  for (double& p : result) p /= sum;
  return result;
}

inline std::vector<double> layer_norm(std::span<const float> x, std::span<const float> weight, std::span<const float> bias,
                                      double eps) {
  double mean = 0.0, variance = 0.0;
  for (const float v : x) mean += static_cast<double>(v);
  mean /= static_cast<double>(x.size());
  for (const float v : x) variance += (static_cast<double>(v) - mean) * (static_cast<double>(v) - mean);
  variance /= static_cast<double>(x.size());
  std::vector<double> result;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double shift = bias.empty() ? 0.0 : static_cast<double>(bias[i]);
    result.push_back((static_cast<double>(x[i]) - mean) / std::sqrt(variance + eps) * static_cast<double>(weight[i]) + shift);
  }
  return result;
}

inline std::vector<double> rms_norm(std::span<const float> x, std::span<const float> weight, double eps) {
  double squares = 0.0;
  for (const float v : x) squares += static_cast<double>(v) * static_cast<double>(v);
  const double rms = std::sqrt(squares / static_cast<double>(x.size()) + eps);
  std::vector<double> result;
  for (std::size_t i = 0; i < x.size(); ++i) result.push_back(static_cast<double>(x[i]) / rms * static_cast<double>(weight[i]));
  return result;
}

/// One head's result for one query: keys and values [n, head_dim], all of them seen.
struct Attended {
  std::vector<double> out;   // [head_dim]
  double log_sum_exp;
  double largest_value = 0;  // max |v| among those seen: results are averages of values, so errors scale with it
  double largest_score = 0;  // max |score|: rounding of scores scales with it
  double largest_key = 0;     // max |k|, and of the weights that sum to 1
  double largest_weight = 0;
};

/// `key(j)` and `value(j)` give rows of head_dim floats for every j in [begin, end).
template <class Key, class Value>
Attended attend(std::span<const float> q, Key&& key, Value&& value, Index begin, Index end, double scale, double soft_cap) {
  Attended result{std::vector<double>(q.size(), 0.0), -std::numeric_limits<double>::infinity()};
  if (begin >= end) return result;
  std::vector<double> scores;
  for (Index j = begin; j < end; ++j) {
    double score = 0.0, magnitude = 0.0;
    for (std::size_t c = 0; c < q.size(); ++c) {
      const double product = static_cast<double>(q[c]) * static_cast<double>(key(j)[c]);
      score += product;
      magnitude += std::abs(product);
      result.largest_key = std::max(result.largest_key, std::abs(static_cast<double>(key(j)[c])));
    }
    score *= scale;
    if (soft_cap > 0.0) score = soft_cap * std::tanh(score / soft_cap);
    scores.push_back(score);
    result.largest_score = std::max(result.largest_score, magnitude * scale);
  }
  const std::vector<double> weights = softmax(scores);
  for (const double weight : weights) result.largest_weight = std::max(result.largest_weight, weight);
  for (Index j = begin; j < end; ++j) {
    for (std::size_t c = 0; c < q.size(); ++c) {
      const auto v = static_cast<double>(value(j)[c]);
      result.out[c] += weights[static_cast<std::size_t>(j - begin)] * v;
      result.largest_value = std::max(result.largest_value, std::abs(v));
    }
  }
  double most = scores[0], sum = 0.0;
  for (const double s : scores) most = std::max(most, s);
  for (const double s : scores) sum += std::exp(s - most);
  result.log_sum_exp = most + std::log(sum);
  return result;
}

}  // namespace duet::reference
