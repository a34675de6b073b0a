#include "duet/kernels/activation.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include "support/kernel_machine.hpp"
#include "support/reference.hpp"

namespace duet {
namespace kernels_activation {

using kernels::Isa;
using test::KernelMachine;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kLargest = std::numeric_limits<float>::max();

// Policies of a user, who writes no attributes: one over vectors, one over floats; and the bare functions.
struct Softsign {
  static constexpr std::string_view config_names[] = {"softsign"};
  template <class V>
  static V apply(V x) {
    return x / (V(1.0f) + abs(x));
  }
};
struct HardTanh {
  static constexpr std::string_view config_names[] = {"hardtanh"};
  static float apply(float x) { return x < -1.0f ? -1.0f : x > 1.0f ? 1.0f : x; }
};
struct WithHelpers {  // calls another function, selects, and mixes in plain numbers
  static constexpr std::string_view config_names[] = {"helpers"};
  template <class V>
  static V twice(V x) {
    return 2.0f * x;
  }
  template <class V>
  static V apply(V x) {
    return select(x < V(0.0f), twice(x), min(sqrt(max(V(0.0f), x)), V(3.0f))) - 1.0f;
  }
};
struct Exp {
  static constexpr std::string_view config_names[] = {"exp"};
  template <class V>
  static V apply(V x) {
    return exp(x);
  }
};
struct ExpToZero {
  static constexpr std::string_view config_names[] = {"exp_to_zero"};
  template <class V>
  static V apply(V x) {
    return exp_to_zero(x);
  }
};
struct ExpToLeast {
  static constexpr std::string_view config_names[] = {"exp_to_least"};
  template <class V>
  static V apply(V x) {
    return exp_to_least(x);
  }
};
struct Erf {
  static constexpr std::string_view config_names[] = {"erf"};
  template <class V>
  static V apply(V x) {
    return erf(x);
  }
};

class ActivationTest : public ::testing::TestWithParam<Isa> {
 protected:
  template <class A>
  static std::vector<float> applied(std::vector<float> values) {
    kernels::activation_function<A>(kernels::kernel_table(GetParam()))(values.data(), static_cast<Index>(values.size()));
    return values;
  }
  template <class A>
  static float applied(float value) {
    return applied<A>(std::vector<float>{value})[0];
  }
};

/// Floats of every exponent and sign: one in 4099 of all.
std::vector<float> floats_everywhere() {
  std::vector<float> result;
  for (std::uint64_t bits = 0; bits < (std::uint64_t{1} << 32); bits += 4099) {
    const float x = std::bit_cast<float>(static_cast<std::uint32_t>(bits));
    if (std::isfinite(x)) result.push_back(x);
  }
  for (float x = -110.0f; x < 110.0f; x += 0.0007f) result.push_back(x);
  return result;
}

/// The largest |got − expected| in units of the last place of `expected` in float.
template <class Result>
double largest_error(const std::vector<float>& x, const std::vector<float>& got, Result&& expected) {
  double most = 0.0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double truth = expected(static_cast<double>(x[i]));
    if (std::abs(truth) >= 3.4028235677973366e38) {  // rounds to infinity
      if (!(got[i] == (truth > 0.0 ? kInf : -kInf) || std::abs(got[i]) == kLargest)) return 1e9;
      continue;
    }
    const auto nearest = static_cast<float>(truth);
    const double unit = static_cast<double>(std::nextafter(std::abs(nearest), kInf)) - static_cast<double>(std::abs(nearest));
    const double error = std::abs(static_cast<double>(got[i]) - truth) / unit;
    if (!(error <= most)) most = std::isnan(error) ? 1e9 : error;
  }
  return most;
}

TEST_P(ActivationTest, FunctionsAreExactToAFewUnitsInTheLastPlace) {
  const auto x = floats_everywhere();
  const double extra = GetParam() == Isa::kPortable ? 1.0 : 0.0;  // products are rounded where there is no fused form
  EXPECT_LE(largest_error(x, applied<Exp>(x), [](double v) { return std::exp(v); }), 1.5 + extra);
  EXPECT_LE(largest_error(x, applied<kernels::Tanh>(x), [](double v) { return std::tanh(v); }), 2.0 + extra);
  EXPECT_LE(largest_error(x, applied<Erf>(x), [](double v) { return std::erf(v); }), 2.0 + extra);
}

TEST_P(ActivationTest, ExpOfWhatIsNotPositive) {
  std::vector<float> x;
  for (const float v : floats_everywhere()) {
    if (v <= 0.0f && v > -87.33f) x.push_back(v);
  }
  EXPECT_LE(largest_error(x, applied<ExpToZero>(x), [](double v) { return std::exp(v); }),
            GetParam() == Isa::kPortable ? 2.5 : 1.5);
  EXPECT_EQ(applied<ExpToZero>(0.0f), 1.0f);  // a maximum's own weight, and sums that keep
  EXPECT_EQ(applied<ExpToZero>(-0.0f), 1.0f);
  for (const float v : {-87.34f, -88.0f, -1000.0f, -kLargest, -kInf}) EXPECT_EQ(applied<ExpToZero>(v), 0.0f) << v;
  EXPECT_TRUE(std::isnan(applied<ExpToZero>(kNaN)));
}

TEST_P(ActivationTest, ExpOfWeights) {
  for (const float x : floats_everywhere()) {
    if (x > 0.0f || x < -87.3f) continue;
    const double expected = std::exp(static_cast<double>(x));
    ASSERT_NEAR(static_cast<double>(applied<ExpToLeast>(x)), expected, (4.0 + std::abs(static_cast<double>(x))) * 0x1p-24 * expected) << x;
  }
  EXPECT_EQ(applied<ExpToLeast>(0.0f), 1.0f);
  EXPECT_EQ(applied<ExpToLeast>(-0.0f), 1.0f);
  for (const float x : {-87.4f, -1000.0f, -kLargest, -kInf}) EXPECT_NEAR(applied<ExpToLeast>(x), 0.0f, 2e-38f) << x;
  EXPECT_TRUE(std::isnan(applied<ExpToLeast>(kNaN)));
}

TEST_P(ActivationTest, EdgesOfTheRange) {
  EXPECT_EQ(applied<Exp>(0.0f), 1.0f);
  EXPECT_EQ(applied<Exp>(kInf), kInf);
  EXPECT_EQ(applied<Exp>(89.0f), kInf);
  EXPECT_EQ(applied<Exp>(1e30f), kInf);
  EXPECT_EQ(applied<Exp>(-kInf), 0.0f);
  EXPECT_EQ(applied<Exp>(-105.0f), 0.0f);
  EXPECT_GT(applied<Exp>(-103.0f), 0.0f);  // denormal
  EXPECT_EQ(applied<kernels::Tanh>(kInf), 1.0f);
  EXPECT_EQ(applied<kernels::Tanh>(-kInf), -1.0f);
  EXPECT_EQ(applied<kernels::Tanh>(1e-40f), 1e-40f);
  EXPECT_TRUE(std::signbit(applied<kernels::Tanh>(-0.0f)));
  EXPECT_EQ(applied<Erf>(kInf), 1.0f);
  EXPECT_EQ(applied<Erf>(-kInf), -1.0f);
  EXPECT_EQ(applied<Erf>(-1e20f), -1.0f);
  EXPECT_TRUE(std::isnan(applied<Exp>(kNaN)));
  EXPECT_TRUE(std::isnan(applied<kernels::Tanh>(kNaN)));
  EXPECT_TRUE(std::isnan(applied<Erf>(kNaN)));
  for (const float x : {100.0f, 1e20f, kLargest}) {  // far out, an activation is the line or zero
    EXPECT_EQ(applied<kernels::Gelu>(x), x);
    EXPECT_EQ(applied<kernels::Silu>(x), x);
    EXPECT_EQ(applied<kernels::QuickGelu>(x), x);
    EXPECT_EQ(applied<kernels::Relu>(x), x);
    EXPECT_EQ(applied<kernels::Gelu>(-x), 0.0f);
    EXPECT_EQ(applied<kernels::Silu>(-x), 0.0f) << x;
    EXPECT_EQ(applied<kernels::Relu>(-x), 0.0f);
    EXPECT_EQ(applied<kernels::Relu2>(-x), 0.0f);
  }
  EXPECT_EQ(applied<kernels::GeluTanh>(1e20f), 1e20f);
  EXPECT_EQ(applied<kernels::GeluTanh>(-1e20f), 0.0f);
}

TEST_P(ActivationTest, NaNStaysNaN) {
  EXPECT_TRUE(std::isnan(applied<kernels::Gelu>(kNaN)));
  EXPECT_TRUE(std::isnan(applied<kernels::GeluTanh>(kNaN)));
  EXPECT_TRUE(std::isnan(applied<kernels::QuickGelu>(kNaN)));
  EXPECT_TRUE(std::isnan(applied<kernels::Silu>(kNaN)));
  EXPECT_TRUE(std::isnan(applied<kernels::Relu>(kNaN)));
  EXPECT_TRUE(std::isnan(applied<kernels::Relu2>(kNaN)));
  EXPECT_TRUE(std::isnan(applied<kernels::Relu6>(kNaN)));
  EXPECT_TRUE(std::isnan(applied<kernels::LeakyRelu>(kNaN)));
}

/// Rounding: a handful of operations of relative error 2^-24 each, of which those inside 1 + tanh or 1 + erf cost an absolute
/// error of x · 2^-24 where the sum cancels.
template <class A>
void expect_reference(const std::vector<float>& x, const std::vector<float>& got, double (*expected)(double)) {
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto v = static_cast<double>(x[i]);
    const double tolerance = 0x1p-24 * (8.0 * std::abs(expected(v)) + 2.0 * std::abs(v)) + 1e-44;
    ASSERT_NEAR(static_cast<double>(got[i]), expected(v), tolerance) << A::config_names[0] << " of " << x[i];
  }
}

