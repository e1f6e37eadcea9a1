// YAML files, well and badly meant.

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "drrik/base/error.h"
#include "drrik/config/config.h"

namespace drrik {
namespace {

std::string message_of(const std::string& text, ErrorKind* kind = nullptr) {
  Config config;
  const std::string before = to_yaml(config);
  try {
    merge_yaml(config, text, "run.yaml");
  } catch (const Error& error) {
    if (kind != nullptr) *kind = error.kind();
    EXPECT_EQ(to_yaml(config), before);
    return error.what();
  }
  ADD_FAILURE() << "accepted: " << text.substr(0, 200);
  return "";
}

TEST(Yaml, ReadsTheDescribedKeys) {
  Config config;
  merge_yaml(config, R"(
extractor:
  model:
    model_name: gpt2
    torch_dtype: float32
  dataset:
    dataset_name: "data/*.txt"
    split: test
    num_samples: 100
    text_column: body
    max_length: 64
  extraction:
    mlp_layers: [0, 2]
    batch_size: 4
    output_dir: acts
autoencoder:
  activation_dim: 768
  hidden_dim: 6144
  l1_coefficient: 1e-2
  normalize_decoder: yes
  pre_encoder_bias: false
  num_epochs: 3
  batch_size: 128
visualization: {output_dir: pics, style: dark, dpi: 200}
steering:
  prompts:
    - Once upon a time
    - "He said: \"no\""
  strengths: [0, 4]
random_seed: 1
log_level: debug
)");
  EXPECT_EQ(config.extractor.model.model_name, "gpt2");
  EXPECT_EQ(config.extractor.dataset.dataset_name, "data/*.txt");
  EXPECT_EQ(config.extractor.dataset.num_samples, 100);
  EXPECT_EQ(config.extractor.extraction.mlp_layers, (std::vector<std::int64_t>{0, 2}));
  EXPECT_EQ(config.extractor.extraction.batch_size, 4);
  EXPECT_EQ(config.autoencoder.hidden_dim, 6144);
  EXPECT_TRUE(config.autoencoder.normalize_decoder);
  EXPECT_FALSE(config.autoencoder.pre_encoder_bias);
  EXPECT_EQ(config.training.num_epochs, 3);
  EXPECT_EQ(config.training.batch_size, 128);
  EXPECT_EQ(config.visualization.dpi, 200);
  EXPECT_EQ(config.visualization.style, "dark");
  EXPECT_EQ(config.steering.prompts.at(1), "He said: \"no\"");
  EXPECT_EQ(config.random_seed, 1);
  EXPECT_EQ(config.log_level, "DEBUG");
}

TEST(Yaml, AcceptsFlatOptionsAndGroups) {
  Config config;
  merge_yaml(config,
             "model_name: gpt2\nmlp_layers: 3\nextractor:\n  batch_size: 2\n  text_column: t\n"
             "dataset:\n  split: x\n");
  EXPECT_EQ(config.extractor.model.model_name, "gpt2");
  EXPECT_EQ(config.extractor.extraction.mlp_layers, (std::vector<std::int64_t>{3}));
  EXPECT_EQ(config.extractor.extraction.batch_size, 2);
  EXPECT_EQ(config.extractor.dataset.text_column, "t");
  EXPECT_EQ(config.extractor.dataset.split, "x");
}

TEST(Yaml, NothingChangesNothing) {
  const std::string before = to_yaml(Config{});
  for (const char* text : {"", "\n", "# only a comment\n", "---\n", "{}", "null", "extractor:\n",
                           "\xEF\xBB\xBF# with a byte order mark\n"}) {
    Config config;
    merge_yaml(config, text);
    EXPECT_EQ(to_yaml(config), before) << text;
  }
}

TEST(Yaml, AliasesAreValues) {
  Config config;
  merge_yaml(config, "random_seed: &n 5\nthreads: *n\n");
  EXPECT_EQ(config.threads, 5);
}

TEST(Yaml, ErrorsNameTheLine) {
  struct Case {
    const char* text;
    const char* part;
  };
  const Case cases[] = {
      {"random_seed: 1\nautoencoder:\n  hiden_dim: 3\n",
       "run.yaml:3: option 'hiden_dim' is unknown in 'autoencoder'; did you mean 'hidden_dim'?"},
      {"\n\nautoencodr:\n  hidden_dim: 3\n",
       "run.yaml:3: option 'autoencodr' is unknown; did you mean 'autoencoder'?"},
      {"autoencoder:\n  hidden_dim: many\n",
       "run.yaml:2: autoencoder.hidden_dim: got 'many', wanted an integer"},
      {"autoencoder:\n  hidden_dim: [1]\n", "run.yaml:2: autoencoder.hidden_dim: got a list"},
      {"autoencoder:\n  hidden_dim:\n    x: 1\n", "autoencoder.hidden_dim: got a group"},
      {"autoencoder:\n  hidden_dim:\n", "run.yaml:2: autoencoder.hidden_dim: got nothing"},
      {"autoencoder: 4\n", "run.yaml:1: autoencoder: got '4', wanted a group of options"},
      {"autoencoder: [4]\n", "run.yaml:1: autoencoder: got a list"},
      {"mlp_layers: [0, [1]]\n", "run.yaml:1: extractor.extraction.mlp_layers: got a list in"},
      {"mlp_layers: [0, ~]\n", "mlp_layers: got nothing in the list"},
      {"random_seed: 1\nrandom_seed: 2\n", "run.yaml:2: random_seed is given twice"},
      {"model_name: a\nextractor: {model: {model_name: b}}\n", "model_name is given twice"},
      {"training: {batch_size: 1}\nautoencoder: {batch_size: 2}\n",
       "training.batch_size is given twice"},
      {"extractor: {}\nextractor: {}\n", "run.yaml:2: extractor is given twice"},
      {"batch_size: 4\n", "ambiguous"},
      {"- 1\n- 2\n", "got a list, wanted a group"},
      {"just text\n", "got 'just text', wanted a group"},
      {"random_seed: 1\n---\nrandom_seed: 2\n", "second YAML document"},
      {"base: &b {random_seed: 1}\n", "unknown"},
      {"<<: {random_seed: 1}\n", "merge keys"},
      {"? [a, b]\n: 1\n", "wanted an option's name"},
      {"training.shuffle: sideways\n", "run.yaml:1: training.shuffle: got 'sideways'"},
  };
  for (const Case& c : cases) {
    ErrorKind kind = ErrorKind::kData;
    const std::string message = message_of(c.text, &kind);
    EXPECT_EQ(kind, ErrorKind::kUsage) << message;
    EXPECT_NE(message.find(c.part), std::string::npos) << message << "\nfor: " << c.text;
  }
}

TEST(Yaml, BadSyntaxIsBadData) {
  for (const char* text : {"a: [1, 2\n", "a: b: c\n", "\t- x\n", "'", "{", "&", "*x", "a: *nope\n",
                           "%YAML 9.9.9\n---\n", ",\n", "a: 1\n---\n,", "key: \"\\q\"\n", "!!!"}) {
    Config config;
    EXPECT_THROW(merge_yaml(config, text, "run.yaml"), Error) << text;
  }
  ErrorKind kind = ErrorKind::kUsage;
  const std::string message = message_of("random_seed: 1\nx: [1, 2\n", &kind);
  EXPECT_EQ(kind, ErrorKind::kData);
  EXPECT_EQ(message.find("run.yaml:"), 0U) << message;
}

TEST(Yaml, BombsAreRefusedQuickly) {
  // Billion laughs: nine levels of nine aliases.
  std::string laughs = "a0: &a0 [x]\n";
  for (int i = 1; i < 10; ++i) {
    const std::string below = "*a" + std::to_string(i - 1);
    laughs += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int j = 0; j < 9; ++j) laughs += (j > 0 ? ", " : "") + below;
    laughs += "]\n";
  }
  message_of(laughs);
  message_of("mlp_layers: &a [*a]\n");
  for (const char* open : {"[", "{", "{a: ", "- ", "? "}) {
    std::string deep;
    for (int i = 0; i < 200000; ++i) deep += open;
    message_of(deep);
    message_of("mlp_layers: " + deep);
  }
  std::string stairs;
  for (std::size_t i = 0; i < 1300; ++i) stairs += std::string(i, ' ') + "a:\n";
  message_of(stairs);
  message_of("model_name: " + std::string(std::size_t{2} << 20U, 'x'));
}

TEST(Yaml, ReadsFiles) {
  Config config;
  EXPECT_THROW(load_yaml(config, "/nonexistent/run.yaml"), Error);
  EXPECT_THROW(load_yaml(config, std::filesystem::temp_directory_path()), Error);
}

}  // namespace
}  // namespace drrik
