// Matmul by quantized weights, written once over the byte operations `Bytes` and the vector operations `Ops` and `Lanes` of
// the namespace that includes this file. No include guard: it is compiled once for each instruction set.
//
// x is rounded to bytes, too, each block of 32 inputs with a scale of its own. A block's products are summed exactly, in
// whole numbers; what they come to is scaled and summed over the blocks in floats.

inline constexpr Index kBlock = static_cast<Index>(kBlockSize);

/// Block `block` of a row of x [count], rounded to 32 bytes, zeros beyond its end. Returns the scale.
inline float round_block(const float* x, Index count, Index block, std::int8_t* bytes) noexcept {
  const Index begin = block * kBlock;
  if (begin + kBlock <= count) return Bytes::round(x + begin, bytes);
  float padded[kBlock] = {};
  std::memcpy(padded, x + begin, static_cast<std::size_t>(count - begin) * sizeof(float));
  return Bytes::round(padded, bytes);
}

// ---- Few rows: as in matmul_decode.inl. Where bytes are multiplied as fast as memory brings them, weights are fetched well
// before they are wanted, and read as they lie; else they are read as four long runs, as floats are.

inline void round_row(ConstMatrixView x, Index row, const RoundedRows& to) noexcept {
  for (Index b = 0; b < to.blocks; ++b) {
    const Index at = row * to.blocks + b;
    to.scales[at] = round_block(x.row(row).data(), x.cols(), b, to.bytes + at * kBlock);
    to.minus_sums[at] = -Bytes::sum(to.bytes + at * kBlock);
  }
}

/// Dot products of `outputs` weight rows, `step` rows apart from `first` on, with `rows` rows of x; `rest` reads the last
/// blocks of a row, beyond which nothing may be read. Writes sums[r * kDecodeOutputs + o * step]. Inlined, so that a short row
/// pays for itself alone.
template <DType dtype, int outputs, int rows>
DUET_INLINE void dot_blocks(const std::byte* first, Index row_bytes, Index step, const RoundedRows& x, Index row,
                            const typename Bytes::template Dot<dtype>::Rest& rest, float* sums) noexcept {
  using Dot = typename Bytes::template Dot<dtype>;
  constexpr int kSums = (outputs * rows + 3) / 4 * 4;
  constexpr Index kStep = Dot::kBlocks * static_cast<Index>(size_of(dtype));
  const std::byte* weight[outputs];
  DUET_UNROLL for (int o = 0; o < outputs; ++o) weight[o] = first + o * step * row_bytes;
  [[maybe_unused]] const Index ahead = (Bytes::kAhead / (outputs * row_bytes) + 1) * outputs * row_bytes;
  typename Dot::Lanes::Vector sum[kSums];
  DUET_UNROLL for (int i = 0; i < kSums; ++i) sum[i] = Dot::Lanes::zero();
  const auto add = [&](const auto& dot, Index b) __attribute__((always_inline)) {
    typename Dot::X of_x[rows];
    DUET_UNROLL for (int r = 0; r < rows; ++r) of_x[r] = dot.read(x, (row + r) * x.blocks + b);
    DUET_UNROLL for (int o = 0; o < outputs; ++o) {
      if constexpr (Bytes::kAhead > 0) {
        __builtin_prefetch(weight[o] + ahead, 0, 2);
        if constexpr (kStep > 64) __builtin_prefetch(weight[o] + ahead + kStep / 2, 0, 2);  // no line is left out
      } else if constexpr (rows == 1) {
        __builtin_prefetch(weight[o] + 1024, 0, 2);  // the way to the next 4096-byte page is worth preparing
      }
      const typename Dot::Weights weights = dot.read(weight[o]);
      DUET_UNROLL for (int r = 0; r < rows; ++r) sum[o * rows + r] = Dot::add(sum[o * rows + r], weights, of_x[r]);
      weight[o] += kStep;
    }
  };
  Index b = 0;
  for (; b + Dot::kBlocks <= x.blocks; b += Dot::kBlocks) add(Dot(), b);
  if (b < x.blocks) add(rest, b);
  float totals[kSums];
  DUET_UNROLL for (int i = 0; i < kSums; i += 4) Dot::Lanes::store_sums(sum[i], sum[i + 1], sum[i + 2], sum[i + 3], totals + i);
  for (int o = 0; o < outputs; ++o) {
    for (int r = 0; r < rows; ++r) sums[r * kDecodeOutputs + o * step] = totals[o * rows + r];
  }
}

