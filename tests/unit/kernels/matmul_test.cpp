#include "duet/kernels/matmul.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "duet/kernels/activation.hpp"
#include "support/case_names.hpp"
#include "support/kernel_machine.hpp"
#include "support/reference.hpp"

namespace duet {
namespace kernels_matmul {

using kernels::Isa;
using kernels::MatmulJob;
using kernels::Store;
using test::KernelMachine;
using test::normal_matrix;

constexpr DType kDTypes[] = {DType::kF32, DType::kF16, DType::kBF16};
constexpr WeightLayout kLayouts[] = {WeightLayout::kOutIn, WeightLayout::kInOut};

/// Weights as a file may hold them: at an odd address, and as a slice of a wider tensor, whose other elements are NaN.
class StoredWeights {
 public:
  StoredWeights(std::vector<float> values, Index out_features, Index in_features, DType dtype, WeightLayout layout)
      : values_(std::move(values)) {
    const bool out_in = layout == WeightLayout::kOutIn;
    const Index rows = out_in ? out_features : in_features, cols = out_in ? in_features : out_features;
    constexpr Index kBefore = 1, kBeside = 3;
    const Index stride = cols + kBeside;
    const auto size = static_cast<Index>(size_of(dtype));
    bytes_.resize(static_cast<std::size_t>(1 + (rows + 1) * stride * size), std::byte{0xff});
    const auto store = [&](Index at, float value) {
      std::byte* to = bytes_.data() + 1 + at * size;
      const std::uint16_t half = dtype == DType::kF16 ? to_f16(value).bits : to_bf16(value).bits;
      dtype == DType::kF32 ? std::memcpy(to, &value, sizeof value) : std::memcpy(to, &half, sizeof half);
    };
    for (Index o = 0; o < out_features; ++o) {
      for (Index i = 0; i < in_features; ++i) {
        float& value = values_[static_cast<std::size_t>(o * in_features + i)];
        if (dtype == DType::kF16) value = to_float(to_f16(value));
        if (dtype == DType::kBF16) value = to_float(to_bf16(value));
        store(kBefore + (out_in ? o * stride + i : i * stride + o), value);
      }
    }
    view_ = {bytes_.data() + 1 + kBefore * size, dtype, layout, out_features, in_features, stride};
  }
  [[nodiscard]] const WeightMatrix& view() const noexcept { return view_; }
  /// As stored, after rounding.
  [[nodiscard]] double operator()(Index o, Index i) const {
    return static_cast<double>(values_[static_cast<std::size_t>(o * view_.in_features + i)]);
  }

 private:
  std::vector<float> values_;  // [out_features, in_features]
  std::vector<std::byte> bytes_;
  WeightMatrix view_;
};

StoredWeights normal_weights(Index out, Index in, DType dtype, WeightLayout layout, unsigned seed = 1) {
  return {test::normal_floats(out * in, seed), out, in, dtype, layout};
}

struct Epilogue {
  bool bias = false, relu = false, add = false;
};

class MatmulTest : public ::testing::TestWithParam<std::tuple<Isa, Phase>> {
 protected:
  [[nodiscard]] static Isa isa() { return std::get<0>(GetParam()); }
  [[nodiscard]] static Phase phase() { return std::get<1>(GetParam()); }

  static Matrix product(KernelMachine& machine, ConstMatrixView x, const WeightMatrix& weight) {
    Matrix out(x.rows(), weight.out_features);
    const MatmulJob jobs[] = {{weight, nullptr, nullptr, out, Store::kAssign}};
    kernels::matmul(x, jobs, phase(), machine.workspace());
    return out;
  }

