#include "duet/kernels/simd/quad_sums.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "support/kernel_machine.hpp"

namespace duet {
namespace kernels_quad_sums {

using kernels::kQuad;
using kernels::kQuadBytes;
using kernels::kQuadLanes;

TEST(QuadSums, AreExactForAnyNumberOfHeadsAndQuads) {
  constexpr Index kStride = 70;  // numbers of a head: more than are multiplied
  std::mt19937 generator(1);
  for (const kernels::Isa isa : test::runnable_isas()) {
    const kernels::QuadKernels& quads = kernels::kernel_table(isa).quads;
    for (const Index count : {0, 1, 2, 3, 8, 16}) {
      for (const bool extreme : {false, true}) {
        std::vector<std::int8_t> bytes(static_cast<std::size_t>(count * kQuadBytes));
        for (std::int8_t& x : bytes) x = static_cast<std::int8_t>(extreme ? -127 : static_cast<int>(generator() % 255) - 127);
        std::vector<std::int16_t> numbers(4 * kStride);
        for (std::int16_t& x : numbers) x = static_cast<std::int16_t>(extreme ? 32767 : static_cast<int>(generator() % 65535) - 32767);
        for (int heads = 1; heads <= kernels::QuadKernels::kHeads; ++heads) {
          std::vector<std::int32_t> sums(4 * kQuadLanes, 77);
          quads.sum[heads - 1](bytes.data(), count, numbers.data(), kStride, sums.data());
          for (Index h = 0; h < 4; ++h) {
            for (Index lane = 0; lane < kQuadLanes; ++lane) {
              std::int32_t expected = 0;
              for (Index i = 0; i < count * kQuad; ++i) {
                expected += bytes[static_cast<std::size_t>(kernels::place_in_quads(lane, i))] * numbers[static_cast<std::size_t>(h * kStride + i)];
              }
              ASSERT_EQ(sums[static_cast<std::size_t>(h * kQuadLanes + lane)], h < heads ? expected : 77) << heads << ' ' << count;
            }
          }
        }
      }
    }
  }
}

TEST(QuadSums, EveryByteHasOnePlace) {
  std::vector<int> taken(4 * kQuadBytes);
  for (Index lane = 0; lane < kQuadLanes; ++lane) {
    for (Index i = 0; i < 4 * kQuad; ++i) ++taken.at(static_cast<std::size_t>(kernels::place_in_quads(lane, i)));
  }
  EXPECT_TRUE(std::ranges::all_of(taken, [](int n) { return n == 1; }));
}

}  // namespace kernels_quad_sums
}  // namespace duet
