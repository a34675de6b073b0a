#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "duet/kernels/attention_types.hpp"
#include "support/tiny_weights.hpp"

/// Layers written down naively, in double precision, with their error analysis: every number carries a bound on how far float
/// arithmetic may stray from it, to first order. Tests need no tolerance of their own.
namespace duet::reference {

struct Bounded {
  double value = 0.0, error = 0.0;
};
using Row = std::vector<Bounded>;
using Rows = std::vector<Row>;

inline constexpr double kUnit = 0x1p-24;  // of rounding to float

inline Rows rows_of(ConstMatrixView m) {
  Rows result(static_cast<std::size_t>(m.rows()));
  for (Index i = 0; i < m.rows(); ++i) {
    for (const float value : m.row(i)) result[static_cast<std::size_t>(i)].push_back({static_cast<double>(value), 0.0});
  }
  return result;
}

/// Bounds multiply from layer to layer until they allow anything: beyond `most` of the largest number, the golden files'
/// tolerance, that one holds.
inline void expect_within(ConstMatrixView got, const Rows& expected, const std::string& what = "", double most = 1e-4) {
  ASSERT_EQ(static_cast<std::size_t>(got.rows()), expected.size()) << what;
  double largest = 0.0;
  for (const Row& row : expected) {
    for (const Bounded& b : row) largest = std::max(largest, std::abs(b.value));
  }
  for (Index i = 0; i < got.rows(); ++i) {
    const Row& row = expected[static_cast<std::size_t>(i)];
    ASSERT_EQ(static_cast<std::size_t>(got.cols()), row.size()) << what;
    for (Index j = 0; j < got.cols(); ++j) {
      const Bounded& b = row[static_cast<std::size_t>(j)];
      ASSERT_NEAR(static_cast<double>(got(i, j)), b.value, std::min(b.error, most * largest) + kUnit * std::abs(b.value)) << what << ": row " << i << " column " << j;
    }
  }
}

/// n roundings add up like a random walk; the factor is for bad luck.
inline double summation_error(std::size_t n, double magnitude) { return 4.0 * kUnit * std::sqrt(static_cast<double>(n)) * magnitude; }

inline Bounded dot(const Bounded* a, const Bounded* b, std::size_t n) {
  Bounded sum;
  double magnitude = 0.0;
  for (std::size_t i = 0; i < n; ++i) {
    sum.value += a[i].value * b[i].value;
    sum.error += std::abs(a[i].value) * b[i].error + std::abs(b[i].value) * a[i].error;
    magnitude += std::abs(a[i].value * b[i].value);
  }
  sum.error += summation_error(n, magnitude);
  return sum;
}

/// x · weightᵀ + bias; weight [out, in].
inline Rows linear(const Rows& x, std::span<const float> weight, std::span<const float> bias = {}) {
  Rows result;
  for (const Row& row : x) {
    Row out;
    for (std::size_t o = 0; o * row.size() < weight.size(); ++o) {
      Row w;
      for (const float value : weight.subspan(o * row.size(), row.size())) w.push_back({static_cast<double>(value), 0.0});
      Bounded sum = dot(row.data(), w.data(), row.size());
      if (!bias.empty()) sum.value += static_cast<double>(bias[o]);
      sum.error += kUnit * std::abs(sum.value);
      out.push_back(sum);
    }
    result.push_back(std::move(out));
  }
  return result;
}

/// (x − mean) / sqrt(var + eps) · weight + bias, or without mean and bias: x / sqrt(mean(x²) + eps) · weight.
inline Row norm(const Row& x, std::span<const float> weight, std::span<const float> bias, float eps, bool centered) {
  const auto n = static_cast<double>(x.size());
  double mean = 0.0, variance = 0.0, error = 0.0, lean = 0.0;  // lean: mean |z| · error
  for (const Bounded& b : x) mean += centered ? b.value / n : 0.0;
  for (const Bounded& b : x) variance += (b.value - mean) * (b.value - mean) / n;
  const double deviation = std::sqrt(variance + static_cast<double>(eps));
  for (const Bounded& b : x) {
    error += centered ? b.error / n : 0.0;
    lean += std::abs((b.value - mean) / deviation) * b.error / n;
  }
  Row result;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double z = (x[i].value - mean) / deviation, w = static_cast<double>(weight[i]);
    const double shift = bias.empty() ? 0.0 : static_cast<double>(bias[i]);
    const double z_error = (x[i].error + error + std::abs(z) * lean) / deviation + kUnit * (16.0 * std::abs(z) + 4.0);
    result.push_back({z * w + shift, std::abs(w) * z_error + 2.0 * kUnit * std::abs(shift)});
  }
  return result;
}

