#include "drrik/data/source.h"

#include "data/data_testing.h"
#include "drrik/base/log.h"
#include "drrik/base/system.h"

namespace drrik {
namespace {

using testing::expect_data_error;
using testing::expect_error;
using testing::Texts;
using testing::texts_of;

class Source : public ::testing::Test {
 protected:
  Source() {
    set_log_sink([this](LogLevel level, std::string_view message) {
      if (level >= LogLevel::kWarning) warnings_.emplace_back(message);
    });
  }
  ~Source() override { set_log_sink(nullptr); }
  DatasetOptions put(std::string_view name, std::string_view content) {
    write_file_atomic(folder_ / name, content);
    DatasetOptions options;
    options.path = (folder_ / name).string();
    return options;
  }
  testing::TempFolder folder_;
  Texts warnings_;
};

TEST_F(Source, SameRowsFromEveryFormat) {
  const Texts wanted = {"first, row", "second \"row\"", "third"};
  const std::string jsonl =
      "{\"text\": \"first, row\"}\n{\"text\": \"second \\\"row\\\"\"}\n{\"text\": \"third\"}\n";
  const std::string csv = "n,text\n1,\"first, row\"\n2,\"second \"\"row\"\"\"\n3,third\n";
  const std::string tsv = "n\ttext\n1\tfirst, row\n2\tsecond \"row\"\n3\tthird\n";
  const std::string json = R"([{"text":"first, row"},{"text":"second \"row\""},{"text":"third"}])";
  const std::string text = "first, row\r\nsecond \"row\"\n\nthird\n";
  const std::pair<const char*, std::string> files[] = {{"a.jsonl", jsonl}, {"a.ndjson", jsonl},
                                                       {"b.json", json},   {"c.csv", csv},
                                                       {"d.tsv", tsv},     {"e.txt", text}};
  for (const auto& [name, content] : files) {
    EXPECT_EQ(texts_of(put(name, content)), wanted) << name;
    EXPECT_EQ(texts_of(put(str(name, ".gz"), testing::gzip(content))), wanted) << name;
    EXPECT_EQ(texts_of(put(str(name, ".zst"), testing::zstd(content))), wanted) << name;
    EXPECT_EQ(texts_of(put(str(name, ".bz2"), testing::bzip2(content))), wanted) << name;
    EXPECT_EQ(texts_of(put(str(name, ".xz"), testing::xz(content))), wanted) << name;
    EXPECT_EQ(texts_of(put(str(name, ".lz4"), testing::lz4(content))), wanted) << name;
    // The bytes decide about compression, not the name.
    EXPECT_EQ(texts_of(put(name, testing::gzip(content))), wanted) << name;
  }
}

TEST_F(Source, SkipsCountsAndNumbersRows) {
  DatasetOptions options = put("a.jsonl",
                               "{\"text\":\"0\"}\n{\"text\":null}\n{\"text\":\"2\"}\n"
                               "{\"text\":\"3\"}\n{\"text\":\"4\"}\n");
  const auto indices = [&] {
    std::vector<std::int64_t> out;
    const auto source = open_dataset(options);
    while (const auto sample = source->next()) {
      EXPECT_EQ(sample->text, std::to_string(sample->index));
      out.push_back(sample->index);
    }
    EXPECT_EQ(source->fraction(), 1.0);
    EXPECT_FALSE(source->next().has_value());
    return out;
  };
  using Indices = std::vector<std::int64_t>;
  EXPECT_EQ(indices(), (Indices{0, 2, 3, 4}));
  options.num_samples = 2;
  EXPECT_EQ(indices(), (Indices{0, 2}));
  options.skip = 3;
  EXPECT_EQ(indices(), (Indices{3, 4}));
  options.num_samples = 100;
  EXPECT_EQ(indices(), (Indices{3, 4}));
  options.skip = 5;
  expect_data_error("leaves none of 5", [&] { open_dataset(options); });
  options.skip = -1;
  expect_error(ErrorKind::kUsage, "skip", [&] { open_dataset(options); });
  options.skip = 0;
  options.num_samples = 0;
  expect_error(ErrorKind::kUsage, "0 samples", [&] { open_dataset(options); });
}

