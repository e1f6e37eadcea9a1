// Model folders of every kind, against what AutoTokenizer makes of them
// (tools/reference/tokenizer_folders.py), and folders that are broken.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/base/log.h"
#include "drrik/text/tokenizer.h"
#include "text_test_util.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;
using text_test::data_path;
using text_test::digest;
using text_test::Json;

class Folders : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) /
              (std::string("drrik_folders_") +
               testing::UnitTest::GetInstance()->current_test_info()->name());
    clear();
  }
  void TearDown() override { fs::remove_all(folder_); }
  void clear() {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name, std::ios::binary) << text;
  }
  /// The message of the Error that loading throws.
  std::string refusal() {
    try {
      Tokenizer::from_folder(folder_);
    } catch (const Error& error) {
      return error.what();
    }
    return "none";
  }
  fs::path folder_;
};

std::uint64_t add_counted(const std::vector<std::int32_t>& ids, std::uint64_t value) {
  const auto count = static_cast<std::int32_t>(ids.size());
  return digest(ids, digest({&count, 1}, value));
}

TEST_F(Folders, EqualWhatAutoTokenizerMakesOfThem) {
  const auto strings =
      Json::parse(read_file(data_path("golden.json")))["strings"].get<std::vector<std::string>>();
  const Json folders = Json::parse(read_file(data_path("folders.json")));
  EXPECT_GT(folders.size(), 25U);
  for (const Json& entry : folders) {
    const std::string name = entry["name"];
    clear();
    for (const auto& [to, what] : entry["files"].items()) {
      write(to, what.is_string() ? read_file(data_path(what)) : what.dump());
    }
    const Tokenizer tokenizer = Tokenizer::from_folder(folder_);
    std::uint64_t ids = digest({});
    std::uint64_t plain = digest({});
    std::uint64_t texts = digest({});
    for (const std::string& text : strings) {
      const std::vector<std::int32_t> encoded = tokenizer.encode(text);
      ids = add_counted(encoded, ids);
      plain = add_counted(tokenizer.encode(text, {.add_special_tokens = false}), plain);
      for (const bool skip : {true, false}) {
        if (encoded.empty()) continue;
        const std::string decoded = tokenizer.decode(encoded, {.skip_special_tokens = skip});
        const std::vector<unsigned char> bytes(decoded.begin(), decoded.end());
        texts = add_counted({bytes.begin(), bytes.end()}, texts);
      }
    }
    EXPECT_EQ(std::to_string(ids), entry["ids"]) << name;
    EXPECT_EQ(std::to_string(plain), entry["plain"]) << name;
    EXPECT_EQ(std::to_string(texts), entry["texts"]) << name;
    const std::pair<const char*, std::optional<std::int32_t>> special[] = {
        {"bos", tokenizer.bos_id()},
        {"eos", tokenizer.eos_id()},
        {"pad", tokenizer.pad_id()},
        {"unk", tokenizer.unk_id()}};
    for (const auto& [key, id] : special) {
      const Json& want = entry["special"][key];
      // Where the class names none, drrik looks for one by its usual spelling.
      if (want.is_null()) continue;
      EXPECT_EQ(id, want.get<std::int32_t>()) << name << " " << key;
    }
  }
}

TEST_F(Folders, FilesWithoutAConfigurationSpeakForThemselves) {
  fs::copy_file(data_path("bytes_gpt2.vocab.json"), folder_ / "vocab.json");
  fs::copy_file(data_path("bytes_gpt2.merges.txt"), folder_ / "merges.txt");
  const Tokenizer bytes = Tokenizer::from_folder(folder_);
  EXPECT_EQ(bytes.decode(bytes.encode(" the sea\u6771")), " the sea\u6771");
  clear();
  fs::copy_file(data_path("wordpiece.vocab.txt"), folder_ / "vocab.txt");
  const Tokenizer words = Tokenizer::from_folder(folder_);
  EXPECT_EQ(words.token_text(words.encode("the").front()), "[CLS]");
  clear();
  fs::copy_file(data_path("sentencepiece_bpe.model"), folder_ / "tokenizer.model");
  const Tokenizer pieces = Tokenizer::from_folder(folder_);
  EXPECT_EQ(pieces.decode(pieces.encode(" the sea\u6771")), " the sea\u6771");
  EXPECT_EQ(Tokenizer::from_file(folder_ / "tokenizer.model").encode("the sea"),
            pieces.encode("the sea"));
}

