#include "data/column_path.h"

#include <charconv>

namespace drrik {
namespace {

constexpr std::size_t kMaxSteps = 32;

}  // namespace

std::optional<ColumnPath> parse_column_path(std::string_view text) {
  ColumnPath path;
  std::size_t at = 0;
  for (bool wants_name = true; at < text.size() || wants_name;) {
    if (path.size() == kMaxSteps) return std::nullopt;
    ColumnStep step;
    if (wants_name) {
      const std::size_t end = std::min(text.find_first_of(".[", at), text.size());
      if (end == at) return std::nullopt;
      step.name = text.substr(at, end - at);
      at = end;
      wants_name = false;
    } else if (text[at] == '.') {
      ++at;
      wants_name = true;
      continue;
    } else if (text[at] == '[') {
      const std::size_t close = text.find(']', at);
      if (close == std::string_view::npos) return std::nullopt;
      const std::string_view inside = text.substr(at + 1, close - at - 1);
      step.kind = inside.empty() ? ColumnStep::Kind::kAll : ColumnStep::Kind::kAt;
      if (!inside.empty()) {
        const char* end = inside.data() + inside.size();
        const auto parsed = std::from_chars(inside.data(), end, step.index);
        if (parsed.ec != std::errc() || parsed.ptr != end) return std::nullopt;
      }
      at = close + 1;
    } else {
      return std::nullopt;  // Text after a bracket.
    }
    path.push_back(std::move(step));
  }
  return path;
}

}  // namespace drrik
