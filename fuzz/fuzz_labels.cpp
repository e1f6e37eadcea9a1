// Labels of features, explanations from elsewhere, curves of a training log, and gzip around them.
// The first byte chooses.

#include <cmath>
#include <cstdlib>

#include "drrik/base/error.h"
#include "drrik/base/utf8.h"
#include "drrik/viz/dashboard.h"
#include "drrik/viz/labels.h"
#include "viz/gzip.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    if ((data[0] & 2U) != 0) text = drrik::detail::gunzip(text, 1 << 20);
    if ((data[0] & 1U) != 0) {
      for (const auto& series : drrik::parse_training_log(text, "fuzz", 10)) {
        if (series.x.size() != series.y.size() || series.x.size() > 10) std::abort();
        for (const double y : series.y) {
          if (!std::isfinite(y)) std::abort();
        }
      }
    } else {
      const drrik::FeatureLabels labels = drrik::parse_labels(text, "fuzz");
      for (const auto& [feature, label] : labels) {
        if (feature < 0 || !drrik::is_valid_utf8(label)) std::abort();
      }
      if (drrik::parse_labels(drrik::labels_text(labels), "again") != labels) std::abort();
    }
  } catch (const drrik::Error& error) {
    if (error.kind() != drrik::ErrorKind::kData) std::abort();
  }
  return 0;
}
