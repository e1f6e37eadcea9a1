// The command against a Hub on this machine: downloads shared and killed, what a token may and may
// not do, the cache's list.

#include <signal.h>

#include <fstream>
#include <thread>

#include "cli/command.h"
#include "drrik/base/file.h"
#include "hub/fake_hub.h"
#include "io/json.h"

namespace drrik::cli_test {
namespace {

namespace fs = std::filesystem;
using hub_test::FakeHub;
using hub_test::Reply;
using hub_test::Seen;

constexpr const char* kToken = "hf_secretsecretsecret";
constexpr const char* kModel = "models/org/tiny";

class Hub : public CommandTest {
 protected:
  void SetUp() override {
    CommandTest::SetUp();
    for (const auto& entry : fs::directory_iterator(demo_model())) {
      const std::string name = entry.path().filename().string();
      hub_.add(kModel, name, read_file(entry.path()), name.ends_with(".safetensors"));
    }
    weights_ = read_file(fs::path(demo_model()) / "model.safetensors");
  }

  std::vector<std::string> environment() const {
    return {"HF_ENDPOINT=" + hub_.endpoint(), "HF_HOME=" + path("hf"), "HF_HUB_OFFLINE=0",
            std::string("HF_TOKEN=") + kToken};
  }
  Result hub_run(std::vector<std::string> args) const {
    args.insert(args.end(), {"--log-level", "DEBUG"});
    Result result = run(args, environment());
    expect_no_token(result);
    return result;
  }
  static void expect_no_token(const Result& result) {
    EXPECT_EQ(result.out.find(kToken), std::string::npos) << result.out;
    EXPECT_EQ(result.err.find(kToken), std::string::npos) << result.err;
  }
  fs::path repo_folder() const { return fs::path(path("hf")) / "hub/models--org--tiny"; }
  fs::path blob() const { return repo_folder() / "blobs" / hub_test::sha256(weights_); }
  fs::path snapshot() const { return repo_folder() / "snapshots" / FakeHub::commit(kModel); }

