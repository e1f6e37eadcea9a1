// Files of tokens with ranks (tiktoken, tekken.json) against the packages they belong to
// (tools/reference/tokenizer_ranks.py), and broken ones.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/text/tokenizer.h"
#include "text/byte_ranks.h"
#include "text/precompiled.h"
#include "text_test_util.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;
using text_test::data_path;
using text_test::digest;
using text_test::Json;

class Ranks : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) /
              (std::string("drrik_ranks_") +
               testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  fs::path write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name, std::ios::binary) << text;
    return folder_ / name;
  }
  template <typename F>
  static std::string refusal(F load) {
    try {
      load();
    } catch (const Error& error) {
      return error.what();
    }
    return "none";
  }
  fs::path folder_;
};

/// The digest of the ids of the golden strings.
std::string golden_ids(const Tokenizer& tokenizer, bool skip_with_special) {
  const Json strings = Json::parse(read_file(data_path("golden.json")))["strings"];
  std::uint64_t value = digest({});
  for (const std::string text : strings) {
    bool special = false;
    for (std::int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
      special = special || (tokenizer.is_special(id) &&
                            text.find(tokenizer.token_text(id)) != std::string::npos);
    }
    if (special && skip_with_special) continue;
    const std::vector<std::int32_t> ids = tokenizer.encode(text);
    const auto count = static_cast<std::int32_t>(ids.size());
    value = digest(ids, digest({&count, 1}, value));
  }
  return std::to_string(value);
}

TEST_F(Ranks, TiktokenFilesAreCutAsTheirNamesSay) {
  const Json want = Json::parse(read_file(data_path("ranks.json")));
  const std::string ranks = read_file(data_path("ranks.tiktoken"));
  for (const char* name : {"r50k_base", "cl100k_base", "o200k_base", "qwen"}) {
    const Tokenizer tokenizer = Tokenizer::from_file(write(std::string(name) + ".tiktoken", ranks));
    EXPECT_EQ(golden_ids(tokenizer, false), want[name]) << name;
  }
}

TEST_F(Ranks, TekkenFilesGiveTheIdsOfMistralCommon) {
  const Json want = Json::parse(read_file(data_path("ranks.json")));
  for (const char* name : {"tekken.json", "tekken_v3.json"}) {
    const Tokenizer tokenizer = Tokenizer::from_file(data_path(name));
    EXPECT_EQ(golden_ids(tokenizer, true), want[name]) << name;
    EXPECT_EQ(tokenizer.token_text(*tokenizer.bos_id()), "<s>");
    EXPECT_EQ(tokenizer.token_text(*tokenizer.eos_id()), "</s>");
    fs::copy_file(data_path(name), folder_ / "tekken.json", fs::copy_options::overwrite_existing);
    EXPECT_TRUE(Tokenizer::is_in(folder_));
    EXPECT_EQ(golden_ids(Tokenizer::from_folder(folder_), true), want[name]) << name;
  }
  const Tokenizer filled = Tokenizer::from_file(data_path("tekken_v3.json"));
  EXPECT_EQ(filled.encode("<SPECIAL_23>[INST]", {.add_special_tokens = false}),
            (std::vector<std::int32_t>{23, 3}));
}

TEST_F(Ranks, AFolderSaysByItsClassHowATiktokenFileIsCut) {
  fs::copy_file(data_path("ranks.tiktoken"), folder_ / "some.tiktoken");
  EXPECT_TRUE(Tokenizer::is_in(folder_));
  const auto load = [&] { return Tokenizer::from_folder(folder_); };
  EXPECT_NE(refusal(load).find("not how text is cut"), std::string::npos) << refusal(load);
  EXPECT_NE(refusal(load).find("some.tiktoken"), std::string::npos) << refusal(load);
  write("tokenizer_config.json", R"({"tokenizer_class": "QWenTokenizer"})");
  const Json want = Json::parse(read_file(data_path("ranks.json")));
  EXPECT_EQ(golden_ids(load(), false), want["qwen"]);
  EXPECT_EQ(load().encode("<|extra_204|>"), (std::vector<std::int32_t>{439 + 3 + 204}));
  // NFC makes one character of ">" and the stroke behind it first.
  EXPECT_GT(load().encode("<|extra_204|>\u0338").size(), 10U);
}

TEST_F(Ranks, LinesOfTiktokenFiles) {
  // "b" stands twice: its last rank counts. Blank lines and the other line ends are allowed.
  const std::string text = "YQ== 0\r\n\nYg== 7\nYg== 1 \n  YWI=\t2\n= 3\n";
  const std::vector<text::ByteToken> tokens = text::parse_tiktoken(text);
  ASSERT_EQ(tokens.size(), 4U);
  EXPECT_EQ(tokens[1].bytes, "b");
  EXPECT_EQ(tokens[1].id, 1);
  EXPECT_EQ(tokens[2].bytes, "ab");
  EXPECT_EQ(tokens[3].bytes, "");
  EXPECT_EQ(Tokenizer::from_file(write("qwen.tiktoken", text)).encode("abba"),
            (std::vector<std::int32_t>{2, 1, 0}));
  EXPECT_TRUE(text::is_tiktoken("YQ== 0\n"));
  for (const char* other : {"", "\n", "YQ==", "YQ== x", "Y\x01== 0", "{\"a\": 0}", "\n\x07 0"}) {
    EXPECT_FALSE(text::is_tiktoken(other)) << other;
  }
  for (const char* broken : {"YQ== 0\nYg==", "YQ== 0\nYg== 1 2\n", "YQ== 0\nY!== 1\n",
                             "YQ== 0\nYg== 12345678901\n", "YQ== 0\nYg== -1\n"}) {
    const std::string message = refusal([&] { text::parse_tiktoken(broken); });
    EXPECT_NE(message.find("line 2"), std::string::npos) << broken << message;
  }
  EXPECT_NE(refusal([] { text::parse_tiktoken("\n"); }).find("no tokens"), std::string::npos);
  const std::string far =
      refusal([&] { Tokenizer::from_file(write("cl100k_base.tiktoken", "YQ== 999999999\n")); });
  EXPECT_NE(far.find("out of proportion"), std::string::npos) << far;
}

