#pragma once
// The labels that people gave to features, kept in labels.json (docs/formats/dashboard.md).

#include <cstdint>
#include <filesystem>
#include <mutex>
#include <string>

#include "drrik/viz/labels.h"
#include "io/json.h"

namespace drrik {

/// All methods may be called from any thread.
class LabelStore {
 public:
  /// Reads the file where there is one; an empty path keeps nothing. Throws Error(data), Error(io).
  explicit LabelStore(std::filesystem::path file);

  bool keeps() const { return !file_.empty(); }
  /// {"12": "dogs"}.
  Json json() const;
  /// Sets one ("" takes it away) and writes the file. Throws Error(io); nothing is changed then.
  void set(std::int64_t feature, const std::string& label);

 private:
  std::filesystem::path file_;
  mutable std::mutex mutex_;
  FeatureLabels labels_;
};

}  // namespace drrik
