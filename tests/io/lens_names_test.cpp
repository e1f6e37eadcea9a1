#include "io/lens_names.h"

#include <gtest/gtest.h>

namespace drrik::detail {
namespace {

TEST(LensNames, AreSplit) {
  const auto parts = split_lens_name("blocks.12.attn.hook_z");
  ASSERT_TRUE(parts);
  EXPECT_EQ(parts->layer, 12);
  EXPECT_EQ(parts->place, "attn.hook_z");
  EXPECT_EQ(make_lens_name(12, "attn.hook_z"), "blocks.12.attn.hook_z");
  for (const char* other :
       {"", "blocks", "blocks.", "blocks.1", "blocks.x.hook_mlp_out", "blocks.-1.hook_mlp_out",
        "blocks.1hook_mlp_out", "block.1.hook_mlp_out", "blocks.99999999999999999999.hook_mlp_out",
        "mlp_out"}) {
    EXPECT_FALSE(split_lens_name(other)) << other;
  }
}

TEST(LensNames, MapBothWays) {
  for (const char* own : {"embed", "pos_embed", "resid_pre", "q", "k", "v", "attn_z", "attn_out",
                          "resid_mid", "mlp_in", "mlp_post", "mlp_out", "resid_post"}) {
    EXPECT_EQ(find_own_place(find_lens_place(own)), own);
  }
  EXPECT_EQ(find_lens_place("mlp_out"), "hook_mlp_out");
  EXPECT_EQ(find_own_place("mlp.hook_out"), "mlp_out");
  EXPECT_EQ(find_own_place("hook_mlp_in"), "");  // the residual stream, not the MLP's input
  EXPECT_EQ(find_lens_place("nose"), "");
  EXPECT_EQ(find_own_place(""), "");
}

}  // namespace
}  // namespace drrik::detail