TEST_F(Ranks, AddedTokensFarBehindTheFileAreRefused) {
  fs::copy_file(data_path("ranks.tiktoken"), folder_ / "tokenizer.model");
  write("tokenizer_config.json",
        R"({"added_tokens_decoder": {"2000000000": {"content": "<x>", "special": true}}})");
  const std::string message = refusal([&] { Tokenizer::from_folder(folder_); });
  EXPECT_NE(message.find("'<x>' has id 2000000000"), std::string::npos) << message;
}

TEST_F(Ranks, BrokenTekkenFilesAreErrorsThatNameTheMember) {
  const std::string good = R"({"config": {"pattern": "\\s+|\\S+", "default_vocab_size": 6,
      "default_num_special_tokens": 3}, "special_tokens": [{"rank": 1, "token_str": "<s>"},
      {"rank": 0, "token_str": "<unk>"}], "vocab": [{"rank": 0, "token_bytes": "YQ=="},
      {"rank": 1, "token_bytes": "Yg=="}, {"token_bytes": "YWI="}, {"token_bytes": "!"}]})";
  EXPECT_EQ(Tokenizer::from_json(good).encode("ab<SPECIAL_2>a"),
            (std::vector<std::int32_t>{1, 5, 2, 3}));
  const std::pair<const char*, Json> broken[] = {
      {"/config/pattern", 3},
      {"/config/pattern", "["},
      {"/config/default_vocab_size", 2},
      {"/config/default_vocab_size", 8},
      {"/config/default_vocab_size", -9223372036854775807},
      {"/config/default_num_special_tokens", 1},
      {"/config/default_num_special_tokens", 2000000000},
      {"/special_tokens/0/rank", 0},
      {"/special_tokens/0/rank", 2},
      {"/special_tokens/0/token_str", ""},
      {"/special_tokens/0/token_str", nullptr},
      {"/vocab/1/rank", 5},
      {"/vocab/1/token_bytes", "!"},
      {"/vocab/1/token_bytes", nullptr},
  };
  for (const auto& [where, value] : broken) {
    Json changed = Json::parse(good);
    changed[Json::json_pointer(where)] = value;
    const std::string message = refusal([&] { Tokenizer::from_json(changed.dump()).encode("ab"); });
    EXPECT_NE(message, "none") << where << " " << value;
  }
}

TEST_F(Ranks, ATokenSpeltLikeASpecialOneIsThatOne) {
  // "<s>" of "<" and "s>", as tekken's vocabulary may have it from web pages.
  const std::string ranks = "PA== 0\ncw== 1\nPg== 2\ncz4= 3\nPHM+ 4\n";
  std::vector<text::ByteToken> tokens = text::parse_tiktoken(ranks);
  for (text::ByteToken& token : tokens) token.id += 1;
  text::ByteEncoding encoding;
  encoding.pattern = R"(\S+|\s+)";
  encoding.special = {{"<s>", 0}};
  const Tokenizer tokenizer = Tokenizer::from_json(text::byte_ranks_json(tokens, encoding));
  EXPECT_EQ(tokenizer.encode("<s>s>"), (std::vector<std::int32_t>{0, 4}));
}

TEST_F(Ranks, LongAndNestedTokensTakeLinearTimeAndMemory) {
  // Merges spelt out would take the cube of this length: 2.7 GB.
  std::string ranks;
  constexpr int kLongest = 2000;
  for (int i = 1; i <= kLongest; ++i) {
    ranks += text::encode_base64(std::string(static_cast<std::size_t>(i), 'a')) + " " +
             std::to_string(i - 1) + "\n";
  }
  const Tokenizer tokenizer = Tokenizer::from_file(write("qwen.tiktoken", ranks));
  EXPECT_EQ(tokenizer.encode(std::string(kLongest, 'a')).size(), 1U);
}

TEST_F(Ranks, MergesByIdsMustNameTokens) {
  const auto load = [](const std::string& ids) {
    return refusal([&] {
      Tokenizer::from_json(R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 5},)"
                           R"("merge_ids": [)" +
                           ids + "]}}");
    });
  };
  EXPECT_EQ(load("0,1,5"), "none");
  EXPECT_NE(load("0,1").find("three a merge"), std::string::npos);
  for (const char* ids : {"0,1,4", "0,-1,5", "0,1,6", "0,1,4294967296", "0,1,\"5\"", "0,1,[5]"}) {
    EXPECT_NE(load(ids).find("no token's id"), std::string::npos) << ids << ": " << load(ids);
  }
}

}  // namespace
}  // namespace drrik