/// Four weight rows at a time, and all rows of x with them: neighbours, which fetch some kAhead bytes ahead by whole groups, so
/// that everything is fetched in the order in which it will be read; or one of each quarter.
template <DType dtype>
inline void decode_blocks(const RoundedRows& x, const MatmulJob& job, Index begin, Index end) noexcept {
  using Dot = typename Bytes::template Dot<dtype>;
  constexpr int kTogether = 4;
  const typename Dot::Rest rest(x.blocks % Dot::kBlocks);
  const auto row_bytes = static_cast<Index>(job.weight.row(1) - job.weight.row(0));
  decode_parts(x.rows, job, begin, end, [&](Index output, Index count, Index row, Index rows, float* sums) {
    const Index groups = count / kTogether, step = Bytes::kAhead > 0 ? 1 : groups;
    for (Index group = 0; group < groups; ++group) {
      const Index o = Bytes::kAhead > 0 ? group * kTogether : group;
      const std::byte* weights = job.weight.row(output + o);
      Index r = 0;
      for (; r + Bytes::kDecodeRows <= rows; r += Bytes::kDecodeRows) {
        dot_blocks<dtype, kTogether, Bytes::kDecodeRows>(weights, row_bytes, step, x, row + r, rest, sums + r * kDecodeOutputs + o);
      }
      for (; r < rows; ++r) dot_blocks<dtype, kTogether, 1>(weights, row_bytes, step, x, row + r, rest, sums + r * kDecodeOutputs + o);
    }
    for (Index o = groups * kTogether; o < count; ++o) {
      const std::byte* weights = job.weight.row(output + o);
      for (Index r = 0; r < rows; ++r) dot_blocks<dtype, 1, 1>(weights, row_bytes, 1, x, row + r, rest, sums + r * kDecodeOutputs + o);
    }
  });
}

inline void decode_quantized(const RoundedRows& x, const MatmulJob& job, Index begin, Index end) noexcept {
  job.weight.dtype == DType::kQ8_0 ? decode_blocks<DType::kQ8_0>(x, job, begin, end)
                                   : decode_blocks<DType::kQ4_0>(x, job, begin, end);
}

// ---- Many rows: as in matmul_prefill.inl. A lane multiplies a group of inputs at once, which is one word of 32 bits.

static_assert(kTileRows % Bytes::kRows == 0 && kStripRows % Bytes::kRows == 0);
inline constexpr Index kPanelBlocks = 8;  // blocks of weights that are packed at once

/// How weights are multiplied by words of x, where it is the same for all types.
struct Alike {
  static constexpr Index kWords = kBlock / Bytes::kGroup, kXWords = kWords;  ///< of a block
  using Integers = typename Bytes::Integers;
  static void widen_x(const std::int8_t* bytes, std::int32_t* words) noexcept { Bytes::widen_x(bytes, words); }
  template <DType dtype>
  static void widen_weights(const std::byte* packed, std::int32_t* words) noexcept {
    Bytes::template widen_weights<dtype>(packed, words);
  }
  static Integers first(const std::int32_t* starts) noexcept { return Bytes::load(starts); }
  static Integers add_products(Integers sum, Integers x, Integers weights) noexcept { return Bytes::add_products(sum, x, weights); }
  static Integers total(Integers sum, const std::int32_t*) noexcept { return sum; }
};

/// How weights of a type are multiplied: nibbles perhaps in a way of their own.
template <DType dtype, class B>
struct Multiplied {
  using Tile = Alike;
};
template <class B>
  requires requires { typename B::Nibbles; }
struct Multiplied<DType::kQ4_0, B> {
  using Tile = typename B::Nibbles;
};
template <DType dtype>
using Tile = typename Multiplied<dtype, Bytes>::Tile;
inline constexpr bool kTwoTiles = !std::is_same_v<Tile<DType::kQ4_0>, Alike>;

/// Words of x of a block, for a block of rows: [kXWords, kRows], and the rows' scales.
template <class Tile>
inline constexpr Index kTileBlock = (Tile::kXWords + 1) * Bytes::kRows;
inline constexpr Index kPackedBlock = kTileBlock<Alike> + (kTwoTiles ? kTileBlock<Tile<DType::kQ4_0>> : 0);

