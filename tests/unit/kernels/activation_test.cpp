#include "duet/kernels/activation.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

namespace duet::kernels {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Exp {
  static constexpr std::string_view config_names[] = {"exp"};
  template <class V>
  static V apply(V x) {
    return exp(x);
  }
};
struct Erf {
  static constexpr std::string_view config_names[] = {"erf"};
  template <class V>
  static V apply(V x) {
    return erf(x);
  }
};
struct Softsign {  // as a user would write one
  static constexpr std::string_view config_names[] = {"softsign"};
  template <class V>
  static V apply(V x) {
    return x / (V(1.0f) + abs(x));
  }
};

static_assert(Activation<Gelu> && Activation<Softsign> && !Activation<int>);

class ActivationTest : public testing::TestWithParam<Isa> {
 protected:
  template <class A>
  std::vector<float> apply(std::vector<float> values) {
    activation_function<A>(kernel_table(GetParam()))(values.data(), static_cast<Index>(values.size()));
    return values;
  }
  template <class A>
  float at(float x) {
    return apply<A>({x})[0];
  }
  /// Largest |got - expected| / max(|expected|, least) over a fine grid of every sign and exponent.
  template <class A, class Reference>
  double largest_error(Reference reference, float from, float to, double least) {
    std::vector<float> x;
    for (std::uint32_t bits = 0; bits < 0x7f800000u; bits += 4099) {
      for (const float v : {std::bit_cast<float>(bits), -std::bit_cast<float>(bits)}) {
        if (v >= from && v <= to) x.push_back(v);
      }
    }
    const std::vector<float> y = apply<A>(x);
    double worst = 0.0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double expected = reference(static_cast<double>(x[i]));
      const double error = std::abs(static_cast<double>(y[i]) - expected) / std::max(std::abs(expected), least);
      if (!(error <= worst)) worst = error;
    }
    return worst;
  }
};

std::vector<Isa> supported() {
  std::vector<Isa> all;
  for (const Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512}) {
    if (supports(isa)) all.push_back(isa);
  }
  return all;
}
INSTANTIATE_TEST_SUITE_P(Kernels, ActivationTest, testing::ValuesIn(supported()));

constexpr double kNormal = 1.2e-38;  // below the least normal float there are fewer digits to be right in

TEST_P(ActivationTest, ExpIsWithin3e7) {
  EXPECT_LE((largest_error<Exp>([](double x) { return std::exp(x); }, -200.0f, 88.72f, kNormal)), 3e-7);
}
TEST_P(ActivationTest, TanhIsWithin3e7) {
  EXPECT_LE((largest_error<Tanh>([](double x) { return std::tanh(x); }, -3e38f, 3e38f, kNormal)), 3e-7);
}
TEST_P(ActivationTest, ErfIsWithin3e7) {
  EXPECT_LE((largest_error<Erf>([](double x) { return std::erf(x); }, -3e38f, 3e38f, kNormal)), 3e-7);
}
TEST_P(ActivationTest, PoliciesEqualDoubles) {
  // Relative to max(1, |y|): in the far left tail 1 + erf cancels, in every implementation in floats.
  const auto sigmoid = [](double x) { return 1.0 / (1.0 + std::exp(-x)); };
  const auto check = [&]<class A>(A, auto reference) { return largest_error<A>(reference, -1e4f, 1e4f, 1.0); };
  EXPECT_LE(check(Gelu{}, [](double x) { return 0.5 * x * (1.0 + std::erf(x * std::sqrt(0.5))); }), 6e-7);
  EXPECT_LE(check(GeluTanh{}, [](double x) { return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / 3.14159265358979) * (x + 0.044715 * x * x * x))); }), 1e-6);
  EXPECT_LE(check(QuickGelu{}, [&](double x) { return x * sigmoid(1.702 * x); }), 6e-7);
  EXPECT_LE(check(Silu{}, [&](double x) { return x * sigmoid(x); }), 6e-7);
  EXPECT_LE(check(Relu{}, [](double x) { return std::max(x, 0.0); }), 0.0);
  EXPECT_LE(check(Relu2{}, [](double x) { return std::max(x, 0.0) * std::max(x, 0.0); }), 1e-7);
  EXPECT_LE(check(Identity{}, [](double x) { return x; }), 0.0);
  EXPECT_LE(check(Softsign{}, [](double x) { return x / (1.0 + std::abs(x)); }), 2e-7);
}

