// Config: the table of options, set() by name, environment variables, printing.

#include "drrik/config/config.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "drrik/base/error.h"
#include "drrik/base/log.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;

// The message of the Error(usage) that f throws; fails when it throws none or another kind.
template <typename F>
std::string usage_message(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

TEST(Config, DefaultsAreTheDescribedOnes) {
  const Config config;
  EXPECT_EQ(config.extractor.model.revision, "main");
  EXPECT_EQ(config.extractor.model.torch_dtype, "float16");
  EXPECT_EQ(config.extractor.model.device_map, "auto");
  EXPECT_EQ(config.autoencoder.l1_coefficient, 0.01);
  EXPECT_TRUE(config.autoencoder.normalize_decoder);
  EXPECT_TRUE(config.autoencoder.pre_encoder_bias);
  EXPECT_EQ(config.training.batch_size, 256);
  EXPECT_EQ(config.training.num_epochs, 100);
  EXPECT_EQ(config.training.learning_rate, 1e-4);
  EXPECT_EQ(config.training.validation_split, 0.1);
  EXPECT_EQ(config.training.resample_interval, 10000);
  EXPECT_EQ(config.training.window_size, 100);
  EXPECT_EQ(config.visualization.output_dir, "visualizations");
  EXPECT_EQ(config.visualization.dpi, 150);
  EXPECT_EQ(config.steering.strengths, (std::vector<double>{0, 1, 2, 3, 5}));
  EXPECT_EQ(config.steering.max_new_tokens, 50);
  EXPECT_EQ(config.random_seed, 42);
  EXPECT_EQ(config.log_level, "INFO");
}

TEST(Config, FieldsAreUniqueDescribedAndValid) {
  std::set<std::string> paths;
  Config config;
  for (const ConfigField& field : config_fields()) {
    EXPECT_TRUE(paths.insert(field.path).second) << field.path;
    EXPECT_FALSE(field.help.empty()) << field.path;
    // Each default is a value that set() itself would take.
    EXPECT_NO_THROW(merge_yaml(config, field.path.substr(field.path.rfind('.') + 1) == field.path
                                           ? field.path + ": " + field.default_value
                                           : "{}"))
        << field.path;
  }
  EXPECT_GT(paths.size(), 50U);
}

TEST(Config, SetsEveryTypeByPath) {
  Config config;
  set(config, "autoencoder.hidden_dim", "16384");
  set(config, "autoencoder.l1_coefficient", " 2e-3 ");
  set(config, "training.shuffle", "off");
  set(config, "extractor.model.model_name", "some folder, with a comma");
  set(config, "extractor.dataset.num_samples", "7");
  set(config, "extractor.extraction.mlp_layers", "0, 3,5");
  set(config, "steering.strengths", "[0, 2.5]");
  set(config, "steering.prompts", R"(["Once, upon", 'it''s', plain])");
  EXPECT_EQ(config.autoencoder.hidden_dim, 16384);
  EXPECT_EQ(config.autoencoder.l1_coefficient, 2e-3);
  EXPECT_FALSE(config.training.shuffle);
  EXPECT_EQ(config.extractor.model.model_name, "some folder, with a comma");
  EXPECT_EQ(config.extractor.dataset.num_samples, 7);
  EXPECT_EQ(config.extractor.extraction.mlp_layers, (std::vector<std::int64_t>{0, 3, 5}));
  EXPECT_EQ(config.steering.strengths, (std::vector<double>{0, 2.5}));
  EXPECT_EQ(config.steering.prompts, (std::vector<std::string>{"Once, upon", "it's", "plain"}));
  set(config, "steering.prompts", "One, text");
  EXPECT_EQ(config.steering.prompts, (std::vector<std::string>{"One, text"}));
  set(config, "extractor.dataset.num_samples", "null");
  EXPECT_FALSE(config.extractor.dataset.num_samples.has_value());
}

TEST(Config, SortsFlatNamesIntoTheirGroups) {
  Config config;
  set(config, "model_name", "m");
  set(config, "Text-Column", "body");
  set(config, "model.revision", "v2");
  set(config, "MLP_LAYERS", "4");
  set(config, "learning_rate", "0.5");
  EXPECT_EQ(config.extractor.model.model_name, "m");
  EXPECT_EQ(config.extractor.dataset.text_column, "body");
  EXPECT_EQ(config.extractor.model.revision, "v2");
  EXPECT_EQ(config.extractor.extraction.mlp_layers, (std::vector<std::int64_t>{4}));
  EXPECT_EQ(config.training.learning_rate, 0.5);
  // fit()'s options are accepted under the autoencoder, and a full path wins over its ends.
  set(config, "autoencoder.batch_size", "64");
  EXPECT_EQ(config.training.batch_size, 64);
  EXPECT_EQ(config.extractor.extraction.batch_size, 0);
  set(config, "output_dir", "out");
  EXPECT_EQ(config.output_dir, "out");
  EXPECT_EQ(config.visualization.output_dir, "visualizations");
  set(config, "extractor.batch_size", "3");
  EXPECT_EQ(config.extractor.extraction.batch_size, 3);
}

TEST(Config, RefusesUnknownAndAmbiguousNames) {
  Config config;
  const std::string unknown =
      usage_message([&] { set(config, "autoencoder.hiden_dim", "3", "--set"); });
  EXPECT_EQ(unknown.find("--set: "), 0U) << unknown;
  EXPECT_NE(unknown.find("hidden_dim'?"), std::string::npos) << unknown;
  const std::string ambiguous = usage_message([&] { set(config, "batch_size", "3"); });
  EXPECT_NE(ambiguous.find("extractor.extraction.batch_size, training.batch_size"),
            std::string::npos)
      << ambiguous;
  for (const char* name : {"", ".", "autoencoder", "autoencoder.", "x", "hidden_dim.x", "_dim"}) {
    usage_message([&] { set(config, name, "3"); });
  }
}

TEST(Config, RefusesWrongValues) {
  struct Case {
    const char* name;
    const char* value;
    const char* part;
  };
  const Case cases[] = {
      {"hidden_dim", "many", "wanted an integer"},
      {"hidden_dim", "", "wanted an integer"},
      {"hidden_dim", "1.5", "wanted an integer"},
      {"hidden_dim", "-1", "of at least 0"},
      {"hidden_dim", "99999999999999999999", "wanted an integer"},
      {"hidden_dim", "0x10", "wanted an integer"},
      {"learning_rate", "0", "above 0"},
      {"learning_rate", "nan", "wanted a number"},
      {"learning_rate", "inf", "wanted a number"},
      {"validation_split", "1", "below 1"},
      {"top_p", "0", "above 0"},
      {"top_p", "1.01", "at most 1"},
      {"dpi", "10000", "at most 600"},
      {"top_features", "201", "at most 200"},
      {"visualization.max_text_length", "2001", "at most 2000"},
      {"shuffle", "perhaps", "true or false"},
      {"torch_dtype", "float1", "did you mean 'float16'?"},
      {"log_level", "LOUD", "DEBUG, INFO"},
      {"mlp_layers", "0,,2", "wanted an integer"},
      {"mlp_layers", "0,-2", "of at least 0"},
      {"strengths", "[1, two]", "wanted a number"},
      {"prompts", "['open", "closing bracket"},
      {"prompts", "['open]", "closing quote"},
      {"prompts", "['a' 'b']", "comma"},
      {"num_samples", "0", "of at least 1"},
  };
  for (const Case& c : cases) {
    Config config;
    const std::string before = to_yaml(config);
    const std::string message = usage_message([&] { set(config, c.name, c.value); });
    EXPECT_NE(message.find(c.part), std::string::npos) << c.name << ": " << message;
    EXPECT_EQ(to_yaml(config), before);
  }
}

TEST(Config, NormalisesChoices) {
  Config config;
  set(config, "log_level", "warning");
  set(config, "torch_dtype", "BFloat16");
  EXPECT_EQ(config.log_level, "WARNING");
  EXPECT_EQ(config.extractor.model.torch_dtype, "bfloat16");
  // What it lets through is what the logger understands.
  EXPECT_EQ(parse_log_level(config.log_level), LogLevel::kWarning);
}

TEST(Config, KeepsLongAndControlTextOutOfMessages) {
  Config config;
  const std::string value = "\x1b[31m" + std::string(100, 'x') + "SECRET_END";
  const std::string message = usage_message([&] { set(config, "hidden_dim", value); });
  EXPECT_EQ(message.find('\x1b'), std::string::npos);
  EXPECT_EQ(message.find("SECRET_END"), std::string::npos);
}

TEST(Config, EnvironmentNestsWithTwoUnderscores) {
  Config config;
  apply_environment(config, {{"DRIK_AUTOENCODER__HIDDEN_DIM", "16384"},
                             {"drik_extractor__dataset__text_column", "body"},
                             {"DRRIK_RANDOM_SEED", "7"},
                             {"DRIK_RANDOM_SEED", "8"},
                             {"DRIK_MODEL_NAME", "m"},
                             {"DRRIK_EXTRACTOR__EXTRACTION__MLP_LAYERS", "[1, 2]"},
                             {"DRRIK_CCACHE", "ccache"},
                             {"DRRIK_BUILD_TESTS", "ON"},
                             {"PATH", "/bin"}});
  EXPECT_EQ(config.autoencoder.hidden_dim, 16384);
  EXPECT_EQ(config.extractor.dataset.text_column, "body");
  EXPECT_EQ(config.random_seed, 7);  // DRRIK_ over DRIK_
  EXPECT_EQ(config.extractor.model.model_name, "m");
  EXPECT_EQ(config.extractor.extraction.mlp_layers, (std::vector<std::int64_t>{1, 2}));
}

TEST(Config, EnvironmentErrorsNameTheVariable) {
  Config config;
  const std::string unknown = usage_message([&] {
    apply_environment(config, {{"DRIK_AUTOENCODER__HIDEN_DIM", "1"}});
  });
  EXPECT_NE(unknown.find("DRIK_AUTOENCODER__HIDEN_DIM"), std::string::npos) << unknown;
  EXPECT_NE(unknown.find("hidden_dim'?"), std::string::npos) << unknown;
  const std::string wrong = usage_message([&] {
    apply_environment(config, {{"DRIK_RANDOM_SEED", "3"}, {"DRIK_THREADS", "all"}});
  });
  EXPECT_NE(wrong.find("DRIK_THREADS"), std::string::npos) << wrong;
  EXPECT_EQ(config.random_seed, 42);  // All or nothing.
}

TEST(Config, LaterSourcesWin) {
  const fs::path path = fs::temp_directory_path() / "drrik_config_later.yaml";
  {
    Config file;
    set(file, "hidden_dim", "10");
    set(file, "random_seed", "10");
    set(file, "text_column", "file");
    FILE* out = std::fopen(path.c_str(), "w");
    ASSERT_NE(out, nullptr);
    std::fputs(to_yaml(file).c_str(), out);
    std::fclose(out);
  }
  Config config = load_config(path, {{"DRIK_RANDOM_SEED", "20"}, {"DRIK_HIDDEN_DIM", "20"}});
  set(config, "hidden_dim", "30");
  EXPECT_EQ(config.extractor.dataset.text_column, "file");
  EXPECT_EQ(config.random_seed, 20);
  EXPECT_EQ(config.autoencoder.hidden_dim, 30);
  EXPECT_EQ(config.extractor.model.revision, "main");
  fs::remove(path);
}

TEST(Config, YamlOfAConfigReadsBackToTheSame) {
  Config config;
  set(config, "model_name", "a: b # \"c\" \\ \t\n- é 海 \x01");
  set(config, "dataset_name", "null");
  set(config, "dataset_config", "123");
  set(config, "text_column", "true");
  set(config, "split", "*alias");
  set(config, "prompts", "[\"a, b]\", 'x: y', '']");
  set(config, "steering.strengths", "0,0.1,-1e-7");
  set(config, "num_samples", "12");
  set(config, "learning_rate", "0.30000000000000004");
  set(config, "mlp_layers", "[]");
  for (const bool comments : {false, true}) {
    const std::string text = to_yaml(config, comments);
    Config back;
    merge_yaml(back, text, "round trip");
    EXPECT_EQ(to_yaml(back), to_yaml(config)) << text;
    EXPECT_EQ(back.extractor.model.model_name, config.extractor.model.model_name);
    EXPECT_EQ(back.extractor.dataset.dataset_name, "null");
    EXPECT_EQ(back.steering.prompts, config.steering.prompts);
  }
}

TEST(Config, GetGivesWhatSetTakes) {
  Config config;
  set(config, "mlp_layers", "1,2");
  EXPECT_EQ(get(config, "mlp_layers"), "[1, 2]");
  EXPECT_EQ(get(config, "learning_rate"), "0.0001");
  EXPECT_EQ(get(config, "num_samples"), "null");
}

TEST(Config, ReferenceNamesEveryOption) {
  const std::string reference = config_reference();
  for (const ConfigField& field : config_fields()) {
    EXPECT_NE(reference.find("`" + field.path + "`"), std::string::npos) << field.path;
  }
}

TEST(Config, CreatesOutputFolders) {
  const fs::path root = fs::temp_directory_path() / "drrik_config_dirs";
  fs::remove_all(root);
  Config config;
  config.output_dir = root.string();
  config.steering.enabled = false;
  create_output_dirs(config);
  EXPECT_TRUE(fs::is_directory(root / "activations"));
  EXPECT_TRUE(fs::is_directory(root / "sae"));
  EXPECT_TRUE(fs::is_directory(root / "visualizations"));
  EXPECT_FALSE(fs::exists(root / "steering"));
  config.autoencoder.output_dir = (root / "elsewhere").string();
  EXPECT_EQ(output_path(config, config.autoencoder.output_dir), root / "elsewhere");
  fs::remove_all(root);
}

}  // namespace
}  // namespace drrik
