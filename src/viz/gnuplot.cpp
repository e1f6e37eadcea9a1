#include "viz/gnuplot.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/base/system.h"

extern char** environ;  // NOLINT(readability-redundant-declaration): POSIX leaves it to us

namespace drrik::detail {
namespace {

namespace fs = std::filesystem;

constexpr const char* kHint = "install the Debian package gnuplot-nox";

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (fs::temp_directory_path() / "drrik-figure-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) {
      throw_io(name, ": cannot create a temporary folder: ", std::strerror(errno));
    }
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

class FileActions {
 public:
  FileActions() { ::posix_spawn_file_actions_init(&actions_); }
  ~FileActions() { ::posix_spawn_file_actions_destroy(&actions_); }
  FileActions(const FileActions&) = delete;
  FileActions& operator=(const FileActions&) = delete;
  posix_spawn_file_actions_t* get() { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_;
};

// The child's status, or -1 when it had to be ended after `seconds`.
int wait_for(pid_t child, double seconds) {
  const double deadline = monotonic_seconds() + seconds;
  auto pause = std::chrono::microseconds(500);
  for (;;) {
    int status = 0;
    const pid_t done = ::waitpid(child, &status, WNOHANG);
    if (done == child) return status;
    if (done < 0 && errno != EINTR) return -1;
    if (monotonic_seconds() > deadline) {
      ::kill(child, SIGKILL);
      ::waitpid(child, &status, 0);
      return -1;
    }
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, std::chrono::microseconds(20000));
  }
}

// What gnuplot said, without the script lines it repeats; on one line.
std::string complaint(const fs::path& file) {
  std::ifstream in(file);
  std::string text(4096, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(in.gcount()));
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  }
  const std::size_t at = text.rfind("line ");
  return text.substr(at == std::string::npos ? 0 : at, 300);
}

}  // namespace

std::string run_gnuplot(std::string_view script, const std::string& output_name,
                        double timeout_seconds) {
  const TemporaryFolder folder;
  {
    std::ofstream out(folder.path() / "script.gp", std::ios::binary);
    out.write(script.data(), static_cast<std::streamsize>(script.size()));
    out.close();
    if (!out) throw_io(folder.path().string(), ": cannot write the figure's script; disk full?");
  }
  FileActions actions;
  const std::string errors = (folder.path() / "errors").string();
  ::posix_spawn_file_actions_addopen(actions.get(), STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_addopen(actions.get(), STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  ::posix_spawn_file_actions_addopen(actions.get(), STDERR_FILENO, errors.c_str(),
                                     O_WRONLY | O_CREAT | O_TRUNC, 0600);
  ::posix_spawn_file_actions_addchdir_np(actions.get(), folder.path().c_str());
  std::string words[] = {"gnuplot", "-d", "script.gp"};  // -d: no start-up files
  char* arguments[] = {words[0].data(), words[1].data(), words[2].data(), nullptr};
  pid_t child = -1;
  const int error =
      ::posix_spawnp(&child, words[0].c_str(), actions.get(), nullptr, arguments, environ);
  if (error != 0) {
    throw_io("gnuplot: cannot run it: ", std::strerror(error), "; figures need it: ", kHint);
  }
  const int status = wait_for(child, timeout_seconds);
  if (status == -1) {
    throw_io("gnuplot: no figure after ", timeout_seconds, " seconds; it was ended");
  }
  // 127: the file could not be run after all (posix_spawn on some systems).
  if (WIFEXITED(status) && WEXITSTATUS(status) == 127) {
    throw_io("gnuplot: cannot run it; figures need it: ", kHint);
  }
  const fs::path output = folder.path() / output_name;
  std::error_code ignored;
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || !fs::exists(output, ignored) ||
      fs::file_size(output, ignored) == 0) {
    throw_io("gnuplot: no figure came out (status ", status, "): ", complaint(errors),
             "; is its terminal missing? ", kHint);
  }
  return read_file(output);
}

std::string gnuplot_string(std::string_view text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'') {
      out += "''";
    } else {
      out += c == '\n' || c == '\r' || c == '\0' ? ' ' : c;
    }
  }
  return out + "'";
}

}  // namespace drrik::detail
