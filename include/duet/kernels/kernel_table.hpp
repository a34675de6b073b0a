#pragma once

#include <cstdlib>
#include <string>
#include <string_view>

#include "duet/core/error.hpp"
#include "duet/kernels/matmul_types.hpp"
#include "duet/kernels/simd/quad_sums.hpp"
#include "duet/kernels/simd/quantized_avx2.hpp"
#include "duet/kernels/simd/quantized_avx512.hpp"
#include "duet/kernels/simd/quantized_neon.hpp"
#include "duet/kernels/simd/quantized_portable.hpp"

#if DUET_NEON && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace duet::kernels {

/// Instruction sets that kernels are written for.
enum class Isa : unsigned char { kPortable, kAvx2, kAvx512, kAvx512Vnni, kNeon, kNeonDotprod };

/// All of them, the fastest first.
inline constexpr Isa kIsas[] = {Isa::kAvx512Vnni, Isa::kAvx512, Isa::kAvx2, Isa::kNeonDotprod, Isa::kNeon, Isa::kPortable};

/// The kernels of one instruction set. A model gets a pointer to one when it is loaded: there is no global choice, and a
/// test may hold models of two sets in one process.
struct KernelTable {
  Isa isa;
  std::string_view name;
  MatmulKernels matmul;
  QuantizedKernels quantized;
  QuadKernels quads;
};

inline namespace DUET_ISA_NAMESPACE {

#if DUET_NEON
namespace detail {

/// Whether this processor multiplies four bytes by four bytes a lane (ARMv8.2's dot product).
inline bool has_dotprod() noexcept {
#if defined(__ARM_FEATURE_DOTPROD)
  return true;
#elif defined(__linux__)
  constexpr unsigned long kAsimdDp = 1ul << 20;  // HWCAP_ASIMDDP of the kernel's <asm/hwcap.h>
  return (::getauxval(AT_HWCAP) & kAsimdDp) != 0;
#else
  return false;
#endif
}

}  // namespace detail
#endif

/// Whether this processor has an instruction set.
inline bool supports(Isa isa) noexcept {
  if (isa == Isa::kPortable) return true;
#if DUET_X86
  __builtin_cpu_init();
  // Every processor with AVX2 converts half floats (F16C); clang 14 cannot ask for it by name.
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (isa == Isa::kAvx512Vnni) return avx512 && __builtin_cpu_supports("avx512vnni");
  return isa == Isa::kAvx512 ? avx512 : isa == Isa::kAvx2 && avx2;
#elif DUET_NEON
  return isa == Isa::kNeon || (isa == Isa::kNeonDotprod && detail::has_dotprod());
#else
  return false;
#endif
}

/// Requires supports(isa)
inline const KernelTable& kernel_table(Isa isa) noexcept {
  static constexpr KernelTable portable_table{Isa::kPortable, "portable", portable::kMatmulKernels, portable::kQuantizedKernels,
                                               quads::kPortable};
#if DUET_X86
  static constexpr KernelTable avx2_table{Isa::kAvx2, "avx2", avx2::kMatmulKernels, avx2::kQuantizedKernels, quads::kAvx2};
  static constexpr KernelTable avx512_table{Isa::kAvx512, "avx512", avx512::kMatmulKernels, avx2::kQuantizedKernels,
                                             quads::kAvx512};
  static constexpr KernelTable vnni_table{Isa::kAvx512Vnni, "avx512vnni", avx512::kMatmulKernels, avx512::kQuantizedKernels,
                                           quads::kVnni};
  if (isa == Isa::kAvx2) return avx2_table;
  if (isa == Isa::kAvx512) return avx512_table;
  if (isa == Isa::kAvx512Vnni) return vnni_table;
#elif DUET_NEON
  static constexpr KernelTable neon_table{Isa::kNeon, "neon", neon::kMatmulKernels, neon::kQuantizedKernels, quads::kNeon};
  static constexpr KernelTable dotprod_table{Isa::kNeonDotprod, "neon_dotprod", neon::kMatmulKernels,
                                             neon::dotprod::kQuantizedKernels, quads::kNeon};
  if (isa == Isa::kNeon) return neon_table;
  if (isa == Isa::kNeonDotprod) return dotprod_table;
#endif
  static_cast<void>(isa);
  return portable_table;
}

/// The fastest table this processor can run, or the one that the environment's DUET_ISA names.
/// Errors  kInvalidArgument when DUET_ISA names none, or one this processor lacks
inline const KernelTable& best_kernel_table() {
  const char* wish = std::getenv("DUET_ISA");
  for (const Isa isa : kIsas) {
    if (!supports(isa)) continue;
    const KernelTable& table = kernel_table(isa);
    if (wish == nullptr || *wish == '\0' || table.name == wish) return table;
  }
  throw Error(ErrorKind::kInvalidArgument, "environment variable DUET_ISA", std::string("\"") + wish + '"',
              "portable, avx2, avx512, avx512vnni, neon or neon_dotprod, as this processor has them");
}

}  // namespace DUET_ISA_NAMESPACE
}  // namespace duet::kernels
