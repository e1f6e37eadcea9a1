// Equality with the `tokenizers` package on the strings of tools/reference/tokenizer_golden.py.

#include <gtest/gtest.h>

#include <vector>

#include "drrik/base/file.h"
#include "drrik/text/tokenizer.h"
#include "text/utf8.h"
#include "text_test_util.h"

namespace drrik {
namespace {

using text_test::data_path;
using text_test::digest;
using text_test::Json;

const Json& golden() {
  static const Json json = Json::parse(read_file(data_path("golden.json")));
  return json;
}

std::vector<std::string> strings() { return golden()["strings"].get<std::vector<std::string>>(); }

/// Every code point of the first two planes and some, as the script's sweep().
std::string sweep() {
  std::string out;
  const auto add = [&out](std::uint32_t from, std::uint32_t to) {
    for (std::uint32_t code = from; code < to; ++code) {
      if (code >= 0xD800 && code < 0xE000) continue;
      out += 'a';
      append_utf8(code, out);
      out += ' ';
    }
  };
  add(0, 0x20000);
  add(0x2F800, 0x2FA20);
  return out;
}

TEST(Golden, TrainedTokenizersGiveTheSameIdsAndText) {
  const std::string all = sweep();
  for (const Json& entry : golden()["tokenizers"]) {
    const std::string file = entry["file"];
    const Tokenizer tokenizer = Tokenizer::from_file(data_path(file));
    const std::vector<std::string> inputs = strings();
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const Json& want = entry["cases"][i];
      const std::string& input = inputs[i];
      const auto ids = want["ids"].get<std::vector<std::int32_t>>();
      EXPECT_EQ(tokenizer.encode(input), ids) << file << " on '" << input << "'";
      EXPECT_EQ(tokenizer.encode(input, {.add_special_tokens = false}), want.value("plain", ids))
          << file << " on '" << input << "'";
      EXPECT_EQ(tokenizer.decode(ids), want.value("decoded", input)) << file;
      EXPECT_EQ(tokenizer.decode(ids, {.skip_special_tokens = false}), want.value("all", input))
          << file;
    }
    EXPECT_EQ(std::to_string(digest(tokenizer.encode(all))), entry["sweep"]) << file;
  }
}

TEST(Golden, NormalizersAndPreTokenizersGiveTheSamePieces) {
  const std::string all = sweep();
  for (const Json& variant : golden()["variants"]) {
    Json json = golden()["probe"];
    json.update(variant["members"]);
    const Tokenizer tokenizer = Tokenizer::from_json(json.dump());
    std::uint64_t value = digest({});
    for (const std::string& input : strings()) {
      const std::vector<std::int32_t> ids = tokenizer.encode(input);
      const auto count = static_cast<std::int32_t>(ids.size());
      value = digest(ids, digest({&count, 1}, value));
    }
    EXPECT_EQ(std::to_string(value), variant["strings"]) << variant["name"];
    if (variant.contains("sweep")) {
      EXPECT_EQ(std::to_string(digest(tokenizer.encode(all))), variant["sweep"]) << variant["name"];
    }
  }
}

TEST(Golden, DecodersGiveTheSameText) {
  const Json& decode = golden()["decode"];
  for (const Json& entry : decode["decoders"]) {
    Json json = golden()["probe"];
    json["model"] = decode["model"];
    json["added_tokens"] = decode["added_tokens"];
    json["decoder"] = entry["decoder"];
    const Tokenizer tokenizer = Tokenizer::from_json(json.dump());
    std::size_t at = 0;
    for (const Json& sequence : decode["sequences"]) {
      const auto ids = sequence.get<std::vector<std::int32_t>>();
      for (const bool skip : {true, false}) {
        const Json& want = entry["texts"][at++];
        const std::string got = tokenizer.decode(ids, {.skip_special_tokens = skip});
        EXPECT_TRUE(is_valid_utf8(got));
        if (want.is_null()) continue;
        EXPECT_EQ(got, want.get<std::string>()) << entry["name"];
      }
    }
  }
}

// The comparisons above go by a digest; it must see a changed, a missing and a moved id.
TEST(Golden, TheDigestSeesDifferences) {
  const std::vector<std::int32_t> ids{1, 2, 300};
  for (const std::vector<std::int32_t>& other :
       {std::vector<std::int32_t>{1, 2, 301}, {1, 2}, {2, 1, 300}, {1, 2, 300, 0}, {}}) {
    EXPECT_NE(digest(ids), digest(other));
  }
}

}  // namespace
}  // namespace drrik
