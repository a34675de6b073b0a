// Many rows: x is packed once, weights are converted and packed a panel at a time, and a micro-kernel keeps a tile of sums
// in registers. Part of matmul_body.inl.

inline constexpr Index kPanel = 2 * Ops::kWidth;  // outputs of a micro-kernel: two vectors
// Inputs summed in registers before they join the tile; constant, for equal bits. With AVX-512 a panel is 16 KB: half of the
// first-level cache, and the rows of x that stream by have the other half.
inline constexpr Index kDepth = 128;
// Rows whose sums a task keeps: with the panel, a part of the second-level cache. Whole blocks.
inline constexpr Index kTileRows = 1032;
// Rows of x that meet one panel after another: about a quarter of the second-level cache.
inline constexpr Index kStripRows = 168;
static_assert(kTileRows % Ops::kRows == 0 && kStripRows % Ops::kRows == 0 && Ops::kRows <= Ops::kWidth && kPrefillOutputs % kPanel == 0);

/// Where inputs [k, ...) of the block of rows that begins at `row` lie in packed x, k a multiple of kDepth: what meets a panel
/// at once lies together, [in_features / kDepth, blocks of rows, depth, Ops::kRows].
inline Index packed_at(Index rows, Index in_features, Index row, Index k) noexcept {
  const Index all_rows = (rows + Ops::kRows - 1) / Ops::kRows * Ops::kRows;
  return k * all_rows + row * std::min(kDepth, in_features - k);
}

inline void pack_rows(ConstMatrixView x, Index block, float* packed) noexcept {
  const Index begin = block * Ops::kRows;
  const Index rows = std::min<Index>(Ops::kRows, x.rows() - begin);
  for (Index first = 0; first < x.cols(); first += kDepth) {
    const Index depth = std::min(kDepth, x.cols() - first), size = depth * Ops::kRows;
    const auto row = [&](Index r) { return x.data() + (begin + r) * x.stride() + first; };
    float* const to = packed + packed_at(x.rows(), x.cols(), begin, first);
    Index k = 0;
    for (; k + Ops::kWidth <= depth; k += Ops::kWidth) {  // squares of W x W are turned in registers
      V square[Ops::kWidth];
      DUET_UNROLL for (Index r = 0; r < Ops::kWidth; ++r) square[r] = r < rows ? Ops::load(row(r) + k) : Ops::zero();
      Ops::transpose(square);
      float* at = to + k * Ops::kRows;
      // A vector is wider than a block: the next one covers what is too much, and the last ones stop at the block's end.
      DUET_UNROLL for (Index i = 0; i < Ops::kWidth; ++i, at += Ops::kRows) {
        if (at + Ops::kWidth <= to + size) {
          Ops::store(at, square[i]);
        } else {
          float lanes[Ops::kWidth];
          Ops::store(lanes, square[i]);
          std::memcpy(at, lanes, sizeof(float) * Ops::kRows);
        }
      }
    }
    for (; k < depth; ++k) {
      for (Index r = 0; r < Ops::kRows; ++r) to[k * Ops::kRows + r] = r < rows ? row(r)[k] : 0.0f;
    }
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

/// multiply(n) for a number of rows known only now: the next of a few constants. Every size sums a row in the same order.
template <int most, class Multiply>
inline void for_rows(Index rows, Multiply&& multiply) noexcept {
  if (rows > (most + 3) / 4) return multiply(std::integral_constant<int, most>{});
  if (rows > 1) return multiply(std::integral_constant<int, (most + 3) / 4>{});
  multiply(std::integral_constant<int, 1>{});
}

/// multiply(r, count, panel) for every block of up to Ops::kRows rows with every panel of `outputs` outputs.
template <int block, class Multiply>
inline void for_strips(Index rows, Index outputs, Multiply&& multiply) noexcept {
  for (Index strip = 0; strip < rows; strip += kStripRows) {
    const Index end = std::min(strip + kStripRows, rows);
    for (Index p = 0; p * kPanel < outputs; ++p) {
      for (Index r = strip; r < end; r += block) multiply(r, std::min<Index>(block, end - r), p);
    }
  }
}

/// Sums of a task: [panels, kSumRows, kPanel], for what a micro-kernel adds to lies together.
inline constexpr Index kSumRows = kTileRows + Ops::kWidth;  // a block may go beyond the last row
struct TaskSums {
  alignas(64) float sums[kPrefillOutputs * kSumRows];

  void clear(Index rows, Index outputs) noexcept {
    for (Index p = 0; p * kPanel < outputs; ++p) std::memset(at(p, 0), 0, static_cast<std::size_t>((rows + Ops::kWidth) * kPanel) * sizeof(float));
  }
  [[nodiscard]] float* at(Index panel, Index row) noexcept { return sums + (panel * kSumRows + row) * kPanel; }

  /// bias, activation and store for outputs [begin, end) of rows [first, first + rows).
  void finish_rows(const MatmulJob& job, Index first, Index rows, Index begin, Index end) noexcept {
    float row[kPrefillOutputs];
    for (Index r = 0; r < rows; ++r) {
      for (Index p = 0; begin + p * kPanel < end; ++p) std::memcpy(row + p * kPanel, at(p, r), sizeof(float) * kPanel);
      finish(job, first + r, begin, end - begin, row);
    }
  }
};

inline void prefill(const PackedRows& x, const MatmulJob& job, Index begin, Index end) noexcept {
  alignas(64) float panels[kPrefillOutputs / kPanel][kDepth * kPanel];
  TaskSums sums;
  for (Index tile = 0; tile < x.rows; tile += kTileRows) {
    const Index rows = std::min(kTileRows, x.rows - tile);
    sums.clear(rows, end - begin);
    for (Index k = 0; k < x.in_features; k += kDepth) {
      const Index depth = std::min(kDepth, x.in_features - k);
      for (Index p = 0; begin + p * kPanel < end; ++p) pack_panel(job.weight, begin + p * kPanel, k, depth, panels[p]);
      for_strips<Ops::kRows>(rows, end - begin, [&](Index r, Index count, Index p) {
        const float* block = x.data + packed_at(x.rows, x.in_features, tile + r, k);
        for_rows<Ops::kRows>(count, [&](auto n) { multiply_block<n()>(block, panels[p], depth, sums.at(p, r)); });
      });
    }
    sums.finish_rows(job, tile, rows, begin, end);
  }
}
