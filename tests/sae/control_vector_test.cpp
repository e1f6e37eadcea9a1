#include "drrik/sae/control_vector.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <filesystem>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "sae/made.h"

namespace drrik {
namespace {

SaeRecord at(const char* hook, std::int64_t layer) {
  SaeRecord record;
  record.hook_name = hook;
  record.layer = layer;
  return record;
}

TEST(ControlVector, SumsDirections) {
  const ReluSae sae = testing::make_sae(5, 8);
  const std::array<SteeredFeature, 2> features = {{{2, 4.0}, {7, -0.5}}};
  const std::vector<float> sum = sum_directions(sae, features);
  for (std::int64_t c = 0; c < 5; ++c) {
    EXPECT_FLOAT_EQ(sum[static_cast<std::size_t>(c)],
                    4.0F * sae.decoder()(2, c) - 0.5F * sae.decoder()(7, c));
  }
  EXPECT_THROW(sum_directions(sae, {}), Error);
  EXPECT_THROW(sum_directions(sae, std::array<SteeredFeature, 1>{{{8, 1.0}}}), Error);
  EXPECT_THROW(sum_directions(sae, std::array<SteeredFeature, 1>{{{-1, 1.0}}}), Error);
  EXPECT_THROW(sum_directions(sae, std::array<SteeredFeature, 1>{{{1, 1e300}}}), Error);
}

// llama.cpp adds direction.N behind block N, and has none for block 0.
TEST(ControlVector, KnowsWhereHooksAreAdded) {
  EXPECT_EQ(control_layer(at("resid_post", 5)), 5);
  EXPECT_EQ(control_layer(at("mlp_out", 5)), 5);
  EXPECT_EQ(control_layer(at("resid_pre", 5)), 4);
  for (const SaeRecord& record :
       {at("resid_post", 0), at("resid_pre", 1), at("attn_out", 5), at("mlp_post", 5),
        at("resid_mid", 5), at("resid_post", -1), at("", 3)}) {
    EXPECT_THROW(control_layer(record), Error) << record.hook_name << " " << record.layer;
  }
  SaeRecord transcoder = at("mlp_in", 5);
  transcoder.foreign_hook_name_out = "blocks.6.hook_mlp_out";
  EXPECT_EQ(control_layer(transcoder), 6);
}

// The whole file byte by byte, by the format's description.
TEST(ControlVector, WritesGguf) {
  const std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("drrik_gguf_" + std::to_string(getpid()));
  const std::array<float, 3> direction = {1.0F, -2.5F, 3.0F};
  write_control_vector(direction, 7, "llama", path);
  const std::string file = read_file(path);
  std::filesystem::remove(path);
  std::string wanted = "GGUF";
  const auto number = [&](auto value) {
    char bytes[sizeof value];
    std::memcpy(bytes, &value, sizeof value);
    wanted.append(bytes, sizeof value);
  };
  const auto text = [&](std::string_view t) {
    number(std::uint64_t{t.size()});
    wanted += t;
  };
  number(std::uint32_t{3});  // version
  number(std::uint64_t{1});  // tensors
  number(std::uint64_t{3});  // entries
  text("general.architecture");
  number(std::uint32_t{8});
  text("controlvector");
  text("controlvector.layer_count");
  number(std::uint32_t{5});
  number(std::int32_t{1});
  text("controlvector.model_hint");
  number(std::uint32_t{8});
  text("llama");
  text("direction.7");
  number(std::uint32_t{1});
  number(std::uint64_t{3});
  number(std::uint32_t{0});  // float32
  number(std::uint64_t{0});
  wanted.resize((wanted.size() + 31) / 32 * 32);
  for (const float v : direction) number(v);
  wanted.resize((wanted.size() + 31) / 32 * 32);
  EXPECT_EQ(file, wanted);
  EXPECT_THROW(write_control_vector(direction, 0, "llama", path), Error);
}

}  // namespace
}  // namespace drrik
