#pragma once
// Runs the drrik command as a child process, and keeps a folder for its files.

#include <gtest/gtest.h>
#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

namespace drrik::cli_test {

struct Result {
  int exit_code = -1;  ///< 128 + signal when killed by one.
  std::string out;
  std::string err;
};

/// A started command; wait() collects it.
class Command {
 public:
  explicit Command(const std::vector<std::string>& args, const std::filesystem::path& scratch,
                   const std::vector<std::string>& extra_environment = {});
  void signal(int number) const;
  Result wait();

 private:
  pid_t pid_ = -1;
  std::filesystem::path out_;
  std::filesystem::path err_;
};

/// Each test has a fresh folder, removed afterwards.
class CommandTest : public testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;
  Result run(const std::vector<std::string>& args,
             const std::vector<std::string>& extra_environment = {}) const {
    return Command(args, folder_, extra_environment).wait();
  }
  /// Runs and expects exit code 0.
  Result run_ok(const std::vector<std::string>& args) const;
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  void write(const std::string& name, const std::string& text) const;

  std::filesystem::path folder_;
};

/// The bundled model and its dataset.
std::string demo_model();
std::string demo_text();

}  // namespace drrik::cli_test
