// HubClient against a Hub on this machine: many files, revisions, offline work, and the cache.

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

using Snapshots = Download;

TEST_F(Snapshots, ShardsComeInParallelAndBounded) {
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
    EXPECT_EQ(read_file(folder / ("model-" + std::to_string(i) + ".safetensors")),
              noise(20'000, static_cast<unsigned>(i) + 10));
  }
  EXPECT_FALSE(fs::exists(folder / "not-named.safetensors"));
  EXPECT_FALSE(fs::exists(folder / "pytorch_model.bin"));
  EXPECT_GT(most, 1);
  EXPECT_LE(most, 4);
}

TEST_F(Snapshots, OneFailureEndsTheOthers) {
  hub_.add(kModel, "other.bin", noise(50'000, 3), true);
  hub_.on_request([&](const Seen& seen, const auto& usual) -> std::optional<Reply> {
    if (!seen.storage) return std::nullopt;
    if (seen.target.find(sha256(weights_)) == std::string::npos) {
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

TEST_F(Snapshots, InterruptLeavesWhatTheNextCallContinues) {
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
  EXPECT_EQ(hub_.count("GET", sha256(weights_)), 1U);
}

TEST_F(Snapshots, OfflineUsesTheCacheAndAsksNobody) {
  HubOptions offline = options();
  offline.offline = true;
  EXPECT_EQ(failure_of([&] { HubClient(offline).download_model(kRepo); }, "offline"),
            HubFailure::kOffline);
  client().download_model(kRepo);
  hub_.forget();
  const HubClient cached(offline);
  EXPECT_EQ(cached.download_model(kRepo), snapshot());
  EXPECT_EQ(read_file(cached.download_file(kRepo, "config.json")), "{\"model_type\": \"gpt2\"}");
  EXPECT_FALSE(cached.find_file(kRepo, "generation_config.json"));
  EXPECT_EQ(failure_of([&] { cached.download_file(kRepo, "sub/notes.txt"); }, "sub/notes.txt"),
            HubFailure::kOffline);
  EXPECT_TRUE(hub_.seen().empty());
  fs::remove(blob());
  EXPECT_EQ(failure_of([&] { cached.download_model(kRepo); }, "model.safetensors"),
            HubFailure::kOffline);
}

TEST_F(Snapshots, TheCacheServesWhenTheHubDoesNot) {
  client().download_model(kRepo);
  for (const Reply& trouble :
       {Reply{.status = 503}, Reply{.hang_up = true}, Reply{.status = 401}}) {
    hub_.on_request([&](const Seen&, const auto&) { return std::optional(trouble); });
    EXPECT_EQ(client().download_model(kRepo), snapshot());
    EXPECT_EQ(read_file(client().download_file(kRepo, "config.json")),
              "{\"model_type\": \"gpt2\"}");
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

TEST_F(Snapshots, ABranchThatMovedKeepsItsOldSnapshotUntilTheNewOneIsWhole) {
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
    const std::string digest = sha256(seen.target);
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

TEST_F(Snapshots, SnapshotsByPattern) {
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
            sha256(weights_));
}

TEST_F(Snapshots, ListsComeInPages) {
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

TEST_F(Snapshots, ForceFetchesAgain) {
  client().download_snapshot(kRepo, {.files = {"model.safetensors"}});
  const std::string damaged(weights_.size(), 'x');
  std::ofstream(blob(), std::ios::binary) << damaged;
  client().download_snapshot(kRepo, {.files = {"model.safetensors"}});
  EXPECT_EQ(read_file(blob()), damaged) << "what is there is trusted";
  client().download_snapshot(kRepo, {.files = {"model.safetensors"}, .force = true});
  expect_whole();
}

TEST_F(Snapshots, LocalFoldersHoldPlainFiles) {
  const fs::path local = cache_ / "local";
  const auto get = [&] { return client().download_snapshot(kRepo, {.local_dir = local}); };
  EXPECT_EQ(get().folder, local);
  EXPECT_EQ(read_file(local / "model.safetensors"), weights_);
  EXPECT_FALSE(fs::is_symlink(local / "model.safetensors"));
  std::istringstream notes(
      read_file(local / ".cache/huggingface/download/model.safetensors.metadata"));
  std::string commit;
  std::string etag;
  notes >> commit >> etag;
  EXPECT_EQ(commit, FakeHub::commit(kModel));
  EXPECT_EQ(etag, sha256(weights_));
  hub_.forget();
  get();
  EXPECT_EQ(hub_.count("GET", "/resolve/"), 0U) << "all is up to date";
  EXPECT_EQ(hub_.count("HEAD", "/resolve/"), 0U);
  fs::remove(local / "model.safetensors");
  get();
  EXPECT_EQ(read_file(local / "model.safetensors"), weights_);
  // Changed by hand, and later than what is noted: not trusted.
  std::ofstream(local / "sub/notes.txt") << "changed";
  fs::last_write_time(local / "sub/notes.txt",
                      fs::file_time_type::clock::now() + std::chrono::hours(1));
  get();
  EXPECT_EQ(read_file(local / "sub/notes.txt"), "some notes\n");
}

TEST_F(Snapshots, WithoutLinksSnapshotsHoldTheFiles) {
  HubOptions plain = options();
  plain.symlinks = false;
  HubClient(plain).download_model(kRepo);
  EXPECT_FALSE(fs::is_symlink(snapshot() / "model.safetensors"));
  EXPECT_EQ(read_file(snapshot() / "model.safetensors"), weights_);
  EXPECT_FALSE(fs::exists(blob()));
  hub_.forget();
  HubClient(plain).download_model(kRepo);
  EXPECT_EQ(hub_.seen().size(), 1U);
}

TEST_F(Snapshots, ABlobOfTheWrongSizeIsFetchedAgain) {
  fs::create_directories(blob().parent_path());
  std::ofstream(blob()) << "short";
  client().download_model(kRepo);
  expect_whole();
}

TEST_F(Snapshots, WaitsForTheLockOfAnotherProcess) {
  const fs::path path = cache_ / ".locks/models--org--tiny" / (sha256(weights_) + ".lock");
  auto lock = std::make_unique<hub::FileLock>(path);
  ASSERT_TRUE(lock->held());
  std::atomic<bool> done{false};
  std::thread waiter([&] {
    client().download_model(kRepo);
    done = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(400));
  EXPECT_FALSE(done);
  EXPECT_EQ(hub_.count("GET", sha256(weights_)), 0U);
  lock.reset();
  waiter.join();
  expect_whole();
}

TEST_F(Snapshots, ManyThreadsOfOneProcess) {
  std::vector<std::thread> threads;
  const HubClient shared = client();
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([&] { shared.download_model(kRepo); });
  }
  for (std::thread& thread : threads) thread.join();
  expect_whole();
  EXPECT_EQ(hub_.count("GET", "/" + sha256(weights_)), 1U);
}

TEST_F(Snapshots, AReadOnlyCacheStillServes) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may write everywhere";
  client().download_model(kRepo);
  fs::permissions(cache_, fs::perms::owner_write, fs::perm_options::remove);
  EXPECT_EQ(client().download_model(kRepo), snapshot());
  fs::permissions(cache_, fs::perms::owner_write, fs::perm_options::add);
}

TEST_F(Snapshots, ProxiesCarryTheRequests) {
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

TEST_F(Snapshots, CacheIsScannedDeletedAndVerified) {
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
  EXPECT_EQ(read_file(HubClient(offline).download_file(second, "config.json")),
            "{\"model_type\": \"gpt2\"}")
      << "a blob that both name stays";

  const fs::path more = repo_folder() / "blobs" / git_sha1("more");
  std::ofstream(more) << "MORE";
  fs::remove(repo_folder() / "blobs" / git_sha1("{\"model_type\": \"gpt2\"}"));
  scan = scan_cache(cache_);
  EXPECT_FALSE(scan.problems.empty()) << "a link leads to nothing";
  EXPECT_EQ(verify_cached(scan.repos[1]).problems.size(), 2U);
  delete_cached(plan_deletion(scan, scan.repos[1]));
  EXPECT_FALSE(fs::exists(repo_folder()));
  EXPECT_EQ(scan_cache(cache_).repos.size(), 1U);
  EXPECT_TRUE(scan_cache(cache_ / "absent").repos.empty());
}

}  // namespace
}  // namespace drrik::hub_test