  // The storage falls silent after so many bytes.
  void stall_storage(std::size_t bytes) {
    hub_.on_request(
        [bytes](const Seen& seen, const std::function<Reply()>& usual) -> std::optional<Reply> {
          if (!seen.storage) return std::nullopt;
          Reply reply = usual();
          reply.stall = bytes;
          return reply;
        });
  }
  void wait_for_part(std::size_t bytes) const {
    const fs::path part = blob().string() + ".incomplete";
    for (int i = 0; i < 2000; ++i) {
      std::error_code error;
      if (fs::file_size(part, error) >= bytes && !error) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    FAIL() << "no part of " << bytes << " bytes came";
  }

  FakeHub hub_;
  std::string weights_;
};

TEST_F(Hub, AModelByItsId) {
  hub_.require_token(kModel, kToken);
  const std::vector<std::string> args = {
      "generate", "--prompt",         "The old man", "--temperature",
      "0",        "--max-new-tokens", "8",           "--model"};
  std::vector<std::string> local = args;
  local.push_back(demo_model());
  std::vector<std::string> remote = args;
  remote.push_back("org/tiny");
  const Result wanted = run_ok(local);
  const Result result = hub_run(remote);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, wanted.out);
  for (const Seen& one : hub_.seen()) {
    EXPECT_TRUE(!one.storage || one.header("authorization").empty());
  }
  // The second time from the cache, without a request.
  remote.push_back("--offline");
  hub_.forget();
  EXPECT_EQ(hub_run(remote).out, wanted.out);
  EXPECT_TRUE(hub_.seen().empty());
}

TEST_F(Hub, ATokenizerNeedsNoWeights) {
  const Result result = hub_run({"tokenize", "--model", "org/tiny", "--text", "The old man"});
  EXPECT_EQ(result.out, run_ok({"tokenize", "--model", demo_model(), "--text", "The old man"}).out);
  EXPECT_FALSE(fs::exists(blob()));
}

TEST_F(Hub, InfoReadsOnlyTheHeadersOfWeights) {
  hub_.require_token(kModel, kToken);
  const Json local = parse_json(run_ok({"info", demo_model(), "--json"}).out, "output");
  const Result result = hub_run({"info", "org/tiny", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json json = parse_json(result.out, "output");
  for (const char* key : {"weight_format", "weight_files", "tensors", "stored_parameters",
                          "stored_bytes", "dtype_on_disk", "parameters", "memory_float32_bytes"}) {
    EXPECT_EQ(json[key], local[key]) << key;
  }
  EXPECT_FALSE(json.contains("weights_error"));
  EXPECT_EQ(json["fetched"], "configuration");
  EXPECT_FALSE(fs::exists(blob()));
  for (const Seen& one : hub_.seen()) {
    EXPECT_TRUE(!one.storage || one.header("range").starts_with("bytes=0-")) << one.target;
  }
  const std::string screen = hub_run({"info", "org/tiny"}).out;
  EXPECT_NE(screen.find("dtype on disk"), std::string::npos) << screen;
}

TEST_F(Hub, InfoOfShardsAndOfFilesWithoutAHeader) {
  const std::string config = read_file(fs::path(demo_model()) / "config.json");
  // A header longer than what the first request asks for.
  std::string header = R"({"__metadata__":{"x":")" + std::string(100'000, 'x') + R"("},)" +
                       R"("a":{"dtype":"BF16","shape":[3],"data_offsets":[0,6]}})";
  const auto file = [](const std::string& text, std::size_t data) {
    std::string out;
    for (int i = 0; i < 8; ++i) out += static_cast<char>(text.size() >> (8 * i) & 255U);
    return out + text + std::string(data, '\0');
  };
  const std::string repo = "models/org/shards";
  hub_.add(repo, "config.json", config);
  hub_.add(repo, "one.safetensors", file(header, 6), true);
  hub_.add(repo, "two.safetensors",
           file(R"({"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8), true);
  hub_.add(repo, "model.safetensors.index.json",
           R"({"weight_map":{"a":"one.safetensors","b":"two.safetensors"}})");
  hub_.add(repo, "vocab.txt", "[UNK]\na\n");
  const auto info = [&](const char* id) {
    return parse_json(hub_run({"info", id, "--json"}).out, "output");
  };
  const Json json = info("org/shards");
  EXPECT_EQ(json["dtype_on_disk"], parse_json(R"({"float32": 8, "bfloat16": 6})", "")) << json;
  EXPECT_EQ(json["stored_parameters"], 5);
  EXPECT_EQ(json["weight_files"], parse_json(R"(["one.safetensors", "two.safetensors"])", ""));

  hub_.add("models/org/torch", "config.json", config);
  hub_.add("models/org/torch", "vocab.txt", "[UNK]\na\n");
  hub_.add("models/org/torch", "pytorch_model.bin", std::string(1234, 'x'), true);
  const Json torch = info("org/torch");
  EXPECT_EQ(torch["stored_bytes"], 1234);
  EXPECT_EQ(torch["weight_format"], "pytorch");
  EXPECT_EQ(torch["dtype_on_disk"], Json::object());

  // What is no such file, and one whose header would be 2 GB, are told, and the rest is shown.
  hub_.add("models/org/bad", "config.json", config);
  hub_.add("models/org/bad", "vocab.txt", "[UNK]\na\n");
  hub_.add("models/org/bad", "model.safetensors", std::string("\0\0\0\x7F\0\0\0\0{", 9), true);
  const Json bad = info("org/bad");
  EXPECT_NE(bad["weights_error"].get<std::string>().find("model.safetensors"), std::string::npos);
  EXPECT_EQ(bad["layers"], json["layers"]);
}

TEST_F(Hub, ALocalFolderWins) {
  fs::create_directories(folder_ / "org");
  fs::copy(demo_model(), folder_ / "org/tiny");
  const Result result = hub_run({"tokenize", "--model", "org/tiny", "--text", "x"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_TRUE(hub_.seen().empty());
}

TEST_F(Hub, ExtractsAndKeepsTheIdInTheMetadata) {
  const Result result = hub_run({"extract", "--model", "org/tiny", "--dataset", demo_text(),
                                 "--layers", "0", "--num-samples", "3", "--output", path("acts")});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const Json metadata = read_json_file(path("acts/metadata.json"));
  EXPECT_EQ(metadata.at("config").at("model").at("model_name").get<std::string>(), "org/tiny");
}

TEST_F(Hub, DownloadPrintsTheFolder) {
  const Result all = hub_run({"download", "org/tiny"});
  EXPECT_EQ(all.exit_code, 0) << all.err;
  EXPECT_EQ(all.out, snapshot().string() + "\n");
  EXPECT_EQ(read_file(snapshot() / "model.safetensors"), weights_);
  const Result one = hub_run({"download", "org/tiny", "config.json"});
  EXPECT_EQ(one.out, (snapshot() / "config.json").string() + "\n");
  const Result json = hub_run({"download", "org/tiny", "--include", "*.json", "--json"});
  const Json parsed = parse_json(json.out, "output");
  EXPECT_EQ(parsed.at("commit").get<std::string>(), FakeHub::commit(kModel));
  EXPECT_GE(parsed.at("files").size(), 2U);
  const Result local = hub_run({"download", "org/tiny", "--local-dir", path("copy")});
  EXPECT_EQ(local.exit_code, 0) << local.err;
  EXPECT_EQ(read_file(path("copy/model.safetensors")), weights_);
}

TEST_F(Hub, ErrorsSayThatBothWereTried) {
  const Result absent = hub_run({"generate", "--model", "org/none", "--prompt", "x"});
  EXPECT_EQ(absent.exit_code, 4);
  EXPECT_NE(absent.err.find("no local folder, and from the Hub"), std::string::npos) << absent.err;
  const Result path_like = hub_run({"generate", "--model", "./none", "--prompt", "x"});
  EXPECT_EQ(path_like.exit_code, 4);
  EXPECT_NE(path_like.err.find("no local folder"), std::string::npos) << path_like.err;
  const Result revision =
      hub_run({"generate", "--model", "org/tiny", "--revision", "v9", "--prompt", "x"});
  EXPECT_EQ(revision.exit_code, 4);
  EXPECT_NE(revision.err.find("'v9'"), std::string::npos) << revision.err;
  const Result type = hub_run({"download", "org/tiny", "--repo-type", "datset"});
  EXPECT_EQ(type.exit_code, 2);
  const Result bad = hub_run({"download", "../etc"});
  EXPECT_EQ(bad.exit_code, 2) << bad.err;
}

TEST_F(Hub, TokenAsAFlagIsNotShownEither) {
  hub_.require_token(kModel, "another");
  const Result result = hub_run({"download", "org/tiny", "--token", kToken});
  EXPECT_EQ(result.exit_code, 4);
  EXPECT_NE(result.err.find("token"), std::string::npos);
}

TEST_F(Hub, AKilledDownloadIsResumed) {
  stall_storage(200'000);
  Command killed({"download", "org/tiny"}, folder_, environment());
  wait_for_part(200'000);
  killed.signal(SIGKILL);
  EXPECT_EQ(killed.wait().exit_code, 128 + SIGKILL);
  EXPECT_FALSE(fs::exists(snapshot() / "model.safetensors"));
  hub_.on_request(nullptr);
  hub_.forget();
  const Result result = hub_run({"download", "org/tiny"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(read_file(snapshot() / "model.safetensors"), weights_);
  bool ranged = false;
  for (const Seen& one : hub_.seen()) {
    ranged = ranged || (one.storage && one.header("range") == "bytes=200000-");
  }
  EXPECT_TRUE(ranged);
}

TEST_F(Hub, CtrlCIsResumed) {
  stall_storage(100'000);
  Command stopped({"download", "org/tiny"}, folder_, environment());
  wait_for_part(100'000);
  stopped.signal(SIGINT);
  const Result result = stopped.wait();
  EXPECT_EQ(result.exit_code, 130) << result.err;
  EXPECT_NE(result.err.find("the same command goes on"), std::string::npos) << result.err;
  hub_.on_request(nullptr);
  EXPECT_EQ(hub_run({"download", "org/tiny"}).exit_code, 0);
  EXPECT_EQ(read_file(blob()), weights_);
}

TEST_F(Hub, TwoProcessesMakeOneCache) {
  // Slow enough that both are at work on the same file.
  hub_.on_request(
      [](const Seen& seen, const std::function<Reply()>& usual) -> std::optional<Reply> {
        if (!seen.storage) return std::nullopt;
        Reply reply = usual();
        reply.slow_chunk = reply.body.size() / 20 + 1;
        return reply;
      });
  std::vector<std::unique_ptr<Command>> commands;
  for (int i = 0; i < 3; ++i) {
    commands.push_back(std::make_unique<Command>(std::vector<std::string>{"download", "org/tiny"},
                                                 folder_, environment()));
  }
  for (auto& command : commands) {
    const Result result = command->wait();
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(result.out, snapshot().string() + "\n");
  }
  EXPECT_EQ(read_file(snapshot() / "model.safetensors"), weights_);
  std::size_t at_storage = 0;
  for (const Seen& one : hub_.seen()) at_storage += one.storage ? 1U : 0U;
  EXPECT_EQ(at_storage, 1U) << "the others waited";
  const Result check = hub_run({"cache", "verify", "--json"});
  EXPECT_EQ(check.exit_code, 0) << check.out;
}

TEST_F(Hub, CacheIsListedVerifiedAndDeleted) {
  EXPECT_EQ(hub_run({"cache"}).exit_code, 0);
  hub_run({"download", "org/tiny"});
  const Json list = parse_json(hub_run({"cache", "--json"}).out, "list");
  ASSERT_EQ(list.at("repos").size(), 1U);
  EXPECT_EQ(list.at("repos")[0].at("repo").get<std::string>(), "org/tiny");
  EXPECT_EQ(list.at("repos")[0].at("revisions")[0].at("refs")[0].get<std::string>(), "main");
  EXPECT_GE(list.at("bytes").get<std::uint64_t>(), weights_.size());
  EXPECT_NE(hub_run({"cache", "list"}).out.find("org/tiny"), std::string::npos);
  EXPECT_EQ(hub_run({"cache", "lsit"}).exit_code, 2);

  std::ofstream(blob(), std::ios::binary | std::ios::in) << "damage";
  const Result damaged = hub_run({"cache", "verify", "org/tiny", "--json"});
  EXPECT_EQ(damaged.exit_code, 3);
  EXPECT_EQ(parse_json(damaged.out, "check").at("problems").size(), 1U);
  EXPECT_EQ(hub_run({"download", "org/tiny", "model.safetensors", "--force"}).exit_code, 0);
  EXPECT_EQ(hub_run({"cache", "verify"}).exit_code, 0);

  EXPECT_EQ(hub_run({"cache", "delete", "org/tniy"}).exit_code, 2);
  EXPECT_EQ(hub_run({"cache", "delete", "model/org/tiny", "--dry-run"}).exit_code, 0);
  EXPECT_TRUE(fs::exists(blob()));
  EXPECT_EQ(hub_run({"cache", "delete", FakeHub::commit(kModel)}).exit_code, 0);
  EXPECT_FALSE(fs::exists(repo_folder()));
}

}  // namespace
}  // namespace drrik::cli_test
