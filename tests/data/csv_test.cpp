#include "data/data_testing.h"

namespace drrik {
namespace {

using testing::expect_data_error;
using testing::rows_of;
using testing::Texts;

TEST(Csv, ReadsQuotesNewlinesAndEmptyFields) {
  const std::string file =
      "\xEF\xBB\xBFid,text,note\r\n"
      "1,plain,x\r\n"
      "2,\"a, b\",x\n"
      "\n"
      "3,\"she said \"\"no\"\"\",x\n"
      "4,\"two\r\nlines\",x\n"
      "5,,x\n"
      "6,5\" disk,x\n"
      "7,\"quoted\" and more,x\n"
      "8,short\n"
      "9,last,\"\"";
  const Texts wanted = {"plain",           "a, b",   "she said \"no\"",
                        "two\r\nlines",    "<none>", "5\" disk",
                        "quoted and more", "short",  "last"};
  for (const std::size_t most : {1U, 2U, 5U, 1000U}) {
    EXPECT_EQ(rows_of(open_csv, file, {}, most), wanted) << most;
  }
}

TEST(Csv, ReadsTabsAndOldMacLines) {
  EXPECT_EQ(rows_of(open_tsv, "text\tn\ra, b\t1\r\"x\ty\"\t2\r"), (Texts{"a, b", "x\ty"}));
}

TEST(Csv, FindsTheColumn) {
  RowOptions options;
  options.text_column = "body";
  EXPECT_EQ(rows_of(open_csv, "text,body\na,b\n", options), (Texts{"b"}));
  EXPECT_EQ(rows_of(open_csv, "only\na\n"), (Texts{"a"}));
  expect_data_error("no column 'text'; there are: a (string), b (string)",
                    [] { rows_of(open_csv, "a,b\n1,2\n"); });
  options.text_column = "bdy";
  expect_data_error("did you mean 'body'?",
                    [&] { rows_of(open_csv, "text,body\na,b\n", options); });
}

TEST(Csv, NamesTheLineOfAMistake) {
  expect_data_error("line 3: 3 fields, but the header has 2",
                    [] { rows_of(open_csv, "text,n\na,1\nb,2,3\n"); });
  expect_data_error("line 4: a quoted field has no end",
                    [] { rows_of(open_csv, "text,n\n\"a\nb\",1\n\"open,2\n"); });
}

TEST(Csv, BoundsARecord) {
  RowOptions options;
  options.max_row_bytes = 1000;
  expect_data_error("line 2: the record has more than 1000 bytes", [&] {
    rows_of(open_csv, "text\n\"" + std::string(5000, 'x') + "\"\n", options, 100);
  });
  expect_data_error("too many fields",
                    [] { rows_of(open_csv, "text\n" + std::string(200'000, ','), {}, 1000); });
}

TEST(Csv, MendsBrokenUtf8) {
  const auto reader = open_csv(
      std::make_unique<testing::DrippingStream>("text\nok\nb\xFFz\n\xE4\xB8\n", 5), RowOptions());
  Row row;
  ASSERT_TRUE(reader->next(row));
  EXPECT_FALSE(row.mended);
  ASSERT_TRUE(reader->next(row));
  EXPECT_TRUE(row.mended);
  EXPECT_EQ(row.text, "b\xEF\xBF\xBDz");
  ASSERT_TRUE(reader->next(row));
  EXPECT_EQ(row.text, "\xEF\xBF\xBD");
}

TEST(Csv, EmptyFilesHaveNoRows) {
  EXPECT_TRUE(rows_of(open_csv, "").empty());
  EXPECT_TRUE(rows_of(open_csv, "\n\n").empty());
  EXPECT_TRUE(rows_of(open_csv, "text\n").empty());
}

}  // namespace
}  // namespace drrik
