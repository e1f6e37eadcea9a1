#include <gtest/gtest.h>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/viz/dashboard.h"
#include "drrik/viz/labels.h"
#include "viz/fixtures.h"
#include "viz/gzip.h"

namespace drrik {
namespace {

TEST(Labels, ComeBackAsTheyWereWritten) {
  const testing::ScratchFolder folder;
  const FeatureLabels labels = {{3, "dogs </script> \"quoted\""}, {12, "naïve — ü"}};
  save_labels(labels, folder.path() / "labels.json");
  EXPECT_EQ(load_labels(folder.path() / "labels.json"), labels);
  EXPECT_TRUE(parse_labels(labels_text({}), "x").empty());
}

TEST(Labels, ReadsExplanationsOfNeuronpedia) {
  const FeatureLabels wanted = {{5, "second"}, {7, "cats"}};
  const std::string lines = R"({"modelId":"m","layer":"3-res","index":"5","description":"first"})"
                            "\n"
                            R"({"modelId":"m","layer":"3-res","index":7,"description":" cats "})"
                            "\n\n"
                            R"({"modelId":"m","layer":"3-res","index":"5","description":"second"})"
                            "\n";
  EXPECT_EQ(parse_labels(lines, "x"), wanted);
  EXPECT_EQ(parse_labels(
                R"([{"index":"7","description":"cats"},{"index":5,"description":"second"}])", "x"),
            wanted);
  EXPECT_EQ(parse_labels(R"({"index":"7","description":"cats"})", "x"),
            (FeatureLabels{{7, "cats"}}));
  const testing::ScratchFolder folder;
  write_file_atomic(folder.path() / "e.jsonl.gz", detail::gzip(lines) + detail::gzip(lines));
  EXPECT_EQ(load_labels(folder.path() / "e.jsonl.gz"), wanted);
}

TEST(Labels, RefusesWhatIsNone) {
  for (const char* text :
       {"", "[", "3", "{}", R"({"format":"other","version":1,"labels":{}})",
        R"({"format":"drrik-labels","version":2,"labels":{}})",
        R"({"format":"drrik-labels","version":1,"labels":{"-1":"x"}})",
        R"({"format":"drrik-labels","version":1,"labels":{"1x":"x"}})",
        R"({"format":"drrik-labels","version":1,"labels":{"1":7}})",
        R"([{"index":"99999999999","description":"x"}])", R"([{"description":"x"}])", R"([3])"}) {
    EXPECT_THROW(static_cast<void>(parse_labels(text, "labels")), Error) << text;
  }
  const std::string long_one(5000, 'x');
  EXPECT_THROW(static_cast<void>(
                   parse_labels(R"([{"index":"1","description":")" + long_one + R"("}])", "x")),
               Error);
}

TEST(Gzip, RefusesDamageAndBombs) {
  const std::string packed = detail::gzip(std::string(1 << 22, 'a'));
  EXPECT_EQ(detail::gunzip(packed, 1 << 22).size(), std::size_t{1} << 22);
  EXPECT_THROW(static_cast<void>(detail::gunzip(packed, 1 << 20)), Error);
  EXPECT_THROW(static_cast<void>(detail::gunzip(packed.substr(0, packed.size() / 2), 1 << 22)),
               Error);
  EXPECT_THROW(static_cast<void>(detail::gunzip("\x1f\x8b nothing", 1 << 22)), Error);
}

TEST(TrainingLog, GivesCurvesByName) {
  const auto series = parse_training_log(
      "{\"_step\":1,\"_runtime\":2,\"loss\":3.5,\"note\":\"x\"}\n"
      "{\"_step\":2,\"loss\":2.5,\"l0\":7}\n{\"_step\":3,\"lo",
      "log");
  ASSERT_EQ(series.size(), 2U);
  EXPECT_EQ(series[0].name, "loss");
  EXPECT_EQ(series[0].x, (std::vector<double>{1, 2}));
  EXPECT_EQ(series[0].y, (std::vector<double>{3.5, 2.5}));
  EXPECT_EQ(series[1].x, (std::vector<double>{2}));
  const auto own = parse_training_log("{\"coder\":\"topk\",\"step\":100,\"l0\":24}\n", "log");
  ASSERT_EQ(own.size(), 1U);
  EXPECT_EQ(own[0].x, (std::vector<double>{100}));
  EXPECT_THROW(static_cast<void>(parse_training_log("{\"_step\":1\n{}\n", "log")), Error);
  std::string many;
  for (int i = 0; i < 5000; ++i) many += str("{\"_step\":", i, ",\"y\":", i, "}\n");
  const auto thin = parse_training_log(many, "log", 100);
  EXPECT_LE(thin[0].x.size(), 100U);
  EXPECT_EQ(thin[0].x.back(), 4999.0);
}

}  // namespace
}  // namespace drrik
