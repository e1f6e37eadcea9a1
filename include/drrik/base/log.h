#pragma once
// Logging to standard error. Thread-safe. A library user may silence it or set a sink.

#include <functional>
#include <string>
#include <string_view>

#include "drrik/base/error.h"

namespace drrik {

enum class LogLevel { kDebug, kInfo, kWarning, kError, kCritical, kOff };

/// Messages below `level` are dropped. Default: kInfo.
void set_log_level(LogLevel level);
LogLevel log_level();
/// DEBUG, INFO, WARNING, ERROR, CRITICAL in any case; throws Error(usage) otherwise.
LogLevel parse_log_level(std::string_view name);

/// Replaces standard error as the destination; pass nullptr to go back. The sink must not log.
void set_log_sink(std::function<void(LogLevel, std::string_view)> sink);

void log_message(LogLevel level, std::string_view message);

template <typename... Args>
void log_debug(const Args&... args) {
  if (log_level() <= LogLevel::kDebug) log_message(LogLevel::kDebug, str(args...));
}
template <typename... Args>
void log_info(const Args&... args) {
  if (log_level() <= LogLevel::kInfo) log_message(LogLevel::kInfo, str(args...));
}
template <typename... Args>
void log_warning(const Args&... args) {
  if (log_level() <= LogLevel::kWarning) log_message(LogLevel::kWarning, str(args...));
}
template <typename... Args>
void log_error(const Args&... args) {
  if (log_level() <= LogLevel::kError) log_message(LogLevel::kError, str(args...));
}

}  // namespace drrik
