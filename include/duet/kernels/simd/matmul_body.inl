// The matmul kernels, written once over the vector operations `Ops` of the namespace that includes this file. No include
// guard: it is compiled once for each instruction set.

/// Stored elements as vectors of floats.
template <DType dtype>
inline V load_weights(const std::byte* at) noexcept {
  if constexpr (dtype == DType::kF32) return Ops::load(reinterpret_cast<const float*>(at));
  if constexpr (dtype == DType::kF16) return Ops::load_f16(at);
  if constexpr (dtype == DType::kBF16) return Ops::load_bf16(at);
}

template <DType dtype>
inline float load_weight(const std::byte* at) noexcept {
  if constexpr (dtype == DType::kF32) {
    float value;
    std::memcpy(&value, at, sizeof value);
    return value;
  } else {
    std::uint16_t bits;
    std::memcpy(&bits, at, sizeof bits);
    return dtype == DType::kF16 ? duet::to_float(F16{bits}) : duet::to_float(Bf16{bits});
  }
}

/// to += more.
inline void add_to(float* to, const float* more, Index count) noexcept {
  Index j = 0;
  for (; j + Ops::kWidth <= count; j += Ops::kWidth) Ops::store(to + j, Ops::add(Ops::load(to + j), Ops::load(more + j)));
  for (; j < count; ++j) to[j] += more[j];
}

/// bias, activation and store for `count` neighbouring outputs of one row. A call costs nothing beside them.
[[gnu::noinline]] inline void finish(const MatmulJob& job, Index row, Index begin, Index count, float* sums) noexcept {
  if (job.bias != nullptr) add_to(sums, job.bias + begin, count);
  if (job.activation != nullptr) job.activation(sums, count);
  float* out = job.out.data() + row * job.out.stride() + begin;
  if (job.store == Store::kAdd) {
    add_to(out, sums, count);
  } else {
    std::memcpy(out, sums, static_cast<std::size_t>(count) * sizeof(float));
  }
}

#include "duet/kernels/simd/matmul_prefill.inl"
#include "duet/kernels/simd/matmul_decode.inl"

inline double multiply_adds(Index rounds, float* sink) noexcept {
  constexpr int kChains = 12;  // enough to cover the latency of two units
  V sum[kChains];
  DUET_UNROLL for (int i = 0; i < kChains; ++i) sum[i] = Ops::broadcast(static_cast<float>(i));
  const V a = Ops::broadcast(0.999f), b = Ops::broadcast(0.001f);
  for (Index round = 0; round < rounds; ++round) {
    DUET_UNROLL for (int i = 0; i < kChains; ++i) sum[i] = Ops::fma(sum[i], a, b);
  }
  DUET_UNROLL for (int i = 0; i < kChains; i += 4) Ops::store_sums(sum[i], sum[i + 1], sum[i + 2], sum[i + 3], sink + i);
  return static_cast<double>(rounds) * kChains * Ops::kWidth;
}

inline float read(const float* data, Index count, Index runs) noexcept {
  constexpr Index kVectors = 4;
  const Index apart = runs == 1 ? Ops::kWidth : count / kVectors / Ops::kWidth * Ops::kWidth, step = runs == 1 ? kVectors * Ops::kWidth : Ops::kWidth;
  V a = Ops::zero(), b = a, c = a, d = a;
  for (Index i = 0; i + (kVectors - 1) * apart + Ops::kWidth <= count; i += step) {
    a = Ops::add(a, Ops::load(data + i));
    b = Ops::add(b, Ops::load(data + i + apart));
    c = Ops::add(c, Ops::load(data + i + 2 * apart));
    d = Ops::add(d, Ops::load(data + i + 3 * apart));
  }
  float sums[4];
  Ops::store_sums(a, b, c, d, sums);
  return sums[0] + sums[1] + sums[2] + sums[3];
}

inline constexpr MatmulKernels kMatmulKernels{Ops::kRows,      kPanel,       &pack_rows,     &prefill, &decode_outputs,
                                              &decode_inputs, &join_inputs, &multiply_adds, &read};