/// Weights of kPanel outputs and up to kPanelBlocks blocks of inputs.
struct BlockPanel {
  static constexpr Index kWords = std::max(Alike::kWords, Tile<DType::kQ4_0>::kWords);  ///< of a block
  alignas(64) std::int32_t words[kPanelBlocks * kWords * kPanel];  ///< [words, kPanel]
  alignas(64) std::int32_t starts[kPanelBlocks * kPanel];          ///< [blocks, kPanel]: what a block's sum begins with
  alignas(64) float scales[kPanelBlocks * kPanel];                 ///< [blocks, kPanel]
};

/// Where block `block` of a block of rows lies, as `Tile` wants it: what meets a panel at once lies together, [panels' inputs,
/// blocks of rows, blocks], as with floats.
template <class Tile>
inline Index packed_at(Index rows, Index blocks, Index block_of_rows, Index block) noexcept {
  const Index all = (rows + Bytes::kRows - 1) / Bytes::kRows, within = block % kPanelBlocks, before = block - within;
  const Index first = std::is_same_v<Tile, Alike> ? 0 : all * blocks * kTileBlock<Alike>;
  return first + (before * all + block_of_rows * std::min(kPanelBlocks, blocks - before) + within) * kTileBlock<Tile>;
}

/// A row's share of a block.
template <class Tile>
inline void pack_block(const std::int8_t* bytes, float scale, Index row, std::int32_t* to) noexcept {
  std::int32_t words[Tile::kXWords];
  Tile::widen_x(bytes, words);
  for (Index w = 0; w < Tile::kXWords; ++w) to[w * Bytes::kRows + row] = words[w];
  std::memcpy(to + Tile::kXWords * Bytes::kRows + row, &scale, sizeof scale);
}

inline void pack_blocks(ConstMatrixView x, Index block_of_rows, std::int32_t* packed) noexcept {
  const Index begin = block_of_rows * Bytes::kRows, rows = std::min<Index>(Bytes::kRows, x.rows() - begin);
  const Index blocks = (x.cols() + kBlock - 1) / kBlock;
  for (Index b = 0; b < blocks; ++b) {
    for (Index r = 0; r < Bytes::kRows; ++r) {
      alignas(32) std::int8_t bytes[kBlock] = {};
      const float scale = r < rows ? round_block(x.row(begin + r).data(), x.cols(), b, bytes) : 0.0f;
      pack_block<Alike>(bytes, scale, r, packed + packed_at<Alike>(x.rows(), blocks, block_of_rows, b));
      if constexpr (kTwoTiles) {
        using Other = Tile<DType::kQ4_0>;
        pack_block<Other>(bytes, scale, r, packed + packed_at<Other>(x.rows(), blocks, block_of_rows, b));
      }
    }
  }
}

/// Blocks [block, block + blocks) of outputs [begin, begin + count), zeros beyond the last one.
template <DType dtype>
inline void pack_block_panel(const WeightMatrix& w, Index begin, Index count, Index block, Index blocks, BlockPanel& panel) noexcept {
  constexpr Index kWidth = Ops::kWidth, kWords = Tile<dtype>::kWords, kRow = kPanelBlocks * kWords;
  alignas(64) std::int32_t rows[kWidth * kRow];  // [outputs, words]
  for (Index half = 0; half < kPanel; half += kWidth) {
    for (Index j = 0; j < kWidth; ++j) {
      if (half + j >= count) {
        std::memset(rows + j * kRow, 0, sizeof(std::int32_t) * kRow);
        for (Index b = 0; b < blocks; ++b) panel.scales[b * kPanel + half + j] = 0.0f;
        continue;
      }
      const std::byte* from = w.row(begin + half + j) + static_cast<std::size_t>(block) * size_of(dtype);
      for (Index b = 0; b < blocks; ++b, from += size_of(dtype)) {
        panel.scales[b * kPanel + half + j] = Bytes::half(from);
        Tile<dtype>::template widen_weights<dtype>(from + kScaleBytes, rows + j * kRow + b * kWords);
      }
    }
    for (Index word = 0; word < blocks * kWords; word += kWidth) {  // squares are turned in registers, the last one with rubbish
      V square[kWidth];
      DUET_UNROLL for (Index j = 0; j < kWidth; ++j) square[j] = Ops::load(reinterpret_cast<const float*>(rows + j * kRow + word));
      Ops::transpose(square);
      DUET_UNROLL for (Index i = 0; i < kWidth; ++i) {
        Ops::store(reinterpret_cast<float*>(panel.words + (word + i) * kPanel + half), square[i]);
      }
    }
    for (Index b = 0; b < blocks; ++b) Bytes::start(panel.words + b * kWords * kPanel + half, kPanel, kWords, panel.starts + b * kPanel + half);
  }
}

