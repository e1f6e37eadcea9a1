#include "drrik/text/tokenizer.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/base/threads.h"
#include "text/utf8.h"
#include "text_test_util.h"

namespace drrik {
namespace {

using text_test::data_path;
using text_test::Json;

Tokenizer byte_level() { return Tokenizer::from_file(data_path("bytes_gpt2.tokenizer.json")); }
Tokenizer llama3() { return Tokenizer::from_file(data_path("bytes_llama3.tokenizer.json")); }
Tokenizer metaspace() { return Tokenizer::from_file(data_path("metaspace.tokenizer.json")); }

const std::string kText =
    "Na\u00EFve \u6771\u4EAC \U0001F642\u200D\U0001F642 l\u2019\u00E9t\u00E9  \n\t x<s> \uFFFD end";

TEST(Tokenizer, TokensHaveTextBytesAndDisplay) {
  const Tokenizer tokenizer = byte_level();
  const std::int32_t the = tokenizer.find_token("\u0120the").value();
  EXPECT_EQ(tokenizer.token_text(the), "\u0120the");
  EXPECT_EQ(tokenizer.token_bytes(the), " the");
  const std::int32_t half = tokenizer.find_token("\u00E6").value();
  EXPECT_EQ(tokenizer.token_bytes(half), "\xE6");
  EXPECT_EQ(tokenizer.token_display(half), "\uFFFD");
  const Tokenizer marks = metaspace();
  EXPECT_EQ(marks.token_bytes(marks.find_token("\u2581the").value()), " the");
  EXPECT_EQ(marks.token_bytes(marks.find_token("<0xE6>").value()), "\xE6");
  for (const std::int32_t bad : {-1, tokenizer.vocab_size(), INT32_MAX, INT32_MIN}) {
    EXPECT_EQ(tokenizer.token_text(bad), "");
    EXPECT_EQ(tokenizer.token_bytes(bad), "");
    EXPECT_FALSE(tokenizer.is_special(bad));
    EXPECT_EQ(tokenizer.decode(std::vector<std::int32_t>{bad}), "");
  }
  EXPECT_FALSE(tokenizer.find_token("no such token").has_value());
}

TEST(Tokenizer, SpecialIdsFollowTheFile) {
  const Tokenizer tokenizer = llama3();
  EXPECT_EQ(tokenizer.bos_id(), tokenizer.find_token("<s>"));
  EXPECT_EQ(tokenizer.eos_id(), tokenizer.find_token("</s>"));
  EXPECT_FALSE(tokenizer.pad_id().has_value());
  EXPECT_EQ(metaspace().unk_id(), 0);
  EXPECT_TRUE(tokenizer.is_special(*tokenizer.bos_id()));
}

// As the tokenizers package truncates: the template keeps its ids, the text gives way.
TEST(Tokenizer, TruncationKeepsTheTemplate) {
  const Tokenizer tokenizer = llama3();
  const auto whole = tokenizer.encode(kText);
  const auto bare = tokenizer.encode(kText, {.add_special_tokens = false});
  const std::size_t added = whole.size() - bare.size();
  ASSERT_GT(added, 0U);
  const auto cut = tokenizer.encode(kText, {.max_length = 6});
  ASSERT_EQ(cut.size(), 6U);
  EXPECT_EQ(cut.front(), whole.front());
  EXPECT_EQ(cut.back() == whole.back(), whole.back() != bare.back());
  EXPECT_EQ(tokenizer.encode(kText, {.add_special_tokens = false, .max_length = 6}),
            std::vector<std::int32_t>(bare.begin(), bare.begin() + 6));
  EXPECT_EQ(tokenizer.encode(kText, {.max_length = 1}).size(), added);
  EXPECT_EQ(tokenizer.encode(kText, {.max_length = 100000}), whole);
}

TEST(Tokenizer, InvalidUtf8CountsAsReplacementCharacters) {
  const Tokenizer tokenizer = byte_level();
  EXPECT_EQ(tokenizer.encode("a\xFF\xE6\x9D z"), tokenizer.encode("a\uFFFD\uFFFD z"));
  EXPECT_NE(tokenizer.encode("a\xFF z"), tokenizer.encode("a z"));
}

TEST(Tokenizer, EncodeToAppends) {
  const Tokenizer tokenizer = byte_level();
  std::vector<std::int32_t> ids{-7};
  tokenizer.encode_to("the sea", {}, ids);
  std::vector<std::int32_t> want{-7};
  for (const std::int32_t id : tokenizer.encode("the sea")) want.push_back(id);
  EXPECT_EQ(ids, want);
}

TEST(Tokenizer, WordsFromTheCacheEqualFreshOnes) {
  // More different words than the cache holds, so that they push each other out.
  for (const Tokenizer& tokenizer : {byte_level(), metaspace()}) {
    std::vector<std::vector<std::int32_t>> first;
    for (int round = 0; round < 2; ++round) {
      for (int i = 0; i < 50000; ++i) {
        std::vector<std::int32_t> ids = tokenizer.encode(" ship" + std::to_string(i));
        if (round == 0) {
          first.push_back(std::move(ids));
        } else {
          ASSERT_EQ(ids, first[static_cast<std::size_t>(i)]);
        }
      }
    }
  }
}

TEST(Tokenizer, ThreadsShareOne) {
  const Tokenizer tokenizer = llama3();
  const std::vector<std::int32_t> want = tokenizer.encode(kText);
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (std::size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) {
        if (tokenizer.encode(kText) != want) ++wrong[t];
        tokenizer.encode(std::to_string(i) + " lamps in thread " + std::to_string(t));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4, 0));
}

TEST(Tokenizer, BatchesKeepTheOrderWhateverTheThreads) {
  const Tokenizer tokenizer = llama3();
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < 300; ++i) {
    texts.push_back(i % 7 == 0 ? "" : kText.substr(0, i % kText.size()) + std::to_string(i));
    if (i % 50 == 3) texts.back().append(20000, 'x');
  }
  std::vector<std::vector<std::int32_t>> want;
  for (const std::string& text : texts) want.push_back(tokenizer.encode(text, {.max_length = 99}));
  const std::vector<std::string_view> views(texts.begin(), texts.end());
  const int before = num_threads();
  for (const int threads : {1, 2, 5}) {
    set_num_threads(threads);
    EXPECT_EQ(tokenizer.encode_batch(views, {.max_length = 99}), want);
  }
  EXPECT_TRUE(tokenizer.encode_batch({}).empty());
  Json json = text_test::tiny();
  json["model"]["unk_token"] = "<unk>";
  EXPECT_THROW(Tokenizer::from_json(json.dump()).encode_batch(views), Error);
  set_num_threads(before);
}