TEST_P(ActivationTest, AgreesWithTheReference) {
  std::vector<float> x;
  for (float v = -30.0f; v < 30.0f; v += 0.0037f) x.push_back(v);
  for (const float v : test::normal_floats(1000, 1)) x.push_back(v * 1e-3f);
  expect_reference<kernels::Gelu>(x, applied<kernels::Gelu>(x), reference::gelu);
  expect_reference<kernels::GeluTanh>(x, applied<kernels::GeluTanh>(x), reference::gelu_tanh);
  // x · sigmoid(x): the exponent's own rounding error, |1.702 x| 2^-24, is relative to the result.
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto v = static_cast<double>(x[i]);
    const double relative = 0x1p-24 * (8.0 + 2.0 * std::abs(v));
    const double silu = reference::silu(v), quick = reference::quick_gelu(v);
    ASSERT_NEAR(static_cast<double>(applied<kernels::Silu>(x[i])), silu, relative * std::abs(silu)) << v;
    ASSERT_NEAR(static_cast<double>(applied<kernels::QuickGelu>(x[i])), quick, relative * std::abs(quick)) << v;
    ASSERT_EQ(static_cast<double>(applied<kernels::Relu>(x[i])), reference::relu(v));
    ASSERT_NEAR(static_cast<double>(applied<kernels::Relu2>(x[i])), reference::relu2(v), 0x1p-24 * reference::relu2(v));
    ASSERT_EQ(static_cast<double>(applied<kernels::Relu6>(x[i])), std::min(reference::relu(v), 6.0));
    ASSERT_NEAR(static_cast<double>(applied<kernels::LeakyRelu>(x[i])), v < 0.0 ? 0.01 * v : v, 0x1p-22 * 0.01 * std::abs(v));
    ASSERT_NEAR(static_cast<double>(applied<kernels::Sigmoid>(x[i])), 1.0 / (1.0 + std::exp(-v)), relative / (1.0 + std::exp(-v)));
    ASSERT_EQ(applied<kernels::Identity>(x[i]), x[i]);
  }
}