/// sums [rows, kPanel] += x blocks · panel, for `rows` rows of a block of rows.
template <class Tile, int rows>
inline void multiply_panel(const std::int32_t* x, const BlockPanel& panel, Index blocks, float* sums) noexcept {
  using Integers = typename Bytes::Integers;
  constexpr Index kWords = Tile::kWords;
  for (Index b = 0; b < blocks; ++b, x += kTileBlock<Tile>) {
    const std::int32_t *words = panel.words + b * kWords * kPanel, *starts = panel.starts + b * kPanel;
    Integers low[rows], high[rows];
    DUET_UNROLL for (int r = 0; r < rows; ++r) {
      low[r] = Tile::first(starts);
      high[r] = Tile::first(starts + Ops::kWidth);
    }
    for (Index word = 0; word < kWords; ++word) {
      const Integers left = Bytes::load(words + word * kPanel), right = Bytes::load(words + word * kPanel + Ops::kWidth);
      DUET_UNROLL for (int r = 0; r < rows; ++r) {
        const Integers value = Bytes::broadcast(x[word * Bytes::kRows + r]);
        low[r] = Tile::add_products(low[r], value, left);
        high[r] = Tile::add_products(high[r], value, right);
      }
    }
    // Through memory: were they still wanted in registers below, g++ would keep them on the stack above as well.
    alignas(64) std::int32_t products[rows * kPanel];
    DUET_UNROLL for (int r = 0; r < rows; ++r) {
      Bytes::store_products(products + r * kPanel, Tile::total(low[r], x + r));
      Bytes::store_products(products + r * kPanel + Ops::kWidth, Tile::total(high[r], x + r));
    }
    DUET_MEMORY_BARRIER();
    const float* scales = reinterpret_cast<const float*>(x + Tile::kXWords * Bytes::kRows);
    const V left_scale = Ops::load(panel.scales + b * kPanel), right_scale = Ops::load(panel.scales + b * kPanel + Ops::kWidth);
    for (int r = 0; r < rows; ++r) {
      float* row = sums + r * kPanel;
      const V scale = Ops::broadcast(scales[r]);
      const V left = Bytes::to_float(Bytes::load(products + r * kPanel));
      const V right = Bytes::to_float(Bytes::load(products + r * kPanel + Ops::kWidth));
      Ops::store(row, Ops::fma(left, Ops::mul(left_scale, scale), Ops::load(row)));
      Ops::store(row + Ops::kWidth, Ops::fma(right, Ops::mul(right_scale, scale), Ops::load(row + Ops::kWidth)));
    }
  }
}

template <DType dtype>
inline void prefill_blocks(const PackedBlocks& x, const MatmulJob& job, Index begin, Index end) noexcept {
  BlockPanel panels[kPrefillOutputs / kPanel];
  TaskSums sums;
  for (Index tile = 0; tile < x.rows; tile += kTileRows) {
    const Index rows = std::min(kTileRows, x.rows - tile);
    sums.clear(rows, end - begin);
    for (Index block = 0; block < x.blocks; block += kPanelBlocks) {
      const Index blocks = std::min(kPanelBlocks, x.blocks - block);
      for (Index p = 0; begin + p * kPanel < end; ++p) {
        pack_block_panel<dtype>(job.weight, begin + p * kPanel, std::min(kPanel, end - begin - p * kPanel), block, blocks, panels[p]);
      }
      for_strips<Bytes::kRows>(rows, end - begin, [&](Index r, Index count, Index p) {
        const std::int32_t* from = x.words + packed_at<Tile<dtype>>(x.rows, x.blocks, (tile + r) / Bytes::kRows, block);
        for_rows<Bytes::kRows>(count, [&](auto n) { multiply_panel<Tile<dtype>, n()>(from, panels[p], blocks, sums.at(p, r)); });
      });
    }
    sums.finish_rows(job, tile, rows, begin, end);
  }
}

inline void prefill_quantized(const PackedBlocks& x, const MatmulJob& job, Index begin, Index end) noexcept {
  job.weight.dtype == DType::kQ8_0 ? prefill_blocks<DType::kQ8_0>(x, job, begin, end) : prefill_blocks<DType::kQ4_0>(x, job, begin, end);
}

inline constexpr QuantizedKernels kQuantizedKernels{Bytes::kRows,   kPanel,       kPackedBlock,       &round_row,
                                                    &pack_blocks, &prefill_quantized, &decode_quantized};