TEST(Tokenizer, BosIsPutOnceOrNotAtAll) {
  const Tokenizer tokenizer = llama3();
  const std::vector<std::int32_t> with = tokenizer.encode("a");
  ASSERT_EQ(with.front(), tokenizer.bos_id());
  const std::vector<std::int32_t> without(with.begin() + 1, with.end());
  EXPECT_EQ(tokenizer.encode("a", {.bos = BosRule::kNever}), without);
  EXPECT_EQ(tokenizer.encode("a", {.bos = BosRule::kAlways}), with);
  EXPECT_EQ(tokenizer.encode("a", {.add_special_tokens = false, .bos = BosRule::kAlways}).front(),
            tokenizer.bos_id());
  EXPECT_EQ(tokenizer.encode("a b c", {.max_length = 2, .bos = BosRule::kNever}).size(), 2U);
  // GPT-2 has a BOS, but no template that puts it.
  const Tokenizer gpt2 = byte_level();
  std::vector<std::int32_t> want = gpt2.encode("a");
  EXPECT_EQ(gpt2.encode("a", {.bos = BosRule::kNever}), want);
  want.insert(want.begin(), gpt2.bos_id().value());
  EXPECT_EQ(gpt2.encode("a", {.bos = BosRule::kAlways}), want);
  EXPECT_EQ(gpt2.encode("abcdefgh", {.max_length = 2, .bos = BosRule::kAlways}).front(),
            gpt2.bos_id());
  Tokenizer none = Tokenizer::from_json(text_test::tiny().dump());
  EXPECT_THROW(none.encode("a", {.bos = BosRule::kAlways}), Error);
  EXPECT_THROW(none.set_bos_rule(BosRule::kAlways), Error);
  Tokenizer ruled = llama3();
  ruled.set_bos_rule(BosRule::kNever);
  EXPECT_EQ(ruled.encode("a"), without);
  EXPECT_EQ(ruled.encode("a", {.bos = BosRule::kAlways}), with);
  for (const BosRule rule : {BosRule::kAsTokenizer, BosRule::kNever, BosRule::kAlways}) {
    EXPECT_EQ(parse_bos_rule(std::string(bos_rule_name(rule))), rule);
  }
  EXPECT_THROW(parse_bos_rule("neve"), Error);
}

