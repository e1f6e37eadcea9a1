// HubClient against a Hub on this machine that behaves, and misbehaves, as servers do: single
// files.

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <fstream>
#include <thread>

#include "drrik/base/interrupt.h"
#include "drrik/base/system.h"
#include "drrik/hub/cache.h"
#include "drrik/hub/client.h"
#include "hub/download_fixture.h"
#include "hub/lock.h"
#include "io/json.h"

namespace drrik::hub_test {
namespace {

TEST_F(Download, LaysTheCacheOutAsTheLibraryDoes) {
  const fs::path folder = client().download_model(kRepo);
  EXPECT_EQ(folder, snapshot());
  expect_whole();
  EXPECT_EQ(fs::read_symlink(snapshot() / "model.safetensors"), "../../blobs/" + sha256(weights_));
  EXPECT_EQ(read_file(repo_folder() / "refs/main"), FakeHub::commit(kModel));
  EXPECT_TRUE(read_file(cache_ / "CACHEDIR.TAG")
                  .starts_with("Signature: 8a477f597d28d172789f06886806bc55\n"));
  EXPECT_TRUE(
      fs::exists(repo_folder() / ".no_exist" / FakeHub::commit(kModel) / "generation_config.json"));
  EXPECT_TRUE(fs::exists(cache_ / ".locks/models--org--tiny" / (sha256(weights_) + ".lock")));
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
  EXPECT_EQ(read_file(path), "some notes\n");
  EXPECT_EQ(fs::read_symlink(path).string().substr(0, 15), "../../../blobs/");
  hub_.add_branch(kModel, "refs/pr/1", "a b/ü#?.txt", "from a pull request");
  hub_.add_branch(kModel, "v1.0", "x", "tagged");
  EXPECT_EQ(
      read_file(client().download_file({RepoType::kModel, "org/tiny", "refs/pr/1"}, "a b/ü#?.txt")),
      "from a pull request");
  EXPECT_TRUE(fs::exists(repo_folder() / "refs/refs/pr/1"));
  EXPECT_EQ(read_file(client().download_file({RepoType::kModel, "org/tiny", "v1.0"}, "x")),
            "tagged");
  EXPECT_EQ(read_file(client().download_file(
                {RepoType::kModel, "org/tiny", git_sha1(std::string(kModel) + "v1.0")}, "x")),
            "tagged");
}

TEST_F(Download, EmptyFile) {
  hub_.add(kModel, "empty.txt", "");
  hub_.add(kModel, "empty.bin", "", true);
  EXPECT_EQ(read_file(client().download_file(kRepo, "empty.txt")), "");
  EXPECT_EQ(read_file(client().download_file(kRepo, "empty.bin")), "");
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

TEST_F(Download, TheStartOfAFileIsReadAndNotKept) {
  hub_.add(kModel, "empty", "");
  const HubClient hub = client();
  EXPECT_EQ(hub.read_start(kRepo, "model.safetensors", 1000), weights_.substr(0, 1000));
  EXPECT_EQ(hub_.seen().back().header("range"), "bytes=0-999");
  EXPECT_TRUE(hub_.seen().back().storage);
  EXPECT_EQ(hub.read_start(kRepo, "model.safetensors", weights_.size() + 9), weights_);
  EXPECT_EQ(hub.read_start(kRepo, "config.json", 5), "{\"mod");
  EXPECT_EQ(hub.read_start(kRepo, "empty", 8), "");
  EXPECT_FALSE(fs::exists(repo_folder()));
  EXPECT_EQ(failure_of([&] { hub.read_start(kRepo, "none", 8); }, "'none'"),
            HubFailure::kEntryNotFound);
  EXPECT_THROW(hub.read_start(kRepo, "../x", 8), Error);
  // A busy server, a cut, and one that knows no ranges, of which no more than wanted is read.
  storage_answers({[](const Reply&) { return Reply{.status = 503}; },
                   [](const Reply& usual) {
                     Reply cut = usual;
                     cut.cut = 10;
                     return cut;
                   },
                   [this](const Reply&) {
                     Reply whole{.body = weights_};
                     whole.stall = 2000;
                     return whole;
                   }});
  EXPECT_EQ(hub.read_start(kRepo, "model.safetensors", 1000), weights_.substr(0, 1000));
}

TEST_F(Download, BarsCanBeTurnedOff) {
  for (const bool shown : {true, false}) {
    HubOptions chosen = options();
    chosen.progress = shown;
    testing::internal::CaptureStderr();
    HubClient(chosen).download_file(kRepo, shown ? "config.json" : "model.safetensors");
    const std::string text = testing::internal::GetCapturedStderr();
    EXPECT_EQ(text.find("Downloading") != std::string::npos, shown) << text;
  }
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
  EXPECT_EQ(hub_.count("GET", "/" + sha256(weights_)), 2U) << "tried once more";
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
  EXPECT_EQ(hub_.count("GET", sha256(weights_)), 0U);
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
  EXPECT_EQ(hub_.count("GET", sha256(weights_)), 1U);
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
  EXPECT_EQ(read_file(folder / "model.safetensors"), weights_);
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
    EXPECT_EQ(read_file(client().download_file(kRepo, "model.safetensors")), weights_) << size;
  }
}

TEST_F(Download, SmallFilesWithoutALengthAreCheckedToo) {
  hub_.on_request([&](const Seen& seen, const auto& usual) -> std::optional<Reply> {
    if (!seen.target.ends_with("config.json")) return std::nullopt;
    Reply reply = usual();
    reply.length = false;
    return reply;
  });
  EXPECT_EQ(read_file(client().download_file(kRepo, "config.json")), "{\"model_type\": \"gpt2\"}");
}

}  // namespace
}  // namespace drrik::hub_test
