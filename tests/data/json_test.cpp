#include "data/data_testing.h"

namespace drrik {
namespace {

using testing::expect_data_error;
using testing::rows_of;
using testing::Texts;

TEST(JsonLines, ReadsObjectsAndStrings) {
  const std::string file =
      "\xEF\xBB\xBF{\"text\": \"a\\n\\u00e9\\ud83d\\ude00\", \"n\": {\"text\": \"not me\"}}\r\n"
      "\n"
      "  \n"
      "{\"n\": 1, \"text\": null}\n"
      "{\"n\": 2}\n"
      "\"bare\"\n"
      "{\"text\": \"\"}";
  const Texts wanted = {"a\n\u00e9\U0001F600", "<none>", "<none>", "bare", ""};
  for (const std::size_t most : {1U, 3U, 1000U}) {
    EXPECT_EQ(rows_of(open_json_lines, file, {}, most), wanted) << most;
  }
}

TEST(JsonLines, FindsTheColumn) {
  EXPECT_EQ(rows_of(open_json_lines, R"({"body": "x", "n": 1})"), (Texts{"x"}));
  expect_data_error("line 1: no column 'text'; there are: a (string), b (string); name the one",
                    [] { rows_of(open_json_lines, R"({"a": "x", "b": "y"})"); });
  expect_data_error("there are: none", [] { rows_of(open_json_lines, "{}"); });
  RowOptions options;
  options.text_column = "tekst";
  expect_data_error("did you mean 'text'?",
                    [&] { rows_of(open_json_lines, R"({"text": "x"})", options); });
}

TEST(JsonLines, NamesTheLineOfAMistake) {
  for (const char* bad : {"{\"text\": \"a\"", "{\"text\": \"a\"} x", "{text: 1}", "{\"text\": 1x}",
                          "[}", "nul", "{\"text\": \"\\x\"}"}) {
    expect_data_error("line 3: malformed JSON", [&] {
      rows_of(open_json_lines, str("{\"text\": \"a\"}\n\n", bad, "\n{\"text\": \"b\"}\n"));
    });
  }
  expect_data_error("line 2: column 'text' is a number, wanted a string",
                    [] { rows_of(open_json_lines, "{\"text\": \"a\"}\n{\"text\": 5}\n"); });
  expect_data_error("line 1: the row is an array", [] { rows_of(open_json_lines, "[1]\n"); });
}

TEST(JsonLines, BoundsALineAndNesting) {
  RowOptions options;
  options.max_row_bytes = 100;
  expect_data_error("line 2 has", [&] {
    rows_of(open_json_lines, "{\"text\":\"a\"}\n\"" + std::string(200, 'x') + "\"\n", options);
  });
  // Never read as a whole: the buffer holds at most about twice the bound.
  options.max_row_bytes = std::size_t{2} << 20;
  expect_data_error("more than", [&] {
    rows_of(open_json_lines, std::string(std::size_t{8} << 20, ' '), options, 1 << 16);
  });
  expect_data_error("malformed JSON",
                    [] { rows_of(open_json_lines, std::string(100'000, '['), {}, 1000); });
}

TEST(JsonLines, MendsWhatSimdjsonRefuses) {
  const auto reader = open_json_lines(
      std::make_unique<testing::DrippingStream>(
          "{\"text\": \"b\xFFz\"}\n{\"text\": \"\\ud83d!\"}\n{\"text\": \"\\\\ud83d\"}\n", 5),
      RowOptions());
  Row row;
  ASSERT_TRUE(reader->next(row));
  EXPECT_TRUE(row.mended);
  EXPECT_EQ(row.text, "b\xEF\xBF\xBDz");
  ASSERT_TRUE(reader->next(row));
  EXPECT_TRUE(row.mended);
  EXPECT_EQ(row.text, "\xEF\xBF\xBD!");
  ASSERT_TRUE(reader->next(row));
  EXPECT_FALSE(row.mended);
  EXPECT_EQ(row.text, "\\ud83d");
}

TEST(JsonFile, ReadsArraysObjectsAndWrappers) {
  const std::pair<const char*, Texts> cases[] = {
      {R"([{"text": "a"}, {"text": "]}\"["}, {"text": null}, "b"])", {"a", "]}\"[", "<none>", "b"}},
      {R"([ "a" , "b" ])", {"a", "b"}},
      {R"( [] )", {}},
      {R"({"text": "a"})", {"a"}},
      {R"({"text": "a"} {"text": "b"})", {"a", "b"}},
      {"{\"text\": \"a\"}\n{\"text\": \"b\"}\n", {"a", "b"}},
      {R"({"text": ["a", null, "b"], "n": [1, 2, 3]})", {"a", "<none>", "b"}},
      {R"({"data": [{"text": "a"}, {"text": "b"}], "version": 1})", {"a", "b"}},
      {R"({"version": 1, "data": [{"text": "a"}, {"text": "b"}]})", {"a", "b"}},
      {R"({"version": 1, "data": ["a", "b"]})", {"a", "b"}},
      {R"({"data": [1], "text": "a"})", {"a"}},
      {"\xEF\xBB\xBF[\"a\"]", {"a"}},
      {"", {}},
      {" \n", {}},
  };
  for (const auto& [file, wanted] : cases) {
    for (const std::size_t most : {1U, 4U, 1000U}) {
      EXPECT_EQ(rows_of(open_json, file, {}, most), wanted) << file;
    }
  }
}