TEST(Tokenizer, AnErrorInsideEncodeLeavesItUsable) {
  Json json = text_test::tiny();
  json["model"]["unk_token"] = "<unk>";
  const Tokenizer tokenizer = Tokenizer::from_json(json.dump());
  for (int i = 0; i < 3; ++i) EXPECT_THROW(tokenizer.encode("\u6771"), Error);
  EXPECT_EQ(tokenizer.encode("ab"), (std::vector<std::int32_t>{2}));
}

TEST(Tokenizer, LongInputsOfOneKindTakeLinearTime) {
  // Quadratic merging or backtracking over these would take hours.
  for (const char* name : {"bytes_gpt2", "bytes_llama3", "metaspace", "wordpiece", "unigram"}) {
    const Tokenizer tokenizer = Tokenizer::from_file(data_path(str(name, ".tokenizer.json")));
    for (const std::string unit :
         {" ", "\n", "a", "1", "'", "\u3042", "\u0301", "<", " \n", "\u2581"}) {
      std::string text;
      while (text.size() < 1000000) text += unit;
      const std::vector<std::int32_t> ids = tokenizer.encode(text);
      EXPECT_FALSE(ids.empty());
    }
  }
}

std::string streamed(const Tokenizer& tokenizer, const std::vector<std::int32_t>& ids,
                     DecodeOptions options) {
  StreamDecoder stream(tokenizer, options);
  std::string out;
  for (const std::int32_t id : ids) out += stream.push(id);
  return out + stream.finish();
}

TEST(StreamDecoder, PiecesJoinToTheDecodedText) {
  for (const Tokenizer& tokenizer : {byte_level(), llama3(), metaspace()}) {
    std::vector<std::int32_t> ids = tokenizer.encode(kText);
    for (const bool skip : {true, false}) {
      EXPECT_EQ(streamed(tokenizer, ids, {skip}), tokenizer.decode(ids, {skip}));
      // Cut in the middle of a character.
      for (std::size_t n = 0; n < ids.size(); ++n) {
        const std::vector<std::int32_t> head(ids.begin(),
                                             ids.begin() + static_cast<std::ptrdiff_t>(n));
        const std::string got = streamed(tokenizer, head, {skip});
        EXPECT_TRUE(is_valid_utf8(got)) << n;
        // The exception in the header: decode() also replaces the whole characters of the run.
        if (tokenizer.find_token("<0x00>")) continue;
        EXPECT_EQ(got, tokenizer.decode(head, {skip})) << n;
      }
    }
  }
}

TEST(StreamDecoder, HoldsBackHalfACharacter) {
  const Tokenizer tokenizer = byte_level();
  StreamDecoder stream(tokenizer);
  const std::string character = "\u3099";  // not in the training text: byte by byte
  const std::vector<std::int32_t> ids = tokenizer.encode("a" + character);
  ASSERT_EQ(ids.size(), 4U);
  EXPECT_EQ(stream.push(ids[0]), "a");
  EXPECT_EQ(stream.push(ids[1]), "");
  EXPECT_EQ(stream.push(ids[2]), "");
  EXPECT_EQ(stream.push(ids[3]), character);
  EXPECT_EQ(stream.push(ids[1]), "");
  EXPECT_EQ(stream.finish(), "\uFFFD");
}

