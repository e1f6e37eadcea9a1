// HubClient against a Hub on this machine that behaves, and misbehaves, as servers do.

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "drrik/base/interrupt.h"
#include "drrik/base/log.h"
#include "drrik/base/system.h"
#include "drrik/hub/cache.h"
#include "drrik/hub/client.h"
#include "hub/fake_hub.h"
#include "hub/lock.h"
#include "io/json.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;
using hub_test::FakeHub;
using hub_test::noise;
using hub_test::Reply;
using hub_test::Seen;

constexpr const char* kToken = "hf_secretsecretsecret";
constexpr const char* kModel = "models/org/tiny";
const Repo kRepo{RepoType::kModel, "org/tiny", "main"};

std::string slurp(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

class Download : public testing::Test {
 protected:
  void SetUp() override {
    static std::atomic<int> counter{0};
    cache_ = fs::temp_directory_path() /
             ("drrik-hub-" + std::to_string(getpid()) + "-" + std::to_string(counter++));
    fs::create_directories(cache_);
    set_log_sink([this](LogLevel, std::string_view line) {
      const std::lock_guard lock(mutex_);
      log_ += std::string(line) + "\n";
    });
    set_log_level(LogLevel::kDebug);
    hub_.add(kModel, "config.json", "{\"model_type\": \"gpt2\"}");
    hub_.add(kModel, "tokenizer.json", "{}");
    hub_.add(kModel, "sub/notes.txt", "some notes\n");
    hub_.add(kModel, "model.safetensors", weights_, true);
  }
  void TearDown() override {
    set_log_sink(nullptr);
    set_log_level(LogLevel::kInfo);
    // Whatever happened: the token went to the Hub alone, and into no message.
    for (const Seen& one : hub_.seen()) {
      if (!one.storage) continue;
      EXPECT_EQ(one.header("authorization"), "") << one.target;
      for (const auto& [name, value] : one.headers) {
        EXPECT_EQ(value.find(kToken), std::string::npos) << name;
      }
    }
    EXPECT_EQ(log_.find(kToken), std::string::npos) << log_;
    EXPECT_EQ(log_.find("secretsignature"), std::string::npos) << log_;
    fs::remove_all(cache_);
  }

  HubOptions options() const {
    HubOptions options;
    options.endpoint = hub_.endpoint();
    options.cache_dir = cache_;
    options.token = Secret(kToken);
    options.first_wait = 0.01;
    options.longest_wait = 0.02;
    options.etag_timeout = 2;
    options.download_timeout = 2;
    return options;
  }
  HubClient client() const { return HubClient(options()); }

  HubFailure failure_of(const std::function<void()>& f, const std::string& part = "") {
    try {
      f();
    } catch (const HubError& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kIo);
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
      EXPECT_EQ(std::string(error.what()).find(kToken), std::string::npos) << error.what();
      EXPECT_EQ(std::string(error.what()).find("secretsignature"), std::string::npos);
      return error.failure();
    } catch (const std::exception& error) {
      ADD_FAILURE() << "another error: " << error.what();
      return {};
    }
    ADD_FAILURE() << "no error; wanted one with '" << part << "'";
    return {};
  }

  fs::path repo_folder() const { return cache_ / "models--org--tiny"; }
  fs::path snapshot() const { return repo_folder() / "snapshots" / FakeHub::commit(kModel); }
  fs::path blob() const { return repo_folder() / "blobs" / hub_test::sha256(weights_); }
  fs::path incomplete() const { return blob().string() + ".incomplete"; }

  void expect_whole() const {
    EXPECT_EQ(slurp(snapshot() / "model.safetensors"), weights_);
    EXPECT_EQ(slurp(blob()), weights_);
    EXPECT_FALSE(fs::exists(incomplete()));
  }

  // The first answers of the storage to GETs are these; then it behaves.
  void storage_answers(std::vector<std::function<Reply(const Reply& usual)>> answers) {
    auto next = std::make_shared<std::atomic<std::size_t>>(0);
    hub_.on_request([answers, next](const Seen& seen,
                                    const std::function<Reply()>& usual) -> std::optional<Reply> {
      if (!seen.storage || seen.method != "GET") return std::nullopt;
      const std::size_t i = (*next)++;
      if (i >= answers.size()) return std::nullopt;
      return answers[i](usual());
    });
  }

  FakeHub hub_;
  fs::path cache_;
  std::string weights_ = noise(300'000);
  std::mutex mutex_;
  std::string log_;
};

TEST_F(Download, LaysTheCacheOutAsTheLibraryDoes) {
  const fs::path folder = client().download_model(kRepo);
  EXPECT_EQ(folder, snapshot());
  expect_whole();
  EXPECT_EQ(fs::read_symlink(snapshot() / "model.safetensors"),
            "../../blobs/" + hub_test::sha256(weights_));
  EXPECT_EQ(slurp(repo_folder() / "refs/main"), FakeHub::commit(kModel));
  EXPECT_TRUE(
      slurp(cache_ / "CACHEDIR.TAG").starts_with("Signature: 8a477f597d28d172789f06886806bc55\n"));
  EXPECT_TRUE(
      fs::exists(repo_folder() / ".no_exist" / FakeHub::commit(kModel) / "generation_config.json"));
  EXPECT_TRUE(
      fs::exists(cache_ / ".locks/models--org--tiny" / (hub_test::sha256(weights_) + ".lock")));
  EXPECT_FALSE(fs::exists(snapshot() / "sub")) << "a model does not need it";
  struct stat status {};
  ASSERT_EQ(::stat(blob().c_str(), &status), 0);
  const mode_t mask = ::umask(0);
  ::umask(mask);
  EXPECT_EQ(status.st_mode & 0777U, 0666U & ~mask);
}

TEST_F(Download, AsksOnceForWhatIsThere) {
  client().download_model(kRepo);
  hub_.forget();
  client().download_model(kRepo);
  ASSERT_EQ(hub_.seen().size(), 1U) << "only whether the branch moved";
  hub_.forget();
  client().download_model({RepoType::kModel, "org/tiny", FakeHub::commit(kModel)});
  EXPECT_TRUE(hub_.seen().empty()) << "a commit does not change";
}

TEST_F(Download, FilesInFoldersAndRevisions) {
  const auto path = client().download_file(kRepo, "sub/notes.txt");
  EXPECT_EQ(slurp(path), "some notes\n");
  EXPECT_EQ(fs::read_symlink(path).string().substr(0, 15), "../../../blobs/");
  hub_.add_branch(kModel, "refs/pr/1", "a b/ü#?.txt", "from a pull request");
  hub_.add_branch(kModel, "v1.0", "x", "tagged");
  EXPECT_EQ(
      slurp(client().download_file({RepoType::kModel, "org/tiny", "refs/pr/1"}, "a b/ü#?.txt")),
      "from a pull request");
  EXPECT_TRUE(fs::exists(repo_folder() / "refs/refs/pr/1"));
  EXPECT_EQ(slurp(client().download_file({RepoType::kModel, "org/tiny", "v1.0"}, "x")), "tagged");
  EXPECT_EQ(
      slurp(client().download_file(
          {RepoType::kModel, "org/tiny", hub_test::git_sha1(std::string(kModel) + "v1.0")}, "x")),
      "tagged");
}

TEST_F(Download, EmptyFile) {
  hub_.add(kModel, "empty.txt", "");
  hub_.add(kModel, "empty.bin", "", true);
  EXPECT_EQ(slurp(client().download_file(kRepo, "empty.txt")), "");
  EXPECT_EQ(slurp(client().download_file(kRepo, "empty.bin")), "");
}

TEST_F(Download, TokenGoesToTheHubAlone) {
  hub_.require_token(kModel, kToken);
  client().download_model(kRepo);
  expect_whole();
  std::size_t at_storage = 0;
  for (const Seen& one : hub_.seen()) {
    if (one.storage) {
      ++at_storage;
    } else {
      EXPECT_EQ(one.header("authorization"), std::string("Bearer ") + kToken);
    }
    EXPECT_EQ(one.header("accept-encoding"), "identity");
    EXPECT_TRUE(one.header("user-agent").starts_with("drrik/"));
  }
  EXPECT_EQ(at_storage, 1U);
}

TEST_F(Download, TokenDoesNotFollowARedirectToAnotherPort) {
  // The same host name; only the port differs.
  const std::string elsewhere =
      "http://127.0.0.1:" + hub_.storage().substr(hub_.storage().rfind(':') + 1);
  hub_.on_request([&](const Seen& seen, const auto&) -> std::optional<Reply> {
    if (seen.storage) return Reply{.body = "{}"};
    return Reply{.status = 302, .headers = {{"Location", elsewhere + "/stolen?" + kToken}}};
  });
  EXPECT_THROW(client().download_model(kRepo), Error);
  EXPECT_GE(hub_.count("GET", "/stolen"), 1U) << "the redirect was followed";
  hub_.forget();
}

TEST_F(Download, ServersThatEchoTheTokenDoNotPrintIt) {
  hub_.on_request([&](const Seen&, const auto&) -> std::optional<Reply> {
    return Reply{.status = 403, .headers = {{"X-Error-Message", std::string("no ") + kToken}}};
  });
  EXPECT_EQ(failure_of([&] { client().download_model(kRepo); }, "***"), HubFailure::kUnauthorized);
}

TEST_F(Download, Refusals) {
  HubOptions anonymous = options();
  anonymous.token = {};
  const HubClient nobody(anonymous);
  hub_.require_token(kModel, kToken);
  EXPECT_EQ(failure_of([&] { nobody.download_model(kRepo); }, "HF_TOKEN"),
            HubFailure::kRepoNotFound);
  EXPECT_EQ(failure_of([&] { nobody.download_file(kRepo, "config.json"); }, "HF_TOKEN"),
            HubFailure::kRepoNotFound);
  hub_.require_token(kModel, kToken, true);
  EXPECT_EQ(failure_of([&] { nobody.download_model(kRepo); }, "accept its terms at"),
            HubFailure::kGated);
  hub_.require_token(kModel, "another");
  EXPECT_EQ(failure_of([&] { client().download_model(kRepo); }, "does not know the token"),
            HubFailure::kUnauthorized);
  EXPECT_EQ(failure_of(
                [&] {
                  client().download_model({RepoType::kModel, "org/none", "main"});
                },
                "org/none"),
            HubFailure::kRepoNotFound);
  hub_.require_token(kModel, kToken);
  EXPECT_EQ(failure_of(
                [&] {
                  client().download_model({RepoType::kModel, "org/tiny", "v9"});
                },
                "no branch, tag or commit 'v9'"),
            HubFailure::kRevisionNotFound);
  EXPECT_EQ(failure_of([&] { client().download_file(kRepo, "none.txt"); }, "none.txt"),
            HubFailure::kEntryNotFound);
  EXPECT_FALSE(fs::exists(repo_folder() / "blobs")) << "nothing was written for refusals";
}

TEST_F(Download, AbsentFilesAreRemembered) {
  EXPECT_FALSE(client().find_file(kRepo, "generation_config.json"));
  EXPECT_TRUE(
      fs::exists(repo_folder() / ".no_exist" / FakeHub::commit(kModel) / "generation_config.json"));
  hub_.forget();
  const Repo at{RepoType::kModel, "org/tiny", FakeHub::commit(kModel)};
  EXPECT_FALSE(client().find_file(at, "generation_config.json"));
  EXPECT_TRUE(hub_.seen().empty());
}

TEST_F(Download, CutConnectionsAreResumed) {
  storage_answers({[](Reply usual) {
                     usual.cut = 100'000;
                     return usual;
                   },
                   [](Reply usual) {
                     usual.cut = 50'000;
                     return usual;
                   },
                   [](Reply usual) {
                     usual.hang_up = true;
                     return usual;
                   }});
  client().download_model(kRepo);
  expect_whole();
  std::vector<std::string> ranges;
  for (const Seen& one : hub_.seen()) {
    if (one.storage) ranges.push_back(one.header("range"));
  }
  EXPECT_EQ(ranges,
            (std::vector<std::string>{"", "bytes=100000-", "bytes=150000-", "bytes=150000-"}));
}

TEST_F(Download, ServersWithoutRangesBeginAnew) {
  const auto whole = [this](std::optional<std::size_t> cut) {
    return [this, cut](const Reply&) { return Reply{.body = weights_, .cut = cut}; };
  };
  storage_answers({whole(100'000), whole(200'000), whole(std::nullopt)});
  client().download_model(kRepo);
  expect_whole();
}

TEST_F(Download, ServersThatAlwaysCutAtOnePlaceAreGivenUp) {
  hub_.on_request([this](const Seen& seen, const auto&) -> std::optional<Reply> {
    if (!seen.storage) return std::nullopt;
    return Reply{.body = weights_, .cut = 100'000};
  });
  EXPECT_EQ(failure_of([&] { client().download_model(kRepo); }, "kept"), HubFailure::kNetwork);
  EXPECT_FALSE(fs::exists(snapshot() / "model.safetensors"));
  EXPECT_FALSE(fs::exists(blob()));
  EXPECT_TRUE(fs::exists(incomplete()));
  hub_.on_request(nullptr);
  client().download_model(kRepo);
  expect_whole();
}

TEST_F(Download, WrongRangesAreNotTrusted) {
  storage_answers({[](Reply usual) {
                     usual.cut = 1000;
                     return usual;
                   },
                   [this](const Reply&) {
                     return Reply{.status = 206,
                                  .headers = {{"Content-Range", "bytes 5-299999/300000"}},
                                  .body = weights_.substr(5)};
                   },
                   [](const Reply&) { return Reply{.status = 416}; }});
  client().download_model(kRepo);
  expect_whole();
}

TEST_F(Download, WrongBytesAreNeverLinked) {
  std::string other = weights_;
  other[1234] = static_cast<char>(other[1234] ^ 1);
  hub_.on_request([&](const Seen& seen, const auto&) -> std::optional<Reply> {
    if (!seen.storage) return std::nullopt;
    return Reply{.body = other};
  });
  EXPECT_EQ(failure_of([&] { client().download_model(kRepo); }, "sha256 is"), HubFailure::kCorrupt);
  EXPECT_FALSE(fs::exists(snapshot() / "model.safetensors"));
  EXPECT_FALSE(fs::exists(blob()));
  EXPECT_FALSE(fs::exists(incomplete()));
  EXPECT_FALSE(fs::exists(repo_folder() / "refs/main"));
  EXPECT_EQ(hub_.count("GET", "/" + hub_test::sha256(weights_)), 2U) << "tried once more";
}

TEST_F(Download, WrongSmallFilesAreNeverLinked) {
  hub_.on_request([&](const Seen& seen, const auto& usual) -> std::optional<Reply> {
    if (seen.method != "GET" || !seen.target.ends_with("/config.json")) return std::nullopt;
    Reply reply = usual();
    reply.body[0] = '[';
    return reply;
  });
  EXPECT_EQ(failure_of([&] { client().download_file(kRepo, "config.json"); }, "git sha1 is"),
            HubFailure::kCorrupt);
  EXPECT_FALSE(fs::exists(snapshot() / "config.json"));
}

TEST_F(Download, MoreBytesThanToldAreStopped) {
  storage_answers({[this](const Reply&) {
    return Reply{.body = weights_ + noise(5'000'000, 2), .length = false};
  }});
  EXPECT_EQ(failure_of([&] { client().download_file(kRepo, "model.safetensors"); }, "more than"),
            HubFailure::kCorrupt);
  EXPECT_FALSE(fs::exists(incomplete()));
}

TEST_F(Download, ADamagedPartIsFetchedAnew) {
  fs::create_directories(repo_folder() / "blobs");
  std::ofstream(incomplete(), std::ios::binary) << std::string(150'000, 'x');
  client().download_model(kRepo);
  expect_whole();
  EXPECT_NE(log_.find("once more"), std::string::npos);
}

TEST_F(Download, APartFromBeforeIsUsed) {
  fs::create_directories(repo_folder() / "blobs");
  std::ofstream(incomplete(), std::ios::binary) << weights_.substr(0, 299'000);
  client().download_model(kRepo);
  expect_whole();
  bool ranged = false;
  for (const Seen& one : hub_.seen()) ranged = ranged || one.header("range") == "bytes=299000-";
  EXPECT_TRUE(ranged);
}

TEST_F(Download, APartWithEveryByteNeedsNoRequest) {
  fs::create_directories(repo_folder() / "blobs");
  std::ofstream(incomplete(), std::ios::binary) << weights_;
  client().download_model(kRepo);
  expect_whole();
  EXPECT_EQ(hub_.count("GET", hub_test::sha256(weights_)), 0U);
}

TEST_F(Download, BusyServersAreAskedAgain) {
  std::atomic<int> asked{0};
  hub_.on_request([&](const Seen&, const auto&) -> std::optional<Reply> {
    switch (asked++) {
      case 0:
        return Reply{.status = 503};
      case 1:
        return Reply{.status = 429, .headers = {{"Retry-After", "0"}}};
      case 2:
        return Reply{.status = 408};
      case 3:
        return Reply{.status = 500};
      default:
        return std::nullopt;
    }
  });
  client().download_model(kRepo);
  expect_whole();
}

TEST_F(Download, WaitsAsLongAsTheServerAsks) {
  std::atomic<int> asked{0};
  hub_.on_request([&](const Seen&, const auto&) -> std::optional<Reply> {
    if (asked++ > 0) return std::nullopt;
    return Reply{.status = 429,
                 .headers = {{"RateLimit", "\"api\";r=0;t=0"}, {"Retry-After", "60"}}};
  });
  const double start = monotonic_seconds();
  client().download_file(kRepo, "config.json");
  const double took = monotonic_seconds() - start;
  EXPECT_GE(took, 1.0) << "t + 1 seconds";
  EXPECT_LT(took, 30.0);
}

TEST_F(Download, DoesNotWaitForHours) {
  hub_.on_request([&](const Seen&, const auto&) -> std::optional<Reply> {
    return Reply{.status = 429, .headers = {{"Retry-After", "86400"}}};
  });
  EXPECT_EQ(failure_of([&] { client().download_file(kRepo, "config.json"); }, "86400"),
            HubFailure::kRateLimited);
}

TEST_F(Download, ServersThatStayBrokenAreAnError) {
  hub_.on_request(
      [&](const Seen&, const auto&) -> std::optional<Reply> { return Reply{.status = 502}; });
  EXPECT_EQ(failure_of([&] { client().download_model(kRepo); }, "502"), HubFailure::kServer);
  EXPECT_EQ(hub_.seen().size(), 6U) << "one try and five more";
}

TEST_F(Download, StalledTransfersAreCutAndResumed) {
  HubOptions quick = options();
  quick.download_timeout = 1;
  storage_answers({[](Reply usual) {
    usual.stall = 120'000;
    return usual;
  }});
  HubClient(quick).download_model(kRepo);
  expect_whole();
}

TEST_F(Download, SlowTransfersAreNot) {
  HubOptions quick = options();
  quick.download_timeout = 1;
  // 300,000 bytes in steps of 4000 each 20 ms: longer in all than the limit for silence.
  storage_answers({[](Reply usual) {
    usual.slow_chunk = 4000;
    return usual;
  }});
  HubClient(quick).download_model(kRepo);
  expect_whole();
  EXPECT_EQ(hub_.count("GET", hub_test::sha256(weights_)), 1U);
}

TEST_F(Download, ServersThatNeverAnswerAreGivenUp) {
  HubOptions quick = options();
  quick.etag_timeout = 1;
  quick.download_timeout = 1;
  quick.retries = 0;
  hub_.on_request(
      [&](const Seen&, const auto&) -> std::optional<Reply> { return Reply{.delay = 30}; });
  EXPECT_EQ(failure_of([&] { HubClient(quick).download_file(kRepo, "config.json"); }, "1 seconds"),
            HubFailure::kNetwork);
}

TEST_F(Download, RenamedRepositoriesAreFollowedWithTheToken) {
  hub_.require_token(kModel, kToken);
  hub_.rename("models/old/name", kModel);
  const fs::path folder = client().download_model({RepoType::kModel, "old/name", "main"});
  EXPECT_EQ(slurp(folder / "model.safetensors"), weights_);
}

TEST_F(Download, AnswersThatAreNoHubs) {
  const auto answer = [this](Reply reply) {
    hub_.on_request([reply](const Seen&, const auto&) { return std::optional(reply); });
    return failure_of([&] { client().download_file(kRepo, "config.json"); });
  };
  const std::string commit = FakeHub::commit(kModel);
  EXPECT_EQ(answer({.headers = {{"ETag", "\"x\""}}}), HubFailure::kServer);
  EXPECT_EQ(answer({.headers = {{"X-Repo-Commit", "../../x"}, {"ETag", "\"x\""}}}),
            HubFailure::kServer);
  EXPECT_EQ(answer({.headers = {{"X-Repo-Commit", commit}}}), HubFailure::kServer);
  for (const char* etag : {"../../../escaped", "/etc/passwd", "..", ".x", "a b", "x.incomplete"}) {
    EXPECT_EQ(answer({.headers = {{"X-Repo-Commit", commit}, {"ETag", etag}}}), HubFailure::kServer)
        << etag;
  }
  EXPECT_EQ(answer({.status = 302, .headers = {{"Location", "/again"}}}), HubFailure::kServer);
  EXPECT_EQ(answer({.status = 302, .headers = {{"Location", "file:///etc/passwd"}}}),
            HubFailure::kServer);
  EXPECT_TRUE(fs::is_empty(cache_) || !fs::exists(cache_ / "escaped"));
}

TEST_F(Download, HostilePathsAreRefused) {
  for (const char* path : {"../x", "/etc/passwd", "a/../../x", "", "a//b"}) {
    try {
      client().download_file(kRepo, path);
      ADD_FAILURE() << path;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUsage) << error.what();
    }
  }
  EXPECT_TRUE(hub_.seen().empty());
  const std::string commit = FakeHub::commit(kModel);
  hub_.on_request([&](const Seen& seen, const auto&) -> std::optional<Reply> {
    if (seen.target.find("/tree/") == std::string::npos) return std::nullopt;
    return Reply{.body = R"([{"type":"file","path":"../../../escaped","size":1,"oid":"x"}])"};
  });
  try {
    client().download_snapshot(kRepo);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kData) << error.what();
    EXPECT_NE(std::string(error.what()).find("escaped"), std::string::npos);
  }
  EXPECT_TRUE(fs::is_empty(cache_)) << "not even a folder";
}

TEST_F(Download, AnIndexCannotNameFilesElsewhere) {
  hub_.add("models/org/evil", "config.json", "{}");
  hub_.add("models/org/evil", "model.safetensors.index.json",
           R"({"weight_map": {"w": "../../../../escaped"}})");
  EXPECT_THROW(client().download_model({RepoType::kModel, "org/evil", "main"}), Error);
}

TEST_F(Download, ImpossibleSizesAreRefusedBeforeABytesIsWritten) {
  hub_.on_request([&](const Seen& seen, const auto& usual) -> std::optional<Reply> {
    if (!seen.target.ends_with("model.safetensors")) return std::nullopt;
    Reply reply = usual();
    for (auto& [name, value] : reply.headers) {
      if (name == "X-Linked-Size") value = "4000000000000000000";
    }
    return reply;
  });
  try {
    client().download_file(kRepo, "model.safetensors");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kIo);
    EXPECT_NE(std::string(error.what()).find("has room for"), std::string::npos) << error.what();
  }
  EXPECT_EQ(hub_.count("GET", "model.safetensors"), 0U);
}

TEST_F(Download, AFullDiskKeepsWhatCame) {
  // A limit on file sizes fails a write in the middle, as a disk without room does.
  struct rlimit before {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto old = std::signal(SIGXFSZ, SIG_IGN);
  const struct rlimit small { 100'000, before.rlim_max };
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  std::string message;
  try {
    client().download_file(kRepo, "model.safetensors");
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kIo);
    message = error.what();
  }
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, old);
  EXPECT_NE(message.find("kept"), std::string::npos) << message;
  EXPECT_EQ(fs::file_size(incomplete()), 100'000U);
  client().download_file(kRepo, "model.safetensors");
  expect_whole();
  EXPECT_EQ(hub_.seen().back().header("range"), "bytes=100000-");
}

TEST_F(Download, SizesThatAreNoneAreDoneWithout) {
  for (const char* size : {"-1", "99999999999999999999999", "abc", ""}) {
    fs::remove_all(repo_folder());
    hub_.on_request([&](const Seen& seen, const auto& usual) -> std::optional<Reply> {
      if (!seen.target.ends_with("model.safetensors")) return std::nullopt;
      Reply reply = usual();
      for (auto& [name, value] : reply.headers) {
        if (name == "X-Linked-Size") value = size;
      }
      return reply;
    });
    EXPECT_EQ(slurp(client().download_file(kRepo, "model.safetensors")), weights_) << size;
  }
}

TEST_F(Download, SmallFilesWithoutALengthAreCheckedToo) {
  hub_.on_request([&](const Seen& seen, const auto& usual) -> std::optional<Reply> {
    if (!seen.target.ends_with("config.json")) return std::nullopt;
    Reply reply = usual();
    reply.length = false;
    return reply;
  });
  EXPECT_EQ(slurp(client().download_file(kRepo, "config.json")), "{\"model_type\": \"gpt2\"}");
}

TEST_F(Download, ShardsComeInParallelAndBounded) {
  const std::string repo = "models/org/sharded";
  Json map = Json::object();
  for (int i = 0; i < 12; ++i) {
    const std::string name = "model-" + std::to_string(i) + ".safetensors";
    map["w" + std::to_string(i)] = name;
    hub_.add(repo, name, noise(20'000, static_cast<unsigned>(i) + 10), true);
  }
  hub_.add(repo, "not-named.safetensors", "x", true);
  hub_.add(repo, "pytorch_model.bin", "x", true);
  hub_.add(repo, "config.json", "{}");
  hub_.add(repo, "model.safetensors.index.json", Json{{"weight_map", map}}.dump());
  std::atomic<int> at_once{0};
  std::atomic<int> most{0};
  hub_.on_request([&](const Seen& seen, const auto& usual) -> std::optional<Reply> {
    if (!seen.storage) return std::nullopt;
    const int now = ++at_once;
    int before = most;
    while (now > before && !most.compare_exchange_weak(before, now)) {
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(60));
    --at_once;
    return usual();
  });
  HubOptions four = options();
  four.workers = 4;
  const fs::path folder = HubClient(four).download_model({RepoType::kModel, "org/sharded", "main"});
  for (int i = 0; i < 12; ++i) {
    EXPECT_EQ(slurp(folder / ("model-" + std::to_string(i) + ".safetensors")),
              noise(20'000, static_cast<unsigned>(i) + 10));
  }
  EXPECT_FALSE(fs::exists(folder / "not-named.safetensors"));
  EXPECT_FALSE(fs::exists(folder / "pytorch_model.bin"));
  EXPECT_GT(most, 1);
  EXPECT_LE(most, 4);
}

TEST_F(Download, OneFailureEndsTheOthers) {
  hub_.add(kModel, "other.bin", noise(50'000, 3), true);
  hub_.on_request([&](const Seen& seen, const auto& usual) -> std::optional<Reply> {
    if (!seen.storage) return std::nullopt;
    if (seen.target.find(hub_test::sha256(weights_)) == std::string::npos) {
      return Reply{.status = 404};
    }
    Reply reply = usual();
    reply.stall = 1000;
    return reply;
  });
  HubOptions patient = options();
  patient.download_timeout = 60;
  const double start = monotonic_seconds();
  failure_of([&] { HubClient(patient).download_snapshot(kRepo); }, "other.bin");
  EXPECT_LT(monotonic_seconds() - start, 20);
  EXPECT_TRUE(fs::exists(incomplete())) << "what came is kept";
}

TEST_F(Download, InterruptLeavesWhatTheNextCallContinues) {
  hub_.on_request([&](const Seen& seen, const auto& usual) -> std::optional<Reply> {
    if (!seen.storage) return std::nullopt;
    Reply reply = usual();
    reply.stall = 123'000;
    return reply;
  });
  HubOptions patient = options();
  patient.download_timeout = 60;
  std::thread breaker([&] {
    while (!fs::exists(incomplete()) || fs::file_size(incomplete()) < 123'000) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    set_interrupted(true);
  });
  try {
    HubClient(patient).download_model(kRepo);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInterrupted) << error.what();
  }
  breaker.join();
  set_interrupted(false);
  EXPECT_EQ(fs::file_size(incomplete()), 123'000U);
  hub_.on_request(nullptr);
  hub_.forget();
  client().download_model(kRepo);
  expect_whole();
  EXPECT_EQ(hub_.count("GET", hub_test::sha256(weights_)), 1U);
}

TEST_F(Download, OfflineUsesTheCacheAndAsksNobody) {
  HubOptions offline = options();
  offline.offline = true;
  EXPECT_EQ(failure_of([&] { HubClient(offline).download_model(kRepo); }, "offline"),
            HubFailure::kOffline);
  client().download_model(kRepo);
  hub_.forget();
  const HubClient cached(offline);
  EXPECT_EQ(cached.download_model(kRepo), snapshot());
  EXPECT_EQ(slurp(cached.download_file(kRepo, "config.json")), "{\"model_type\": \"gpt2\"}");
  EXPECT_FALSE(cached.find_file(kRepo, "generation_config.json"));
  EXPECT_EQ(failure_of([&] { cached.download_file(kRepo, "sub/notes.txt"); }, "sub/notes.txt"),
            HubFailure::kOffline);
  EXPECT_TRUE(hub_.seen().empty());
  fs::remove(blob());
  EXPECT_EQ(failure_of([&] { cached.download_model(kRepo); }, "model.safetensors"),
            HubFailure::kOffline);
}

TEST_F(Download, TheCacheServesWhenTheHubDoesNot) {
  client().download_model(kRepo);
  for (const Reply& trouble :
       {Reply{.status = 503}, Reply{.hang_up = true}, Reply{.status = 401}}) {
    hub_.on_request([&](const Seen&, const auto&) { return std::optional(trouble); });
    EXPECT_EQ(client().download_model(kRepo), snapshot());
    EXPECT_EQ(slurp(client().download_file(kRepo, "config.json")), "{\"model_type\": \"gpt2\"}");
  }
  EXPECT_NE(log_.find("copy in the cache"), std::string::npos);
  HubOptions nowhere = options();
  nowhere.endpoint = "http://127.0.0.1:1";
  EXPECT_EQ(HubClient(nowhere).download_model(kRepo), snapshot());
  hub_.on_request([&](const Seen&, const auto&) -> std::optional<Reply> {
    return Reply{.status = 404, .headers = {{"X-Error-Code", "RevisionNotFound"}}};
  });
  EXPECT_EQ(failure_of([&] { client().download_model(kRepo); }), HubFailure::kRevisionNotFound)
      << "a branch that is gone is not served from an old copy";
}

TEST_F(Download, ABranchThatMovedKeepsItsOldSnapshotUntilTheNewOneIsWhole) {
  client().download_model(kRepo);
  const std::string second(40, 'b');
  hub_.on_request([&](const Seen& seen, const auto& usual) -> std::optional<Reply> {
    if (seen.storage) return Reply{.status = 404};
    if (seen.target.find("/revision/main") != std::string::npos) {
      Reply reply = usual();
      const std::string first = FakeHub::commit(kModel);
      reply.body.replace(reply.body.find(first), 40, second);
      return reply;
    }
    if (seen.target.find("/resolve/") == std::string::npos) return std::nullopt;
    Reply reply;
    reply.status = 302;
    const std::string digest = hub_test::sha256(seen.target);
    reply.headers = {{"X-Repo-Commit", second},
                     {"X-Linked-Etag", digest},
                     {"X-Linked-Size", "7"},
                     {"Location", hub_.storage() + "/" + digest}};
    return reply;
  });
  EXPECT_THROW(client().download_model(kRepo), HubError);
  HubOptions offline = options();
  offline.offline = true;
  EXPECT_EQ(HubClient(offline).download_model(kRepo), snapshot()) << "the old one still serves";
}

TEST_F(Download, SnapshotsByPattern) {
  const auto files = [&](const SnapshotOptions& wanted) {
    return client().download_snapshot(kRepo, wanted).files;
  };
  EXPECT_EQ(files({}).size(), 4U);
  EXPECT_EQ(files({.include = {"*.json"}}),
            (std::vector<std::string>{"config.json", "tokenizer.json"}));
  EXPECT_EQ(files({.include = {"*.json"}, .exclude = {"tok*"}}),
            std::vector<std::string>{"config.json"});
  EXPECT_EQ(files({.include = {"sub/"}}), std::vector<std::string>{"sub/notes.txt"});
  EXPECT_EQ(files({.files = {"sub/notes.txt"}}), std::vector<std::string>{"sub/notes.txt"});
  EXPECT_THROW(files({.include = {"*.nothing"}}), Error);
  failure_of([&] { files({.files = {"confg.json"}}); }, "did you mean 'config.json'");
  const Json tree = read_json_file(repo_folder() / "trees" / (FakeHub::commit(kModel) + ".json"));
  EXPECT_EQ(tree.at("files").at("model.safetensors").at("lfs_sha256").get<std::string>(),
            hub_test::sha256(weights_));
}

TEST_F(Download, ListsComeInPages) {
  hub_.on_request([&](const Seen& seen, const auto& usual) -> std::optional<Reply> {
    if (seen.target.find("/tree/") == std::string::npos) return std::nullopt;
    const bool second = seen.target.find("cursor=2") != std::string::npos;
    const Json all = parse_json(usual().body, "tree");
    Reply reply;
    Json part = Json::array();
    for (std::size_t i = 0; i < all.size(); ++i) {
      if ((i >= 2) == second) part.push_back(all[i]);
    }
    reply.body = part.dump();
    if (!second) {
      reply.headers.emplace_back("Link",
                                 "<" + hub_.endpoint() + seen.target + "&cursor=2>; rel=\"next\"");
    }
    return reply;
  });
  EXPECT_EQ(client().list_files(kRepo).files.size(), 4U);
  EXPECT_EQ(hub_.count("GET", "/tree/"), 2U);
}

TEST_F(Download, ForceFetchesAgain) {
  client().download_snapshot(kRepo, {.files = {"model.safetensors"}});
  const std::string damaged(weights_.size(), 'x');
  std::ofstream(blob(), std::ios::binary) << damaged;
  client().download_snapshot(kRepo, {.files = {"model.safetensors"}});
  EXPECT_EQ(slurp(blob()), damaged) << "what is there is trusted";
  client().download_snapshot(kRepo, {.files = {"model.safetensors"}, .force = true});
  expect_whole();
}

TEST_F(Download, LocalFoldersHoldPlainFiles) {
  const fs::path local = cache_ / "local";
  const auto get = [&] { return client().download_snapshot(kRepo, {.local_dir = local}); };
  EXPECT_EQ(get().folder, local);
  EXPECT_EQ(slurp(local / "model.safetensors"), weights_);
  EXPECT_FALSE(fs::is_symlink(local / "model.safetensors"));
  std::istringstream notes(slurp(local / ".cache/huggingface/download/model.safetensors.metadata"));
  std::string commit;
  std::string etag;
  notes >> commit >> etag;
  EXPECT_EQ(commit, FakeHub::commit(kModel));
  EXPECT_EQ(etag, hub_test::sha256(weights_));
  hub_.forget();
  get();
  EXPECT_EQ(hub_.count("GET", "/resolve/"), 0U) << "all is up to date";
  EXPECT_EQ(hub_.count("HEAD", "/resolve/"), 0U);
  fs::remove(local / "model.safetensors");
  get();
  EXPECT_EQ(slurp(local / "model.safetensors"), weights_);
  // Changed by hand, and later than what is noted: not trusted.
  std::ofstream(local / "sub/notes.txt") << "changed";
  fs::last_write_time(local / "sub/notes.txt",
                      fs::file_time_type::clock::now() + std::chrono::hours(1));
  get();
  EXPECT_EQ(slurp(local / "sub/notes.txt"), "some notes\n");
}

TEST_F(Download, WithoutLinksSnapshotsHoldTheFiles) {
  HubOptions plain = options();
  plain.symlinks = false;
  HubClient(plain).download_model(kRepo);
  EXPECT_FALSE(fs::is_symlink(snapshot() / "model.safetensors"));
  EXPECT_EQ(slurp(snapshot() / "model.safetensors"), weights_);
  EXPECT_FALSE(fs::exists(blob()));
  hub_.forget();
  HubClient(plain).download_model(kRepo);
  EXPECT_EQ(hub_.seen().size(), 1U);
}

TEST_F(Download, ABlobOfTheWrongSizeIsFetchedAgain) {
  fs::create_directories(blob().parent_path());
  std::ofstream(blob()) << "short";
  client().download_model(kRepo);
  expect_whole();
}

TEST_F(Download, WaitsForTheLockOfAnotherProcess) {
  const fs::path path =
      cache_ / ".locks/models--org--tiny" / (hub_test::sha256(weights_) + ".lock");
  auto lock = std::make_unique<hub::FileLock>(path);
  ASSERT_TRUE(lock->held());
  std::atomic<bool> done{false};
  std::thread waiter([&] {
    client().download_model(kRepo);
    done = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(400));
  EXPECT_FALSE(done);
  EXPECT_EQ(hub_.count("GET", hub_test::sha256(weights_)), 0U);
  lock.reset();
  waiter.join();
  expect_whole();
}

TEST_F(Download, ManyThreadsOfOneProcess) {
  std::vector<std::thread> threads;
  const HubClient shared = client();
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([&] { shared.download_model(kRepo); });
  }
  for (std::thread& thread : threads) thread.join();
  expect_whole();
  EXPECT_EQ(hub_.count("GET", "/" + hub_test::sha256(weights_)), 1U);
}

TEST_F(Download, AReadOnlyCacheStillServes) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may write everywhere";
  client().download_model(kRepo);
  fs::permissions(cache_, fs::perms::owner_write, fs::perm_options::remove);
  EXPECT_EQ(client().download_model(kRepo), snapshot());
  fs::permissions(cache_, fs::perms::owner_write, fs::perm_options::add);
}

TEST_F(Download, ProxiesCarryTheRequests) {
  // A proxy gets the whole address in the request line; the storage's port plays it.
  const std::string proxy = hub_.storage();
  ::setenv("HTTP_PROXY", proxy.c_str(), 1);
  HubOptions through = options();
  through.endpoint = "http://hub.invalid";
  through.token = {};
  through.retries = 0;
  failure_of([&] { HubClient(through).download_file(kRepo, "config.json"); });
  ::setenv("NO_PROXY", "127.0.0.1", 1);
  client().download_file(kRepo, "config.json");
  ::unsetenv("HTTP_PROXY");
  ::unsetenv("NO_PROXY");
  EXPECT_EQ(hub_.count("HEAD", "http://hub.invalid/org/tiny/resolve/main/config.json"), 1U);
}

TEST_F(Download, CacheIsScannedDeletedAndVerified) {
  client().download_snapshot(kRepo);
  hub_.add_branch(kModel, "v2", "config.json", "{\"model_type\": \"gpt2\"}");
  hub_.add_branch(kModel, "v2", "more.txt", "more");
  client().download_snapshot({RepoType::kModel, "org/tiny", "v2"});
  hub_.add("datasets/org/data", "a.txt", "text");
  client().download_snapshot({RepoType::kDataset, "org/data", "main"});
  std::ofstream(repo_folder() / "blobs" / "abc.incomplete") << "part";

  CacheScan scan = scan_cache(cache_);
  EXPECT_TRUE(scan.problems.empty()) << scan.problems.front();
  ASSERT_EQ(scan.repos.size(), 2U);
  EXPECT_EQ(scan.repos[0].id, "org/data");
  EXPECT_EQ(scan.repos[0].type, RepoType::kDataset);
  const CachedRepo& repo = scan.repos[1];
  EXPECT_EQ(repo.id, "org/tiny");
  EXPECT_EQ(repo.revisions.size(), 2U);
  EXPECT_EQ(repo.files, 5U);
  EXPECT_EQ(repo.incomplete_bytes, 4U);
  EXPECT_GT(repo.bytes, weights_.size());
  EXPECT_EQ(repo.revisions[0].refs.size(), 1U);
  EXPECT_TRUE(verify_cached(repo).problems.empty());
  EXPECT_EQ(verify_cached(repo).blobs, 5U);

  const auto& first = repo.revisions[repo.revisions[0].refs[0] == "main" ? 0 : 1];
  const CacheDeletion plan = plan_deletion(scan, repo, first);
  EXPECT_GE(plan.bytes, weights_.size());
  delete_cached(plan);
  EXPECT_FALSE(fs::exists(blob()));
  EXPECT_FALSE(fs::exists(repo_folder() / "refs/main"));
  HubOptions offline = options();
  offline.offline = true;
  const Repo second{RepoType::kModel, "org/tiny", "v2"};
  EXPECT_EQ(slurp(HubClient(offline).download_file(second, "config.json")),
            "{\"model_type\": \"gpt2\"}")
      << "a blob that both name stays";

  const fs::path more = repo_folder() / "blobs" / hub_test::git_sha1("more");
  std::ofstream(more) << "MORE";
  fs::remove(repo_folder() / "blobs" / hub_test::git_sha1("{\"model_type\": \"gpt2\"}"));
  scan = scan_cache(cache_);
  EXPECT_FALSE(scan.problems.empty()) << "a link leads to nothing";
  EXPECT_EQ(verify_cached(scan.repos[1]).problems.size(), 2U);
  delete_cached(plan_deletion(scan, scan.repos[1]));
  EXPECT_FALSE(fs::exists(repo_folder()));
  EXPECT_EQ(scan_cache(cache_).repos.size(), 1U);
  EXPECT_TRUE(scan_cache(cache_ / "absent").repos.empty());
}

}  // namespace
}  // namespace drrik