  /// x and out are views into wider matrices; what lies beside out must stay.
  static void expect_reference(KernelMachine& machine, Index rows, const StoredWeights& weights, Epilogue epilogue) {
    const Index out_features = weights.view().out_features, in_features = weights.view().in_features;
    const Matrix wide_x = normal_matrix(rows, in_features + 5, 2), before = normal_matrix(rows, out_features + 4, 3);
    const ConstMatrixView x = wide_x.view().cols(2, in_features);
    const auto bias = test::normal_floats(out_features, 4);
    Matrix out = Matrix::clone(before);
    const MatmulJob jobs[] = {{weights.view(), epilogue.bias ? bias.data() : nullptr,
                               epilogue.relu ? kernels::activation_function<kernels::Relu>(machine.workspace().kernels()) : nullptr,
                               out.view().cols(1, out_features), epilogue.add ? Store::kAdd : Store::kAssign}};
    kernels::matmul(x, jobs, phase(), machine.workspace());
    for (Index r = 0; r < rows; ++r) {
      for (Index o = 0; o < out_features; ++o) {
        double sum = 0.0, magnitude = 0.0;
        for (Index i = 0; i < in_features; ++i) {
          const double term = static_cast<double>(x(r, i)) * weights(o, i);
          sum += term;
          magnitude += std::abs(term);
        }
        if (epilogue.bias) sum += static_cast<double>(bias[static_cast<std::size_t>(o)]);
        const double branch = epilogue.relu ? std::max(sum, 0.0) : sum, old = static_cast<double>(before(r, o + 1));
        const double expected = branch + (epilogue.add ? old : 0.0);
        // n roundings of partial sums no larger than Σ|x·w| add up like a random walk (factor 4: bad luck); ReLU passes them
        // on; bias and the old value are added with one rounding each.
        const double n = static_cast<double>(in_features);
        const double tolerance = 0x1p-24 * (4.0 * std::sqrt(n) * magnitude + 2.0 * std::abs(sum) + 2.0 * std::abs(old));
        ASSERT_NEAR(static_cast<double>(out(r, o + 1)), expected, tolerance)
            << name_of(weights.view().dtype) << (weights.view().layout == WeightLayout::kOutIn ? " [out, in] " : " [in, out] ")
            << rows << " x " << in_features << " x " << out_features << ": row " << r << " output " << o;
      }
      for (const Index beside : {Index{0}, out_features + 1, out_features + 2, out_features + 3}) {
        ASSERT_EQ(out(r, beside), before(r, beside));
      }
    }
  }
};

TEST_P(MatmulTest, AgreesWithTheReferenceForOddShapes) {
  KernelMachine machine(isa());
  const Index rows[] = {1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 14, 25};
  std::size_t next = 0;
  for (const DType dtype : kDTypes) {
    for (const WeightLayout layout : kLayouts) {
      for (const Index in : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33, 255, 256, 257, 300, 513}) {
        for (const Index out : {1, 2, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 130}) {
          const Epilogue epilogue{.bias = next % 2 == 0, .relu = next % 3 == 0, .add = next % 5 < 2};
          const StoredWeights weights = normal_weights(out, in, dtype, layout);
          expect_reference(machine, rows[next++ % std::size(rows)], weights, epilogue);
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST_P(MatmulTest, AgreesWithTheReferenceBeyondOneTile) {
  KernelMachine machine(isa(), 2);
  for (const WeightLayout layout : kLayouts) {
    expect_reference(machine, 1039, normal_weights(35, 20, DType::kBF16, layout), {});      // more rows than prefill packs at once
    expect_reference(machine, 2, normal_weights(1500, 300, DType::kF32, layout), {true});  // several decode tasks
  }
}

TEST_P(MatmulTest, StoredValuesComeOutExactly) {
  KernelMachine machine(isa());
  constexpr Index kIn = 16, kOut = 4096;  // every pattern of 16 bits once
  Matrix one_hot(kIn, kIn);
  for (Index i = 0; i < kIn; ++i) one_hot(i, i) = 1.0f;
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    std::vector<float> values;
    for (std::uint32_t bits = 0; bits <= 0xffff; ++bits) {
      const auto half = static_cast<std::uint16_t>(bits);
      const float value = dtype == DType::kF16 ? to_float(F16{half}) : to_float(Bf16{half});
      values.push_back(std::isfinite(value) ? value : 0.0f);  // 0 · inf would spoil its row
    }
    for (const WeightLayout layout : kLayouts) {
      const StoredWeights weights(values, kOut, kIn, dtype, layout);
      const Matrix out = product(machine, one_hot, weights.view());
      for (Index o = 0; o < kOut; ++o) {
        for (Index i = 0; i < kIn; ++i) ASSERT_EQ(out(i, o), values[static_cast<std::size_t>(o * kIn + i)]) << name_of(dtype);
      }
    }
  }
}

TEST_P(MatmulTest, TheActivationComesAfterTheBiasAndBeforeTheResidual) {
  KernelMachine machine(isa());
  for (const WeightLayout layout : kLayouts) {
    const StoredWeights weights = normal_weights(37, 3, DType::kF32, layout);
    const Matrix x = normal_matrix(9, 3, 5), before = normal_matrix(9, 37, 6);
    const auto bias = test::normal_floats(37, 7);
    Matrix out = Matrix::clone(before);
    const MatmulJob jobs[] = {{weights.view(), bias.data(),
                               kernels::activation_function<kernels::Gelu>(machine.workspace().kernels()), out, Store::kAdd}};
    kernels::matmul(x, jobs, phase(), machine.workspace());
    for (Index r = 0; r < 9; ++r) {
      for (Index o = 0; o < 37; ++o) {
        double sum = static_cast<double>(bias[static_cast<std::size_t>(o)]), magnitude = std::abs(sum);
        for (Index i = 0; i < 3; ++i) {
          sum += static_cast<double>(x(r, i)) * weights(o, i);
          magnitude += std::abs(static_cast<double>(x(r, i)) * weights(o, i));
        }
        const double expected = reference::gelu(sum) + static_cast<double>(before(r, o));
        // Four sums, GELU's slope of at most 1.13 and its own few roundings, one more sum.
        const double tolerance = 0x1p-24 * (8.0 * magnitude + 2.0 * std::abs(expected));
        ASSERT_NEAR(static_cast<double>(out(r, o)), expected, tolerance) << r << ' ' << o;
      }
    }
  }
}

TEST_P(MatmulTest, SameBitsForAnyNumberOfThreads) {
  for (const WeightLayout layout : kLayouts) {
    for (const DType dtype : kDTypes) {
      const StoredWeights weights = normal_weights(1000, 311, dtype, layout);
      const Matrix x = normal_matrix(19, 311, 8);
      KernelMachine one(isa(), 1);
      const Matrix expected = product(one, x, weights.view());
      for (const int threads : {2, 3}) {
        KernelMachine machine(isa(), threads);
        for (int repeat = 0; repeat < 3; ++repeat) {
          EXPECT_TRUE(test::same_bits(product(machine, x, weights.view()), expected)) << threads << name_of(dtype);
        }
      }
    }
  }
}

TEST_P(MatmulTest, SameBitsHoweverRowsAreCut) {
  KernelMachine machine(isa());
  for (const WeightLayout layout : kLayouts) {
    for (const DType dtype : kDTypes) {
      const StoredWeights weights = normal_weights(70, 300, dtype, layout);
      const Matrix x = normal_matrix(29, 300, 9);
      const Matrix whole = product(machine, x, weights.view());
      for (const Index step : {1, 2, 3, 4, 5, 6, 7, 13, 28}) {
        for (Index begin = 0; begin < 29; begin += step) {
          const Index rows = std::min<Index>(step, 29 - begin);
          ASSERT_TRUE(test::same_bits(product(machine, x.view().rows(begin, rows), weights.view()), whole.view().rows(begin, rows)))
              << name_of(dtype) << " rows " << begin << " + " << rows;
        }
      }
    }
  }
}

TEST_P(MatmulTest, SameBitsForJobsAndSlicesOfOneTensor) {
  KernelMachine machine(isa(), 2);
  for (const WeightLayout layout : kLayouts) {
    const StoredWeights weights = normal_weights(200, 90, DType::kBF16, layout);
    const Matrix x = normal_matrix(7, 90, 10);
    const Matrix whole = product(machine, x, weights.view());
    Matrix q(7, 101), k(7, 33), v(7, 66);
    const MatmulJob jobs[] = {{weights.view().outputs(0, 101), nullptr, nullptr, q, Store::kAssign},
                              {weights.view().outputs(101, 33), nullptr, nullptr, k, Store::kAssign},
                              {weights.view().outputs(134, 66), nullptr, nullptr, v, Store::kAssign}};
    kernels::matmul(x, jobs, phase(), machine.workspace());
    EXPECT_TRUE(test::same_bits(q, whole.view().cols(0, 101)));
    EXPECT_TRUE(test::same_bits(k, whole.view().cols(101, 33)));
    EXPECT_TRUE(test::same_bits(v, whole.view().cols(134, 66)));
  }
}

TEST_P(MatmulTest, NaNAndInfinityStayInTheirRowAndOutput) {
  KernelMachine machine(isa());
  for (const WeightLayout layout : kLayouts) {
    auto values = test::normal_floats(20 * 40, 11);
    values[7 * 40 + 39] = std::numeric_limits<float>::infinity();  // of output 7
    const StoredWeights weights(values, 20, 40, DType::kF32, layout);
    Matrix x = normal_matrix(5, 40, 12);
    x(3, 0) = std::numeric_limits<float>::quiet_NaN();
    const Matrix out = product(machine, x, weights.view());
    for (Index r = 0; r < 5; ++r) {
      for (Index o = 0; o < 20; ++o) {
        EXPECT_EQ(std::isnan(out(r, o)), r == 3) << r << ' ' << o;
        EXPECT_EQ(std::isinf(out(r, o)), r != 3 && o == 7) << r << ' ' << o;
      }
    }
  }
}

TEST_P(MatmulTest, NothingToDo) {
  KernelMachine machine(isa());
  const StoredWeights weights = normal_weights(6, 4, DType::kF32, WeightLayout::kOutIn);
  EXPECT_EQ(product(machine, Matrix(0, 4), weights.view()).rows(), 0);
  kernels::matmul(Matrix(3, 4), {}, phase(), machine.workspace());
  const StoredWeights no_inputs({}, 6, 0, DType::kF32, WeightLayout::kOutIn);
  const Matrix out = product(machine, Matrix(2, 0), no_inputs.view());
  for (Index o = 0; o < 6; ++o) EXPECT_EQ(out(1, o), 0.0f);
}

TEST_P(MatmulTest, AllocatesNothingTheSecondTime) {
  KernelMachine machine(isa());
  const StoredWeights weights = normal_weights(50, 700, DType::kF16, WeightLayout::kInOut);
  const Matrix x = normal_matrix(600, 700, 13);
  static_cast<void>(product(machine, x, weights.view()));
  const std::size_t before = machine.workspace().capacity();
  static_cast<void>(product(machine, x, weights.view()));
  EXPECT_EQ(machine.workspace().capacity(), before);
}

INSTANTIATE_TEST_SUITE_P(All, MatmulTest,
                         ::testing::Combine(::testing::ValuesIn(test::runnable_isas()),
                                            ::testing::Values(Phase::kPrefill, Phase::kDecode)),
                         test::name_of_case);

}  // namespace kernels_matmul
}  // namespace duet
