// Datasets of a Hub on this machine: the Parquet files it made, the repository's own, and the
// choice of configuration and split. Files come one by one, as their rows are read.

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "data/hub_dataset.h"
#include "drrik/base/error.h"
#include "drrik/base/log.h"
#include "drrik/data/source.h"
#include "drrik/hub/client.h"
#include "hub/fake_hub.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;
using hub_test::FakeHub;
using hub_test::Reply;
using hub_test::Seen;

constexpr const char* kData = "datasets/org/data";

class HubData : public testing::Test {
 protected:
  void SetUp() override {
    static std::atomic<int> counter{0};
    cache_ = fs::temp_directory_path() /
             ("drrik-hub-data-" + std::to_string(getpid()) + "-" + std::to_string(counter++));
    set_log_level(LogLevel::kError);
    use(false);
  }
  void TearDown() override {
    set_default_hub_options(nullptr);
    set_log_level(LogLevel::kInfo);
    fs::remove_all(cache_);
  }

  void use(bool offline) {
    set_default_hub_options([this, offline] {
      HubOptions options;
      options.endpoint = hub_.endpoint();
      options.cache_dir = cache_;
      options.offline = offline;
      options.retries = 1;
      options.first_wait = 0.01;
      return options;
    });
  }

  // The list of Parquet files that the Hub made, as JSON.
  void exported(const std::string& json) {
    hub_.on_request([json](const Seen& seen, const auto&) -> std::optional<Reply> {
      if (!seen.target.ends_with("/parquet") || !seen.target.starts_with("/api/")) {
        return std::nullopt;
      }
      return Reply{.body = json};
    });
  }

  static DatasetOptions options(const std::string& split = "train",
                                const std::string& config = "") {
    DatasetOptions options;
    options.path = "org/data";
    options.split = split;
    options.config = config;
    return options;
  }
  static std::vector<std::string> texts(const DatasetOptions& options) {
    std::vector<std::string> out;
    const auto source = open_dataset(options);
    while (auto sample = source->next()) out.push_back(sample->text);
    return out;
  }
  static std::string error_of(const DatasetOptions& options, ErrorKind kind) {
    try {
      texts(options);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), kind) << error.what();
      return error.what();
    }
    ADD_FAILURE() << "no error";
    return "";
  }
  static void expect_in(const std::string& part, const std::string& text) {
    EXPECT_NE(text.find(part), std::string::npos) << "wanted '" << part << "' in\n" << text;
  }

  FakeHub hub_;
  fs::path cache_;
};

using Texts = std::vector<std::string>;

TEST_F(HubData, OwnFilesByName) {
  hub_.add(kData, "README.md", "---\nlicense: mit\n---\nA dataset.\n");
  hub_.add(kData, "data/train-00000-of-00002.jsonl", "{\"text\": \"a\"}\n{\"text\": \"b\"}\n",
           true);
  hub_.add(kData, "data/train-00001-of-00002.jsonl", "{\"text\": \"c\"}\n", true);
  hub_.add(kData, "data/test-00000-of-00001.jsonl", "{\"text\": \"t\"}\n", true);
  hub_.add(kData, "script.py", "import os");
  EXPECT_EQ(texts(options()), (Texts{"a", "b", "c"}));
  EXPECT_EQ(texts(options("test")), (Texts{"t"}));
  EXPECT_EQ(texts(options("all")), (Texts{"t", "a", "b", "c"})) << "in order of path";
  const std::string message = error_of(options("dev"), ErrorKind::kData);
  expect_in("train", message);
  expect_in("test", message);
}

TEST_F(HubData, FilesComeAsTheirRowsAreRead) {
  hub_.add(kData, "data/train-00000-of-00003.jsonl", "{\"text\": \"a\"}\n{\"text\": \"b\"}\n",
           true);
  hub_.add(kData, "data/train-00001-of-00003.jsonl", "{\"text\": \"c\"}\n", true);
  hub_.add(kData, "data/train-00002-of-00003.jsonl", "{\"text\": \"d\"}\n", true);
  DatasetOptions some = options();
  some.num_samples = 2;
  EXPECT_EQ(texts(some), (Texts{"a", "b"}));
  std::size_t fetched = 0;
  for (const Seen& one : hub_.seen()) fetched += one.storage ? 1U : 0U;
  EXPECT_EQ(fetched, 1U);
  some.num_samples = 3;
  EXPECT_EQ(texts(some), (Texts{"a", "b", "c"}));
  const DatasetInfo info = inspect_dataset(options());
  EXPECT_EQ(info.files.size(), 3U);
  EXPECT_EQ(info.files[0], "hf://datasets/org/data/data/train-00000-of-00003.jsonl");
  EXPECT_GT(info.bytes, 0U);
}

TEST_F(HubData, ConfigurationsOfTheReadme) {
  hub_.add(kData, "README.md",
           "---\nconfigs:\n- config_name: en\n  data_files: en/*.csv\n- config_name: de\n"
           "  data_files:\n  - split: train\n    path: de/a.csv\n  - split: test\n"
           "    path: [de/b.csv]\n---\n");
  hub_.add(kData, "en/1.csv", "text\nhello\n");
  hub_.add(kData, "de/a.csv", "text\nhallo\n");
  hub_.add(kData, "de/b.csv", "text\nwelt\n");
  EXPECT_EQ(texts(options("train", "en")), (Texts{"hello"}));
  EXPECT_EQ(texts(options("test", "de")), (Texts{"welt"}));
  const std::string several = error_of(options(), ErrorKind::kData);
  expect_in("en", several);
  expect_in("de", several);
  expect_in("en", error_of(options("train", "fr"), ErrorKind::kData));
}

