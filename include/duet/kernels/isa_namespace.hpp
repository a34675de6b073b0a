#pragma once

// Kernel bodies are inline functions, and two units of one program may be compiled with different instruction sets. Were
// their bodies to share a name, the linker would keep one of the two, perhaps the one that this machine cannot run. So the
// bodies live in an inline namespace named after the unit's flags. Types of the interface stay outside of it.
#if defined(__AVX512F__)
#define DUET_ISA_NAMESPACE built_for_avx512
#elif defined(__AVX2__)
#define DUET_ISA_NAMESPACE built_for_avx2
#elif defined(__AVX__)
#define DUET_ISA_NAMESPACE built_for_avx
#elif defined(__ARM_FEATURE_SVE)
#define DUET_ISA_NAMESPACE built_for_sve
#elif defined(__ARM_FEATURE_DOTPROD)
#define DUET_ISA_NAMESPACE built_for_neon_dotprod
#else
#define DUET_ISA_NAMESPACE built_for_baseline
#endif

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define DUET_X86 1
#include <immintrin.h>
#else
#define DUET_X86 0
#endif

// NEON is part of every 64-bit ARM processor, so its kernels need no flags; lanes are counted as little-endian memory has them.
#if defined(__aarch64__) && !defined(__AARCH64EB__) && (defined(__GNUC__) || defined(__clang__))
#define DUET_NEON 1
#include <arm_neon.h>
#else
#define DUET_NEON 0
#endif

// The compiler may not carry values past this point in registers that it could find in memory.
#if defined(__GNUC__) || defined(__clang__)
#define DUET_MEMORY_BARRIER() __asm__ volatile("" : : : "memory")
#else
#define DUET_MEMORY_BARRIER() static_cast<void>(0)
#endif

// Loops over registers must vanish: an array that a loop indexes lives in memory, and g++ -O2 keeps such loops.
#if defined(__clang__)
#define DUET_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define DUET_UNROLL _Pragma("GCC unroll 32")
#else
#define DUET_UNROLL
#endif
