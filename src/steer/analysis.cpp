#include <charconv>
#include <cmath>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/base/system.h"
#include "drrik/steer/steering.h"

namespace drrik {
namespace {

constexpr std::size_t kMaxLabelBytes = 100;

std::string file_part(const std::string& label) {
  std::string out;
  for (const char c : label.substr(0, kMaxLabelBytes)) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '_' || c == '.';
    out += plain ? c : '_';
  }
  return out;
}

}  // namespace

std::string strength_label(double strength) {
  if (strength == 0.0) return "baseline";
  char digits[64];
  // Python's repr: the shortest digits that read back, fixed between 1e-4 and 1e16.
  const double size = std::fabs(strength);
  const auto format =
      size >= 1e-4 && size < 1e16 ? std::chars_format::fixed : std::chars_format::scientific;
  const auto end = std::to_chars(digits, digits + sizeof digits, strength, format).ptr;
  std::string text(digits, end);
  if (text.find_first_not_of("-0123456789") == std::string::npos) text += ".0";
  return "strength_" + text;
}

std::filesystem::path save_steering_analysis(const SteeringResults& results,
                                             const std::filesystem::path& output_dir,
                                             const std::string& prompt,
                                             const std::string& feature_label) {
  create_folders(output_dir);
  const std::string label = file_part(feature_label);
  const std::string stem =
      str("steering_analysis", label.empty() ? "" : "_", label, "_", local_time("%Y%m%d_%H%M%S"));
  std::filesystem::path path = output_dir / (stem + ".txt");
  for (int n = 2; std::filesystem::exists(path); ++n) {
    path = output_dir / str(stem, "_", n, ".txt");
  }
  std::string text = "Steering analysis\n=================\n";
  if (!feature_label.empty()) text += str("Feature: ", feature_label, "\n");
  text += str("Time: ", local_time("%Y-%m-%d %H:%M:%S"), "\nPrompt: ", prompt, "\n");
  for (const auto& [name, generated] : results) {
    text += str("\n--- ", name, " ---\n", generated, "\n");
  }
  write_file_atomic(path, text);
  return path;
}

}  // namespace drrik