TEST_F(HubData, ParquetFilesOfTheHubComeFirst) {
  if (!arrow_available()) GTEST_SKIP() << "this build reads no Parquet";
  const fs::path sample = fs::path(DRRIK_TEST_DATA) / "data";
  hub_.add(kData, "train.jsonl", "{\"text\": \"own\"}\n");
  std::string parquet;
  for (const auto& entry : fs::recursive_directory_iterator(sample)) {
    if (entry.path().extension() != ".parquet") continue;
    DatasetOptions local;
    local.path = entry.path().string();
    try {
      if (texts(local).empty()) continue;
    } catch (const Error&) {
      continue;
    }
    std::ifstream file(entry.path(), std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    parquet = text.str();
    fs::create_directories(cache_);
    std::ofstream(cache_ / "same.parquet", std::ios::binary) << parquet;
    break;
  }
  ASSERT_FALSE(parquet.empty()) << "no sample with one text column";
  DatasetOptions local;
  local.path = (cache_ / "same.parquet").string();
  const Texts wanted = texts(local);
  hub_.add_branch(kData, "refs/convert/parquet", "default/train/0000.parquet", parquet);
  exported(
      R"({"default":{"train":["https://h/api/datasets/org/data/parquet/default/train/0.parquet"]}})");
  EXPECT_EQ(texts(options()), wanted);
  DatasetOptions revision = options();
  revision.revision = FakeHub::commit(kData);
  EXPECT_EQ(texts(revision), (Texts{"own"})) << "of another revision there are none";
  use(true);
  EXPECT_EQ(texts(options()), wanted) << "from the cache alone";
}

TEST_F(HubData, AnExportThatIsNotWholeIsNotUsed) {
  hub_.add(kData, "train.jsonl", "{\"text\": \"own\"}\n");
  hub_.add_branch(kData, "refs/convert/parquet", "default/partial-train/0000.parquet", "PAR1");
  exported(R"({"default":{"train":["u"]}})");
  EXPECT_EQ(texts(options()), (Texts{"own"}));
  exported("<html>busy</html>");
  EXPECT_EQ(texts(options()), (Texts{"own"}));
  exported(R"({"../..":{"train":["u"]}})");
  EXPECT_EQ(texts(options()), (Texts{"own"}));
}

TEST_F(HubData, ConfigurationsOfTheExport) {
  hub_.add(kData, "loader.py", "");
  for (const char* path : {"a/train/0000.parquet", "b/train/0000.parquet", "b/test/0000.parquet"}) {
    hub_.add_branch(kData, "refs/convert/parquet", path, "not read");
  }
  exported(R"({"a":{"train":["u"]},"b":{"train":["u"],"test":["u"]}})");
  expect_in("a, b", error_of(options(), ErrorKind::kData));
  expect_in("a, b", error_of(options("train", "c"), ErrorKind::kData));
  expect_in("train", error_of(options("validation", "b"), ErrorKind::kData));
  fs::remove_all(cache_);  // the Hub here changes what one commit holds
  hub_.add(kData, "README.md",
           "---\nconfigs:\n- config_name: a\n  data_files: x.jsonl\n- config_name: b\n"
           "  data_files: x.jsonl\n  default: true\n---\n");
  hub_.add(kData, "x.jsonl", "{\"text\": \"own\"}\n");
  const DataFiles files = hub_dataset_files(options());
  ASSERT_EQ(files.files.size(), 1U);
  expect_in("b/train/0000.parquet", files.files[0].path.string());
}

TEST_F(HubData, FormatsThatAreNotRead) {
  hub_.add(kData, "images/1.png", "x", true);
  hub_.add(kData, "shard.tar", "x", true);
  const std::string message = error_of(options(), ErrorKind::kData);
  expect_in(".png", message);
  expect_in(".tar", message);
}

TEST_F(HubData, ErrorsSayThatBothWereTried) {
  const std::string message = error_of(options(), ErrorKind::kIo);
  expect_in("no local file or folder, and from the Hub", message);
  DatasetOptions file = options();
  file.path = "absent.jsonl";
  expect_in("no such file", error_of(file, ErrorKind::kIo));
  EXPECT_EQ(hub_.count("GET", "absent"), 0U) << "the name of a file is no dataset";
}

TEST_F(HubData, OfflineReadsWhatIsThere) {
  hub_.add(kData, "data/train-00000-of-00002.jsonl", "{\"text\": \"a\"}\n", true);
  hub_.add(kData, "data/train-00001-of-00002.jsonl", "{\"text\": \"b\"}\n", true);
  DatasetOptions one = options();
  one.num_samples = 1;
  texts(one);
  hub_.forget();
  use(true);
  EXPECT_EQ(texts(one), (Texts{"a"}));
  expect_in("00001-of-00002", error_of(options(), ErrorKind::kIo));
  EXPECT_TRUE(hub_.seen().empty());
}

TEST(ParquetList, IsCheckedBeforeItNamesFolders) {
  const auto list = parse_parquet_list(R"({"b":{"train":["u","v"],"test":[]},"a":{}})", "x");
  ASSERT_EQ(list.size(), 1U);
  EXPECT_EQ(list[0].splits[0].second, 2U);
  for (const char* bad : {R"({"a/b":{"t":["u"]}})", R"({"a":{"..":["u"]}})", "[]", R"({"a":[]})",
                          R"({"a":{"t":{}}})"}) {
    EXPECT_THROW(parse_parquet_list(bad, "x"), Error) << bad;
  }
}

}  // namespace
}  // namespace drrik
