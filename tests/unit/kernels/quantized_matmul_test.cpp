#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "duet/core/stored_floats.hpp"
#include "duet/kernels/matmul.hpp"
#include "support/kernel_machine.hpp"

namespace duet {
namespace kernels_quantized_matmul {

using kernels::Isa;
using kernels::MatmulJob;
using kernels::Store;
using test::KernelMachine;
using test::normal_matrix;

/// Quantized weights as a file may hold them: at an odd address, as a slice of wider rows, whose other blocks are NaN.
class QuantizedWeights {
 public:
  QuantizedWeights(const std::vector<float>& values, Index out_features, Index in_features, DType dtype)
      : in_features_(in_features) {
    const auto in = static_cast<std::size_t>(in_features);
    const std::size_t blocks = num_blocks(dtype, in), stride = blocks + 2;
    bytes_.resize(1 + (static_cast<std::size_t>(out_features) + 1) * stride * size_of(dtype), std::byte{0xff});
    for (std::size_t o = 0; o < static_cast<std::size_t>(out_features); ++o) {
      for (std::size_t b = 0; b < blocks; ++b) {
        const std::size_t begin = b * kBlockSize, count = std::min(kBlockSize, in - begin);
        quantize_block({values.data() + o * in + begin, count}, dtype, bytes_.data() + 1 + (o * stride + b) * size_of(dtype));
      }
    }
    view_ = {bytes_.data() + 1, dtype, WeightLayout::kOutIn, out_features, in_features, static_cast<Index>(stride * kBlockSize)};
    for (Index o = 0; o < out_features; ++o) {
      values_.resize(values_.size() + in);
      read_floats(view_.row(o), dtype, 0, std::span(values_).last(in));
    }
  }
  [[nodiscard]] const WeightMatrix& view() const noexcept { return view_; }
  /// As stored, after rounding.
  [[nodiscard]] double operator()(Index o, Index i) const {
    return static_cast<double>(values_[static_cast<std::size_t>(o * in_features_ + i)]);
  }

 private:
  Index in_features_;
  std::vector<std::byte> bytes_;
  std::vector<float> values_;
  WeightMatrix view_;
};

QuantizedWeights normal_weights(Index out, Index in, DType dtype, unsigned seed = 1) {
  return {test::normal_floats(out * in, seed), out, in, dtype};
}

class QuantizedMatmulTest : public ::testing::TestWithParam<std::tuple<Isa, Phase, DType>> {
 protected:
  [[nodiscard]] static Isa isa() { return std::get<0>(GetParam()); }
  [[nodiscard]] static Phase phase() { return std::get<1>(GetParam()); }
  [[nodiscard]] static DType dtype() { return std::get<2>(GetParam()); }

  static Matrix product(KernelMachine& machine, ConstMatrixView x, const WeightMatrix& weight) {
    Matrix out(x.rows(), weight.out_features);
    const MatmulJob jobs[] = {{weight, nullptr, nullptr, out, Store::kAssign}};
    kernels::matmul(x, jobs, phase(), machine.workspace());
    return out;
  }

