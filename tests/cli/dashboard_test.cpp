// drrik dashboard on the bundled model with an autoencoder trained for the purpose.

#include <gtest/gtest.h>

#include "cli/command.h"
#include "drrik/base/file.h"
#include "io/json.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;

class DashboardCommand : public cli_test::CommandTest {
 protected:
  void SetUp() override {
    CommandTest::SetUp();
    extract("acts", "mlp_out");
    run_ok({"train", "--activations", path("acts"), "--output", path("sae"), "--arch", "topk",
            "--k", "8", "--hidden-dim", "128", "--steps", "40", "--batch-size", "256"});
  }
  void extract(const std::string& name, const std::string& hook) const {
    run_ok({"extract", "--model", cli_test::demo_model(), "--dataset", cli_test::demo_text(),
            "--layers", "2", "--hook", hook, "--positions", "all", "--num-samples", "20",
            "--output", path(name)});
  }
  std::vector<std::string> dashboard(const std::vector<std::string>& more) const {
    std::vector<std::string> args = {"dashboard",
                                     "--sae",
                                     path("sae"),
                                     "--model",
                                     cli_test::demo_model(),
                                     "--dataset",
                                     cli_test::demo_text(),
                                     "--max-length",
                                     "64",
                                     "--tokens",
                                     "3000"};
    args.insert(args.end(), more.begin(), more.end());
    return args;
  }
  Json index(const std::string& name) const {
    const std::string text = read_file(folder_ / name / "data/index.js");
    const std::size_t begin = text.find('(') + 1;
    return parse_json(text.substr(begin, text.rfind(')') - begin), "index.js");
  }
};

TEST_F(DashboardCommand, WritesAFolderAndKeepsLabels) {
  const Json result =
      parse_json(run_ok(dashboard({"--output", path("d"), "--json"})).out, "result");
  EXPECT_EQ(result.at("output"), path("d") + "/index.html");
  EXPECT_EQ(result.at("features"), 128);
  EXPECT_EQ(result.at("summary").at("tokens"), 3000.0);
  EXPECT_TRUE(fs::is_regular_file(folder_ / "d/index.html"));
  const Json first = index("d");
  EXPECT_EQ(first.at("sae").at("hook"), "mlp_out");
  EXPECT_EQ(first.at("sae").at("layer"), 2);
  EXPECT_EQ(first.at("dataset").at("tokens"), 3000);
  EXPECT_EQ(first.at("model").at("name"), "demo/model");
  EXPECT_TRUE(first.at("labels").empty());

  write("names.jsonl", "{\"index\":\"5\",\"description\":\"cats\"}\n");
  run_ok(dashboard({"--output", path("d"), "--labels", path("names.jsonl")}));
  run_ok(dashboard({"--output", path("d")}));
  EXPECT_EQ(index("d").at("labels"), (Json{{"5", "cats"}}));
}

TEST_F(DashboardCommand, WritesOneFileAndOtherViewersForms) {
  run_ok(dashboard({"--single-file", "--output", path("one.html"), "--neuronpedia", path("np"),
                    "--neuronpedia-set", "res-x", "--saedashboard", path("vis.json")}));
  EXPECT_NE(read_file(folder_ / "one.html").find("id=\"drrik-chunk-1\""), std::string::npos);
  const Json batch = read_json_file(folder_ / "np/batch-0.json");
  EXPECT_EQ(batch.at("sae_set"), "res-x");
  EXPECT_EQ(batch.at("layer"), 2);
  EXPECT_FALSE(batch.at("features").empty());
  const Json& feature = batch.at("features").at(0);
  EXPECT_EQ(feature.at("vector").size(), 256U);
  EXPECT_EQ(feature.at("pos_str").size(), 10U);
  EXPECT_EQ(feature.at("activations").at(0).at("bin_min"), -1.0);
  const Json source = parse_json(read_file(folder_ / "np/bulk/source.jsonl"), "source");
  EXPECT_EQ(source.at("id"), "2-res-x");
  EXPECT_FALSE(read_json_file(folder_ / "vis.json").at("feature_data_dict").empty());
}

TEST_F(DashboardCommand, ShowsATranscoderAtBothItsHooks) {
  extract("in", "mlp_in");
  run_ok({"train", "--activations", path("in"), "--targets", path("acts"), "--output", path("sae"),
          "--arch", "topk", "--k", "8", "--hidden-dim", "64", "--steps", "20", "--batch-size",
          "256"});
  run_ok(dashboard({"--output", path("d"), "--hook", "mlp_in", "--output-hook", "mlp_out"}));
  const Json sae = index("d").at("sae");
  EXPECT_EQ(sae.at("hook"), "mlp_in");
  EXPECT_EQ(sae.at("output_hook"), "mlp_out");
}

TEST_F(DashboardCommand, SaysWhatIsWrong) {
  const auto fails = [&](const std::vector<std::string>& more, int code, const std::string& what) {
    const auto result = run(dashboard(more));
    EXPECT_EQ(result.exit_code, code) << result.err;
    EXPECT_NE(result.err.find(what), std::string::npos) << result.err;
  };
  fails({"--output", path("page.html")}, 2, "--single-file");
  fails({"--output", path("d"), "--hook", "mlp_post"}, 3, "the autoencoder reads 256 numbers");
  fails({"--output", path("d"), "--layer", "9"}, 2, "layer 9 does not exist");
  fails({"--output", path("d"), "--bands", "0"}, 2, "bands is 0");
  write("bad.json", "{\"format\":\"other\"}");
  fails({"--output", path("d"), "--labels", path("bad.json")}, 3, "drrik-labels");
  write_file_atomic(folder_ / "mine/data/precious.txt", std::string_view("x"));
  fails({"--output", path("mine")}, 2, "is no dashboard's");
  EXPECT_FALSE(fs::exists(folder_ / "d"));
  EXPECT_EQ(run({"bench", "dashboard"}).exit_code, 2);
}

TEST_F(DashboardCommand, BenchComparesWithModelAndEncoderAlone) {
  const Json result =
      parse_json(run_ok({"bench", "dashboard", "--model", cli_test::demo_model(), "--dataset",
                         cli_test::demo_text(), "--sae", path("sae"), "--tokens", "2000", "--json"})
                     .out,
                 "result");
  EXPECT_GT(result.at("results").at(0).at("fraction").get<double>(), 0.05);
}

}  // namespace
}  // namespace drrik