/// f(x) for an f whose slope is nowhere steeper than `slope`.
template <class F>
Rows map(Rows x, F&& f, double slope = 1.2) {
  for (Row& row : x) {
    for (Bounded& b : row) {
      const double y = f(b.value);
      b = {y, slope * b.error + 4.0 * kUnit * (std::abs(y) + std::abs(b.value))};
    }
  }
  return x;
}

template <class Combine>
Rows combined(Rows a, const Rows& b, Combine&& combine) {
  for (std::size_t i = 0; i < a.size(); ++i) {
    for (std::size_t j = 0; j < a[i].size(); ++j) a[i][j] = combine(a[i][j], b[i][j]);
  }
  return a;
}
inline Rows product(const Rows& a, const Rows& b) {
  return combined(a, b, [](Bounded x, Bounded y) {
    const double value = x.value * y.value;
    return Bounded{value, std::abs(x.value) * y.error + std::abs(y.value) * x.error + kUnit * std::abs(value)};
  });
}
/// a + factor · b.
inline Rows sum(const Rows& a, const Rows& b, double factor = 1.0) {
  return combined(a, b, [factor](Bounded x, Bounded y) {
    const double scaled = factor * y.value, value = x.value + scaled;
    return Bounded{value, x.error + std::abs(factor) * y.error + 2.0 * kUnit * (std::abs(scaled) + std::abs(value))};
  });
}

/// Heads as a KV cache keeps them: rounded.
inline Rows stored(Rows x, Index head_dim, KeyValueFormat format) {
  const auto d = static_cast<std::size_t>(head_dim);
  for (Row& row : x) {
    for (std::size_t at = 0; at < row.size(); ++at) {
      const std::size_t head = at / d * d, block = head + (at - head) / 32 * 32, end = std::min(block + 32, head + d);
      double most = 0.0;
      for (std::size_t i = block; i < end; ++i) most = std::max(most, std::abs(row[i].value) + row[i].error);
      Bounded& b = row[at];
      if (format == KeyValueFormat::kBF16) b.error += 0x1p-8 * (std::abs(b.value) + b.error);
      if (format == KeyValueFormat::kF16) b.error += std::max(0x1p-11 * (std::abs(b.value) + b.error), 0x1p-25);
      if (format == KeyValueFormat::kQ8) b.error += most * (1.0 / 254.0 + 0x1p-11) + 127.0 * 0x1p-25;
    }
  }
  return x;
}

/// softmax(q · kᵀ · scale, capped) · v over the keys that each row sees; a row that sees none becomes zero.
inline Rows attention(const Rows& q, const Rows& k, const Rows& v, std::span<const kernels::KeyRange> visible,
                      const kernels::AttentionShape& shape) {
  const auto d = static_cast<std::size_t>(shape.head_dim);
  const auto group = static_cast<std::size_t>(shape.num_attention_heads / shape.num_key_value_heads);
  Rows result;
  for (std::size_t i = 0; i < q.size(); ++i) {
    const auto begin = static_cast<std::size_t>(visible[i].begin), end = std::max(begin, static_cast<std::size_t>(visible[i].end));
    Row out(q[i].size());
    for (std::size_t head = 0; begin < end && head * d < out.size(); ++head) {
      const std::size_t at = head / group * d;
      double most = -1e300, total = 0.0, score_error = 0.0;
      std::vector<double> weights;
      for (std::size_t j = begin; j < end; ++j) {
        const Bounded score = dot(&q[i][head * d], &k[j][at], d);
        double value = score.value * static_cast<double>(shape.scale);
        score_error = std::max(score_error, score.error * static_cast<double>(shape.scale) + 2.0 * kUnit * std::abs(value));
        if (shape.soft_cap > 0.0f) value = static_cast<double>(shape.soft_cap) * std::tanh(value / static_cast<double>(shape.soft_cap));
        weights.push_back(value);
        most = std::max(most, value);
      }
      for (double& w : weights) total += w = std::exp(w - most);
      for (std::size_t c = 0; c < d; ++c) {
        Bounded& b = out[head * d + c];
        double magnitude = 0.0, spread = 0.0;
        for (std::size_t j = begin; j < end; ++j) b.value += weights[j - begin] / total * v[j][at + c].value;
        for (std::size_t j = begin; j < end; ++j) {
          const double p = weights[j - begin] / total;
          magnitude += p * std::abs(v[j][at + c].value);
          spread += p * std::abs(v[j][at + c].value - b.value);  // what wrong scores move
          b.error += p * v[j][at + c].error;
        }
        b.error += score_error * spread + summation_error(end - begin + 4, magnitude);
      }
    }
    result.push_back(std::move(out));
  }
  return result;
}

