#include "two_units.hpp"

duet::Matrix matrix_from_b(duet::Index rows) {
  duet::Matrix matrix(rows, 7);
  matrix.eigen().setOnes();
  return matrix;
}
double sum_in_b(duet::Matrix matrix) { return static_cast<double>(matrix.eigen().sum()); }
duet::Image image_from_b(const char* path) { return duet::Image::open(path); }
double kernel_sum_in_b(duet::ConstMatrixView x) {
  duet::Threads threads(1);
  duet::Workspace workspace({&duet::kernels::best_kernel_table(), &threads});
  std::vector<float> ones(static_cast<std::size_t>(x.cols()), 1.0f);
  const duet::WeightMatrix weight{reinterpret_cast<const std::byte*>(ones.data()), duet::DType::kF32, duet::WeightLayout::kOutIn, 1, x.cols(), x.cols()};
  duet::Matrix sums(x.rows(), 1);
  const duet::kernels::MatmulJob job{weight, nullptr, nullptr, sums, duet::kernels::Store::kAssign};
  duet::kernels::matmul(x, std::span(&job, 1), duet::Phase::kPrefill, workspace);
  return static_cast<double>(sums.eigen().sum());
}
