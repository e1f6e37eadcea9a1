#pragma once
// A client of a Hub on this machine, with one small model there and a cache of its own.

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <functional>
#include <mutex>

#include "drrik/base/file.h"
#include "drrik/base/log.h"
#include "drrik/hub/client.h"
#include "hub/fake_hub.h"

namespace drrik::hub_test {

namespace fs = std::filesystem;

inline constexpr const char* kToken = "hf_secretsecretsecret";
inline constexpr const char* kModel = "models/org/tiny";
inline const Repo kRepo{RepoType::kModel, "org/tiny", "main"};

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
  fs::path blob() const { return repo_folder() / "blobs" / sha256(weights_); }
  fs::path incomplete() const { return blob().string() + ".incomplete"; }

  void expect_whole() const {
    EXPECT_EQ(read_file(snapshot() / "model.safetensors"), weights_);
    EXPECT_EQ(read_file(blob()), weights_);
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

}  // namespace drrik::hub_test
