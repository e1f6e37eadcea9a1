#include "serve/runs.h"

#include "activations/fixture.h"
#include "serve/labels.h"

namespace drrik {
namespace {

using test::Scratch;

void append(const std::filesystem::path& path, const std::string& text) {
  std::filesystem::create_directories(path.parent_path());
  write_file_atomic(path, (std::filesystem::exists(path) ? read_file(path) : "") + text);
}

TEST(Runs, AreFoundBelowTheFolderAndNowhereElse) {
  const Scratch scratch;
  append(scratch / "runs/a/metrics.jsonl",
         "{\"_step\": 1}\n{\"_step\": 12, \"loss\": 0.5}\n{\"_st");
  append(scratch / "runs/b/c/metrics.jsonl", "");
  append(scratch / "runs/1/2/3/4/5/metrics.jsonl", "");  // too deep
  append(scratch / "outside/metrics.jsonl", "{\"secret\": 1}\n");
  std::filesystem::create_directory_symlink(scratch / "outside", scratch / "runs/link");
  append(scratch / "runs/b/c/summary.json", "{}");
  const Json runs = runs_json(scratch / "runs");
  ASSERT_EQ(runs.size(), 2U);
  EXPECT_EQ(runs[0].at("path"), "a");
  EXPECT_EQ(runs[0].at("step"), 12);
  EXPECT_EQ(runs[0].at("state"), "running");
  EXPECT_EQ(runs[1].at("path"), "b/c");
  EXPECT_EQ(runs[1].at("state"), "finished");
  EXPECT_EQ(runs[0].at("id").get<std::string>().size(), 16U);
  using namespace std::chrono_literals;
  std::filesystem::last_write_time(scratch / "runs/a/metrics.jsonl",
                                   std::filesystem::file_time_type::clock::now() - 1h);
  EXPECT_EQ(runs_json(scratch / "runs")[0].at("state"), "stalled");
}

TEST(Runs, RowsGoOnWhereTheLastAnswerEnded) {
  const Scratch scratch;
  append(scratch / "a/metrics.jsonl", "{\"_step\": 1}\nno json\n{\"_step\": 2}\n{\"_step\"");
  const RunFolder run = find_runs(scratch / "a").at(0);
  Json got = run_rows(run, 0);
  EXPECT_EQ(got.at("rows"), Json::parse(R"([{"_step": 1}, {"_step": 2}])"));
  const auto next = got.at("next").get<std::uint64_t>();
  EXPECT_TRUE(run_rows(run, next).at("rows").empty());
  EXPECT_EQ(run_rows(run, next).at("next"), next);
  append(scratch / "a/metrics.jsonl", ": 3}\n");
  EXPECT_EQ(run_rows(run, next).at("rows"), Json::parse(R"([{"_step": 3}])"));
  EXPECT_EQ(run_rows(run, std::uint64_t{1} << 60).at("rows").size(), 0U);
}

TEST(Runs, AnEndlessLineIsPassedOver) {
  const Scratch scratch;
  append(scratch / "a/metrics.jsonl", std::string(3 << 20, 'x') + "\n{\"_step\": 1}\n");
  const RunFolder run = find_runs(scratch / "a").at(0);
  std::uint64_t next = 0;
  for (int i = 0; i < 4; ++i) {
    const Json got = run_rows(run, next);
    next = got.at("next").get<std::uint64_t>();
    if (!got.at("rows").empty()) {
      EXPECT_EQ(got.at("rows").back(), Json::parse(R"({"_step": 1})"));
      return;
    }
  }
  ADD_FAILURE() << "never came behind it: " << next;
}

TEST(Labels, AreKeptInTheirFile) {
  const Scratch scratch;
  {
    LabelStore store(scratch / "labels.json");
    store.set(12, "dogs \"and\" \xC3\xA9");
    store.set(3, "cats");
    store.set(3, "");
  }
  LabelStore store(scratch / "labels.json");
  EXPECT_EQ(store.json(), Json({{"12", "dogs \"and\" \xC3\xA9"}}));
  write_file_atomic(scratch / "bad.json", R"({"format": "drrik-labels", "version": 1,
                                             "labels": {"x": "y"}})");
  EXPECT_ERROR(LabelStore(scratch / "bad.json"), kData, "x");
  EXPECT_FALSE(LabelStore({}).keeps());
}

}  // namespace
}  // namespace drrik
