#pragma once

#include <cstdint>

#include "duet/core/quantized_block.hpp"
#include "duet/core/weight_matrix.hpp"
#include "duet/kernels/activation_fn.hpp"

namespace duet::kernels {

/// What a matmul does with what stands in its output.
enum class Store : unsigned char {
  kAssign,  ///< replaces it
  kAdd,     ///< adds to it: a residual branch
};

/// One linear map of a matmul: out (+)= activation(x · Wᵀ + bias).
struct MatmulJob {
  WeightMatrix weight;            ///< [out_features, in_features]
  const float* bias = nullptr;    ///< [out_features] or null
  ActivationFn activation = nullptr;
  MatrixView out;                 ///< [rows, out_features]
  Store store = Store::kAssign;
};

/// Outputs of one prefill task at most, whole panels of every instruction set: weights are read in longer runs, and rows of x
/// that came into the second-level cache serve them all.
inline constexpr Index kPrefillOutputs = 64;

/// Rows of x packed for the prefill micro-kernel: for each chunk of inputs that meets a panel at once, blocks of
/// `block_rows` rows, each [chunk, block_rows], the last one filled up with zeros.
struct PackedRows {
  const float* data = nullptr;
  Index rows = 0, in_features = 0;
};

/// What parts of the inputs add to the outputs of a job: [parts, rows, stride].
struct InputSums {
  const float* data = nullptr;
  Index parts = 0, stride = 0;
};

/// A few rows of x rounded to bytes, for quantized weights: each block of 32 inputs has a scale of its own.
struct RoundedRows {
  std::int8_t* bytes = nullptr;        ///< [rows, blocks, 32]
  float* scales = nullptr;             ///< [rows, blocks]
  std::int32_t* minus_sums = nullptr;  ///< [rows, blocks]: of the bytes
  Index rows = 0, blocks = 0;
};

/// Rows of x rounded and packed likewise for quantized weights: chunks of blocks of `block_rows` rows, each [blocks of the
/// chunk, packed_words].
struct PackedBlocks {
  const std::int32_t* words = nullptr;
  Index rows = 0, blocks = 0;
};

/// The instruction set's share of a matmul by quantized weights, [out, in].
struct QuantizedKernels {
  Index block_rows;    ///< rows of x that the micro-kernel takes at once
  Index panel;         ///< outputs that the micro-kernel computes at once
  Index packed_words;  ///< of a block of inputs, for a block of rows
  /// Rounds row `row` of x to its place in `to`.
  void (*round_row)(ConstMatrixView x, Index row, const RoundedRows& to) noexcept;
  /// Rounds and packs block `block` of rows of x.
  void (*pack_rows)(ConstMatrixView x, Index block, std::int32_t* packed) noexcept;
  /// Outputs [begin, end) of a job, at most kPrefillOutputs from a whole panel on, for all rows.
  void (*prefill)(const PackedBlocks& x, const MatmulJob& job, Index begin, Index end) noexcept;
  /// Outputs [begin, end) of a job, for a few rows, reading each weight once.
  void (*decode)(const RoundedRows& x, const MatmulJob& job, Index begin, Index end) noexcept;
};

/// The instruction set's share of a matmul. Work is cut by outputs, or by inputs in parts that the weights alone decide, so
/// that no cut changes a bit.
struct MatmulKernels {
  Index block_rows;  ///< rows of x that the micro-kernel takes at once
  Index panel;       ///< outputs that the micro-kernel computes at once
  /// Packs block `block` of x.
  void (*pack_rows)(ConstMatrixView x, Index block, float* packed) noexcept;
  /// Outputs [begin, end) of a job, at most kPrefillOutputs from a whole panel on, for all rows.
  void (*prefill)(const PackedRows& x, const MatmulJob& job, Index begin, Index end) noexcept;
  /// Outputs [begin, end) of a job with weights [out, in], for a few rows, reading each weight once.
  void (*decode_outputs)(ConstMatrixView x, const MatmulJob& job, Index begin, Index end) noexcept;
  /// What inputs [begin, end) add to all outputs of weights [in, out]: sums [rows, out_features].
  void (*decode_inputs)(ConstMatrixView x, const WeightMatrix& weight, Index begin, Index end, float* sums) noexcept;
  /// Outputs [begin, end) of a job from such sums.
  void (*join_inputs)(const MatmulJob& job, const InputSums& sums, Index begin, Index end) noexcept;
  /// Runs `rounds` rounds of independent multiply-adds; returns how many were done. `sink` [16] keeps them from being removed.
  double (*multiply_adds)(Index rounds, float* sink) noexcept;
  /// Reads `count` floats as fast as it can, as one run or as four side by side; the sum keeps the reads from being removed.
  float (*read)(const float* data, Index count, Index runs) noexcept;
};

}  // namespace duet::kernels
