#include "drrik/base/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <mutex>

#include "drrik/base/log.h"
#include "drrik/base/system.h"

namespace drrik {
namespace {

std::atomic<bool> g_enabled{true};

constexpr double kTerminalInterval = 0.1;  // seconds between redraws
constexpr double kLineInterval = 10.0;     // seconds between plain lines

std::string human(double value) {
  char text[32];
  if (value >= 1e9) {
    std::snprintf(text, sizeof text, "%.2fG", value / 1e9);
  } else if (value >= 1e6) {
    std::snprintf(text, sizeof text, "%.2fM", value / 1e6);
  } else if (value >= 1e4) {
    std::snprintf(text, sizeof text, "%.1fk", value / 1e3);
  } else if (value >= 100 || value == static_cast<double>(static_cast<std::int64_t>(value))) {
    std::snprintf(text, sizeof text, "%.0f", value);
  } else {
    std::snprintf(text, sizeof text, "%.1f", value);
  }
  return text;
}

std::string duration(double seconds) {
  const auto total = std::llround(std::min(seconds, 8.64e7));
  char text[32];
  if (total >= 3600) {
    std::snprintf(text, sizeof text, "%ld:%02ld:%02ld", static_cast<long>(total / 3600),
                  static_cast<long>(total / 60 % 60), static_cast<long>(total % 60));
  } else {
    std::snprintf(text, sizeof text, "%ld:%02ld", static_cast<long>(total / 60),
                  static_cast<long>(total % 60));
  }
  return text;
}

// Bytes up to the point where `columns` code points are shown.
std::size_t prefix_for_columns(const std::string& text, std::size_t columns) {
  std::size_t shown = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool starts = (static_cast<unsigned char>(text[i]) & 0xC0U) != 0x80U;
    if (starts && shown++ == columns) return i;
  }
  return text.size();
}

}  // namespace

void set_progress_enabled(bool enabled) { g_enabled = enabled; }

struct Progress::Impl {
  std::string label;
  std::int64_t total;
  std::string unit;
  std::string note;
  std::int64_t done = 0;
  double start = monotonic_seconds();
  double last_shown = 0;
  bool active = g_enabled && log_level() <= LogLevel::kInfo;
  bool terminal = isatty(STDERR_FILENO) != 0;
  bool finished = false;
  bool drawn = false;
  std::mutex mutex;

  std::string line(double now) const {
    const double elapsed = std::max(now - start, 1e-9);
    const double rate = static_cast<double>(done) / elapsed;
    std::string text = label + " ";
    if (total > 0) {
      const double fraction = std::min(1.0, static_cast<double>(done) / static_cast<double>(total));
      if (terminal) {
        constexpr int kWidth = 24;
        const int full = static_cast<int>(fraction * kWidth);
        for (int i = 0; i < kWidth; ++i) text += i < full ? "█" : "░";
      }
      char percent[16];
      std::snprintf(percent, sizeof percent, " %3d%% ", static_cast<int>(fraction * 100));
      text += percent;
      text += human(static_cast<double>(done)) + "/" + human(static_cast<double>(total));
    } else {
      text += human(static_cast<double>(done));
    }
    text += " " + unit + ", " + human(rate) + "/s, " + duration(elapsed);
    if (total > done && rate > 0 && !finished) {
      text += ", " + duration(static_cast<double>(total - done) / rate) + " left";
    }
    if (!note.empty()) text += "  " + note;
    return text;
  }

  void show(double now) {
    last_shown = now;
    std::string text = line(now);
    if (terminal) {
      winsize size{};
      const std::size_t columns =
          ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
      text.resize(prefix_for_columns(text, columns - 1));
      std::fprintf(stderr, "\r\x1b[K%s%s", text.c_str(), finished ? "\n" : "");
    } else {
      std::fprintf(stderr, "%s\n", text.c_str());
    }
    std::fflush(stderr);
    drawn = true;
  }
};

Progress::Progress(std::string label, std::int64_t total, std::string unit)
    : impl_(std::make_unique<Impl>()) {
  impl_->label = std::move(label);
  impl_->total = total;
  impl_->unit = std::move(unit);
  impl_->last_shown = impl_->start;
}

Progress::~Progress() { finish(); }

void Progress::advance(std::int64_t amount) {
  const std::lock_guard lock(impl_->mutex);
  impl_->done += amount;
  if (!impl_->active || impl_->finished) return;
  const double now = monotonic_seconds();
  const double interval = impl_->terminal ? kTerminalInterval : kLineInterval;
  if (now - impl_->last_shown >= interval) impl_->show(now);
}

void Progress::set_total(std::int64_t total) {
  const std::lock_guard lock(impl_->mutex);
  impl_->total = total;
}

void Progress::set_note(std::string note) {
  const std::lock_guard lock(impl_->mutex);
  impl_->note = std::move(note);
}

void Progress::finish() {
  const std::lock_guard lock(impl_->mutex);
  if (impl_->finished) return;
  impl_->finished = true;
  if (impl_->active && (impl_->drawn || impl_->done > 0)) impl_->show(monotonic_seconds());
}

}  // namespace drrik