TEST_P(ActivationTest, InfinitiesAndNaN) {
  EXPECT_EQ(at<Exp>(kInfinity), kInfinity);
  EXPECT_EQ(at<Exp>(89.0f), kInfinity);
  EXPECT_EQ(at<Exp>(-kInfinity), 0.0f);
  EXPECT_EQ(at<Exp>(0.0f), 1.0f);
  EXPECT_EQ(at<Tanh>(kInfinity), 1.0f);
  EXPECT_EQ(at<Tanh>(-kInfinity), -1.0f);
  EXPECT_EQ(at<Erf>(kInfinity), 1.0f);
  EXPECT_EQ(at<Erf>(-kInfinity), -1.0f);
  EXPECT_EQ(at<Gelu>(kInfinity), kInfinity);
  EXPECT_EQ(at<GeluTanh>(kInfinity), kInfinity);
  EXPECT_EQ(at<QuickGelu>(kInfinity), kInfinity);
  EXPECT_EQ(at<Silu>(kInfinity), kInfinity);
  EXPECT_EQ(at<Relu>(kInfinity), kInfinity);
  EXPECT_EQ(at<Relu>(-kInfinity), 0.0f);
  EXPECT_EQ(at<Relu2>(-kInfinity), 0.0f);
  EXPECT_TRUE(std::signbit(at<Tanh>(-0.0f)) && std::signbit(at<Erf>(-0.0f)));
  for (const float y : {at<Exp>(kNaN), at<Tanh>(kNaN), at<Erf>(kNaN), at<Gelu>(kNaN), at<GeluTanh>(kNaN), at<QuickGelu>(kNaN),
                        at<Silu>(kNaN), at<Relu>(kNaN), at<Relu2>(kNaN), at<Identity>(kNaN)}) {
    EXPECT_TRUE(std::isnan(y));
  }
}

TEST_P(ActivationTest, LargeNegativeValuesGiveZeroNotNaN) {
  for (const float x : {-50.0f, -104.0f, -1000.0f, -1e30f, -3e38f}) {
    EXPECT_NEAR(at<Gelu>(x), 0.0f, 1e-30f) << x;
    EXPECT_NEAR(at<GeluTanh>(x), 0.0f, 1e-30f) << x;
    EXPECT_NEAR(at<QuickGelu>(x), 0.0f, 1e-18f) << x;
    EXPECT_NEAR(at<Silu>(x), 0.0f, 1e-18f) << x;
  }
}

TEST_P(ActivationTest, AValuesBitsDoNotDependOnItsPlace) {
  const auto check = [&]<class A>(A) {
    std::vector<float> x(67);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = 0.37f * static_cast<float>(i) - 11.0f;
    const std::vector<float> whole = apply<A>(x);
    for (std::size_t count = 0; count <= x.size(); ++count) {
      std::vector<float> buffer(x.begin(), x.begin() + static_cast<std::ptrdiff_t>(count));
      buffer.push_back(42.0f);
      activation_function<A>(kernel_table(GetParam()))(buffer.data(), static_cast<Index>(count));
      EXPECT_EQ(buffer.back(), 42.0f) << "wrote beyond the end";
      EXPECT_EQ(0, std::memcmp(buffer.data(), whole.data(), count * sizeof(float))) << count;
    }
    for (std::size_t i = 0; i < x.size(); ++i) EXPECT_EQ(at<A>(x[i]), whole[i]);
  };
  check(Gelu{});
  check(GeluTanh{});
  check(QuickGelu{});
  check(Silu{});
  check(Tanh{});
  check(Softsign{});
}

TEST_P(ActivationTest, GateMultipliesByUp) {
  for (const Index cols : {1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33, 100}) {
    Threads threads(2);
    Workspace workspace({&kernel_table(GetParam()), &threads});
    Matrix g(3, cols), up(3, cols), before;
    for (Index i = 0; i < 3; ++i) {
      for (Index j = 0; j < cols; ++j) {
        g(i, j) = static_cast<float>(i + j) * 0.3f - 2.0f;
        up(i, j) = static_cast<float>(j) - 1.5f;
      }
    }
    before = Matrix::clone(g.view());
    gate<Silu>(g.view(), up.view(), workspace);
    for (Index i = 0; i < 3; ++i) {
      for (Index j = 0; j < cols; ++j) EXPECT_EQ(g(i, j), at<Silu>(before(i, j)) * up(i, j)) << cols;
    }
  }
}

}  // namespace
}  // namespace duet::kernels
