#pragma once

#include "duet/kernels/kernel_table.hpp"
#include "duet/kernels/simd/vec16.hpp"
#include "duet/kernels/simd/vec4.hpp"
#include "duet/kernels/simd/vec4x2.hpp"
#include "duet/kernels/simd/vec8.hpp"

namespace duet::kernels {
inline namespace DUET_ISA_NAMESPACE {

/// Kernel::run<V>(arguments...) compiled for one instruction set, whatever flags this unit has. A kernel is a struct with
/// `template <class V> DUET_INLINE static void run(...)`.
template <class Kernel, class... Arguments>
DUET_FLATTEN void on_portable(Arguments... arguments) noexcept {
  Kernel::template run<Vec4>(arguments...);
}
#if DUET_X86
template <class Kernel, class... Arguments>
DUET_AVX2 DUET_FLATTEN void on_avx2(Arguments... arguments) noexcept {
  Kernel::template run<Vec8>(arguments...);
}
template <class Kernel, class... Arguments>
DUET_AVX512 DUET_FLATTEN void on_avx512(Arguments... arguments) noexcept {
  Kernel::template run<Vec16>(arguments...);
}
#elif DUET_NEON
template <class Kernel, class... Arguments>
DUET_FLATTEN void on_neon(Arguments... arguments) noexcept {
  Kernel::template run<Vec4x2>(arguments...);
}
#endif

/// The function that runs Kernel with an instruction set.
template <class Kernel, class... Arguments>
[[nodiscard]] auto compiled_for(Isa isa) noexcept -> void (*)(Arguments...) noexcept {
#if DUET_X86
  if (isa == Isa::kAvx512 || isa == Isa::kAvx512Vnni) return &on_avx512<Kernel, Arguments...>;
  if (isa == Isa::kAvx2) return &on_avx2<Kernel, Arguments...>;
#elif DUET_NEON
  if (isa == Isa::kNeon || isa == Isa::kNeonDotprod) return &on_neon<Kernel, Arguments...>;
#endif
  static_cast<void>(isa);
  return &on_portable<Kernel, Arguments...>;
}

}  // namespace DUET_ISA_NAMESPACE
}  // namespace duet::kernels
