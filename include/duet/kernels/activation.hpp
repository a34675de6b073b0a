#pragma once

#include <algorithm>
#include <concepts>
#include <string_view>

#include "duet/core/workspace.hpp"
#include "duet/kernels/activation_fn.hpp"
#include "duet/kernels/row_tasks.hpp"
#include "duet/kernels/simd/dispatch.hpp"
#include "duet/kernels/simd/vec_math.hpp"

namespace duet::kernels {

// An activation is a policy: the names that config.json knows it by, and a function of one value. V is a small vector of
// floats with + - * /, fma, min, max, abs, select, exp, sigmoid, tanh and erf, all found by argument-dependent lookup:
//
//     struct Softsign {
//       static constexpr std::string_view config_names[] = {"softsign"};
//       template <class V> static V apply(V x) { return x / (V(1.0f) + abs(x)); }
//     };
//
// `static float apply(float)` works too, one value at a time. Write sums of products with fma(): see simd/vec_math.hpp.

/// x · ½ (1 + erf(x / √2)) (Hendrycks and Gimpel 2016, 1606.08415).
struct Gelu {
  static constexpr std::string_view config_names[] = {"gelu", "gelu_python"};
  template <class V>
  DUET_INLINE static V apply(V x) noexcept {
    return V(0.5f) * x * (V(1.0f) + erf(x * V(0.70710678f)));
  }
};

/// ½ x (1 + tanh(√(2/π) (x + 0.044715 x³))): the same paper's approximation, written as x · sigmoid(2 · the argument).
struct GeluTanh {
  static constexpr std::string_view config_names[] = {"gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_accurate"};
  template <class V>
  DUET_INLINE static V apply(V x) noexcept {
    const V argument = V(0.79788456f) * fma(V(0.044715f) * x * x, x, x);
    return V(0.5f) * x * (V(1.0f) + tanh(argument));
  }
};

/// x · sigmoid(1.702 x), from the same paper.
struct QuickGelu {
  static constexpr std::string_view config_names[] = {"quick_gelu"};
  template <class V>
  DUET_INLINE static V apply(V x) noexcept {
    return x * sigmoid(V(1.702f) * x);
  }
};

/// x · sigmoid(x) (Elfwing et al. 2017, 1702.03118).
struct Silu {
  static constexpr std::string_view config_names[] = {"silu", "swish"};
  template <class V>
  DUET_INLINE static V apply(V x) noexcept {
    return x * sigmoid(x);
  }
};

/// max(x, 0); NaN stays NaN.
struct Relu {
  static constexpr std::string_view config_names[] = {"relu"};
  template <class V>
  DUET_INLINE static V apply(V x) noexcept {
    return max(V(0.0f), x);
  }
};

/// max(x, 0)² (So et al. 2021, 2109.08668).
struct Relu2 {
  static constexpr std::string_view config_names[] = {"relu2"};
  template <class V>
  DUET_INLINE static V apply(V x) noexcept {
    const V positive = max(V(0.0f), x);
    return positive * positive;
  }
};

/// max(x, 0), and a hundredth of what is below.
struct LeakyRelu {
  static constexpr std::string_view config_names[] = {"leaky_relu"};
  template <class V>
  DUET_INLINE static V apply(V x) noexcept {
    return max(V(0.01f) * x, x);
  }
};

/// max(x, 0), at most 6.
struct Relu6 {
  static constexpr std::string_view config_names[] = {"relu6"};
  template <class V>
  DUET_INLINE static V apply(V x) noexcept {
    return min(V(6.0f), max(V(0.0f), x));
  }
};

struct Sigmoid {
  static constexpr std::string_view config_names[] = {"sigmoid"};
  template <class V>
  DUET_INLINE static V apply(V x) noexcept {
    return sigmoid(x);
  }
};

struct Tanh {
  static constexpr std::string_view config_names[] = {"tanh"};
  template <class V>
  DUET_INLINE static V apply(V x) noexcept {
    return tanh(x);
  }
};

struct Identity {
  static constexpr std::string_view config_names[] = {"linear", "identity"};
  template <class V>
  DUET_INLINE static V apply(V x) noexcept {
    return x;
  }
};

inline namespace DUET_ISA_NAMESPACE {

/// A policy that takes vectors.
template <class A>
concept VectorActivation = requires(Vec4 x) {
  { A::apply(x) } -> std::same_as<Vec4>;
};

}  // namespace DUET_ISA_NAMESPACE

/// What an activation slot accepts.
template <class A>
concept Activation = requires(float x) {
  { std::string_view(A::config_names[0]) };
  requires VectorActivation<A> || requires { { A::apply(x) } -> std::same_as<float>; };
};

inline namespace DUET_ISA_NAMESPACE {

/// A(x) for a vector, whichever form A has.
template <Activation A, class V>
DUET_INLINE V activated(const V& x) noexcept {
  if constexpr (VectorActivation<A>) {
    return V::template apply<A>(x);
  } else {
    float lanes[V::kWidth];
    x.store(lanes);
    for (float& lane : lanes) lane = A::apply(lane);
    return V::load(lanes);
  }
}

template <Activation A>
struct ActivateKernel {
  template <class V>
  DUET_INLINE static void run(float* values, Index count) noexcept {
    for (Index i = 0; i < count; i += V::kWidth) {  // one copy of A for whole vectors and the rest: the same bits
      const Index rest = count - i;
      const V x = rest < V::kWidth ? V::load_first(values + i, rest) : V::load(values + i);
      const V y = activated<A>(x);
      rest < V::kWidth ? y.store_first(values + i, rest) : y.store(values + i);
    }
  }
};

template <Activation A>
struct GateKernel {
  template <class V>
  DUET_INLINE static void run(float* gate, const float* up, Index count) noexcept {
    for (Index i = 0; i < count; i += V::kWidth) {
      const Index rest = count - i;
      const V x = rest < V::kWidth ? V::load_first(gate + i, rest) : V::load(gate + i);
      const V u = rest < V::kWidth ? V::load_first(up + i, rest) : V::load(up + i);
      const V y = activated<A>(x) * u;
      rest < V::kWidth ? y.store_first(gate + i, rest) : y.store(gate + i);
    }
  }
};

/// The function that applies A to values in place, for a matmul's epilogue.
template <Activation A>
[[nodiscard]] ActivationFn activation_function(const KernelTable& table) noexcept {
  return compiled_for<ActivateKernel<A>, float*, Index>(table.isa);
}

/// gate = A(gate) ∘ up: the inner product of a gated feed-forward.
///
/// Shapes  gate, up [rows, intermediate_size]
template <Activation A>
void gate(MatrixView gate, ConstMatrixView up, Workspace& workspace) noexcept {
  DUET_ASSERT(gate.rows() == up.rows() && gate.cols() == up.cols(), "gate and up differ in shape");
  const auto kernel = compiled_for<GateKernel<A>, float*, const float*, Index>(workspace.kernels().isa);
  for_each_row(gate.rows(), gate.cols(), workspace,
               [&](Index i) { kernel(gate.row(i).data(), up.row(i).data(), gate.cols()); });
}

}  // namespace DUET_ISA_NAMESPACE
}  // namespace duet::kernels
