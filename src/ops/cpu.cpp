#include "drrik/ops/cpu.h"

#include <hwy/highway.h>
#include <dnnl.hpp>

#include "drrik/base/error.h"
#include "drrik/base/threads.h"

namespace drrik {
namespace {

std::vector<std::int64_t> targets() {
  std::vector<std::int64_t> found;
  // Highway orders its target bits from best (low) to worst, within one architecture.
  const std::int64_t supported = hwy::SupportedTargets() & HWY_TARGETS;
  for (int bit = 0; bit < 63; ++bit) {
    const std::int64_t target = std::int64_t{1} << bit;
    if ((supported & target) != 0) found.push_back(target);
  }
  return found;
}

}  // namespace

std::string kernel_target() {
  const auto all = targets();
  return all.empty() ? "none" : hwy::TargetName(all.front());
}

std::vector<std::string> supported_kernel_targets() {
  std::vector<std::string> names;
  for (const std::int64_t target : targets()) names.emplace_back(hwy::TargetName(target));
  return names;
}

std::string gemm_instruction_set() {
  switch (dnnl::get_effective_cpu_isa()) {
    case dnnl::cpu_isa::sse41:
      return "sse41";
    case dnnl::cpu_isa::avx:
      return "avx";
    case dnnl::cpu_isa::avx2:
      return "avx2";
    case dnnl::cpu_isa::avx2_vnni:
      return "avx2_vnni";
    case dnnl::cpu_isa::avx512_core:
      return "avx512_core";
    case dnnl::cpu_isa::avx512_core_vnni:
      return "avx512_core_vnni";
    case dnnl::cpu_isa::avx512_core_bf16:
      return "avx512_core_bf16";
    case dnnl::cpu_isa::avx512_core_amx:
      return "avx512_core_amx";
    default:
      return "default";
  }
}

std::string gemm_library_version() {
  const dnnl_version_t* v = dnnl_version();
  return str(v->major, ".", v->minor, ".", v->patch);
}

std::string cpu_description() {
  return str("kernels ", kernel_target(), " (of ", join(supported_kernel_targets(), " "),
             "), products oneDNN ", gemm_library_version(), " ", gemm_instruction_set(), ", ",
             num_threads(), " threads");
}

}  // namespace drrik
