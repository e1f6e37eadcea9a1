#include "data/files.h"

#include <sys/stat.h>

#include "data/data_testing.h"
#include "drrik/hub/options.h"

namespace drrik {
namespace {

using testing::expect_data_error;
using testing::expect_error;
using testing::Texts;

class Files : public ::testing::Test {
 protected:
  void put(std::string_view name) {
    write_file_atomic(folder_ / name, std::string_view("{\"text\": \"x\"}\n"));
  }
  Texts names(const std::string& path, const std::string& split = "") {
    Texts out;
    DatasetOptions options;
    options.path = path;
    options.split = split;
    for (const DataFile& file : find_data_files(options).files) {
      out.push_back(file.path.lexically_relative(folder_.path()).string());
    }
    return out;
  }
  std::string root() const { return folder_.path().string(); }
  testing::TempFolder folder_;
};

TEST_F(Files, FolderTakesTheCommonestKindInOrder) {
  for (const char* name :
       {"b.jsonl", "a/x.json", "a/y.jsonl.gz", "c.csv", ".hidden.jsonl", "README.md",
        "dataset_info.json", ".git/z.jsonl", "__pycache__/z.json", "a.txt", "LICENSE"}) {
    put(name);
  }
  EXPECT_EQ(names(root()), (Texts{"a/x.json", "a/y.jsonl.gz", "b.jsonl"}));
}

TEST_F(Files, FolderWithoutDataIsAnError) {
  put("README.md");
  put("image.png");
  expect_data_error("holds no data files; read are .parquet", [&] { names(root()); });
}

TEST_F(Files, LinksInACircleEnd) {
  put("a/x.txt");
  std::filesystem::create_directory_symlink(folder_.path(), folder_ / "a/loop");
  EXPECT_EQ(names(root()), (Texts{"a/x.txt"}));
}

TEST_F(Files, SplitsAreToldByNames) {
  for (const char* name : {"train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl",
                           "valid.jsonl", "eval/part.jsonl", "constraint.jsonl"}) {
    put(name);
  }
  EXPECT_EQ(names(root(), "train").size(), 2U);
  EXPECT_EQ(names(root(), "validation"), (Texts{"valid.jsonl"}));
  EXPECT_EQ(names(root(), "test"), (Texts{"eval/part.jsonl"}));
  EXPECT_EQ(names(root()).size(), 5U);
  EXPECT_EQ(names(root(), "all").size(), 5U);
  EXPECT_EQ(names(root(), "dev"), (Texts{"valid.jsonl"}));
  expect_data_error("no files of split 'other'", [&] { names(root(), "other"); });
}

TEST_F(Files, TrainIsEverythingWhereNoNameTells) {
  put("a.txt");
  put("b.txt");
  EXPECT_EQ(names(root(), "train").size(), 2U);
  expect_data_error("no files of split 'test'", [&] { names(root(), "test"); });
}

TEST_F(Files, GlobsMatch) {
  for (const char* name : {"a1.txt", "a2.txt", "b1.txt", "d/a3.txt", "d/e/a4.txt", ".a5.txt"}) {
    put(name);
  }
  EXPECT_EQ(names(root() + "/a*.txt"), (Texts{"a1.txt", "a2.txt"}));
  EXPECT_EQ(names(root() + "/[ab]1.txt"), (Texts{"a1.txt", "b1.txt"}));
  EXPECT_EQ(names(root() + "/?1.txt"), (Texts{"a1.txt", "b1.txt"}));
  EXPECT_EQ(names(root() + "/**/a*.txt"), (Texts{"a1.txt", "a2.txt", "d/a3.txt", "d/e/a4.txt"}));
  EXPECT_EQ(names(root() + "/d/**"), (Texts{"d/a3.txt", "d/e/a4.txt"}));
  EXPECT_EQ(names(root() + "/*/a3.txt"), (Texts{"d/a3.txt"}));
  expect_error(ErrorKind::kIo, "no file matches", [&] { names(root() + "/z*.txt"); });
  put("x[1].txt");
  EXPECT_EQ(names(root() + "/x[1].txt"), (Texts{"x[1].txt"}));
}

TEST_F(Files, FormatsAreToldByNames) {
  for (const char* name :
       {"a.jsonl", "a.JSONL.gz", "a.ndjson.zst", "a.tar.txt", "a.TXT.gz", "a.jsonl.bz2", "a.csv.xz",
        "a.txt.lz4", "a.json.zip", "a.parquet", "a.arrow", "a.feather"}) {
    EXPECT_NE(find_format(name), nullptr) << name;
  }
  for (const char* name : {"a", "txt", "a.gz", ".txt", "a.jsonl.rar", "a.xlsx", ""}) {
    EXPECT_EQ(find_format(name), nullptr) << name;
  }
  put("a.xlsx");
  expect_data_error("format not known by its name; read are .parquet",
                    [&] { names(root() + "/a.xlsx"); });
}

TEST_F(Files, PipesAndDevicesAreRefusedAtOnce) {
  const std::string pipe = root() + "/pipe.txt";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  const DataFile file{pipe, find_format(pipe), {}};
  expect_error(ErrorKind::kIo, "is a pipe, wanted a regular file", [&] { open_rows(file, {}); });
  const DataFile columnar{pipe, find_format("x.parquet"), {}};
  expect_error(ErrorKind::kIo, "is a pipe", [&] { open_rows(columnar, {}); });
  const DataFile device{"/dev/zero", find_format("x.txt"), {}};
  expect_error(ErrorKind::kIo, "is a device", [&] { open_rows(device, {}); });
  // The files that say what a folder is are files, too.
  put("d/a.jsonl");
  ASSERT_EQ(mkfifo((root() + "/d/README.md").c_str(), 0600), 0);
  EXPECT_EQ(names(root() + "/d"), (Texts{"d/a.jsonl"}));
}

TEST_F(Files, MissingPathsAndHubIds) {
  set_default_hub_options([this] {
    HubOptions options;
    options.cache_dir = root() + "/no-cache";
    options.offline = true;
    return options;
  });
  expect_error(ErrorKind::kIo, "no local file or folder, and from the Hub",
               [&] { names("org/name"); });
  set_default_hub_options(nullptr);
  const auto outcome = testing::outcome_of([&] { names(root() + "/absent.txt"); });
  EXPECT_EQ(outcome.kind, ErrorKind::kIo);
  EXPECT_EQ(outcome.message.find("Hub"), std::string::npos) << outcome.message;
  expect_error(ErrorKind::kUsage, "no path", [&] { names(""); });
}

}  // namespace
}  // namespace drrik