TEST_F(Source, ReadsAFolderInOrder) {
  put("d/b.txt", "3\n4\n");
  put("d/a.txt", "1\n2\n");
  put("d/c.txt", "");
  DatasetOptions options;
  options.path = (folder_ / "d").string();
  const auto source = open_dataset(options);
  EXPECT_EQ(source->files().size(), 3U);
  EXPECT_EQ(texts_of(*source), (Texts{"1", "2", "3", "4"}));
}

TEST_F(Source, ErrorsNameFileAndLineAtOpening) {
  expect_data_error("a.jsonl: line 1: malformed JSON", [&] { open_dataset(put("a.jsonl", "{")); });
  expect_data_error("a.csv: no column 'text'; there are: x (string), y (string)",
                    [&] { open_dataset(put("a.csv", "x,y\n1,2\n")); });
  expect_data_error("no samples in 1 file", [&] { open_dataset(put("a.txt", "\n\n")); });
  expect_data_error("every text is null",
                    [&] { open_dataset(put("b.jsonl", "{\"text\":null}\n")); });
  expect_data_error("a.txt: gzip: the data ends",
                    [&] { open_dataset(put("a.txt", testing::gzip("abc").substr(0, 12))); });
  const auto source = open_dataset(put("c.jsonl", "{\"text\":\"a\"}\n{\"text\":\"b\"\n"));
  EXPECT_EQ(source->next()->text, "a");
  expect_data_error("c.jsonl: line 2: malformed JSON", [&] { source->next(); });
}

TEST_F(Source, WarnsOnceAndCounts) {
  EXPECT_EQ(texts_of(put("a.txt", "ok\nb\xFFz\nb\xFFz\nb\xFFz\n")).size(), 4U);
  ASSERT_EQ(warnings_.size(), 2U);
  EXPECT_NE(warnings_[0].find("row 1 is not valid UTF-8"), std::string::npos) << warnings_[0];
  EXPECT_NE(warnings_[1].find("3 rows"), std::string::npos) << warnings_[1];
  warnings_.clear();
  texts_of(put("a.jsonl", "{\"text\":\"x\"}\n{}\n{}\n"));
  EXPECT_EQ(warnings_.size(), 2U);
}

TEST_F(Source, ReadsZipArchives) {
  const auto read = [](const char* name) {
    DatasetOptions options;
    options.path = (std::filesystem::path(DRRIK_TEST_DATA) / "data" / name).string();
    return texts_of(options);
  };
  EXPECT_EQ(read("one.jsonl.zip"), (Texts{"row 0", "row 1", "row 2", "row 3"}));
  EXPECT_EQ(read("several.zip"), (Texts{"a 0", "a 1", "a 2", "a 3", "b 0", "b 1", "b 2", "b 3"}));
}

TEST_F(Source, ShufflesWithinItsWindow) {
  std::string rows;
  Texts plain;
  for (int i = 0; i < 500; ++i) {
    plain.push_back(std::to_string(i));
    rows += str("{\"text\":\"", i, "\"}\n");
  }
  DatasetOptions options = put("a.jsonl", rows);
  EXPECT_EQ(texts_of(options), plain);
  options.shuffle_seed = 7;
  const Texts seven = texts_of(options);
  EXPECT_EQ(texts_of(options), seven);
  EXPECT_TRUE(std::is_permutation(seven.begin(), seven.end(), plain.begin(), plain.end()));
  // A uniform permutation of 500 leaves each row in its place with chance 1/500: about one does.
  int fixed = 0;
  for (std::size_t i = 0; i < plain.size(); ++i) fixed += seven[i] == plain[i] ? 1 : 0;
  EXPECT_LT(fixed, 12);
  options.shuffle_seed = 8;
  EXPECT_NE(texts_of(options), seven);
  // Skipping and counting come after shuffling: parts of one order.
  options.shuffle_seed = 7;
  options.skip = 400;
  EXPECT_EQ(texts_of(options), Texts(seven.begin() + 400, seven.end()));
  options.skip = 0;
  options.num_samples = 100;
  EXPECT_EQ(texts_of(options), Texts(seven.begin(), seven.begin() + 100));
  // A row comes at most a window early.
  options.num_samples = -1;
  options.shuffle_buffer = 10;
  const Texts near = texts_of(options);
  for (std::size_t i = 0; i < near.size(); ++i) EXPECT_LT(std::stoul(near[i]), i + 10);
  EXPECT_NE(near, plain);
  options.shuffle_buffer = 0;
  expect_error(ErrorKind::kUsage, "shuffle_buffer", [&] { open_dataset(options); });
}

