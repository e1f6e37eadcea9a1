// Real tokenizer files and the ids that llama.cpp ships for them; skipped where they are not at
// hand.

#include <gtest/gtest.h>

#include <cctype>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "drrik/base/file.h"
#include "drrik/text/tokenizer.h"
#include "text_test_util.h"

namespace drrik {
namespace {

struct Pair {
  const char* tokenizer;
  const char* vectors;
};

class LlamaCppVectors : public testing::TestWithParam<Pair> {};

TEST_P(LlamaCppVectors, IdsAreEqual) {
  const std::string folder = std::string(DRRIK_SHARED_DIR) + "/models/tokenizers/";
  const std::string file = folder + GetParam().tokenizer;
  const std::string base = folder + "llama.cpp-vocab/ggml-vocab-" + GetParam().vectors + ".gguf";
  if (!std::filesystem::exists(file) || !std::filesystem::exists(base + ".inp")) {
    GTEST_SKIP() << "NOT TESTED: " << file << " or " << base << ".inp is not here";
  }
  const Tokenizer tokenizer = Tokenizer::from_file(file);
  const std::string inputs = read_file(base + ".inp");
  std::istringstream outputs(read_file(base + ".out"));
  const std::string separator = "\n__ggml_vocab_test__\n";
  std::size_t count = 0;
  for (std::size_t at = 0; at < inputs.size(); ++count) {
    const std::size_t end = inputs.find(separator, at);
    ASSERT_NE(end, std::string::npos);
    std::string line;
    ASSERT_TRUE(std::getline(outputs, line));
    std::istringstream numbers(line);
    std::vector<std::int32_t> want;
    for (std::int32_t id = 0; numbers >> id;) want.push_back(id);
    const std::string text = inputs.substr(at, end - at);
    EXPECT_EQ(tokenizer.encode(text, {.add_special_tokens = false}), want) << "'" << text << "'";
    at = end + separator.size();
  }
  EXPECT_EQ(count, 46U);
}

INSTANTIATE_TEST_SUITE_P(Files, LlamaCppVectors,
                         testing::Values(Pair{"gpt2/tokenizer.json", "gpt-2"},
                                         Pair{"bert-base-uncased/tokenizer.json", "bert-bge"},
                                         Pair{"roberta-base/tokenizer.json", "roberta-bpe"},
                                         Pair{"llama3/tokenizer.json", "llama-bpe"},
                                         Pair{"llama3/tokenizer.model", "llama-bpe"},
                                         Pair{"falcon/tokenizer.json", "falcon"},
                                         Pair{"phi-3-mini/tokenizer.json", "phi-3"}),
                         [](const auto& pair) {
                           std::string name =
                               std::string(pair.param.vectors) + "_" + pair.param.tokenizer;
                           for (char& c : name) {
                             if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
                           }
                           return name;
                         });

TEST(SwiftTransformersVectors, IdsAreEqual) {
  const std::string folder = std::string(DRRIK_SHARED_DIR) + "/models/tokenizers/";
  const std::string vectors = folder + "swift-transformers/tokenizer_tests.json";
  if (!std::filesystem::exists(vectors)) {
    GTEST_SKIP() << "NOT TESTED: " << vectors << " is not here";
  }
  const auto json = text_test::Json::parse(read_file(vectors));
  const std::pair<const char*, const char*> models[] = {
      {"distilgpt2", "gpt2/tokenizer.json"}, {"tiiuae/falcon-7b", "falcon/tokenizer.json"}};
  std::size_t cases = 0;
  for (const auto& [name, file] : models) {
    if (!json.contains(name)) continue;
    const Tokenizer tokenizer = Tokenizer::from_file(folder + file);
    for (const auto& item : json[name]) {
      const std::string text = item["input"];
      const auto want = item["encoded"]["input_ids"].get<std::vector<std::int32_t>>();
      EXPECT_EQ(tokenizer.encode(text), want) << name << ": '" << text << "'";
      ++cases;
    }
  }
  EXPECT_GT(cases, 0U);
}

}  // namespace
}  // namespace drrik
