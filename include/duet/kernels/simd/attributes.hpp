#pragma once

#include "duet/kernels/isa_namespace.hpp"

// How SIMD code is fast in a unit compiled without any -m flag, in g++ and clang, and correct at -O0:
//
//   * Kernels and mathematical functions are templates over a vector type V, always inlined and free of target
//     attributes (DUET_INLINE). They never stand in the binary on their own.
//   * The operations of a vector type carry its target. They are not always-inline, which would be an error inside code
//     without a target; they take and return V through memory (V is not trivially copyable, so the ABI passes a pointer
//     whatever the flags), which costs nothing once they are inlined and is right when they are not.
//   * The one function that a table or a pointer names (simd/dispatch.hpp) carries the target, and there everything
//     comes together.
#define DUET_INLINE __attribute__((always_inline)) inline
#define DUET_FLATTEN __attribute__((flatten))

#if DUET_X86
#define DUET_AVX2 __attribute__((target("avx2,fma,f16c")))
#define DUET_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")))
#define DUET_AVX512VNNI __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")))
#endif
