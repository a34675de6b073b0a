#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "duet/core/workspace.hpp"
#include "duet/kernels/kernel_table.hpp"

namespace duet::test {

/// Everything a kernel needs to run: an instruction set and threads of its own.
class KernelMachine {
 public:
  explicit KernelMachine(kernels::Isa isa, int num_threads = 1)
      : threads_(std::make_unique<Threads>(num_threads)),
        workspace_(Compute{&kernels::kernel_table(isa), threads_.get()}) {}
  [[nodiscard]] Workspace& workspace() noexcept { return workspace_; }

 private:
  std::unique_ptr<Threads> threads_;
  Workspace workspace_;
};

/// The instruction sets that this processor can run.
inline std::vector<kernels::Isa> runnable_isas() {
  std::vector<kernels::Isa> result;
  for (const kernels::Isa isa : kernels::kIsas) {
    if (kernels::supports(isa)) result.push_back(isa);
  }
  return result;
}

/// Standard normal floats, the same on every machine that has the same library.
inline std::vector<float> normal_floats(Index count, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = normal(generator);
  return values;
}

inline Matrix normal_matrix(Index rows, Index cols, unsigned seed) {
  Matrix result(rows, cols);
  std::ranges::copy(normal_floats(rows * cols, seed), result.view().data());
  return result;
}

inline bool same_bits(ConstMatrixView a, ConstMatrixView b) {
  if (a.rows() != b.rows() || a.cols() != b.cols()) return false;
  for (Index i = 0; i < a.rows(); ++i) {
    if (std::memcmp(a.row(i).data(), b.row(i).data(), static_cast<std::size_t>(a.cols()) * sizeof(float)) != 0) return false;
  }
  return true;
}

}  // namespace duet::test