TEST_P(ActivationTest, PoliciesOfUsersWork) {
  const std::vector<float> x = test::normal_floats(1003, 2);
  const auto softsign = applied<Softsign>(x), hard_tanh = applied<HardTanh>(x), helpers = applied<WithHelpers>(x);
  for (std::size_t i = 0; i < x.size(); ++i) {
    ASSERT_EQ(softsign[i], x[i] / (1.0f + std::abs(x[i])));
    ASSERT_EQ(hard_tanh[i], HardTanh::apply(x[i]));
    ASSERT_EQ(helpers[i], (x[i] < 0.0f ? 2.0f * x[i] : std::min(std::sqrt(x[i]), 3.0f)) - 1.0f);
  }
}

TEST_P(ActivationTest, EveryPlaceInEveryLengthHasTheSameBitsAndNothingElseIsTouched) {
  const std::vector<float> x = test::normal_floats(67, 3);
  const auto expected = applied<kernels::Gelu>(x);
  const auto function = kernels::activation_function<kernels::Gelu>(kernels::kernel_table(GetParam()));
  for (std::size_t begin = 0; begin < x.size(); ++begin) {
    for (std::size_t end = begin; end <= x.size(); ++end) {
      std::vector<float> values = x;
      function(values.data() + begin, static_cast<Index>(end - begin));
      for (std::size_t i = 0; i < x.size(); ++i) ASSERT_EQ(values[i], i >= begin && i < end ? expected[i] : x[i]) << i;
    }
  }
}

TEST_P(ActivationTest, Gate) {
  KernelMachine machine(GetParam(), 2);
  for (const Index cols : {1, 7, 8, 33, 5000}) {
    auto x = test::normal_floats(9 * (cols + 3), 4);
    const auto up = test::normal_floats(9 * (cols + 5), 5), before = x;
    kernels::gate<kernels::Silu>({x.data(), 9, cols, cols + 3}, {up.data(), 9, cols, cols + 5}, machine.workspace());
    const auto silu = applied<kernels::Silu>(before);
    for (Index i = 0; i < 9; ++i) {
      for (Index j = 0; j < cols + 3; ++j) {
        const auto at = static_cast<std::size_t>(i * (cols + 3) + j);
        ASSERT_EQ(x[at], j < cols ? silu[at] * up[static_cast<std::size_t>(i * (cols + 5) + j)] : before[at]);
      }
    }
  }
}

TEST_P(ActivationTest, InstructionSetsAgree) {
  const auto x = test::normal_floats(1000, 6);
  std::vector<float> portable = x;
  kernels::activation_function<kernels::Gelu>(kernels::kernel_table(Isa::kPortable))(portable.data(), 1000);
  const auto here = applied<kernels::Gelu>(x);
  for (std::size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(here[i], portable[i], 1e-6f * (1.0f + std::abs(x[i])));
}

static_assert(kernels::Activation<kernels::Gelu> && kernels::Activation<Softsign> && kernels::Activation<HardTanh>);
static_assert(!kernels::Activation<int>);

INSTANTIATE_TEST_SUITE_P(All, ActivationTest, ::testing::ValuesIn(test::runnable_isas()),
                         [](const auto& test) { return std::string(kernels::kernel_table(test.param).name); });

}  // namespace kernels_activation
}  // namespace duet
