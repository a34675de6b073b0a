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

inline constexpr Index kPanel = 2 * Ops::kWidth;  // outputs of a micro-kernel: two vectors
inline constexpr Index kDepth = 256;              // inputs summed in registers before they join the tile; constant, for equal bits
inline constexpr Index kTileRows = 480;           // rows whose sums a task keeps: with the panel, a part of the second-level cache

/// bias, activation and store for `count` neighbouring outputs of one row. A call costs nothing beside them.
[[gnu::noinline]] inline void finish(const MatmulJob& job, Index row, Index begin, Index count, float* sums) noexcept {
  if (job.bias != nullptr) {
    for (Index j = 0; j < count; ++j) sums[j] += job.bias[begin + j];
  }
  if (job.activation != nullptr) job.activation(sums, count);
  float* out = job.out.data() + row * job.out.stride() + begin;
  if (job.store == Store::kAdd) {
    for (Index j = 0; j < count; ++j) out[j] += sums[j];
  } else {
    for (Index j = 0; j < count; ++j) out[j] = sums[j];
  }
}

inline void pack_rows(ConstMatrixView x, Index block, float* packed) noexcept {
  const Index begin = block * Ops::kRows, depth = x.cols();
  float* to = packed + begin * depth;
  const Index rows = std::min<Index>(Ops::kRows, x.rows() - begin);
  for (Index r = 0; r < Ops::kRows; ++r) {
    const float* from = r < rows ? x.data() + (begin + r) * x.stride() : nullptr;
    for (Index k = 0; k < depth; ++k) to[k * Ops::kRows + r] = from != nullptr ? from[k] : 0.0f;
  }
}

/// Inputs [k, k + depth) of outputs [begin, begin + kPanel) as [depth, kPanel] floats, zeros beyond the last output.
template <DType dtype>
inline void pack_panel(const WeightMatrix& w, Index begin, Index k, Index depth, float* packed) noexcept {
  constexpr Index kSize = static_cast<Index>(size_of(dtype));
  const Index count = std::min(kPanel, w.out_features - begin);
  if (w.layout == WeightLayout::kInOut) {
    for (Index i = 0; i < depth; ++i) {
      const std::byte* from = w.data + ((k + i) * w.stride + begin) * kSize;
      float* to = packed + i * kPanel;
      if (count == kPanel) {
        Ops::store(to, load_weights<dtype>(from));
        Ops::store(to + Ops::kWidth, load_weights<dtype>(from + Ops::kWidth * kSize));
      } else {
        for (Index j = 0; j < kPanel; ++j) to[j] = j < count ? load_weight<dtype>(from + j * kSize) : 0.0f;
      }
    }
    return;
  }
  Index i = 0;
  if (count == kPanel) {  // squares of W x W are turned in registers
    for (; i + Ops::kWidth <= depth; i += Ops::kWidth) {
      for (Index half = 0; half < 2; ++half) {
        V square[Ops::kWidth];
        DUET_UNROLL for (Index j = 0; j < Ops::kWidth; ++j) {
          square[j] = load_weights<dtype>(w.data + ((begin + half * Ops::kWidth + j) * w.stride + k + i) * kSize);
        }
        Ops::transpose(square);
        DUET_UNROLL for (Index j = 0; j < Ops::kWidth; ++j) Ops::store(packed + (i + j) * kPanel + half * Ops::kWidth, square[j]);
      }
    }
  }
  for (; i < depth; ++i) {
    for (Index j = 0; j < kPanel; ++j) {
      packed[i * kPanel + j] = j < count ? load_weight<dtype>(w.data + ((begin + j) * w.stride + k + i) * kSize) : 0.0f;
    }
  }
}

inline void pack_panel(const WeightMatrix& w, Index begin, Index k, Index depth, float* packed) noexcept {
  switch (w.dtype) {
    case DType::kF16: return pack_panel<DType::kF16>(w, begin, k, depth, packed);
    case DType::kBF16: return pack_panel<DType::kBF16>(w, begin, k, depth, packed);
    default: return pack_panel<DType::kF32>(w, begin, k, depth, packed);
  }
}

