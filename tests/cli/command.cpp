#include "cli/command.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <fstream>
#include <sstream>

extern char** environ;  // NOLINT

namespace drrik::cli_test {
namespace {

namespace fs = std::filesystem;

std::string slurp(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::atomic<int> g_counter{0};

}  // namespace

Command::Command(const std::vector<std::string>& args, const fs::path& scratch,
                 const std::vector<std::string>& extra_environment) {
  const std::string id = std::to_string(g_counter++);
  out_ = scratch / (".out-" + id);
  err_ = scratch / (".err-" + id);
  std::vector<std::string> words = {DRRIK_BINARY};
  words.insert(words.end(), args.begin(), args.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  std::vector<std::string> extra = extra_environment;
  std::vector<char*> environment;
  for (std::string& entry : extra) environment.push_back(entry.data());
  for (char** entry = environ; *entry != nullptr; ++entry) environment.push_back(*entry);
  environment.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, out_.c_str(), O_WRONLY | O_CREAT, 0600);
  posix_spawn_file_actions_addopen(&actions, 2, err_.c_str(), O_WRONLY | O_CREAT, 0600);
  // Output folders default to the working folder.
  posix_spawn_file_actions_addchdir_np(&actions, scratch.c_str());
  if (posix_spawn(&pid_, DRRIK_BINARY, &actions, nullptr, argv.data(), environment.data()) != 0) {
    pid_ = -1;
  }
  posix_spawn_file_actions_destroy(&actions);
}

void Command::signal(int number) const { kill(pid_, number); }

Result Command::wait() {
  Result result;
  int status = 0;
  if (pid_ < 0 || waitpid(pid_, &status, 0) != pid_) return result;
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  result.out = slurp(out_);
  result.err = slurp(err_);
  return result;
}

void CommandTest::SetUp() {
  folder_ = fs::temp_directory_path() /
            ("drrik-cli-" + std::to_string(getpid()) + "-" + std::to_string(g_counter++));
  fs::create_directories(folder_);
  // No test asks the real Hub, or reads what it left on this machine.
  setenv("HF_HUB_OFFLINE", "1", 1);
  setenv("HF_HOME", (folder_ / "no-hub").c_str(), 1);
}

void CommandTest::TearDown() { fs::remove_all(folder_); }

Result CommandTest::run_ok(const std::vector<std::string>& args) const {
  Result result = run(args);
  EXPECT_EQ(result.exit_code, 0) << "drrik " << (args.empty() ? "" : args[0]) << "\n" << result.err;
  return result;
}

void CommandTest::write(const std::string& name, const std::string& text) const {
  std::ofstream(folder_ / name, std::ios::binary) << text;
}

std::string demo_model() { return std::string(DRRIK_ASSETS_DIR) + "/demo/model"; }
std::string demo_text() { return std::string(DRRIK_ASSETS_DIR) + "/demo/text.jsonl"; }

}  // namespace drrik::cli_test
