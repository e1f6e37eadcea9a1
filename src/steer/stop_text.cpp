#include "steer/stop_text.h"

#include <algorithm>
#include <utility>

#include "drrik/base/error.h"

namespace drrik {

StopText::StopText(std::vector<std::string> strings) : strings_(std::move(strings)) {
  for (const std::string& one : strings_) {
    if (one.empty()) throw_usage("a stop sequence is empty; it would stop everything");
  }
}

std::string StopText::push(std::string_view piece) {
  if (!met_.empty()) return {};
  held_ += piece;
  std::size_t first = std::string::npos;
  for (const std::string& one : strings_) {
    const std::size_t found = held_.find(one);
    if (found == std::string::npos || found > first) continue;
    if (found == first && one.size() <= met_.size()) continue;
    first = found;
    met_ = one;
  }
  if (!met_.empty()) {
    std::string out = held_.substr(0, first);
    held_.clear();
    return out;
  }
  // The longest end of the text that one of them begins with.
  std::size_t keep = 0;
  for (const std::string& one : strings_) {
    for (std::size_t n = std::min(one.size() - 1, held_.size()); n > keep; --n) {
      if (held_.compare(held_.size() - n, n, one, 0, n) == 0) keep = n;
    }
  }
  std::string out = held_.substr(0, held_.size() - keep);
  held_.erase(0, out.size());
  return out;
}

std::string StopText::finish() { return std::exchange(held_, {}); }

}  // namespace drrik