/// sums [rows, kPanel] += x block [depth, Ops::kRows] · panel [depth, kPanel], for the block's first `rows` rows.
template <int rows>
inline void multiply_block(const float* x, const float* panel, Index depth, float* sums) noexcept {
  V low[rows], high[rows];
  DUET_UNROLL for (int r = 0; r < rows; ++r) low[r] = high[r] = Ops::zero();
  for (Index k = 0; k < depth; ++k) {
    const V left = Ops::load(panel + k * kPanel), right = Ops::load(panel + k * kPanel + Ops::kWidth);
    const float* column = x + k * Ops::kRows;
    DUET_UNROLL for (int r = 0; r < rows; ++r) {
      const V value = Ops::broadcast(column[r]);
      low[r] = Ops::fma(value, left, low[r]);
      high[r] = Ops::fma(value, right, high[r]);
    }
  }
  DUET_UNROLL for (int r = 0; r < rows; ++r) {
    float* row = sums + r * kPanel;
    Ops::store(row, Ops::add(Ops::load(row), low[r]));
    Ops::store(row + Ops::kWidth, Ops::add(Ops::load(row + Ops::kWidth), high[r]));
  }
}

/// As above for a number of rows known only now: the next of a few sizes. Every size sums a row in the same order.
inline void multiply_rows(Index rows, const float* x, const float* panel, Index depth, float* sums) noexcept {
  if (rows > Ops::kRows / 2) return multiply_block<Ops::kRows>(x, panel, depth, sums);
  if (rows > Ops::kRows / 4) return multiply_block<Ops::kRows / 2>(x, panel, depth, sums);
  if (rows > 1) return multiply_block<(Ops::kRows + 3) / 4>(x, panel, depth, sums);
  multiply_block<1>(x, panel, depth, sums);
}

inline void prefill(const PackedRows& x, const MatmulJob& job, Index begin) noexcept {
  alignas(64) float panel[kDepth * kPanel];
  alignas(64) float sums[(kTileRows + Ops::kRows) * kPanel];
  const Index count = std::min(kPanel, job.weight.out_features - begin);
  for (Index tile = 0; tile < x.rows; tile += kTileRows) {
    const Index rows = std::min(kTileRows, x.rows - tile);
    std::memset(sums, 0, static_cast<std::size_t>((rows + Ops::kRows) * kPanel) * sizeof(float));
    for (Index k = 0; k < x.in_features; k += kDepth) {
      const Index depth = std::min(kDepth, x.in_features - k);
      pack_panel(job.weight, begin, k, depth, panel);
      for (Index r = 0; r < rows; r += Ops::kRows) {
        const float* block = x.data + (tile + r) * x.in_features + k * Ops::kRows;
        multiply_rows(std::min<Index>(Ops::kRows, rows - r), block, panel, depth, sums + r * kPanel);
      }
    }
    for (Index r = 0; r < rows; ++r) finish(job, tile + r, begin, count, sums + r * kPanel);
  }
}

