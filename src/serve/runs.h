#pragma once
// Training runs below a folder, as their metrics.jsonl tells: each line is a JSON object with
// "_step", "_runtime", "_timestamp" and numbers by name.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "io/json.h"

namespace drrik {

/// A run is known by a number made of its path, so that no path comes from outside.
struct RunFolder {
  std::string id;    ///< 16 hexadecimal digits.
  std::string path;  ///< Below the folder, "." for itself.
  std::filesystem::path file;
};

/// Runs at most four folders deep, by path, at most 1000. Links to folders are not followed.
std::vector<RunFolder> find_runs(const std::filesystem::path& folder);

/// [{"id", "path", "state": "running" | "finished" | "stalled", "step", "updated"}, …].
/// Finished: its summary stands beside it. Running: written to in the last two minutes.
Json runs_json(const std::filesystem::path& folder);

/// {"rows": […], "next": N}: whole lines from byte `after` on, at most a megabyte of them; `next`
/// is where to go on. A line that is no JSON object is left out. Throws Error(io).
Json run_rows(const RunFolder& run, std::uint64_t after);

}  // namespace drrik
