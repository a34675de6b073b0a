#include "duet/kernels/build_info.hpp"

#include <gmock/gmock.h>
#include <stdlib.h>

namespace duet {
namespace kernels_build_info {

TEST(BuildInfo, NamesTheKernelsThatRun) {
  ::unsetenv("DUET_ISA");
  const BuildInfo info = build_info();
  EXPECT_EQ(info.kernels, kernels::best_kernel_table().name);
  EXPECT_THAT(info.available, ::testing::StartsWith(std::string(info.kernels)));
  EXPECT_THAT(info.available, ::testing::EndsWith("portable"));
  EXPECT_EQ(info.version, DUET_VERSION);
}

TEST(BuildInfo, TheEnvironmentMayChoose) {
  ::setenv("DUET_ISA", "portable", 1);
  EXPECT_EQ(build_info().kernels, "portable");
  ::setenv("DUET_ISA", "sse", 1);
  EXPECT_THROW(static_cast<void>(build_info()), Error);
  ::unsetenv("DUET_ISA");
}

}  // namespace kernels_build_info
}  // namespace duet