/// Dot products of `outputs` weight rows with `rows` rows of x. One chain of sums for each pair, whatever the block.
template <DType dtype, int outputs, int rows>
inline void dot_block(const WeightMatrix& w, Index output, const float* x, Index x_stride, float* sums, Index sums_stride) noexcept {
  constexpr Index kSize = static_cast<Index>(size_of(dtype));
  constexpr Index kAhead = 1024;  // bytes: far enough to hide memory's latency behind the block's own work
  const std::byte* weight[outputs];
  DUET_UNROLL for (int o = 0; o < outputs; ++o) weight[o] = w.data + (output + o) * w.stride * kSize;
  V sum[outputs][rows];
  DUET_UNROLL for (int o = 0; o < outputs; ++o) {
    DUET_UNROLL for (int r = 0; r < rows; ++r) sum[o][r] = Ops::zero();
  }
  Index k = 0;
  for (; k + Ops::kWidth <= w.in_features; k += Ops::kWidth) {
    V value[rows];
    DUET_UNROLL for (int r = 0; r < rows; ++r) value[r] = Ops::load(x + r * x_stride + k);
    DUET_UNROLL for (int o = 0; o < outputs; ++o) {
      __builtin_prefetch(weight[o] + k * kSize + kAhead);
      const V stored = load_weights<dtype>(weight[o] + k * kSize);
      DUET_UNROLL for (int r = 0; r < rows; ++r) sum[o][r] = Ops::fma(stored, value[r], sum[o][r]);
    }
  }
  // Unrolled, what follows would be most of the kernel's code.
  alignas(64) float lanes[outputs * rows * Ops::kWidth];
  DUET_UNROLL for (int o = 0; o < outputs; ++o) {
    DUET_UNROLL for (int r = 0; r < rows; ++r) Ops::store(lanes + (o * rows + r) * Ops::kWidth, sum[o][r]);
  }
  const float* lane = lanes;
  for (Index o = 0; o < outputs; ++o) {
    const std::byte* stored = w.data + (output + o) * w.stride * kSize;
    for (Index r = 0; r < rows; ++r, lane += Ops::kWidth) {
      float total = Ops::sum(Ops::load(lane));
      for (Index i = k; i < w.in_features; ++i) {
        total = Ops::fma(load_weight<dtype>(stored + i * kSize), x[r * x_stride + i], total);
      }
      sums[r * sums_stride + o] = total;
    }
  }
}

inline constexpr Index kDecodeOutputs = 64;  // outputs whose sums a decode task holds before it finishes them

template <DType dtype>
inline void decode_out_in(ConstMatrixView x, const MatmulJob& job, Index begin, Index end) noexcept {
  constexpr int kRows = 4, kOutputs = 4;
  float sums[kRows * kDecodeOutputs];
  for (Index at = begin; at < end; at += kDecodeOutputs) {
    const Index count = std::min(kDecodeOutputs, end - at);
    for (Index row = 0; row < x.rows(); row += kRows) {
      const Index rows = std::min<Index>(kRows, x.rows() - row);
      const float* from = x.data() + row * x.stride();
      Index o = 0;
      for (; o + kOutputs <= count; o += kOutputs) {
        if (rows == kRows) {
          dot_block<dtype, kOutputs, kRows>(job.weight, at + o, from, x.stride(), sums + o, kDecodeOutputs);
        } else {
          for (Index r = 0; r < rows; ++r) {
            dot_block<dtype, kOutputs, 1>(job.weight, at + o, from + r * x.stride(), 0, sums + r * kDecodeOutputs + o, 0);
          }
        }
      }
      for (; o < count; ++o) {
        for (Index r = 0; r < rows; ++r) {
          dot_block<dtype, 1, 1>(job.weight, at + o, from + r * x.stride(), 0, sums + r * kDecodeOutputs + o, 0);
        }
      }
      for (Index r = 0; r < rows; ++r) finish(job, row + r, at, count, sums + r * kDecodeOutputs);
    }
  }
}

