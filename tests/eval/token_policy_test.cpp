#include "drrik/eval/token_policy.h"

#include <gtest/gtest.h>

#include "activations/fixture.h"
#include "drrik/activations/store.h"
#include "drrik/base/error.h"
#include "drrik/io/npy.h"

namespace drrik {
namespace {

using test::Scratch;

Tokenizer demo_tokenizer() {
  return Tokenizer::from_folder(std::filesystem::path(DRRIK_ASSETS_DIR) / "demo/model");
}

// Two texts of 3 and 2 tokens, each with a special one at its beginning.
void save(const std::filesystem::path& folder, const Tokenizer& tokenizer, Positions positions,
          bool with_samples = true) {
  std::int32_t special = 0;
  while (!tokenizer.is_special(special)) ++special;
  std::int32_t plain = 0;
  while (tokenizer.is_special(plain)) ++plain;
  ActivationMetadata metadata;
  metadata.config.extraction.positions = positions;
  metadata.config.extraction.mlp_layers = {0};
  metadata.activation_dim = 2;
  metadata.layer_paths = {"layer"};
  const bool all = positions == Positions::kAll;
  const std::int64_t rows = all ? 5 : 2;
  metadata.num_rows = rows;
  metadata.num_samples = 2;
  metadata.samples = {{0, 0, all ? 3 : 1, "a", {special, plain, plain}},
                      {1, all ? 3 : 1, all ? 2 : 1, "b", {special, plain}}};
  if (!with_samples) metadata.samples.clear();
  save_activations(Tensor::zeros<float>({rows, 2}), metadata, folder);
}

TEST(TokenPolicy, LeavesOutRowsOfSpecialTokens) {
  const Tokenizer tokenizer = demo_tokenizer();
  const Scratch scratch;
  save(scratch / "all", tokenizer, Positions::kAll);
  const TokenPolicy out = token_policy(scratch / "all", &tokenizer, SpecialTokens::kLeaveOut);
  EXPECT_EQ(out.keep, (std::vector<std::uint8_t>{0, 1, 1, 0, 1}));
  EXPECT_EQ(out.cluster_starts, (std::vector<std::int64_t>{0, 3}));
  EXPECT_EQ(out.special_rows, 2);
  EXPECT_NE(out.statement.find("the 2 rows of special tokens"), std::string::npos);
  const TokenPolicy in = token_policy(scratch / "all", &tokenizer, SpecialTokens::kCount);
  EXPECT_TRUE(in.keep.empty());
  EXPECT_EQ(in.special_rows, 2);
  EXPECT_NE(in.statement.find("every row"), std::string::npos);
}

TEST(TokenPolicy, KnowsWhichTokenARowIs) {
  const Tokenizer tokenizer = demo_tokenizer();
  const Scratch scratch;
  save(scratch / "last", tokenizer, Positions::kLast);
  EXPECT_EQ(token_policy(scratch / "last", &tokenizer, SpecialTokens::kLeaveOut).special_rows, 0);
  save(scratch / "first", tokenizer, Positions::kFirst);
  EXPECT_EQ(token_policy(scratch / "first", &tokenizer, SpecialTokens::kCount).special_rows, 2);
  EXPECT_THROW(token_policy(scratch / "first", &tokenizer, SpecialTokens::kLeaveOut), Error);
}

TEST(TokenPolicy, SaysWhatIsNotKnown) {
  const Tokenizer tokenizer = demo_tokenizer();
  const Scratch scratch;
  const auto unknown = [&](const char* name, const Tokenizer* words, const char* why) {
    const TokenPolicy policy = token_policy(scratch / name, words, SpecialTokens::kCount);
    EXPECT_EQ(policy.special_rows, -1);
    EXPECT_TRUE(policy.keep.empty());
    EXPECT_NE(policy.statement.find(why), std::string::npos) << policy.statement;
    try {
      token_policy(scratch / name, words, SpecialTokens::kLeaveOut);
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUsage);
      EXPECT_NE(std::string(error.what()).find(why), std::string::npos) << error.what();
    }
    return policy;
  };
  save(scratch / "mean", tokenizer, Positions::kMean);
  unknown("mean", &tokenizer, "means over a text's tokens");
  save(scratch / "all", tokenizer, Positions::kAll);
  EXPECT_EQ(unknown("all", nullptr, "tokenizer").cluster_starts.size(), 2U);
  save(scratch / "bare", tokenizer, Positions::kAll, false);
  EXPECT_TRUE(unknown("bare", &tokenizer, "without its samples").cluster_starts.empty());
  write_npy(scratch / "file.npy", Tensor::zeros<float>({3, 2}));
  unknown("file.npy", &tokenizer, "metadata.json");
}

}  // namespace
}  // namespace drrik