TEST(StreamDecoder, EndlessGarbageIsReleased) {
  const Tokenizer tokenizer = byte_level();
  const std::int32_t broken = tokenizer.find_token("\u00E6").value();
  StreamDecoder stream(tokenizer);
  std::string out;
  for (int i = 0; i < 1000; ++i) out += stream.push(broken);
  EXPECT_GT(out.size(), 3U * 512U);
  out += stream.finish();
  EXPECT_EQ(out, tokenizer.decode(std::vector<std::int32_t>(1000, broken)));
}

TEST(StreamDecoder, PrimedTextIsNotRepeated) {
  const Tokenizer tokenizer = metaspace();
  const std::vector<std::int32_t> prompt = tokenizer.encode("The lighthouse");
  const std::vector<std::int32_t> more =
      tokenizer.encode("keeper counted", {.add_special_tokens = false});
  StreamDecoder stream(tokenizer);
  stream.prime(prompt);
  std::string out;
  for (const std::int32_t id : more) out += stream.push(id);
  EXPECT_EQ(out + stream.finish(), " keeper counted");
}

class FolderTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::path(testing::TempDir()) /
              ("drrik_text_" + std::to_string(testing::UnitTest::GetInstance()->random_seed()) +
               testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::create_directories(folder_);
    std::filesystem::copy_file(data_path("metaspace.tokenizer.json"), folder_ / "tokenizer.json",
                               std::filesystem::copy_options::overwrite_existing);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  void write(const char* name, const Json& json) { std::ofstream(folder_ / name) << json.dump(); }
  std::filesystem::path folder_;
};

TEST_F(FolderTest, ConfigNamesSpecialTokensAndAddsMissingOnes) {
  write("special_tokens_map.json", {{"bos_token", "<unk>"}, {"eos_token", {{"content", "</s>"}}}});
  write("tokenizer_config.json", {{"bos_token", "<s>"},
                                  {"pad_token", "[PAD]"},
                                  {"unk_token", nullptr},
                                  {"added_tokens_decoder",
                                   {{"0", {{"content", "<unk>"}, {"special", true}}},
                                    {"9001", {{"content", "[LAST]"}, {"special", false}}},
                                    {"9000", {{"content", "[PAD]"}, {"special", true}}}}}});
  const Tokenizer plain = metaspace();
  const Tokenizer tokenizer = Tokenizer::from_folder(folder_);
  EXPECT_EQ(tokenizer.bos_id(), plain.find_token("<s>"));
  EXPECT_EQ(tokenizer.eos_id(), plain.find_token("</s>"));
  EXPECT_EQ(tokenizer.vocab_size(), plain.vocab_size() + 2);
  EXPECT_EQ(tokenizer.find_token("[PAD]"), plain.vocab_size());
  EXPECT_EQ(tokenizer.pad_id(), plain.vocab_size());
  EXPECT_TRUE(tokenizer.is_special(*tokenizer.pad_id()));
  EXPECT_FALSE(tokenizer.is_special(tokenizer.find_token("[LAST]").value()));
  EXPECT_EQ(tokenizer.encode("a[PAD]").back(), plain.vocab_size());
  EXPECT_EQ(tokenizer.encode("the sea"), plain.encode("the sea"));
}

// As transformers 5 has it: with a tokenizer.json its post-processor says what is added.
TEST_F(FolderTest, TheFilesTemplateOutrulesTheFlags) {
  write("tokenizer_config.json", {{"tokenizer_class", "LlamaTokenizerFast"},
                                  {"bos_token", "<s>"},
                                  {"eos_token", "</s>"},
                                  {"add_bos_token", false},
                                  {"add_eos_token", true}});
  const Tokenizer tokenizer = Tokenizer::from_folder(folder_);
  const std::vector<std::int32_t> ids = tokenizer.encode("a");
  EXPECT_EQ(ids.front(), tokenizer.bos_id());
  EXPECT_NE(ids.back(), tokenizer.eos_id());
}

TEST_F(FolderTest, BrokenNeighboursAreNamed) {
  write("tokenizer_config.json", {{"add_bos_token", "maybe"}});
  try {
    Tokenizer::from_folder(folder_);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("tokenizer_config.json"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("add_bos_token"), std::string::npos);
  }
  EXPECT_THROW(Tokenizer::from_folder(folder_ / "nowhere"), Error);
}

}  // namespace
}  // namespace drrik