/// [in, out] weights: every stored row adds to a block of outputs that stays in the first-level cache.
template <DType dtype>
inline void decode_in_out(ConstMatrixView x, const MatmulJob& job, Index begin, Index end) noexcept {
  constexpr Index kSize = static_cast<Index>(size_of(dtype)), kBlock = 256;
  alignas(64) float sums[kBlock];
  const WeightMatrix& w = job.weight;
  for (Index at = begin; at < end; at += kBlock) {
    const Index count = std::min(kBlock, end - at), whole = count / Ops::kWidth * Ops::kWidth;
    for (Index row = 0; row < x.rows(); ++row) {
      const float* value = x.data() + row * x.stride();
      std::memset(sums, 0, sizeof sums);
      Index k = 0;
      for (; k + 4 <= w.in_features; k += 4) {
        const std::byte* stored = w.data + (k * w.stride + at) * kSize;
        const Index next = w.stride * kSize;
        const V a = Ops::broadcast(value[k]), b = Ops::broadcast(value[k + 1]), c = Ops::broadcast(value[k + 2]), d = Ops::broadcast(value[k + 3]);
        for (Index j = 0; j < whole; j += Ops::kWidth) {
          V sum = Ops::load(sums + j);
          __builtin_prefetch(stored + j * kSize + 8 * next);
          sum = Ops::fma(load_weights<dtype>(stored + j * kSize), a, sum);
          sum = Ops::fma(load_weights<dtype>(stored + j * kSize + next), b, sum);
          sum = Ops::fma(load_weights<dtype>(stored + j * kSize + 2 * next), c, sum);
          sum = Ops::fma(load_weights<dtype>(stored + j * kSize + 3 * next), d, sum);
          Ops::store(sums + j, sum);
        }
        for (Index j = whole; j < count; ++j) {
          for (Index i = 0; i < 4; ++i) {
            sums[j] = Ops::fma(load_weight<dtype>(stored + j * kSize + i * next), value[k + i], sums[j]);
          }
        }
      }
      for (; k < w.in_features; ++k) {
        const std::byte* stored = w.data + (k * w.stride + at) * kSize;
        for (Index j = 0; j < count; ++j) sums[j] = Ops::fma(load_weight<dtype>(stored + j * kSize), value[k], sums[j]);
      }
      finish(job, row, at, count, sums);
    }
  }
}

inline void decode(ConstMatrixView x, const MatmulJob& job, Index begin, Index end) noexcept {
  const auto run = [&](auto out_in, auto in_out) {
    job.weight.layout == WeightLayout::kOutIn ? out_in(x, job, begin, end) : in_out(x, job, begin, end);
  };
  switch (job.weight.dtype) {
    case DType::kF16: return run(&decode_out_in<DType::kF16>, &decode_in_out<DType::kF16>);
    case DType::kBF16: return run(&decode_out_in<DType::kBF16>, &decode_in_out<DType::kBF16>);
    default: return run(&decode_out_in<DType::kF32>, &decode_in_out<DType::kF32>);
  }
}

inline double multiply_adds(Index rounds, float* sink) noexcept {
  constexpr int kChains = 12;  // enough to cover the latency of two units
  V sum[kChains];
  DUET_UNROLL for (int i = 0; i < kChains; ++i) sum[i] = Ops::broadcast(static_cast<float>(i));
  const V a = Ops::broadcast(0.999f), b = Ops::broadcast(0.001f);
  for (Index round = 0; round < rounds; ++round) {
    DUET_UNROLL for (int i = 0; i < kChains; ++i) sum[i] = Ops::fma(sum[i], a, b);
  }
  DUET_UNROLL for (int i = 0; i < kChains; ++i) *sink += Ops::sum(sum[i]);
  return static_cast<double>(rounds) * kChains * Ops::kWidth;
}

inline float read(const float* data, Index count) noexcept {
  V a = Ops::zero(), b = a, c = a, d = a;
  Index i = 0;
  for (; i + 4 * Ops::kWidth <= count; i += 4 * Ops::kWidth) {
    __builtin_prefetch(data + i + 512);
    a = Ops::add(a, Ops::load(data + i));
    b = Ops::add(b, Ops::load(data + i + Ops::kWidth));
    c = Ops::add(c, Ops::load(data + i + 2 * Ops::kWidth));
    d = Ops::add(d, Ops::load(data + i + 3 * Ops::kWidth));
  }
  return Ops::sum(Ops::add(Ops::add(a, b), Ops::add(c, d)));
}

inline constexpr MatmulKernels kMatmulKernels{Ops::kRows, kPanel, kDecodeOutputs, &pack_rows, &prefill, &decode, &multiply_adds, &read};
