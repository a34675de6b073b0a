// Few rows: bound by reading weights, so each is read once and in long runs, which the processor fetches ahead of itself: for
// one row, prefetch instructions would only disturb it. Part of matmul_body.inl.

inline constexpr Index kDecodeOutputs = 256;  // outputs whose sums are kept side by side, for each row

/// Outputs [begin, end) of weights [out, in]. `dot(output, count, row, rows, sums)` writes the dot products of `count` weight
/// rows from `output` on with rows [row, row + rows) of x: that of weight row output + i with row r to
/// sums[r * kDecodeOutputs + i].
template <class Dot>
inline void decode_parts(Index num_rows, const MatmulJob& job, Index begin, Index end, Dot&& dot) noexcept {
  constexpr Index kRows = 16;
  float sums[kRows * kDecodeOutputs];
  for (Index at = begin; at < end; at += kDecodeOutputs) {
    const Index count = std::min(kDecodeOutputs, end - at);
    for (Index row = 0; row < num_rows; row += kRows) {
      const Index rows = std::min(kRows, num_rows - row);
      dot(at, count, row, rows, sums);
      for (Index r = 0; r < rows; ++r) finish(job, row + r, at, count, sums + r * kDecodeOutputs);
    }
  }
}

/// Dot products of `outputs` weight rows, `step` rows apart, with `rows` rows of x. One chain of sums for each pair, whatever
/// the block. Writes sums[r * kDecodeOutputs + o * step].
template <DType dtype, int outputs, int rows>
inline void dot_block(const WeightMatrix& w, Index output, Index step, const float* x, Index x_stride, float* sums) noexcept {
  constexpr Index kSize = static_cast<Index>(size_of(dtype));
  constexpr int kSums = (outputs * rows + 3) / 4 * 4;
  const std::byte* weight[outputs];
  DUET_UNROLL for (int o = 0; o < outputs; ++o) weight[o] = w.data + (output + o * step) * w.stride * kSize;
  V sum[kSums];
  DUET_UNROLL for (int i = 0; i < kSums; ++i) sum[i] = Ops::zero();
  Index k = 0;
  for (; k + Ops::kWidth <= w.in_features; k += Ops::kWidth) {
    V value[rows];
    DUET_UNROLL for (int r = 0; r < rows; ++r) value[r] = Ops::load(x + r * x_stride + k);
    DUET_UNROLL for (int o = 0; o < outputs; ++o) {
      const V stored = load_weights<dtype>(weight[o] + k * kSize);
      // With several rows arithmetic takes long enough to be waited for: meanwhile the row below comes nearer.
      if constexpr (rows > 1) __builtin_prefetch(weight[o] + (w.stride + k) * kSize, 0, 2);
      DUET_UNROLL for (int r = 0; r < rows; ++r) sum[o * rows + r] = Ops::fma(stored, value[r], sum[o * rows + r]);
    }
  }
  float totals[kSums];
  DUET_UNROLL for (int i = 0; i < kSums; i += 4) Ops::store_sums(sum[i], sum[i + 1], sum[i + 2], sum[i + 3], totals + i);
  for (Index o = 0; o < outputs; ++o) {
    for (Index r = 0; r < rows; ++r) {
      float total = totals[o * rows + r];
      for (Index i = k; i < w.in_features; ++i) {
        total = Ops::fma(load_weight<dtype>(weight[o] + i * kSize), x[r * x_stride + i], total);
      }
      sums[r * kDecodeOutputs + o * step] = total;
    }
  }
}

/// Four quarters of up to 64 weight rows are read side by side: four long runs, with four chains of sums to hide the latency of
/// the multiply-adds. What is read serves all rows of x while it is in the first-level cache.
template <DType dtype>
inline void decode_out_in(ConstMatrixView x, const MatmulJob& job, Index begin, Index end) noexcept {
  constexpr int kRuns = 4;
  decode_parts(x.rows(), job, begin, end, [&](Index output, Index count, Index row, Index rows, float* sums) {
    const float* from = x.data() + row * x.stride();
    const Index step = count / kRuns;
    for (Index o = 0; o < step; ++o) {
      Index r = 0;
      for (; r + Ops::kDecodeRows <= rows; r += Ops::kDecodeRows) {
        dot_block<dtype, kRuns, Ops::kDecodeRows>(job.weight, output + o, step, from + r * x.stride(), x.stride(), sums + r * kDecodeOutputs + o);
      }
      for (; r < rows; ++r) dot_block<dtype, kRuns, 1>(job.weight, output + o, step, from + r * x.stride(), 0, sums + r * kDecodeOutputs + o);
    }
    for (Index o = kRuns * step; o < count; ++o) {
      for (Index r = 0; r < rows; ++r) dot_block<dtype, 1, 1>(job.weight, output + o, 1, from + r * x.stride(), 0, sums + r * kDecodeOutputs + o);
    }
  });
}

