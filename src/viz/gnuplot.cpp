#include "viz/gnuplot.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utf8proc.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/base/log.h"
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

constexpr int kEnded = -1;
constexpr int kNotFound = 127;

// Runs a program (found in PATH) in `folder`; its output goes to the files "output" and "errors"
// there. Returns its exit status, 128 + the signal that ended it, kEnded or kNotFound.
int run_child(std::vector<std::string> words, const fs::path& folder, double seconds) {
  FileActions actions;
  const std::string output = (folder / "output").string();
  const std::string errors = (folder / "errors").string();
  constexpr int kWrite = O_WRONLY | O_CREAT | O_TRUNC;
  ::posix_spawn_file_actions_addopen(actions.get(), STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_addopen(actions.get(), STDOUT_FILENO, output.c_str(), kWrite, 0600);
  ::posix_spawn_file_actions_addopen(actions.get(), STDERR_FILENO, errors.c_str(), kWrite, 0600);
  ::posix_spawn_file_actions_addchdir_np(actions.get(), folder.c_str());
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  pid_t child = -1;
  const int error =
      ::posix_spawnp(&child, arguments[0], actions.get(), nullptr, arguments.data(), environ);
  if (error == ENOENT || error == EACCES) return kNotFound;
  if (error != 0) throw_io(words[0], ": cannot run it: ", std::strerror(error));
  const int status = wait_for(child, seconds);
  if (status == -1) return kEnded;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
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
  // -d: no start-up files of the user.
  const int status = run_child({"gnuplot", "-d", "script.gp"}, folder.path(), timeout_seconds);
  if (status == kEnded) {
    throw_io("gnuplot: no figure after ", timeout_seconds, " seconds; it was ended");
  }
  if (status == kNotFound) throw_io("gnuplot: not found; figures need it: ", kHint);
  const fs::path output = folder.path() / output_name;
  std::error_code ignored;
  if (status != 0 || !fs::exists(output, ignored) || fs::file_size(output, ignored) == 0) {
    throw_io("gnuplot: no figure came out (status ", status,
             "): ", complaint(folder.path() / "errors"), "; is its terminal missing? ", kHint);
  }
  return read_file(output);
}

std::string gnuplot_string(std::string_view text) {
  // Double quotes with everything that could mean something as an octal escape, which gnuplot
  // resolves after all its substitutions. (Its single-quoted strings cannot hold a quote at the
  // start, or two in a row, whatever the manual says of doubling them.)
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                       c == ' ' || c == '.' || c == ',' || c == '-' || c == '(' || c == ')' ||
                       byte >= 0x80;
    if (plain) {
      out += c;
    } else if (byte < 0x20 || byte == 0x7F) {
      out += ' ';
    } else {
      // Of an escape that starts with 0 up to four digits are read, else up to three: "\044" would
      // take in a digit after it.
      out += byte < 0x40 ? "\\0" : "\\";
      out += static_cast<char>('0' + (byte >> 6U));
      out += static_cast<char>('0' + (byte >> 3U & 7U));
      out += static_cast<char>('0' + (byte & 7U));
    }
  }
  return out + '"';
}

std::vector<std::pair<std::int32_t, std::int32_t>> parse_font_list(std::string_view lines) {
  std::vector<std::pair<std::int32_t, std::int32_t>> ranges;
  while (!lines.empty()) {
    std::string_view line = lines.substr(0, lines.find('\n'));
    lines.remove_prefix(std::min(line.size() + 1, lines.size()));
    const std::size_t first = line.find('|');
    const std::size_t second = line.find('|', first + 1);
    if (first == std::string_view::npos || second == std::string_view::npos) continue;
    const std::string_view format = line.substr(0, first);
    const std::string_view color = line.substr(first + 1, second - first - 1);
    if ((format != "TrueType" && format != "CFF") || color == "True") continue;
    line.remove_prefix(second + 1);
    while (!line.empty()) {
      const std::string_view range = line.substr(0, line.find(' '));
      line.remove_prefix(std::min(range.size() + 1, line.size()));
      std::int32_t low = 0;
      auto end = std::from_chars(range.data(), range.data() + range.size(), low, 16);
      if (end.ec != std::errc()) continue;
      std::int32_t high = low;
      if (end.ptr != range.data() + range.size() && *end.ptr == '-') {
        std::from_chars(end.ptr + 1, range.data() + range.size(), high, 16);
      }
      if (high >= low) ranges.emplace_back(low, high);
    }
  }
  std::sort(ranges.begin(), ranges.end());
  std::vector<std::pair<std::int32_t, std::int32_t>> merged;
  for (const auto& range : ranges) {
    if (!merged.empty() && range.first <= merged.back().second + 1) {
      merged.back().second = std::max(merged.back().second, range.second);
    } else {
      merged.push_back(range);
    }
  }
  return merged;
}

const std::vector<std::pair<std::int32_t, std::int32_t>>& drawable_characters() {
  static const auto ranges = [] {
    // Latin, Greek, Cyrillic, punctuation, superscripts, the arrow for line ends, the box.
    const std::vector<std::pair<std::int32_t, std::int32_t>> least = {
        {0x20, 0x7E},     {0xA0, 0x377},    {0x37A, 0x37E},   {0x384, 0x38A},   {0x38E, 0x3A1},
        {0x3A3, 0x525},   {0x2010, 0x2027}, {0x2070, 0x2070}, {0x2074, 0x208E}, {0x21B5, 0x21B5},
        {0x2212, 0x2212}, {0x25A1, 0x25A1}, {0xFFFD, 0xFFFD}};
    try {
      const TemporaryFolder folder;
      const int status = run_child(
          {"fc-list", "--format", "%{fontformat}|%{color}|%{charset}\n", ":"}, folder.path(), 30);
      if (status == 0) {
        auto found = parse_font_list(read_file(folder.path() / "output", std::uint64_t{64} << 20U));
        if (!found.empty()) return found;
      }
    } catch (const Error& error) {
      log_debug("fonts are not known: ", error.what());
    }
    return least;
  }();
  return ranges;
}

std::string drawable_text(std::string_view text) {
  // Nearly all texts are plain, and need not wait for the list of fonts.
  if (std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c < 0x7F; })) {
    return std::string(text);
  }
  const auto& ranges = drawable_characters();
  std::string out;
  while (!text.empty()) {
    utf8proc_int32_t code = -1;
    const auto used = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                       static_cast<utf8proc_ssize_t>(text.size()), &code);
    const std::string_view bytes = text.substr(0, used > 0 ? static_cast<std::size_t>(used) : 1);
    text.remove_prefix(bytes.size());
    auto after = std::upper_bound(ranges.begin(), ranges.end(),
                                  std::pair<std::int32_t, std::int32_t>(code, INT32_MAX));
    // Of the direction controls only these are put in, and pango draws nothing for them.
    const bool isolate = code == 0x2068 || code == 0x2069;
    const bool known =
        isolate || (used > 0 && after != ranges.begin() && code <= std::prev(after)->second);
    if (known) {
      out += bytes;
    } else if (used <= 0 || utf8proc_charwidth(code) > 0) {
      out += "\u25A1";
    }
  }
  return out;
}

}  // namespace drrik::detail
