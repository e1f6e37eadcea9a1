#include "data/layout.h"

#include "data/data_testing.h"
#include "io/json.h"

namespace drrik {
namespace {

using testing::expect_data_error;
using testing::Texts;

std::filesystem::path fixture(std::string_view name) {
  return std::filesystem::path(DRRIK_TEST_DATA) / "data" / name;
}

TEST(Layout, ResolvesFoldersAsDatasetsDoes) {
  const Json cases = read_json_file(fixture("layouts.json"));
  ASSERT_GE(cases.size(), 9U);
  for (const Json& one : cases) {
    LayoutFiles files;
    files.readme = one.at("readme");
    files.paths = one.at("files").get<Texts>();
    SCOPED_TRACE(json_text(one));
    for (const auto& [config, splits] : one.at("configs").items()) {
      const Layout layout = resolve_layout(files, config);
      for (const Json& split : splits) {
        EXPECT_EQ(split_files(layout, split.at(0)), split.at(1).get<Texts>());
      }
      if (!layout.by_name) {
        EXPECT_EQ(layout.splits.size(), splits.size());
      }
    }
    if (one.at("default").is_string()) {
      const Layout layout = resolve_layout(files, "");
      EXPECT_EQ(layout.by_name ? "default" : layout.config, one.at("default").get<std::string>());
    }
  }
}

TEST(Layout, FindsSplitsThatOnlyFileNamesTell) {
  const Layout layout = resolve_layout({{"eval/a.jsonl", "train.jsonl", "x.jsonl"}, {}, {}}, "");
  EXPECT_EQ(split_files(layout, "train"), Texts{"train.jsonl"});
  EXPECT_EQ(split_files(layout, "test"), Texts{"eval/a.jsonl"});
  EXPECT_EQ(split_files(layout, "eval"), Texts{"eval/a.jsonl"});
  expect_data_error("no files of split 'dev'; its splits are train, test",
                    [&] { split_files(layout, "dev"); });
  expect_data_error("use --skip and --num-samples", [&] { split_files(layout, "train[:10%]"); });
}

Layout from(const std::string& yaml, const std::string& config = "") {
  return resolve_layout({{"a.csv", "b.csv"}, "---\n" + yaml + "---\n", {}}, config);
}

TEST(Layout, ReadsReaderOptionsAndRefusesNonsense) {
  EXPECT_EQ(from("configs:\n- config_name: x\n  data_files: a.csv\n  sep: \"\\t\"\n").delimiter,
            '\t');
  expect_data_error("one character",
                    [] { from("configs:\n- config_name: x\n  data_files: a.csv\n  sep: ab\n"); });
  expect_data_error("no valid YAML", [] { from("configs: [\n"); });
  expect_data_error("'configs' is no list", [] { from("configs: 3\n"); });
  expect_data_error("no config_name", [] { from("configs:\n- data_files: a.csv\n"); });
  expect_data_error("lacks 'split' or 'path'",
                    [] { from("configs:\n- config_name: x\n  data_files:\n  - path: a.csv\n"); });
  expect_data_error("no file matches c.csv",
                    [] { from("configs:\n- config_name: x\n  data_files: c.csv\n"); });
  const std::string two =
      "configs:\n- config_name: x\n  data_files: a.csv\n- config_name: y\n  data_files: b.csv\n";
  expect_data_error("choose one (--dataset-config): x, y", [&] { from(two); });
  expect_data_error("no configuration 'z'; there are: x, y", [&] { from(two, "z"); });
  EXPECT_EQ(split_files(from(two, "y"), "train"), Texts{"b.csv"});
  expect_data_error("several default",
                    [&] { from(two + "  default: true\n- config_name: default\n"); });
  expect_data_error("README.md names none", [] { from("license: mit\n", "x"); });
  // Nesting that would exhaust the stack of a parser without a bound.
  expect_data_error("README.md", [] { from("configs: " + std::string(100'000, '[') + "\n"); });
}

TEST(Layout, HuggingfaceYamlWins) {
  LayoutFiles files{{"a.csv", "b.csv"},
                    "---\nconfigs:\n- config_name: x\n  data_files: a.csv\n---\n",
                    "configs:\n- config_name: y\n  data_files: b.csv\n"};
  EXPECT_EQ(resolve_layout(files, "").config, "y");
}

TEST(Glob, MatchesPartsAndPaths) {
  for (const auto& [pattern, path] :
       std::vector<std::pair<const char*, const char*>>{{"*", "a"},
                                                        {"**", "a/b/c"},
                                                        {"a/**/c", "a/c"},
                                                        {"a/**/c", "a/b/b/c"},
                                                        {"?.txt", "x.txt"},
                                                        {"[a-c]x[!0-9]", "bxz"},
                                                        {"*a*b", "xaxbb"},
                                                        {"**/x/**/y", "q/x/x/z/y"},
                                                        {"[", "["},
                                                        {"./a", "a"}}) {
    EXPECT_TRUE(glob_match(pattern, path)) << pattern << " " << path;
  }
  for (const auto& [pattern, path] :
       std::vector<std::pair<const char*, const char*>>{{"*", "a/b"},
                                                        {"a/**/c", "a/b"},
                                                        {"?", "ab"},
                                                        {"[a-c]", "d"},
                                                        {"[!a]", "a"},
                                                        {"", "a"},
                                                        {"a*", "ba"},
                                                        {"A", "a"}}) {
    EXPECT_FALSE(glob_match(pattern, path)) << pattern << " " << path;
  }
  // Many stars must not take exponential time.
  std::string stars;
  for (int i = 0; i < 100; ++i) stars += "*a";
  EXPECT_FALSE(glob_match(stars + "b", std::string(5000, 'a')));
}

}  // namespace
}  // namespace drrik
