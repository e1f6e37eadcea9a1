// Curves of a run's metrics.jsonl or train_log.jsonl.

#include <algorithm>
#include <cmath>
#include <map>

#include "drrik/base/error.h"
#include "drrik/viz/dashboard.h"
#include "io/json.h"

namespace drrik {
namespace {

constexpr std::size_t kMaxSeries = 64;

/// Every n-th point, and the last.
void thin(std::vector<double>& values, std::size_t points) {
  if (values.size() <= points) return;
  const std::size_t step = (values.size() + points - 1) / points;
  const double last = values.back();
  std::size_t kept = 0;
  for (std::size_t i = 0; i < values.size(); i += step) values[kept++] = values[i];
  values.resize(kept);
  values.back() = last;
}

}  // namespace

std::vector<TrainingSeries> parse_training_log(std::string_view text, std::string_view what,
                                               std::size_t points) {
  std::vector<TrainingSeries> out;
  std::map<std::string, std::size_t, std::less<>> places;
  std::int64_t number = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t found = text.find('\n', begin);
    const std::size_t end = std::min(found, text.size());
    const std::string_view line = trim(text.substr(begin, end - begin));
    begin = end + 1;
    ++number;
    if (line.empty()) continue;
    const std::string where = str(what, ": line ", number);
    Json row;
    try {
      row = parse_json(line, where, {.max_depth = 16});
    } catch (const Error&) {
      if (found == std::string_view::npos) break;  // being written
      throw;
    }
    expect_object(row, where);
    const bool tracked = row.contains("_step");
    const std::optional<double> step = find_double(row, tracked ? "_step" : "step", where);
    if (!step || !std::isfinite(*step)) continue;
    for (const auto& [name, value] : row.items()) {
      if (name.starts_with('_') || !value.is_number() || (!tracked && name == "step")) continue;
      const double y = value.get<double>();
      if (!std::isfinite(y)) continue;
      auto place = places.find(name);
      if (place == places.end()) {
        if (out.size() == kMaxSeries) continue;
        place = places.emplace(name, out.size()).first;
        out.push_back({name, {}, {}});
      }
      out[place->second].x.push_back(*step);
      out[place->second].y.push_back(y);
    }
  }
  for (TrainingSeries& series : out) {
    thin(series.x, std::max<std::size_t>(points, 1));
    thin(series.y, std::max<std::size_t>(points, 1));
  }
  return out;
}

}  // namespace drrik
