#include "io/json.h"

#include <chrono>
#include <limits>

#include "io/io_testing.h"

namespace drrik {
namespace {

using testing::expect_data_error;

TEST(Json, KeepsTheOrderOfMembers) {
  const Json json = parse_json(R"({"z": 1, "a": [true, null, "x"], "m": {"k": -2.5}})", "t");
  EXPECT_EQ(json_text(json), R"({"z":1,"a":[true,null,"x"],"m":{"k":-2.5}})");
}

TEST(Json, ToleratesAByteOrderMark) { EXPECT_EQ(parse_json("\xEF\xBB\xBF[1]", "t").size(), 1U); }

TEST(Json, NamesLineAndColumnOfAMistake) {
  expect_data_error("file.json: line 3, column 8: ",
                    [] { parse_json("{\n \"a\": 1,\n \"b\": 1x\n}", "file.json"); });
}

TEST(Json, RefusesMalformedText) {
  for (const char* text :
       {"",         " ",    "{",     "[1,]",  "{\"a\":}", "nul",      "[1 2]",       "{\"a\" 1}",
        "'x'",      "01",   "+1",    "1.",    "\"\x01\"", "\"\xFF\"", "\"\\ud800\"", "NaN",
        "Infinity", "[1]]", "{} {}", "1e999", "// c\n1"}) {
    expect_data_error("t: ", [&] { parse_json(text, "t"); });
  }
}

TEST(Json, BoundsNesting) {
  const std::string ok = std::string(256, '[') + std::string(256, ']');
  EXPECT_NO_THROW(parse_json(ok, "t"));
  expect_data_error("nested deeper than 256", [] { parse_json(std::string(1'000'000, '['), "t"); });
  std::string objects;
  for (int i = 0; i < 300; ++i) objects += "{\"a\":";
  expect_data_error("nested deeper", [&] { parse_json(objects, "t"); });
}

TEST(Json, LastOfRepeatedMembersWinsUnlessRefused) {
  const char* text = R"({"a":1,"b":2,"a":{"c":3}})";
  EXPECT_EQ(json_text(parse_json(text, "t")), R"({"a":{"c":3},"b":2})");
  JsonParseOptions strict;
  strict.duplicates = JsonDuplicates::kRefuse;
  expect_data_error("'a' occurs twice", [&] { parse_json(text, "t", strict); });
}

TEST(Json, ReadsManyMembersInLinearTime) {
  // 200000 members: a search of the members so far at every key would make 2·10^10 comparisons.
  std::string text = "{";
  for (int i = 0; i < 200'000; ++i) text += str(i > 0 ? "," : "", "\"key", i, "\":", i);
  text += "}";
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(parse_json(text, "t").size(), 200'000U);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
}

TEST(Json, TypedMembersSayWhatIsWrong) {
  const Json json = parse_json(
      R"({"i": 12, "f": 12.0, "h": 12.5, "s": "768", "n": null, "b": true, "l": [1, 2],
          "big": 18446744073709551615, "mixed": [1, "x"]})",
      "t");
  EXPECT_EQ(get_int(json, "i", "config.json"), 12);
  EXPECT_EQ(get_int(json, "f", "config.json"), 12);
  EXPECT_EQ(get_double(json, "i", "config.json"), 12.0);
  EXPECT_EQ(get_ints(json, "l", "c"), (std::vector<std::int64_t>{1, 2}));
  EXPECT_TRUE(get_bool(json, "b", "c"));
  EXPECT_EQ(find_int(json, "n", "c"), std::nullopt);
  EXPECT_EQ(find_int(json, "absent", "c"), std::nullopt);
  EXPECT_EQ(get_int(json, "absent", "c", 7), 7);
  EXPECT_EQ(get_string(json, "n", "c", "x"), "x");
  expect_data_error("config.json: 's' is a string (\"768\"), wanted an integer",
                    [&] { get_int(json, "s", "config.json"); });
  expect_data_error("'h' is a number (12.5), wanted an integer", [&] { find_int(json, "h", "c"); });
  expect_data_error("wanted at most", [&] { get_int(json, "big", "c"); });
  expect_data_error("'n' is null", [&] { get_int(json, "n", "c"); });
  expect_data_error("'mixed' is a string", [&] { get_ints(json, "mixed", "c"); });
  expect_data_error("wanted an array", [&] { get_ints(json, "i", "c"); });
  expect_data_error("wanted an object", [&] { get_int(parse_json("[]", "t"), "i", "c"); });
  expect_data_error("wanted a string", [&] { get_string(json, "i", "c"); });
  expect_data_error("wanted true or false", [&] { get_bool(json, "i", "c"); });
  expect_data_error("wanted a number", [&] { get_double(json, "s", "c"); });
}

TEST(Json, NamesTheNearestMember) {
  const Json json = parse_json(R"({"hidden_size": 1, "layers": 2})", "t");
  expect_data_error("'hiden_size' is missing; did you mean 'hidden_size'?",
                    [&] { get_int(json, "hiden_size", "c"); });
  expect_data_error("unknown member 'layers'",
                    [&] { refuse_unknown_members(json, {"hidden_size"}, "c"); });
}

TEST(Json, WritesWhatIsNotANumberAsNull) {
  Json json = Json::array();
  json.push_back(std::numeric_limits<double>::quiet_NaN());
  json.push_back(std::numeric_limits<double>::infinity());
  json.push_back("\xFF");
  EXPECT_EQ(json_text(json), "[null,null,\"\xEF\xBF\xBD\"]");
}

TEST(Json, FilesRoundTripAndNameTheirPath) {
  const testing::TempFolder folder;
  write_json_file(folder / "a.json", parse_json(R"({"x": [1]})", "t"));
  EXPECT_EQ(read_file(folder / "a.json"), "{\n  \"x\": [\n    1\n  ]\n}\n");
  EXPECT_EQ(read_json_file(folder / "a.json").at("x").size(), 1U);
  write_file_atomic(folder / "b.json", std::string_view("{"));
  expect_data_error("b.json: line 1", [&] { read_json_file(folder / "b.json"); });
  testing::expect_error(ErrorKind::kIo, "wanted at most 3",
                        [&] { read_json_file(folder / "a.json", 3); });
  testing::expect_error(ErrorKind::kIo, "absent.json",
                        [&] { read_json_file(folder / "absent.json"); });
}

}  // namespace
}  // namespace drrik