TEST(JsonFile, RefusesBrokenStructure) {
  const std::pair<const char*, const char*> cases[] = {
      {"[{\"text\": \"a\"}", "the array has no end"},
      {"[{\"text\": \"a\"},\n]", "line 2: wanted a value after ','"},
      {"[{\"text\": \"a\"}\n{\"text\": \"b\"}]", "line 2: wanted ',' or ']'"},
      {"[\"a\"] x", "text after the array"},
      {"[\"a\",\n\"b]", "line 2: malformed JSON"},
      {"[", "the array has no end"},
      {"{\"text\": \"a\"", "malformed JSON"},
      {"{\"text\": [1]}", "the row is a number"},
      {"[}]", "malformed JSON"},
      {"[,]", "malformed JSON"},
      {"}", "malformed JSON"},
      {"[nul]", "malformed JSON"},
      {R"([{"text": ["a"]}])", "column 'text' is an array"},
      {"[{\"a\": \"x\", \"b\": \"y\"}]", "no column 'text'"},
      {"{\"data\": [{\"text\": \"a\"}", "the array has no end"},
  };
  for (const auto& [file, part] : cases) {
    expect_data_error(part, [&] { rows_of(open_json, file); });
  }
}

TEST(JsonFile, BoundsAValue) {
  RowOptions options;
  options.max_row_bytes = 100;
  expect_data_error("line 1: a value has more than 100 bytes",
                    [&] { rows_of(open_json, "[\"" + std::string(200, 'x') + "\"]", options); });
  Texts many;
  std::string file = "[";
  for (int i = 0; i < 1000; ++i) {
    many.push_back(str("text ", i));
    file += str(i > 0 ? "," : "", "{\"text\": \"text ", i, "\"}\n");
  }
  EXPECT_EQ(rows_of(open_json, file + "]", options), many);
}