/// Pairs (i, i + n) of every head turn by position · inv_freq[i], the product rounded to float.
inline Rows rotated(Rows x, Index head_dim, std::span<const Index> positions, const std::vector<float>& inv_freq) {
  const std::size_t n = inv_freq.size();
  for (std::size_t i = 0; i < x.size(); ++i) {
    for (std::size_t head = 0; head < x[i].size(); head += static_cast<std::size_t>(head_dim)) {
      for (std::size_t pair = 0; pair < n; ++pair) {
        Bounded &first = x[i][head + pair], &second = x[i][head + pair + n];
        const auto angle = static_cast<double>(static_cast<float>(positions[i]) * inv_freq[pair]);
        const double c = std::cos(angle), s = std::sin(angle), a = first.value, b = second.value;
        const double error = first.error + second.error + 4.0 * kUnit * (std::abs(a) + std::abs(b));
        first = {a * c - b * s, error};
        second = {b * c + a * s, error};
      }
    }
  }
  return x;
}

/// Layers over weights by name, below a path, as Duet's own layers ask for them. A bias counts if the layer asked for one.
class Layers {
 public:
  explicit Layers(const duet::testing::TinyWeights& weights, std::string path = "") : weights_(weights), path_(std::move(path)) {}
  [[nodiscard]] Layers scope(const std::string& name) const { return Layers(weights_, path_ + name + "."); }

  [[nodiscard]] Rows linear(const std::string& name, const Rows& x) const {
    return reference::linear(x, weights_.at(path_ + name + ".weight"), tensor(name + ".bias"));
  }
  [[nodiscard]] Rows layer_norm(const std::string& name, const Rows& x, float eps) const { return normed(name, x, eps, true); }
  [[nodiscard]] Rows rms_norm(const std::string& name, const Rows& x, float eps) const { return normed(name, x, eps, false); }

  template <class F>
  [[nodiscard]] Rows feed_forward(const Rows& x, F&& act) const {
    return linear("down_proj", map(linear("up_proj", x), act));
  }
  template <class F>
  [[nodiscard]] Rows gated_feed_forward(const Rows& x, F&& act) const {
    return linear("down_proj", product(map(linear("gate_proj", x), act), linear("up_proj", x)));
  }
  /// `prepare(name, heads)` stands for head norms and rotation of q and k.
  template <class Prepare>
  [[nodiscard]] Rows attention(const Rows& x, const Rows& y, std::span<const kernels::KeyRange> visible,
                               const kernels::AttentionShape& shape, Prepare&& prepare) const {
    const Rows q = prepare("q_norm", linear("q_proj", x)), k = prepare("k_norm", linear("k_proj", y));
    return linear("o_proj", reference::attention(q, k, linear("v_proj", y), visible, shape));
  }
  [[nodiscard]] Rows attention(const Rows& x, const Rows& y, std::span<const kernels::KeyRange> visible,
                               const kernels::AttentionShape& shape) const {
    return attention(x, y, visible, shape, [](const char*, Rows heads) { return heads; });
  }
  /// Empty if no layer has asked for it.
  [[nodiscard]] std::span<const float> tensor(const std::string& name) const {
    return weights_.made(path_ + name) ? std::span<const float>(weights_.at(path_ + name)) : std::span<const float>();
  }

 private:
  /// Rows wider than the weight are heads beside one another.
  [[nodiscard]] Rows normed(const std::string& name, const Rows& x, float eps, bool centered) const {
    const std::span<const float> weight = weights_.at(path_ + name + ".weight"), bias = tensor(name + ".bias");
    Rows result;
    for (const Row& row : x) {
      Row out;
      for (std::size_t at = 0; at < row.size(); at += weight.size()) {
        const Row head(row.begin() + static_cast<long>(at), row.begin() + static_cast<long>(at + weight.size()));
        for (const Bounded& b : norm(head, weight, bias, eps, centered)) out.push_back(b);
      }
      result.push_back(std::move(out));
    }
    return result;
  }

  duet::testing::TinyWeights weights_;  // shares its tensors
  std::string path_;
};

/// Pseudo-random rows around zero.
inline Matrix tiny_rows(Index rows, Index cols, int seed = 1) {
  Matrix result(rows, cols);
  std::uint32_t state = static_cast<std::uint32_t>(seed) * 2654435761u + 1u;
  for (Index i = 0; i < rows * cols; ++i) {
    state = state * 1664525u + 1013904223u;
    result.view().data()[i] = static_cast<float>(state >> 8) / 8388608.0f - 1.0f;
  }
  return result;
}

}  // namespace duet::reference
