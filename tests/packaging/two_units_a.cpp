#include "two_units.hpp"

namespace {

double kernel_sum_in_a(duet::ConstMatrixView x) {
  duet::Threads threads(2);
  duet::Workspace workspace({&duet::kernels::best_kernel_table(), &threads});
  std::vector<float> ones(static_cast<std::size_t>(x.cols()), 1.0f);
  const duet::WeightMatrix weight{reinterpret_cast<const std::byte*>(ones.data()), duet::DType::kF32, duet::WeightLayout::kOutIn, 1, x.cols(), x.cols()};
  duet::Matrix sums(x.rows(), 1);
  const duet::kernels::MatmulJob job{weight, nullptr, nullptr, sums, duet::kernels::Store::kAssign};
  duet::kernels::matmul(x, std::span(&job, 1), duet::Phase::kPrefill, workspace);
  return static_cast<double>(sums.eigen().sum());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  duet::Matrix mine = matrix_from_b(33);
  const bool same = kernel_sum_in_a(mine) == kernel_sum_in_b(mine);
  const duet::Image a = duet::Image::open(argv[1]), b = image_from_b(argv[1]);
  const bool equal = std::ranges::equal(a.rgb(), b.rgb());
  return same && equal && sum_in_b(std::move(mine)) == 33.0 * 7 ? 0 : 1;
}
