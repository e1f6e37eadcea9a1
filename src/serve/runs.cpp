#include "serve/runs.h"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <fstream>

#include "drrik/base/error.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;

constexpr int kMaxDepth = 4;
constexpr std::size_t kMaxRuns = 1000;
constexpr std::size_t kMaxSeen = 100000;
constexpr std::uint64_t kMaxBytes = std::uint64_t{1} << 20;
constexpr std::chrono::minutes kRunning{2};

std::string id_of(const std::string& path) {
  std::uint64_t hash = 0xCBF29CE484222325U;  // FNV-1a
  for (const char c : path) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3U;
  std::string out;
  for (int shift = 60; shift >= 0; shift -= 4) {
    out += "0123456789abcdef"[(hash >> static_cast<unsigned>(shift)) & 15U];
  }
  return out;
}

std::string read_part(const fs::path& path, std::uint64_t begin, std::uint64_t bytes) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw_io("'", path.string(), "' cannot be read");
  file.seekg(static_cast<std::streamoff>(begin));
  std::string out(static_cast<std::size_t>(bytes), '\0');
  file.read(out.data(), static_cast<std::streamsize>(out.size()));
  out.resize(static_cast<std::size_t>(std::max<std::streamsize>(file.gcount(), 0)));
  return out;
}

Json parse_line(std::string_view line) {
  try {
    Json json = parse_json(line, "line", {.max_depth = 16});
    return json.is_object() ? json : Json();
  } catch (const Error&) {
    return {};
  }
}

// The last whole line's step.
std::int64_t last_step(const fs::path& file, std::uint64_t size) {
  const std::uint64_t begin = size > 65536 ? size - 65536 : 0;
  std::string tail = read_part(file, begin, size - begin);
  while (!tail.empty()) {
    const std::size_t end = tail.rfind('\n');
    if (end == std::string::npos) break;
    const std::size_t start = end == 0 ? std::string::npos : tail.rfind('\n', end - 1);
    const std::size_t from = start == std::string::npos ? 0 : start + 1;
    const Json json = parse_line(std::string_view(tail).substr(from, end - from));
    if (json.is_object() && json.contains("_step") && json["_step"].is_number()) {
      return json["_step"].get<std::int64_t>();
    }
    tail.resize(from);
  }
  return 0;
}

std::string utc(std::chrono::system_clock::time_point time) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(time);
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

}  // namespace

std::vector<RunFolder> find_runs(const fs::path& folder) {
  std::vector<RunFolder> out;
  std::error_code error;
  const auto look = [&](const fs::path& here) {
    const fs::path file = here / "metrics.jsonl";
    std::error_code none;
    if (!fs::is_regular_file(file, none)) return;
    const std::string path = here.lexically_relative(folder).generic_string();
    out.push_back({id_of(path), path, file});
  };
  look(folder);
  fs::recursive_directory_iterator walk(folder, fs::directory_options::skip_permission_denied,
                                        error);
  std::size_t seen = 0;
  for (; !error && walk != fs::recursive_directory_iterator(); walk.increment(error)) {
    if (++seen > kMaxSeen || out.size() >= kMaxRuns) break;
    std::error_code none;
    if (!walk->is_directory(none) || walk->is_symlink(none)) continue;
    if (walk.depth() + 1 >= kMaxDepth) walk.disable_recursion_pending();
    look(walk->path());
  }
  std::sort(out.begin(), out.end(),
            [](const RunFolder& a, const RunFolder& b) { return a.path < b.path; });
  return out;
}

Json runs_json(const fs::path& folder) {
  Json out = Json::array();
  for (const RunFolder& run : find_runs(folder)) {
    std::error_code error;
    const std::uint64_t size = fs::file_size(run.file, error);
    if (error) continue;
    const auto written = fs::last_write_time(run.file, error);
    if (error) continue;
    const auto age = fs::file_time_type::clock::now() - written;
    const bool summary = fs::exists(run.file.parent_path() / "summary.json", error);
    const auto when = std::chrono::system_clock::now() -
                      std::chrono::duration_cast<std::chrono::system_clock::duration>(age);
    std::int64_t step = 0;
    try {
      step = last_step(run.file, size);
    } catch (const Error&) {
      continue;  // it went away meanwhile
    }
    out.push_back({{"id", run.id},
                   {"path", run.path},
                   {"state", summary          ? "finished"
                             : age < kRunning ? "running"
                                              : "stalled"},
                   {"step", step},
                   {"updated", utc(when)}});
  }
  return out;
}

Json run_rows(const RunFolder& run, std::uint64_t after) {
  std::error_code error;
  const std::uint64_t size = fs::file_size(run.file, error);
  if (error) throw_io("'", run.path, "' cannot be read");
  Json out = {{"rows", Json::array()}, {"next", after}};
  if (after >= size) {
    out["next"] = size;  // also of a file that begins anew
    return out;
  }
  const std::string part = read_part(run.file, after, std::min(kMaxBytes, size - after));
  std::size_t begin = 0;
  for (std::size_t end = 0; (end = part.find('\n', begin)) != std::string::npos; begin = end + 1) {
    Json row = parse_line(std::string_view(part).substr(begin, end - begin));
    if (row.is_object()) out["rows"].push_back(std::move(row));
  }
  if (begin == 0 && part.size() == kMaxBytes) begin = part.size();  // no line is that long
  out["next"] = after + begin;
  return out;
}

}  // namespace drrik