TEST(Json, PathsLeadIntoRows) {
  const std::string rows =
      R"({"m":[{"r":"u","c":"one"},{"r":"a","c":null},{"c":""},{"c":"two"}],"d":{"e":{"f":"deep"}},"a.b":"dot"})"
      "\n"
      R"({"m":[],"d":{"e":null},"a.b":"x"})"
      "\n"
      R"({"m":null})"
      "\n"
      R"({"m":[{"c":"three"}],"d":{}})"
      "\n";
  const auto read = [&](const char* path) {
    RowOptions options;
    options.text_column = path;
    const Texts lines = rows_of(open_json_lines, rows, options);
    std::string array = "[" + rows + "]";
    std::replace(array.begin(), array.end(), '\n', ',');
    array.erase(array.rfind(','), 1);
    EXPECT_EQ(rows_of(open_json, array, options), lines) << path;
    return lines;
  };
  EXPECT_EQ(read("m[].c"), (Texts{"one\n\ntwo", "<none>", "<none>", "three"}));
  EXPECT_EQ(read("m[0].c"), (Texts{"one", "<none>", "<none>", "three"}));
  EXPECT_EQ(read("m[-1].c"), (Texts{"two", "<none>", "<none>", "three"}));
  EXPECT_EQ(read("m[7].c"), (Texts{"<none>", "<none>", "<none>", "<none>"}));
  EXPECT_EQ(read("d.e.f"), (Texts{"deep", "<none>", "<none>", "<none>"}));
  EXPECT_EQ(read("a.b"), (Texts{"dot", "x", "<none>", "<none>"}));  // The exact name wins.
  expect_data_error("column 'm' is an array, wanted an object", [&] { read("m.c"); });
  expect_data_error("column 'd' is an object, wanted an array", [&] { read("d[].c"); });
  expect_data_error("column 'd.e' is an object, wanted a string; it holds 'd.e.f'",
                    [&] { read("d.e"); });
  expect_data_error("m[].r (string), m[].c (string), d.e.f (string)", [&] { read("x"); });
}

TEST(ColumnPaths, AreParsed) {
  const auto path = parse_column_path("a[].b[-2].c[3]");
  ASSERT_TRUE(path.has_value());
  ASSERT_EQ(path->size(), 6U);
  EXPECT_EQ((*path)[0].name, "a");
  EXPECT_EQ((*path)[1].kind, ColumnStep::Kind::kAll);
  EXPECT_EQ((*path)[3].index, -2);
  EXPECT_EQ((*path)[5].kind, ColumnStep::Kind::kAt);
  EXPECT_EQ((*path)[5].index, 3);
  for (const char* bad : {"", ".", "a.", ".a", "a..b", "a[", "a[x]", "a[1", "a[1]b", "[0]",
                          "a[99999999999999999999]", "a[1 ]"}) {
    EXPECT_FALSE(parse_column_path(bad).has_value()) << bad;
  }
  std::string deep = "a";
  for (int i = 0; i < 40; ++i) deep += "[]";
  EXPECT_FALSE(parse_column_path(deep).has_value());
}

TEST(Json, NumbersAndBooleansAreTextsWhereTheyMayBe) {
  RowOptions options;
  options.text_column = "label";
  options.scalars = true;
  const std::string lines =
      "{\"label\": 3}\n{\"label\": true}\n{\"label\": null}\n{\"label\": 0.25}\n"
      "{\"label\": \"x\"}\n{\"label\": -7}\n{\"label\": 18446744073709551615}\n";
  const Texts wanted = {"3", "true", "<none>", "0.25", "x", "-7", "18446744073709551615"};
  EXPECT_EQ(rows_of(open_json_lines, lines, options), wanted);
  EXPECT_EQ(rows_of(open_json, "[{\"label\": 3}, {\"label\": false}]", options),
            (Texts{"3", "false"}));
  EXPECT_EQ(rows_of(open_json, "{\"label\": 3}", options), (Texts{"3"}));
  EXPECT_THROW(rows_of(open_json_lines, "{\"label\": [3]}\n", options), Error);
  EXPECT_THROW(rows_of(open_json_lines, "{\"label\": {\"a\": 3}}\n", options), Error);
  options.scalars = false;
  EXPECT_THROW(rows_of(open_json_lines, "{\"label\": 3}\n", options), Error);
}

}  // namespace
}  // namespace drrik
