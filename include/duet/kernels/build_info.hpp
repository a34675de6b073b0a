#pragma once

#include <string>
#include <string_view>

#include "duet/kernels/kernel_table.hpp"

namespace duet {

inline constexpr std::string_view kVersion = "0.1.0";

/// What this program was built with, and which kernels it runs on this machine.
struct BuildInfo {
  std::string_view version, compiler;
  std::string_view unit;     ///< instruction set of the unit that asks: what its flags allow outside of the kernels
  std::string_view kernels;  ///< that models will be given: the fastest this processor can run, or DUET_ISA's
  std::string available;     ///< all that this processor can run, the fastest first
};

/// Errors  kInvalidArgument when the environment's DUET_ISA names no kernels that this processor can run
[[nodiscard]] inline BuildInfo build_info() {
  BuildInfo info{kVersion, __VERSION__, "baseline", kernels::best_kernel_table().name, {}};
#if defined(__AVX512F__)
  info.unit = "avx512";
#elif defined(__AVX2__)
  info.unit = "avx2";
#elif defined(__AVX__)
  info.unit = "avx";
#elif defined(__ARM_FEATURE_SVE)
  info.unit = "sve";
#elif defined(__ARM_FEATURE_DOTPROD)
  info.unit = "neon_dotprod";
#endif
  for (const kernels::Isa isa : kernels::kIsas) {
    if (!kernels::supports(isa)) continue;
    info.available += concat(info.available.empty() ? "" : ", ", kernels::kernel_table(isa).name);
  }
  return info;
}

}  // namespace duet
