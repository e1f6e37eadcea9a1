// tokenizer.json files that are broken or hostile: each is a clear Error(data), never a crash, a
// hang or a huge allocation.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/text/tokenizer.h"
#include "text_test_util.h"

namespace drrik {
namespace {

using text_test::Json;
using text_test::tiny;

/// The message of the Error(data) that loading throws, "" when it does not throw.
std::string refusal(const std::string& json) {
  try {
    Tokenizer::from_json(json);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kData) << error.what();
    return error.what();
  }
  return {};
}

Json with(const std::string& pointer, const Json& value) {
  Json json = tiny();
  json[Json::json_pointer(pointer)] = value;
  return json;
}

TEST(Hostile, TheTinyFileItselfIsFine) {
  EXPECT_EQ(refusal(tiny().dump()), "");
  EXPECT_EQ(Tokenizer::from_json(tiny().dump()).encode("abba"),
            (std::vector<std::int32_t>{2, 1, 0}));
}

TEST(Hostile, EveryTruncationIsRefused) {
  const std::string whole = tiny().dump();
  for (std::size_t length = 0; length < whole.size(); ++length) {
    EXPECT_NE(refusal(whole.substr(0, length)), "") << length;
  }
}

TEST(Hostile, WrongMembersAreNamed) {
  struct Case {
    const char* pointer;
    Json value;
    const char* message;  // a part of it
  };
  const Json deep = [] {
    Json json = {{"type", "NFC"}};
    for (int i = 0; i < 100; ++i) json = {{"type", "Sequence"}, {"normalizers", {json}}};
    return json;
  }();
  const std::vector<Case> cases = {
      {"/model", nullptr, "'model' is missing"},
      {"/model", 3, "object is wanted"},
      {"/model/type", "Bigram", "'Bigram' is not known; known: BPE"},
      {"/model/type", 7, "string is wanted"},
      {"/model/vocab", Json::array(), "object is wanted"},
      {"/model/vocab", {{"a", -1}}, "not an integer in"},
      {"/model/vocab", {{"a", 1.5}}, "not an integer in"},
      {"/model/vocab", {{"a", "0"}}, "not an integer in"},
      {"/model/vocab", {{"a", 4294967296}}, "not an integer in"},
      {"/model/vocab", {{"a", 2147483647}}, "out of proportion"},
      {"/model/merges", {"a c"}, "needs token 'c'"},
      {"/model/merges", {"b a"}, "needs token 'ba'"},
      {"/model/merges", {"a"}, "not two tokens"},
      {"/model/merges", {"a b c"}, "not two tokens"},
      {"/model/merges", {{"a", "b", "c"}}, "neither"},
      {"/model/merges", {1}, "neither"},
      {"/model/merges", "a b", "array is wanted"},
      {"/model/continuing_subword_prefix", "###", "shorter than the prefix"},
      {"/model/byte_fallback", "yes", "true or false"},
      {"/normalizer", {{"type", "Nfc"}}, "'Nfc' is not known"},
      {"/normalizer", "NFC", "object is wanted"},
      {"/normalizer", deep, "nested too deeply"},
      {"/normalizer",
       {{"type", "Replace"}, {"pattern", {{"Regex", "("}}}, {"content", ""}},
       "split pattern '('"},
      {"/pre_tokenizer", {{"type", "Split"}}, "'behavior' is missing"},
      {"/pre_tokenizer", {{"type", "UnicodeScript"}}, "known: BertPreTokenizer"},
      {"/pre_tokenizer", {{"type", "FixedLength"}, {"length", 0}}, "at least 1"},
      {"/pre_tokenizer", {{"type", "Metaspace"}, {"replacement", "ab"}}, "one character"},
      {"/pre_tokenizer",
       {{"type", "Split"},
        {"pattern", {{"Regex", std::string(100000, '(')}}},
        {"behavior", "Isolated"},
        {"invert", false}},
       "at most"},
      {"/post_processor", {{"type", "TemplateProcessing"}, {"single", Json::array()}}, "without"},
      {"/post_processor",
       {{"type", "RobertaProcessing"}, {"cls", {"a", -1}}, {"sep", {"b", 1}}},
       "out of range"},
      {"/decoder", {{"type", "Sequence"}, {"decoders", {{{"type", "Zip"}}}}}, "'Zip' is not known"},
      {"/decoder",
       {{"type", "Strip"}, {"content", " "}, {"start", -1}, {"stop", 0}},
       "out of range"},
      {"/added_tokens", {{{"id", -5}, {"content", "<x>"}}}, "out of range"},
      {"/added_tokens", {{{"id", 5}, {"content", std::string(10000, 'x')}}}, "at most"},
      {"/added_tokens", {5}, "object is wanted"},
      {"/version", "2.0", "only 1.0"},
  };
  for (const Case& c : cases) {
    const std::string message = refusal(with(c.pointer, c.value).dump());
    EXPECT_NE(message.find(c.message), std::string::npos)
        << c.pointer << ": '" << message << "' lacks '" << c.message << "'";
  }
}

TEST(Hostile, ErrorsNameTheFile) {
  try {
    Tokenizer::from_file(text_test::data_path("no_such.json"));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kIo);
    EXPECT_NE(std::string(error.what()).find("no_such.json"), std::string::npos);
  }
}

