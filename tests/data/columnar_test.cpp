// Parquet and Arrow files against what pyarrow reads (tools/reference/dataset_fixtures.py).

#include "data/data_testing.h"
#include "data/files.h"
#include "drrik/base/log.h"
#include "drrik/base/system.h"
#include "io/json.h"

namespace drrik {
namespace {

using testing::expect_data_error;
using testing::Texts;
using testing::texts_of;

std::filesystem::path fixture(std::string_view name) {
  return std::filesystem::path(DRRIK_TEST_DATA) / "data" / name;
}

class Columnar : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!arrow_available()) GTEST_SKIP() << "built without Arrow: Parquet and Arrow are not tested";
  }
};

Texts rows_of_file(const std::filesystem::path& path, const std::string& column,
                   std::int64_t skip = 0, bool scalars = false) {
  RowOptions options;
  options.text_column = column;
  options.scalars = scalars;
  const auto reader = open_columnar(path, options);
  std::int64_t left = skip;
  Row row;
  while (left > 0) {
    const std::int64_t n = reader->skip(left);
    if (n == 0 && !reader->next(row)) break;
    left -= std::max<std::int64_t>(n, 1);
  }
  Texts out;
  while (reader->next(row)) out.push_back(row.present ? "+" + row.text : "none");
  return out;
}

Texts wanted_of(const Json& texts) {
  Texts out;
  for (const Json& text : texts) {
    out.push_back(text.is_null() ? "none" : "+" + text.get<std::string>());
  }
  return out;
}

TEST_F(Columnar, EveryTextOfEveryFixtureIsPyarrows) {
  const Json expected = read_json_file(fixture("expected.json"));
  int columns = 0;
  for (const auto& [name, about] : expected.items()) {
    for (const auto& [column, texts] : about.at("texts").items()) {
      EXPECT_EQ(rows_of_file(fixture(name), column), wanted_of(texts)) << name << " " << column;
      ++columns;
    }
  }
  EXPECT_GT(columns, 100);
}

TEST_F(Columnar, SkippingEqualsReadingAndDropping) {
  for (const char* name :
       {"snappy.parquet", "empty_groups.parquet", "file.arrow", "stream.arrow"}) {
    const Texts all = rows_of_file(fixture(name), "text");
    ASSERT_EQ(all.size(), 30U) << name;
    for (std::size_t skip = 1; skip <= all.size() + 1; ++skip) {
      const auto from = all.begin() + static_cast<std::ptrdiff_t>(std::min(skip, all.size()));
      EXPECT_EQ(rows_of_file(fixture(name), "text", static_cast<std::int64_t>(skip)),
                Texts(from, all.end()))
          << name << " " << skip;
    }
  }
}

TEST_F(Columnar, NumbersAndBooleansAreTextsWhereTheyMayBe) {
  const Texts numbers = {"+3", "none", "+100", "+7"};
  const std::vector<std::pair<std::string, Texts>> columns = {
      {"bool", {"+true", "none", "+false", "+true"}},
      {"int8", numbers},
      {"uint8", numbers},
      {"int16", numbers},
      {"uint16", numbers},
      {"int32", numbers},
      {"uint32", numbers},
      {"int64", numbers},
      {"uint64", numbers},
      {"large", {"+18446744073709551615", "none", "+0", "+7"}},
      {"negative", {"+-9223372036854775808", "none", "+0", "+-7"}},
      {"float", {"+0.5", "none", "+-2", "+0.1"}},
      {"double", {"+0.1", "none", "+1e+300", "+-3"}},
      {"dictionary", numbers},
      {"text", {"+a", "+b", "+c", "+d"}}};
  for (const char* file : {"scalars.parquet", "scalars.arrow"}) {
    for (const auto& [column, wanted] : columns) {
      EXPECT_EQ(rows_of_file(fixture(file), column, 0, true), wanted) << file << " " << column;
      if (column == "text") continue;
      EXPECT_THROW(rows_of_file(fixture(file), column), Error) << file << " " << column;
    }
  }
  EXPECT_THROW(rows_of_file(fixture("file.arrow"), "meta", 0, true), Error);
}

TEST_F(Columnar, SaysWhatColumnsThereAre) {
  const auto read = [](const char* file, const char* column) {
    return [=] { rows_of_file(fixture(file), column); };
  };
  expect_data_error(
      "no column 'txt'; there are: n (int32), text (string), required (string), bytes "
      "(binary), large (large_string), messages (list<element: struct<role: string, "
      "content: string>>)",
      read("snappy.parquet", "txt"));
  expect_data_error("messages[].content (string)", read("snappy.parquet", "txt"));
  expect_data_error("did you mean 'text'?", read("snappy.parquet", "txt"));
  expect_data_error("column 'n' is int32, wanted text", read("file.arrow", "n"));
  expect_data_error("it holds messages[].role, messages[].content",
                    read("snappy.parquet", "messages"));
  expect_data_error("say 'messages[].content'", read("file.arrow", "messages.content"));
  expect_data_error("'messages[]' has no 'body'", read("file.arrow", "messages[].body"));
  expect_data_error("'text' is string, which is no list", read("stream.arrow", "text[0]"));
  expect_data_error("'meta.url' is string, which has no members",
                    read("stream.arrow", "meta.url.x"));
}

TEST_F(Columnar, GuessesTheOnlyStringColumn) {
  DatasetOptions options;
  options.path = fixture("saved").string();
  options.split = "train";
  Texts wanted;
  for (int i = 0; i < 10; ++i) wanted.push_back(str("saved ", i));
  EXPECT_EQ(texts_of(options), wanted);
  options.split = "test";
  EXPECT_EQ(texts_of(options), Texts(wanted.begin(), wanted.begin() + 3));
  options.split = "validation";
  expect_data_error("its splits are train, test", [&] { open_dataset(options); });
}

