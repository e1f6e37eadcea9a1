// The parts without a network: names, URLs, patterns, environment, what the Hub's answers say.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "drrik/base/error.h"
#include "drrik/hub/options.h"
#include "drrik/hub/repo.h"
#include "hub/api.h"
#include "hub/glob.h"
#include "hub/hash.h"
#include "hub/model_files.h"
#include "hub/session.h"
#include "hub/url.h"

namespace drrik::hub {
namespace {

namespace fs = std::filesystem;
using Variables = std::map<std::string, std::string>;

template <typename F>
std::string error_of(F&& f, ErrorKind kind) {
  try {
    f();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

TEST(RepoName, IsWhatTheHubAllows) {
  for (const char* good : {"gpt2", "org/name", "Foo-BAR_foo.bar123", "a/b.c", "123", "_x/y_"}) {
    EXPECT_TRUE(is_repo_id(good)) << good;
  }
  for (const char* bad : {"", "a/b/c", "-a", "a-", ".a", "a/.b", "a--b", "a..b", "../b", "a/", "/a",
                          "a.git", "a b", "a\\b", "a/b/", "~/x", "a%2fb", "a\nb"}) {
    EXPECT_FALSE(is_repo_id(bad)) << bad;
  }
  EXPECT_FALSE(is_repo_id(std::string(97, 'a')));
  EXPECT_TRUE(is_repo_id(std::string(96, 'a')));
}

TEST(RepoName, RevisionsCannotLeaveTheirFolder) {
  for (const char* good : {"main", "refs/pr/1", "refs/convert/parquet", "v1.0", "feature/x"}) {
    EXPECT_NO_THROW((Repo{RepoType::kModel, "a", good}.validate())) << good;
  }
  for (const char* bad :
       {"", "..", "../x", "a/../b", "/etc", "a//b", "a b", "a\nb", "x?y", "a^", "a:b", "refs/"}) {
    error_of([&] { Repo{RepoType::kModel, "a", bad}.validate(); }, ErrorKind::kUsage);
  }
}

TEST(RepoName, TypeNamesTheNearest) {
  EXPECT_EQ(parse_repo_type("dataset"), RepoType::kDataset);
  EXPECT_NE(error_of([] { parse_repo_type("datset"); }, ErrorKind::kUsage).find("'dataset'"),
            std::string::npos);
}

TEST(Url, OriginIsSchemeHostAndPort) {
  EXPECT_EQ(origin_of("https://HuggingFace.co/a?b"), "https://huggingface.co:443");
  EXPECT_EQ(origin_of("https://huggingface.co:443"), origin_of("https://huggingface.co/x"));
  EXPECT_NE(origin_of("http://huggingface.co"), origin_of("https://huggingface.co"));
  EXPECT_NE(origin_of("https://huggingface.co:8443"), origin_of("https://huggingface.co"));
  EXPECT_EQ(origin_of("https://huggingface.co@evil.org/"), "https://evil.org:443");
  EXPECT_NE(origin_of("https://huggingface.co.evil.org"), origin_of("https://huggingface.co"));
  EXPECT_EQ(origin_of("http://[::1]:80/x"), origin_of("http://[::1]/"));
  for (const char* none : {"", "ftp://a/", "file:///etc/passwd", "/x", "https://"}) {
    EXPECT_EQ(origin_of(none), "") << none;
  }
}

TEST(Url, LocationsAreResolvedAsBrowsersDo) {
  const std::string base = "https://a.b:8/x/y?z";
  EXPECT_EQ(origin_of(resolve_location(base, "https://c/d")), "https://c:443");
  EXPECT_NE(resolve_location(base, "//c/d").find("https://c"), std::string::npos);
  EXPECT_EQ(resolve_location(base, "/d?e"), "https://a.b:8/d?e");
  EXPECT_EQ(resolve_location(base, "d"), "https://a.b:8/x/d");
  EXPECT_EQ(origin_of(resolve_location(base, "javascript:alert(1)")).find("https://c"),
            std::string::npos);
}

TEST(Url, ShownWithoutWhatMayBeSecret) {
  EXPECT_EQ(shown_url("https://u:hf_secret@h.org:81/p/q?X-Signature=hf_secret#hf_secret"),
            "https://h.org:81/p/q");
}

TEST(Url, EncodesAsTheHubExpects) {
  EXPECT_EQ(percent_encode("refs/convert/parquet"), "refs%2Fconvert%2Fparquet");
  EXPECT_EQ(percent_encode("a b/ü.txt", "/"), "a%20b/%C3%BC.txt");
  const Repo repo{RepoType::kDataset, "o/n", "refs/pr/1"};
  EXPECT_EQ(resolve_path(repo, "d/x y"), "/datasets/o/n/resolve/refs%2Fpr%2F1/d/x%20y");
  EXPECT_EQ(api_path(repo), "/api/datasets/o/n");
}

TEST(Url, PathsStayInside) {
  for (const char* good : {"a", "a/b.txt", ".gitattributes", "a b/ü", "..a/b.."}) {
    EXPECT_TRUE(is_safe_path(good)) << good;
  }
  for (const char* bad : {"", "/a", "a//b", "a/", "./a", "../a", "a/../b", "a\\b", "a\nb", ".."}) {
    EXPECT_FALSE(is_safe_path(bad)) << bad;
  }
  EXPECT_FALSE(is_safe_path(std::string("a\0b", 3)));
  EXPECT_FALSE(is_safe_path(std::string(256, 'a')));
}

TEST(Glob, FnmatchAsInPython) {
  EXPECT_TRUE(fnmatch("*.json", "a/b.json"));
  EXPECT_TRUE(fnmatch("data/*", "data/a/b"));
  EXPECT_TRUE(fnmatch("a?[0-9][!x].t", "ab3y.t"));
  EXPECT_FALSE(fnmatch("a?[0-9][!x].t", "ab3x.t"));
  EXPECT_TRUE(fnmatch("[]x]", "]"));
  EXPECT_TRUE(fnmatch("[a", "[a"));
  EXPECT_FALSE(fnmatch("*.JSON", "a.json"));
  EXPECT_TRUE(fnmatch("", ""));
  EXPECT_FALSE(fnmatch("", "a"));
  EXPECT_TRUE(wanted("d/x", {"d/"}, {}));
  EXPECT_FALSE(wanted("d/x", {"d/"}, {"*x"}));
  EXPECT_TRUE(wanted("anything", {}, {}));
}

TEST(Glob, StarsDoNotTakeExponentialTime) {
  std::string pattern;
  for (int i = 0; i < 500; ++i) pattern += "*a";
  EXPECT_FALSE(fnmatch(pattern + "b", std::string(5000, 'a')));
}

TEST(Environment, CacheFolderByTheRulesOfTheLibrary) {
  const auto cache = [](const Variables& variables) {
    return HubOptions::from_environment(variables).cache_dir.string();
  };
  EXPECT_EQ(cache({{"HOME", "/h"}}), "/h/.cache/huggingface/hub");
  EXPECT_EQ(cache({{"HOME", "/h"}, {"XDG_CACHE_HOME", "/x"}}), "/x/huggingface/hub");
  EXPECT_EQ(cache({{"HOME", "/h"}, {"XDG_CACHE_HOME", "/x"}, {"HF_HOME", "~/f"}}), "/h/f/hub");
  EXPECT_EQ(cache({{"HOME", "/h"}, {"HUGGINGFACE_HUB_CACHE", "/l"}}), "/l");
  EXPECT_EQ(
      cache(
          {{"HUGGINGFACE_HUB_CACHE", "/l"}, {"HF_HUB_CACHE", "$D/${E}c"}, {"D", "/d"}, {"E", "e"}}),
      "/d/ec");
  EXPECT_EQ(cache({{"HF_HUB_CACHE", "/a$NOT"}}), "/a$NOT");
  EXPECT_EQ(cache({}), "");
}

TEST(Environment, FlagsAndTimes) {
  const auto options = HubOptions::from_environment({{"TRANSFORMERS_OFFLINE", "yes"},
                                                     {"HF_HUB_DISABLE_SYMLINKS", "ON"},
                                                     {"HF_HUB_DISABLE_PROGRESS_BARS", "1"},
                                                     {"HF_HUB_ETAG_TIMEOUT", "3"},
                                                     {"HF_HUB_DOWNLOAD_TIMEOUT", "0"},
                                                     {"HF_ENDPOINT", "https://mirror.org/hf//"},
                                                     {"DO_NOT_TRACK", "1"}});
  EXPECT_TRUE(options.offline);
  EXPECT_FALSE(options.symlinks);
  EXPECT_FALSE(options.progress);
  EXPECT_TRUE(HubOptions::from_environment({{"HF_HUB_DISABLE_PROGRESS_BARS", "0"}}).progress);
  EXPECT_FALSE(options.telemetry);
  EXPECT_EQ(options.etag_timeout, 3);
  EXPECT_EQ(options.download_timeout, 10);
  EXPECT_EQ(options.endpoint, "https://mirror.org/hf");
  EXPECT_FALSE(
      HubOptions::from_environment({{"HF_HUB_OFFLINE", "0"}, {"TRANSFORMERS_OFFLINE", "1"}})
          .offline);
  error_of(
      [] {
        HubOptions::from_environment({{"HF_HUB_ETAG_TIMEOUT", "soon"}});
      },
      ErrorKind::kUsage);
  const std::string message = error_of(
      [] {
        HubOptions::from_environment({{"HF_ENDPOINT", "ftp://u:hf_secret@x/"}});
      },
      ErrorKind::kUsage);
  EXPECT_EQ(message.find("hf_secret"), std::string::npos) << message;
}

TEST(Environment, TokenSourcesInOrder) {
  const fs::path folder = fs::temp_directory_path() / "drrik-hub-token-test";
  fs::create_directories(folder);
  std::ofstream(folder / "token") << "  from_file\r\n";
  const std::string home = folder.string();
  const auto token = [](const Variables& variables) {
    return HubOptions::from_environment(variables).token.reveal();
  };
  EXPECT_EQ(token({{"HF_HOME", home}}), "from_file");
  EXPECT_EQ(token({{"HF_TOKEN_PATH", home + "/token"}, {"HF_HOME", "/none"}}), "from_file");
  EXPECT_EQ(token({{"HF_HOME", home}, {"HF_TOKEN", "t"}}), "t");
  EXPECT_EQ(token({{"HF_HOME", home}, {"HF_TOKEN", ""}}), "from_file");
  EXPECT_EQ(token({{"HUGGING_FACE_HUB_TOKEN", "l"}}), "l");
  EXPECT_EQ(token({{"HUGGING_FACE_HUB_TOKEN", "l"}, {"HF_TOKEN", "t"}}), "t");
  EXPECT_EQ(token({{"HUGGINGFACE_HUB_TOKEN", "s"}, {"HF_TOKEN", "t"}}), "s");
  EXPECT_EQ(token({{"HF_TOKEN", "t"}, {"HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"}}), "");
  const std::string message = error_of(
      [&] {
        token({{"HF_TOKEN", "hf_secret\nX-Header: 1"}});
      },
      ErrorKind::kUsage);
  EXPECT_EQ(message.find("hf_secret"), std::string::npos);
  fs::remove_all(folder);
}

TEST(HubAnswers, InfoNeedsACommitAndSafePaths) {
  const std::string commit(40, 'a');
  const auto info = parse_repo_info(
      R"({"sha":")" + commit + R"(","siblings":[{"rfilename":"b"},{"rfilename":"a/c"}]})", "x");
  EXPECT_EQ(info.commit, commit);
  EXPECT_EQ(info.files, (std::vector<std::string>{"a/c", "b"}));
  error_of([] { parse_repo_info(R"({"sha":"../../x"})", "x"); }, ErrorKind::kData);
  error_of([] { parse_repo_info("<html>", "x"); }, ErrorKind::kData);
  for (const char* path : {"../x", "/etc/passwd", "a/../../b"}) {
    error_of(
        [&] {
          parse_repo_info(
              R"({"sha":")" + commit + R"(","siblings":[{"rfilename":")" + path + R"("}]})", "x");
        },
        ErrorKind::kData);
  }
}

TEST(HubAnswers, TreeCacheIsReadAsWritten) {
  std::vector<TreeEntry> entries(2);
  entries[0] = {"a", 3, std::string(40, '1'), "", 0, ""};
  entries[1] = {"b/c", 130, std::string(40, '2'), std::string(64, '3'), 99, std::string(64, '4')};
  const auto again = parse_tree_cache(tree_cache_text(entries), "x");
  ASSERT_TRUE(again);
  EXPECT_EQ(tree_cache_text(*again), tree_cache_text(entries));
  EXPECT_EQ((*again)[1].lfs_bytes, 99U);
  EXPECT_FALSE(parse_tree_cache(R"({"format_version":2})", "x"));
}

TEST(HubAnswers, NextPageIsTheOneCalledNext) {
  EXPECT_EQ(next_page("<https://h/a?c=1>; rel=\"next\""), "https://h/a?c=1");
  EXPECT_EQ(next_page("<u>; rel=\"prev\", <v>; rel=\"next\""), "v");
  EXPECT_FALSE(next_page("<u>; rel=\"prev\""));
  EXPECT_FALSE(next_page("<"));
}

TEST(HubAnswers, WeightIndexCannotNameOtherPlaces) {
  EXPECT_EQ(parse_weight_index(R"({"weight_map":{"x":"b","y":"a","z":"b"}})", "i"),
            (std::vector<std::string>{"a", "b"}));
  error_of([] { parse_weight_index(R"({"weight_map":{"x":"../../a"}})", "i"); }, ErrorKind::kData);
}

TEST(ModelFileChoice, PrefersSafetensorsAndLeavesOutWhatIsSaidTwice) {
  const auto choose = [](std::vector<std::string> files) {
    return choose_model_files([files](const std::string& name) {
      return std::find(files.begin(), files.end(), name) != files.end();
    });
  };
  const ModelFiles both = choose(
      {"config.json", "model.safetensors", "pytorch_model.bin", "tokenizer.json", "vocab.json"});
  EXPECT_EQ(both.weights, std::vector<std::string>{"model.safetensors"});
  EXPECT_EQ(std::count(both.small.begin(), both.small.end(), "vocab.json"), 0);
  EXPECT_EQ(std::count(both.absent.begin(), both.absent.end(), "generation_config.json"), 1);
  EXPECT_EQ(choose({"pytorch_model.bin"}).weights, std::vector<std::string>{"pytorch_model.bin"});
  EXPECT_EQ(choose({"model.safetensors.index.json", "pytorch_model.bin"}).index,
            "model.safetensors.index.json");
  EXPECT_TRUE(choose({"config.json"}).weights.empty());
  const ModelFiles old = choose({"vocab.json", "merges.txt"});
  EXPECT_EQ(std::count(old.small.begin(), old.small.end(), "merges.txt"), 1);
}

TEST(Checksum, OfKnownBytes) {
  // `printf abc | git hash-object --stdin`, and FIPS 180-2's example.
  Hash git(HashKind::kGitSha1, 3);
  git.update(std::string("abc"));
  EXPECT_EQ(git.digest(), "f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f");
  Hash sha(HashKind::kSha256, 0);
  sha.update(std::string("abc"));
  EXPECT_EQ(sha.digest(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(hash_kind(std::string(64, 'a')), HashKind::kSha256);
  EXPECT_EQ(hash_kind(std::string(40, '0')), HashKind::kGitSha1);
  EXPECT_FALSE(hash_kind("something-else"));
  EXPECT_FALSE(hash_kind(std::string(64, 'A')));
}

}  // namespace
}  // namespace drrik::hub
