#pragma once
// Progress of one long operation: a bar with rate and remaining time on a terminal, a plain line
// every few seconds otherwise, nothing when disabled or the log level is above INFO.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace drrik {

/// Turns every bar off (or back on) for the process. Default on.
void set_progress_enabled(bool enabled);

class Progress {
 public:
  /// label: "Extracting"; total: units of work, or 0 when unknown; unit: "tokens", "steps".
  Progress(std::string label, std::int64_t total, std::string unit);
  ~Progress();  ///< Finishes the line if finish() was not called.
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Adds `amount` units. Cheap enough to call for every batch; thread-safe.
  void advance(std::int64_t amount);
  /// Corrects the total (an estimate that gets better as the work goes on); thread-safe.
  void set_total(std::int64_t total);
  /// Text shown after the numbers ("loss 0.013, L0 41").
  void set_note(std::string note);
  void finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace drrik