TEST_F(Columnar, InspectsDatasets) {
  DatasetOptions options;
  options.path = fixture("saved").string();
  const DatasetInfo saved = inspect_dataset(options);
  EXPECT_EQ(saved.rows, 13);
  EXPECT_EQ(saved.splits, (Texts{"train", "test"}));
  EXPECT_EQ(saved.files.size(), 3U);
  EXPECT_EQ(saved.format, "arrow");
  EXPECT_EQ(saved.text_column, "text");
  options.path = fixture("snappy.parquet").string();
  const DatasetInfo parquet = inspect_dataset(options);
  EXPECT_EQ(parquet.rows, 30);
  EXPECT_EQ(parquet.bytes, std::filesystem::file_size(fixture("snappy.parquet")));
  ASSERT_GE(parquet.columns.size(), 8U);
  EXPECT_EQ(parquet.columns[0].name, "n");
  EXPECT_FALSE(parquet.columns[0].text);
  EXPECT_EQ(parquet.columns[3].type, "binary");
  EXPECT_TRUE(parquet.columns[3].text);
  EXPECT_FALSE(parquet.columns[3].string);
  options.text_column = "messages[].content";
  EXPECT_EQ(inspect_dataset(options).text_column, "messages[].content");
}

TEST_F(Columnar, ShufflesGroupsAndRows) {
  DatasetOptions options;
  options.path = fixture("snappy.parquet").string();
  options.text_column = "required";
  const Texts plain = texts_of(options);
  options.shuffle_seed = 1;
  options.shuffle_buffer = 1;  // Groups alone: of 7 rows, in another order, unbroken.
  const Texts groups = texts_of(options);
  EXPECT_NE(groups, plain);
  Texts last(plain.begin() + 28, plain.end());
  EXPECT_NE(std::search(groups.begin(), groups.end(), last.begin(), last.end()), groups.end());
  options.shuffle_buffer = 1000;
  Texts rows = texts_of(options);
  EXPECT_NE(rows, groups);
  EXPECT_EQ(texts_of(options), rows);
  Texts sorted = plain;
  std::sort(sorted.begin(), sorted.end());
  std::sort(rows.begin(), rows.end());
  EXPECT_EQ(rows, sorted);
}

TEST_F(Columnar, ReadsCompressedStreamsOnly) {
  testing::TempFolder folder;
  const std::string stream = read_file(fixture("stream.arrow"));
  write_file_atomic(folder / "s.arrow.gz", testing::gzip(stream));
  EXPECT_EQ(rows_of_file(folder / "s.arrow.gz", "meta.tags[]"),
            rows_of_file(fixture("stream.arrow"), "meta.tags[]"));
  write_file_atomic(folder / "p.parquet", testing::zstd(read_file(fixture("lz4.parquet"))));
  expect_data_error("Parquet file inside a compression",
                    [&] { rows_of_file(folder / "p.parquet", "text"); });
  write_file_atomic(folder / "x.parquet", std::string_view("some text, no Parquet"));
  expect_data_error("neither Parquet nor Arrow", [&] { rows_of_file(folder / "x.parquet", "t"); });
  write_file_atomic(folder / "e.parquet", std::string_view("PARE....PARE"));
  expect_data_error("encrypted", [&] { rows_of_file(folder / "e.parquet", "t"); });
  // Bytes tell what a name does not.
  write_file_atomic(folder / "nameless", read_file(fixture("lz4.parquet")));
  DatasetOptions options;
  options.path = (folder / "nameless").string();
  EXPECT_EQ(texts_of(options).size(), 24U);
  write_file_atomic(folder / "x.stream", stream);
  options.path = (folder / "x.stream").string();
  EXPECT_EQ(texts_of(options).size(), 24U);
}

TEST_F(Columnar, DamageIsAnErrorOrOtherRowsNeverMore) {
  for (const char* name : {"zstd_v2.parquet", "delta_byte_array.parquet", "file.arrow",
                           "lz4_stream.arrow", "stream.arrow"}) {
    const std::string whole = read_file(fixture(name));
    RowOptions options;
    options.text_column = "text";
    options.arrow_memory = 64 << 20;
    const auto read_all = [&](const std::string& bytes) {
      try {
        const auto reader = open_columnar(testing::bytes_of(bytes), options);
        Row row;
        while (reader->next(row)) EXPECT_TRUE(row.text.size() < 100'000);
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::kData) << error.what();
      }
    };
    for (std::size_t size = 0; size < whole.size(); size += 61) read_all(whole.substr(0, size));
    for (std::size_t at = 0; at < whole.size(); at += 13) {
      std::string bytes = whole;
      bytes[at] = static_cast<char>(bytes[at] ^ (at % 3 == 0 ? 0xFF : 0x41));
      read_all(bytes);
    }
  }
#if !defined(__SANITIZE_ADDRESS__)  // which keeps freed memory back
  EXPECT_LT(peak_resident_bytes(), std::uint64_t{1} << 30);
#endif
}

TEST_F(Columnar, ChecksumsAndSharedSamples) {
  const auto folder = testing::shared_file("data/parquet-testing");
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << folder << " is not there";
  const Texts fruit = rows_of_file(folder / "delta_length_byte_array.parquet", "FRUIT");
  ASSERT_EQ(fruit.size(), 1000U);
  EXPECT_EQ(fruit.back(), "+apple_banana_mango998001");
  // One page's checksum is wrong there.
  expect_data_error("checksum", [&] {
    rows_of_file(folder / "rle-dict-uncompressed-corrupt-checksum.parquet", "binary_field");
  });
}

}  // namespace
}  // namespace drrik