TEST_F(Folders, WhatIsMissingIsNamed) {
  EXPECT_NE(refusal().find("wanted one of tokenizer.json"), std::string::npos) << refusal();
  EXPECT_FALSE(Tokenizer::is_in(folder_));
  write("config.json", R"({"model_type": "gpt2"})");
  EXPECT_NE(refusal().find("vocab.json with merges.txt"), std::string::npos) << refusal();
  write("vocab.json", "{\"a\": 0}");
  EXPECT_TRUE(Tokenizer::is_in(folder_));
  EXPECT_NE(refusal().find("merges.txt"), std::string::npos) << refusal();
  write("merges.txt", "#version: 0.2\na b\n");
  EXPECT_NE(refusal().find("needs token 'b'"), std::string::npos) << refusal();
  EXPECT_NE(refusal().find("vocab.json"), std::string::npos) << refusal();
}

TEST_F(Folders, BrokenFilesAreErrorsThatNameThem) {
  const auto gpt2 = [&] {
    clear();
    write("config.json", R"({"model_type": "gpt2"})");
    write("vocab.json", R"({"a": 0, "b": 1, "ab": 2})");
    write("merges.txt", "a b\r\n\n");
  };
  gpt2();
  EXPECT_EQ(Tokenizer::from_folder(folder_).encode("ab"), (std::vector<std::int32_t>{2}));
  const std::vector<std::pair<const char*, std::string>> broken = {
      {"vocab.json", "{\"a\": 0"},
      {"vocab.json", "[\"a\"]"},
      {"vocab.json", "{\"a\": 0}, \"x\": {}"},
      {"merges.txt", "a b c\n"},
      {"merges.txt", "\xFF b\n"},
      {"config.json", "{"},
      {"tokenizer_config.json", R"({"added_tokens_decoder": {"x": {"content": "a"}}})"},
      {"tokenizer_config.json", R"({"added_tokens_decoder": {"99999999999": {"content": "a"}}})"},
      {"tokenizer_config.json", R"({"added_tokens_decoder": 3})"},
      {"tokenizer_config.json", R"({"extra_ids": 1000000000})"},
      {"tokenizer_config.json", R"({"do_lower_case": "yes"})"},
      {"tokenizer_config.json", "[]"},
      {"added_tokens.json", R"({"a": -1})"},
      {"special_tokens_map.json", R"({"bos_token": {"lstrip": true}})"},
  };
  for (const auto& [name, text] : broken) {
    gpt2();
    write(name, text);
    const std::string message = refusal();
    EXPECT_NE(
        message.find(std::string(name) == "merges.txt" && text[0] == 'a' ? "vocab.json" : name),
        std::string::npos)
        << name << " " << text << ": " << message;
  }
}

TEST_F(Folders, ManyAddedTokensTakeLinearTime) {
  // Each compared with each, 400 000 would take minutes.
  fs::copy_file(data_path("bytes_gpt2.vocab.json"), folder_ / "vocab.json");
  fs::copy_file(data_path("bytes_gpt2.merges.txt"), folder_ / "merges.txt");
  Json added = Json::object();
  Json extra = Json::array();
  for (int i = 0; i < 200000; ++i) {
    added["<a" + std::to_string(i) + ">"] = 440 + i;
    extra.push_back("<e" + std::to_string(i) + ">");
  }
  write("added_tokens.json", added.dump());
  write("special_tokens_map.json", Json{{"additional_special_tokens", extra}}.dump());
  const Tokenizer tokenizer = Tokenizer::from_folder(folder_);
  const std::vector<std::int32_t> ids = tokenizer.encode("<a199999><e7>");
  EXPECT_EQ(ids, (std::vector<std::int32_t>{440 + 199999, 440 + 200000 + 7}));
}

// GPT2Tokenizer of transformers would find none of its bytes in such a vocabulary.
TEST_F(Folders, AFileThatKnowsNoBytesIsTakenAsItIs) {
  fs::copy_file(data_path("metaspace.tokenizer.json"), folder_ / "tokenizer.json");
  const std::vector<std::int32_t> want =
      Tokenizer::from_file(data_path("metaspace.tokenizer.json")).encode("the ships");
  write("config.json", R"({"model_type": "gpt2"})");
  EXPECT_EQ(Tokenizer::from_folder(folder_).encode("the ships"), want);
}

TEST_F(Folders, AModelOfAnotherKindThanTheClassIsTakenAsItIs) {
  set_log_level(LogLevel::kOff);
  fs::copy_file(data_path("wordpiece.tokenizer.json"), folder_ / "tokenizer.json");
  write("config.json", R"({"model_type": "gpt2"})");
  EXPECT_EQ(Tokenizer::from_folder(folder_).encode("the ships"),
            Tokenizer::from_file(data_path("wordpiece.tokenizer.json")).encode("the ships"));
}

}  // namespace
}  // namespace drrik
