#pragma once
// Loops over registers must be unrolled at every optimisation level, or the registers become
// memory.

#if defined(__clang__)
#define DRRIK_UNROLL _Pragma("clang loop unroll(full)")
#else
#define DRRIK_UNROLL _Pragma("GCC unroll 16")
#endif
