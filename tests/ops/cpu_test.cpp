#include "drrik/ops/cpu.h"

#include <algorithm>

#include "ops/ops_testing.h"

namespace drrik {
namespace {

TEST(Cpu, NamesWhatIsUsed) {
  const auto all = supported_kernel_targets();
  ASSERT_FALSE(all.empty());
  EXPECT_EQ(kernel_target(), all.front());
  EXPECT_NE(cpu_description().find(kernel_target()), std::string::npos);
  EXPECT_NE(cpu_description().find(gemm_library_version()), std::string::npos);
  EXPECT_FALSE(gemm_instruction_set().empty());
}

TEST(Cpu, FollowsARestrictionOfTheTargets) {
  const auto all = testing::all_targets();
  hwy::SetSupportedTargetsForTest(all.back());
  EXPECT_EQ(kernel_target(), hwy::TargetName(all.back()));
  hwy::SetSupportedTargetsForTest(0);
}

}  // namespace
}  // namespace drrik
