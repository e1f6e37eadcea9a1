#pragma once
// When a run writes its checkpoint, and what it says when that fails.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/base/log.h"
#include "drrik/base/system.h"

namespace drrik {

/// Of one run. `write` writes the checkpoint of the run as it stands and throws Error(io).
class CheckpointKeeper {
 public:
  CheckpointKeeper(std::filesystem::path path, double minutes, std::function<void()> write)
      : path_(std::move(path)), minutes_(minutes), write_(std::move(write)) {}

  /// Makes the folder now, so that a place that takes no checkpoint is told before any work; then
  /// whether there is a checkpoint to go on from, where `resume` asks for it (told in the log
  /// unless quiet). Throws Error(io).
  bool begin(bool resume, bool quiet = false) {
    if (path_.has_parent_path()) create_folders(path_.parent_path());
    if (!resume || path_.empty()) return false;
    std::error_code error;
    const bool present = std::filesystem::exists(path_, error);
    // Starting anew would overwrite what may well be there.
    if (error) throw_io("'", path_.string(), "': ", error.message());
    if (!present && !quiet) log_info("nothing to resume at ", path_.string(), "; starting anew");
    return present;
  }
  /// The run goes on from a checkpoint of this step.
  void resumed(std::int64_t step) { saved_step_ = step; }
  void start_clock() { tried_ = monotonic_seconds(); }
  bool due() const { return minutes_ > 0 && monotonic_seconds() - tried_ > 60 * minutes_; }

  /// A full disk is no reason to lose a training whose weights may still fit: an Error(io) is
  /// logged, and the checkpoint before stays.
  void try_save(std::int64_t step) {
    try {
      save(step);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::kIo) throw;
      log_error("the checkpoint of step ", step, " is not written: ", error.what(),
                "; training goes on", what_is_saved());
    }
    start_clock();
  }

  /// Saves because the run stops. Throws Error(io) saying what is lost when that fails.
  void save_at_stop(std::int64_t step) {
    try {
      save(step);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::kIo) throw;
      throw_io(stopped_at(step), " and its checkpoint cannot be written: ", error.what(),
               saved_step_ < 0 ? "; nothing of this training was saved" : what_is_saved(),
               saved_step_ < 0 ? "; free space, then train again" : "; free space, then resume");
    }
  }
  static std::string stopped_at(std::int64_t step) {
    return str("training was interrupted at step ", step);
  }

  /// "; the last checkpoint, ..." when this run has one.
  std::string what_is_saved() const {
    if (saved_step_ < 0) return "";
    return str("; the last checkpoint, ", path_.string(), ", of step ", saved_step_, ", stays");
  }

 private:
  void save(std::int64_t step) {
    if (path_.empty()) return;
    write_();
    saved_step_ = step;
  }

  std::filesystem::path path_;
  double minutes_;
  std::function<void()> write_;
  double tried_ = 0.0;
  std::int64_t saved_step_ = -1;  // of the checkpoint on disk; -1: none of this run
};

}  // namespace drrik
