#pragma once
// Which instruction sets this machine has and which ones the kernels run with.

#include <string>
#include <vector>

namespace drrik {

/// The Highway target the element-wise and attention kernels are dispatched to: "AVX3", "AVX2",
/// "SSE4", "NEON", or "SCALAR" (portable code).
std::string kernel_target();

/// Every Highway target compiled in that this machine can run, best first.
std::vector<std::string> supported_kernel_targets();

/// The instruction set oneDNN uses for matrix products: "avx512_core_bf16", "avx2", "default", ...
std::string gemm_instruction_set();

/// oneDNN's version, "2.6.3".
std::string gemm_library_version();

/// One line for `drrik --version`: "kernels AVX3 (of AVX3 AVX2 SSE4 SCALAR), products oneDNN
/// 2.6.3 avx512_core_bf16, 2 threads".
std::string cpu_description();

}  // namespace drrik