TEST_F(Source, FollowsTheReadmeOfAFolder) {
  put("d/README.md",
      "---\nconfigs:\n- config_name: a\n  data_files: x/*.csv\n  sep: ';'\n- config_name: b\n"
      "  data_files:\n  - split: train\n    path: t.jsonl\n  - split: odd\n    path: "
      "o.jsonl\n---\n");
  put("d/x/1.csv", "n;text\n1;one, two\n");
  put("d/t.jsonl", "{\"text\":\"t\"}\n");
  put("d/o.jsonl", "{\"text\":\"o\"}\n");
  DatasetOptions options;
  options.path = (folder_ / "d").string();
  expect_data_error("choose one (--dataset-config): a, b", [&] { open_dataset(options); });
  options.config = "a";
  EXPECT_EQ(texts_of(options), Texts{"one, two"});
  options.config = "b";
  EXPECT_EQ(texts_of(options), (Texts{"t", "o"}));
  options.split = "odd";
  EXPECT_EQ(texts_of(options), Texts{"o"});
  const DatasetInfo info = inspect_dataset(options);
  EXPECT_EQ(info.configs, (Texts{"a", "b"}));
  EXPECT_EQ(info.splits, (Texts{"train", "odd"}));
  EXPECT_FALSE(info.rows.has_value());
  EXPECT_EQ(info.text_column, "text");
  options.config.clear();
  options.path = (folder_ / "d/t.jsonl").string();
  options.config = "b";
  expect_error(ErrorKind::kUsage, "a single file has none", [&] { open_dataset(options); });
}

TEST_F(Source, ReadsTheFilesItIsGiven) {
  DatasetOptions options = put("b.jsonl", "{\"text\":\"b\"}\n");
  const std::string b = options.path;
  options.files = {b, put("a.txt", "a\n").path};
  options.path = "org/name";
  EXPECT_EQ(texts_of(options), (Texts{"b", "a"}));
}

TEST_F(Source, MemoryDoesNotGrowWithTheFile) {
  // 200 MB of text in 200 KB of zstd: a reader that holds it would show in the peak.
  std::string line = "{\"text\": \"" + std::string(1000, 'x') + "\"}\n";
  std::string chunk;
  for (int i = 0; i < 1000; ++i) chunk += line;
  const std::string frame = testing::zstd(chunk);
  std::string file;
  for (int i = 0; i < 200; ++i) file += frame;
  const DatasetOptions options = put("big.jsonl", file);
  [[maybe_unused]] const std::uint64_t before = peak_resident_bytes();
  const auto source = open_dataset(options);
  std::int64_t rows = 0;
  double last = 0;
  while (source->next()) {
    ++rows;
    EXPECT_GE(source->fraction(), last);
    last = source->fraction();
  }
  EXPECT_EQ(rows, 200'000);
#if !defined(__SANITIZE_ADDRESS__)  // which keeps freed memory back, 256 MB of it
  // Line buffer, decompressor window and simdjson's tape: a few megabytes.
  EXPECT_LT(peak_resident_bytes() - before, std::uint64_t{32} << 20);
#endif
}

TEST(SampleByNames, AreParsed) {
  EXPECT_EQ(parse_sample_by("paragraph"), SampleBy::kParagraph);
  expect_error(ErrorKind::kUsage, "did you mean 'line'?", [] { parse_sample_by("lines"); });
}

TEST(MemorySource, GivesItsTexts) {
  const auto source = make_text_source({"a", "b"});
  EXPECT_EQ(source->next()->index, 0);
  EXPECT_EQ(source->next()->text, "b");
  EXPECT_FALSE(source->next().has_value());
}

}  // namespace
}  // namespace drrik