  /// Within what rounding x may do, if it is rounded at all, and float sums over the blocks.
  static void expect_reference(KernelMachine& machine, ConstMatrixView x, const QuantizedWeights& weights, bool x_is_rounded) {
    const Index out_features = weights.view().out_features, in_features = weights.view().in_features;
    const Matrix before = normal_matrix(x.rows(), out_features, 3);
    const auto bias = test::normal_floats(out_features, 4);
    Matrix out = Matrix::clone(before);
    const MatmulJob jobs[] = {{weights.view(), bias.data(), nullptr, out, Store::kAdd}};
    kernels::matmul(x, jobs, phase(), machine.workspace());
    for (Index r = 0; r < x.rows(); ++r) {
      for (Index o = 0; o < out_features; ++o) {
        double sum = 0.0, magnitude = 0.0, rounding = 0.0;
        for (Index begin = 0; begin < in_features; begin += 32) {
          double most = 0.0, weight_sum = 0.0;
          for (Index i = begin; i < std::min(begin + 32, in_features); ++i) {
            const double value = static_cast<double>(x(r, i));
            sum += value * weights(o, i);
            magnitude += std::abs(value * weights(o, i));
            weight_sum += std::abs(weights(o, i));
            most = std::max(most, std::abs(value));
          }
          rounding += most / 254.0 * weight_sum;  // half a step of x for every weight
        }
        const double added = static_cast<double>(bias[static_cast<std::size_t>(o)]) + static_cast<double>(before(r, o));
        // A block's scale is a product of two, each rounded, and multiplied once more; sums over blocks and lanes follow.
        const double blocks = static_cast<double>(in_features) / 32.0 + 4.0;
        double tolerance = 0x1p-24 * (4.0 * blocks * magnitude + 4.0 * (std::abs(sum) + 8.0));
        if (!x_is_rounded) tolerance += rounding;
        ASSERT_NEAR(static_cast<double>(out(r, o)), sum + added, tolerance)
            << x.rows() << " x " << in_features << " x " << out_features << ": row " << r << " output " << o;
      }
    }
  }
};

/// Whole numbers up to 127, of which each block holds the largest, times a scale: what rounding to bytes leaves alone.
Matrix whole_numbers(Index rows, Index cols) {
  std::mt19937 generator(5);
  Matrix x(rows, cols);
  for (Index r = 0; r < rows; ++r) {
    for (Index c = 0; c < cols; ++c) {
      const int value = c % 32 == 0 ? (r % 2 == 0 ? 127 : -127) : static_cast<int>(generator() % 255) - 127;
      x(r, c) = static_cast<float>(value) * std::ldexp(1.0f, static_cast<int>(c / 32 + r) % 5);
    }
  }
  return x;
}

TEST_P(QuantizedMatmulTest, IsExactButForFloatSumsWhenXNeedsNoRounding) {
  KernelMachine machine(isa());
  std::size_t next = 0;
  for (const Index in : {1, 5, 31, 32, 33, 64, 96, 160, 256, 288, 300, 513}) {
    for (const Index out : {1, 2, 5, 8, 15, 16, 17, 31, 32, 33, 63, 65, 130}) {
      constexpr Index kRows[] = {1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 14, 25};
      const Matrix x = whole_numbers(kRows[next++ % std::size(kRows)], in);
      expect_reference(machine, x, normal_weights(out, in, dtype()), true);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(QuantizedMatmulTest, RoundsXByHalfAStepAtMost) {
  KernelMachine machine(isa(), 2);
  for (const Index in : {7, 64, 300}) {
    const Matrix wide = normal_matrix(9, in + 5, 2);
    expect_reference(machine, wide.view().cols(2, in), normal_weights(50, in, dtype()), false);
  }
  const Matrix many = normal_matrix(1039, 40, 6);  // more rows than prefill packs at once
  expect_reference(machine, many, normal_weights(35, 40, dtype()), false);
  const Matrix few = normal_matrix(2, 300, 7);  // several decode tasks
  expect_reference(machine, few, normal_weights(1500, 300, dtype()), false);
}

TEST_P(QuantizedMatmulTest, EveryIntegerOfABlockCounts) {
  KernelMachine machine(isa());
  // Blocks of a foreign file may hold −128, which our own never do.
  std::vector<std::byte> block(size_of(dtype()));
  const std::uint16_t one = to_f16(1.0f).bits;
  std::memcpy(block.data(), &one, sizeof one);
  for (unsigned pattern = 0; pattern < 256; ++pattern) {
    std::fill(block.begin() + kScaleBytes, block.end(), static_cast<std::byte>(pattern));
    std::int8_t integers[kBlockSize];
    unpack_block(dtype(), block.data(), integers);
    const WeightMatrix weight{block.data(), dtype(), WeightLayout::kOutIn, 1, 32, 32};
    Matrix x(2, 32);
    float expected = 0.0f;
    for (Index i = 0; i < 32; ++i) {
      x(1, i) = i % 3 == 0 ? -127.0f : 127.0f;
      expected += x(1, i) * static_cast<float>(integers[i]);
    }
    const Matrix out = product(machine, x, weight);
    ASSERT_EQ(out(0, 0), 0.0f);
    ASSERT_EQ(out(1, 0), expected) << pattern;
  }
}

TEST_P(QuantizedMatmulTest, SameBitsForAnyThreadsRowsAndSlices) {
  const QuantizedWeights weights = normal_weights(1000, 311, dtype());
  const Matrix x = normal_matrix(29, 311, 8);
  KernelMachine one(isa(), 1), three(isa(), 3);
  const Matrix whole = product(one, x, weights.view());
  EXPECT_TRUE(test::same_bits(product(three, x, weights.view()), whole));
  for (const Index step : {1, 2, 3, 5, 6, 13, 28}) {
    for (Index begin = 0; begin < 29; begin += step) {
      const Index rows = std::min<Index>(step, 29 - begin);
      ASSERT_TRUE(test::same_bits(product(three, x.view().rows(begin, rows), weights.view()), whole.view().rows(begin, rows))) << step;
    }
  }
  EXPECT_TRUE(test::same_bits(product(three, x, weights.view().outputs(101, 33)), whole.view().cols(101, 33)));
}

TEST_P(QuantizedMatmulTest, SharesACallWithWeightsOfFloats) {
  KernelMachine machine(isa(), 2);
  const QuantizedWeights weights = normal_weights(70, 96, dtype());
  const auto floats = test::normal_floats(33 * 96, 9);
  const WeightMatrix plain{reinterpret_cast<const std::byte*>(floats.data()), DType::kF32, WeightLayout::kOutIn, 33, 96, 96};
  const Matrix x = normal_matrix(7, 96, 10);
  Matrix first(7, 70), second(7, 33);
  const MatmulJob jobs[] = {{weights.view(), nullptr, nullptr, first, Store::kAssign}, {plain, nullptr, nullptr, second, Store::kAssign}};
  kernels::matmul(x, jobs, phase(), machine.workspace());
  EXPECT_TRUE(test::same_bits(first, product(machine, x, weights.view())));
  EXPECT_TRUE(test::same_bits(second, product(machine, x, plain)));
}

TEST_P(QuantizedMatmulTest, WhatIsNoNumberIsNotHidden) {
  KernelMachine machine(isa());
  const QuantizedWeights weights = normal_weights(20, 70, dtype());
  Matrix x = normal_matrix(6, 70, 12);
  x(1, 0) = std::numeric_limits<float>::quiet_NaN();
  x(3, 69) = -std::numeric_limits<float>::infinity();
  for (Index i = 0; i < 70; ++i) x(4, i) = 1e-38f;  // nothing, but no division by it either
  const Matrix out = product(machine, x, weights.view());
  for (Index r = 0; r < 6; ++r) {
    for (Index o = 0; o < 20; ++o) EXPECT_EQ(std::isnan(out(r, o)), r == 1 || r == 3) << r << ' ' << o;
  }
  for (Index o = 0; o < 20; ++o) EXPECT_LE(std::abs(out(4, o)), 1e-30f);
}

INSTANTIATE_TEST_SUITE_P(All, QuantizedMatmulTest,
                         ::testing::Combine(::testing::ValuesIn(test::runnable_isas()),
                                            ::testing::Values(Phase::kPrefill, Phase::kDecode),
                                            ::testing::Values(DType::kQ8_0, DType::kQ4_0)),
                         [](const auto& test) {
                           return std::string(kernels::kernel_table(std::get<0>(test.param)).name) +
                                  (std::get<1>(test.param) == Phase::kPrefill ? "_prefill_" : "_decode_") +
                                  std::string(name_of(std::get<2>(test.param)));
                         });

// ---- The blocks themselves.

TEST(QuantizedBlock, ValuesAreOffByHalfAStepAtMost) {
  for (unsigned seed = 0; seed < 200; ++seed) {
    const auto values = test::normal_floats(32, seed);
    float most = 0.0f;
    for (const float value : values) most = std::max(most, std::abs(value));
    for (const DType dtype : {DType::kQ8_0, DType::kQ4_0}) {
      std::vector<std::byte> block(size_of(dtype));
      quantize_block(values, dtype, block.data());
      std::vector<float> back(32);
      read_floats(block.data(), dtype, 0, back);
      double error = 0.0;
      for (std::size_t i = 0; i < 32; ++i) {
        const double off = std::abs(static_cast<double>(back[i]) - static_cast<double>(values[i]));
        error += off * off;
        // The scale is rounded to f16 (2⁻¹¹) before values are divided by it.
        if (dtype == DType::kQ8_0) {
          ASSERT_LE(off, static_cast<double>(most) / 254.0 * (1.0 + 0x1p-9) + 127 * 0x1p-25) << seed;
        }
      }
      // Steps of |largest| / 8, half of one at most, but for what lies beyond 7 steps on the other side.
      if (dtype == DType::kQ4_0) {
        ASSERT_LE(std::sqrt(error / 32.0), static_cast<double>(most) / 16.0) << seed;
      }
    }
  }
}

TEST(QuantizedBlock, LayoutIsThatOfGguf) {
  std::vector<float> values(32);
  for (std::size_t i = 0; i < 32; ++i) values[i] = static_cast<float>(static_cast<int>(i) - 16) / 2.0f;  // −8 to 7.5
  std::byte q4[18], q8[34];
  quantize_block(values, DType::kQ4_0, q4);
  for (std::size_t i = 0; i < 16; ++i) {
    float pair[2];
    read_floats(q4, DType::kQ4_0, i, {pair, 1});
    read_floats(q4, DType::kQ4_0, i + 16, {pair + 1, 1});
    const float scale = block_scale(q4);
    EXPECT_EQ(std::to_integer<int>(q4[2 + i]) & 15, static_cast<int>(pair[0] / scale) + 8);
    EXPECT_EQ(std::to_integer<int>(q4[2 + i]) >> 4, static_cast<int>(pair[1] / scale) + 8);
  }
  for (float& value : values) value = 0.0f;
  values[3] = -127.0f;
  values[4] = 126.6f;
  quantize_block(values, DType::kQ8_0, q8);
  EXPECT_EQ(block_scale(q8), 1.0f);
  EXPECT_EQ(std::to_integer<int>(q8[2 + 3]), 256 - 127);
  EXPECT_EQ(std::to_integer<int>(q8[2 + 4]), 127);
}

TEST(QuantizedBlock, ShortZeroTinyAndImpossibleBlocks) {
  for (const DType dtype : {DType::kQ8_0, DType::kQ4_0}) {
    std::vector<std::byte> block(size_of(dtype));
    std::vector<float> back(32, 1.0f);
    const float three[] = {1.0f, -2.0f, 0.5f};
    quantize_block(three, dtype, block.data());
    read_floats(block.data(), dtype, 0, back);
    EXPECT_NEAR(back[1], -2.0f, 0.01f);
    for (std::size_t i = 3; i < 32; ++i) EXPECT_EQ(back[i], 0.0f);
    for (const float value : {0.0f, 1e-30f}) {
      quantize_block(std::vector<float>(32, value), dtype, block.data());
      read_floats(block.data(), dtype, 0, back);
      for (const float v : back) EXPECT_EQ(v, 0.0f);
    }
    for (const float value : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity(), 1e30f}) {
      quantize_block(std::vector<float>{1.0f, value}, dtype, block.data());
      read_floats(block.data(), dtype, 0, back);
      EXPECT_TRUE(std::isnan(back[1])) << value;
    }
  }
}

}  // namespace kernels_quantized_matmul
}  // namespace duet