/// sums [outputs] += values · `inputs` rows of weights [in, out], `step` rows apart.
template <DType dtype, int inputs>
inline void add_inputs(const WeightMatrix& w, Index k, Index step, const float* x, float* sums) noexcept {
  constexpr Index kSize = static_cast<Index>(size_of(dtype));
  const std::byte* stored[inputs];
  V factor[inputs];
  DUET_UNROLL for (int i = 0; i < inputs; ++i) {
    stored[i] = w.data + (k + i * step) * w.stride * kSize;
    factor[i] = Ops::broadcast(x[k + i * step]);
  }
  Index j = 0;
  for (; j + Ops::kWidth <= w.out_features; j += Ops::kWidth) {
    V sum = Ops::load(sums + j);
    DUET_UNROLL for (int i = 0; i < inputs; ++i) sum = Ops::fma(load_weights<dtype>(stored[i] + j * kSize), factor[i], sum);
    Ops::store(sums + j, sum);
  }
  for (; j < w.out_features; ++j) {
    for (int i = 0; i < inputs; ++i) sums[j] = Ops::fma(load_weight<dtype>(stored[i] + j * kSize), x[k + i * step], sums[j]);
  }
}

/// What inputs [begin, end) add to all outputs of weights [in, out]: sums [rows, out_features]. As above, four quarters of the
/// stored rows are read side by side; sums, which stay in the first-level cache, are loaded and stored once for the four.
template <DType dtype>
inline void decode_in_out(ConstMatrixView x, const WeightMatrix& w, Index begin, Index end, float* sums) noexcept {
  constexpr int kRuns = 4;
  std::memset(sums, 0, static_cast<std::size_t>(x.rows() * w.out_features) * sizeof(float));
  const Index step = (end - begin) / kRuns;
  for (Index k = begin; k < begin + step; ++k) {
    for (Index r = 0; r < x.rows(); ++r) add_inputs<dtype, kRuns>(w, k, step, x.data() + r * x.stride(), sums + r * w.out_features);
  }
  for (Index k = begin + kRuns * step; k < end; ++k) {
    for (Index r = 0; r < x.rows(); ++r) add_inputs<dtype, 1>(w, k, 0, x.data() + r * x.stride(), sums + r * w.out_features);
  }
}

inline void decode_outputs(ConstMatrixView x, const MatmulJob& job, Index begin, Index end) noexcept {
  switch (job.weight.dtype) {
    case DType::kF16: return decode_out_in<DType::kF16>(x, job, begin, end);
    case DType::kBF16: return decode_out_in<DType::kBF16>(x, job, begin, end);
    default: return decode_out_in<DType::kF32>(x, job, begin, end);
  }
}

inline void decode_inputs(ConstMatrixView x, const WeightMatrix& w, Index begin, Index end, float* sums) noexcept {
  switch (w.dtype) {
    case DType::kF16: return decode_in_out<DType::kF16>(x, w, begin, end, sums);
    case DType::kBF16: return decode_in_out<DType::kBF16>(x, w, begin, end, sums);
    default: return decode_in_out<DType::kF32>(x, w, begin, end, sums);
  }
}

/// Outputs [begin, end) of a job from the parts that decode_inputs wrote, in their order.
inline void join_inputs(const MatmulJob& job, const InputSums& sums, Index begin, Index end) noexcept {
  constexpr Index kBlock = 256;
  const Index rows = job.out.rows();
  float total[kBlock];
  for (Index at = begin; at < end; at += kBlock) {
    const Index count = std::min(kBlock, end - at);
    for (Index r = 0; r < rows; ++r) {
      const float* from = sums.data + r * sums.stride + at;
      std::memcpy(total, from, static_cast<std::size_t>(count) * sizeof(float));
      for (Index part = 1; part < sums.parts; ++part) {
        from += rows * sums.stride;
        add_to(total, from, count);
      }
      finish(job, r, at, count, total);
    }
  }
}