TEST(Hostile, DeepJsonIsRefused) {
  std::string json = "{\"model\":";
  json.append(100000, '[');
  EXPECT_NE(refusal(json), "");
  Json nested = 1;
  for (int i = 0; i < 900; ++i) nested = Json::array({nested});
  EXPECT_NE(refusal(with("/model/merges", nested).dump()), "");
}

TEST(Hostile, ARunawayPatternIsAnErrorAndNotAHang) {
  const Json json = with("/pre_tokenizer", {{"type", "Split"},
                                            {"pattern", {{"Regex", "(?:a|a|aa)+(?:b|c)"}}},
                                            {"behavior", "Isolated"},
                                            {"invert", false}});
  const Tokenizer tokenizer = Tokenizer::from_json(json.dump());
  EXPECT_EQ(tokenizer.encode("ab").size(), 1U);
  EXPECT_THROW(tokenizer.encode(std::string(5000, 'a')), Error);
  // The tokenizer is still of use.
  EXPECT_EQ(tokenizer.encode("ab"), (std::vector<std::int32_t>{2}));
}

TEST(Hostile, OddButLegalFilesLoad) {
  // Two tokens with one id, an id with holes, a token twice, an empty token.
  Json json = with("/model/vocab", {{"a", 0}, {"b", 0}, {"ab", 700}, {"", 9}});
  const Tokenizer shared = Tokenizer::from_json(json.dump());
  EXPECT_EQ(shared.encode("ab"), (std::vector<std::int32_t>{700}));
  EXPECT_EQ(shared.vocab_size(), 701);
  EXPECT_EQ(shared.token_text(350), "");
  const std::string twice =
      R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "a": 2}, "merges": []}})";
  EXPECT_EQ(Tokenizer::from_json(twice).encode("ab"), (std::vector<std::int32_t>{2, 1}));
  EXPECT_EQ(Tokenizer::from_json(twice).token_text(0), "");
  const Tokenizer empty =
      Tokenizer::from_json(R"({"model": {"type": "BPE", "vocab": {}, "merges": []}})");
  EXPECT_TRUE(empty.encode("anything").empty());
  EXPECT_EQ(empty.vocab_size(), 0);
  // An unk token that is not in the vocabulary is an error when it is needed.
  const Tokenizer unk = Tokenizer::from_json(with("/model/unk_token", "<unk>").dump());
  EXPECT_EQ(unk.encode("ab").size(), 1U);
  EXPECT_THROW(unk.encode("x"), Error);
}

TEST(Hostile, AddedTokensFindTheirIds) {
  // The id in the file is only a wish: a known text keeps its id, others get the next free one.
  Json json = tiny();
  json["added_tokens"] = {{{"id", 2}, {"content", "ab"}, {"special", true}},
                          {{"id", 2000000000}, {"content", "<x>"}},
                          {{"id", 3}, {"content", "<x>"}, {"special", true}},
                          {{"id", 4}, {"content", ""}}};
  const Tokenizer tokenizer = Tokenizer::from_json(json.dump());
  EXPECT_EQ(tokenizer.find_token("<x>"), 3);
  EXPECT_EQ(tokenizer.vocab_size(), 4);
  EXPECT_TRUE(tokenizer.is_special(2));
  EXPECT_EQ(tokenizer.encode("b<x>ab"), (std::vector<std::int32_t>{1, 3, 2}));
}

}  // namespace
}  // namespace drrik
