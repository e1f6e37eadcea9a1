// Which column holds the text.

#include <algorithm>

#include "data/row_reader.h"
#include "drrik/base/error.h"

namespace drrik {
namespace {

constexpr std::size_t kMaxNamed = 40;

std::string described(const std::vector<DatasetColumn>& columns) {
  if (columns.empty()) return "none";
  std::vector<std::string> parts;
  for (const DatasetColumn& column : columns) {
    if (parts.size() == kMaxNamed) {
      parts.push_back(str("... (", columns.size() - kMaxNamed, " more)"));
      break;
    }
    parts.push_back(str(column.name, " (", column.type, ")"));
  }
  return join(parts);
}

ColumnPath top(const std::string& name) { return {{ColumnStep::Kind::kMember, name, 0}}; }

}  // namespace

ColumnPath choose_column(const std::string& wanted, const std::vector<DatasetColumn>& columns) {
  const auto has = [&](const std::string& name) {
    return std::any_of(columns.begin(), columns.end(),
                       [&](const DatasetColumn& c) { return !c.nested && c.name == name; });
  };
  const std::string name = wanted.empty() ? "text" : wanted;
  if (has(name)) return top(name);
  if (!wanted.empty()) {
    const auto path = parse_column_path(wanted);
    if (path && path->size() > 1 && has(path->front().name)) return *path;
  }
  if (wanted.empty()) {
    const auto string = [](const DatasetColumn& c) { return !c.nested && c.string; };
    if (std::count_if(columns.begin(), columns.end(), string) == 1) {
      return top(std::find_if(columns.begin(), columns.end(), string)->name);
    }
  }
  std::vector<std::string> names;
  for (const DatasetColumn& column : columns) names.push_back(column.name);
  throw_data("no column '", name, "'; there are: ", described(columns), did_you_mean(name, names),
             wanted.empty() ? "; name the one that holds the text (--text-column)" : "");
}

}  // namespace drrik
