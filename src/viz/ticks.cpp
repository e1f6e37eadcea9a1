#include "viz/ticks.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace drrik::detail {
namespace {

std::string superscript(int value) {
  static const char* const digits[] = {"\u2070", "\u00B9", "\u00B2", "\u00B3", "\u2074",
                                       "\u2075", "\u2076", "\u2077", "\u2078", "\u2079"};
  std::string out;
  for (const char c : std::to_string(value)) {
    out += c == '-' ? "\u207B" : digits[c - '0'];
  }
  return out;
}

std::string print(const char* format, double value) {
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, format, value);
  return buffer;
}

// 1, 2 or 5 times a power of ten, at least `step`.
double round_step(double step) {
  const double power = std::pow(10.0, std::floor(std::log10(step)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= step * (1 - 1e-9)) return factor * power;
  }
  return 10.0 * power;
}

std::string tick_label(double value, double step) {
  const double size = std::abs(value);
  if (size < step * 1e-6) return "0";
  if (size >= 1e6 || size < 1e-3) return print("%.6g", value);
  const int decimals = std::max(0, static_cast<int>(std::ceil(-std::log10(step) - 1e-9)));
  std::string text;
  if (decimals == 0 && size >= 1000) {
    text = with_commas(std::llround(size));
  } else {
    text = print(("%." + std::to_string(std::min(decimals, 9)) + "f").c_str(), size);
  }
  return value < 0 ? "\u2212" + text : text;
}

std::vector<Tick> ticks_by(double low, double high, double step) {
  std::vector<Tick> ticks;
  for (double i = std::ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i += 1.0) {
    ticks.push_back({i * step, tick_label(i * step, step)});
    if (ticks.size() > 50) break;
  }
  return ticks;
}

}  // namespace

double round_below(double value) {
  const double power = std::pow(10.0, std::floor(std::log10(value)));
  for (const double factor : {5.0, 2.0}) {
    if (factor * power <= value) return factor * power;
  }
  return power;
}

std::vector<Tick> linear_ticks(double low, double high, int count) {
  if (!(high > low) || !std::isfinite(high - low)) return {};
  return ticks_by(low, high, round_step((high - low) / std::max(count, 1)));
}

std::vector<Tick> integer_ticks(double low, double high, int count) {
  if (!(high > low) || !std::isfinite(high - low)) return {};
  return ticks_by(low, high, std::max(1.0, round_step((high - low) / std::max(count, 1))));
}

std::vector<Tick> log_ticks(double low, double high, int count) {
  std::vector<Tick> ticks;
  const int first = static_cast<int>(std::ceil(std::log10(low) - 1e-9));
  const int last = static_cast<int>(std::floor(std::log10(high) + 1e-9));
  const int step = std::max(1, (last - first + count) / std::max(count, 1));
  for (int e = first; e <= last; ++e) {
    if ((e - last) % step != 0) continue;
    std::string label = "10" + superscript(e);
    if (e >= -2 && e <= 0) label = print("%g", std::pow(10.0, e));
    if (e > 0 && e <= 3) label = with_commas(std::llround(std::pow(10.0, e)));
    ticks.push_back({std::pow(10.0, e), label});
  }
  return ticks;
}

std::string with_commas(std::int64_t value) {
  std::string digits = std::to_string(value);
  for (std::size_t at = digits.size(); at > (value < 0 ? 4U : 3U); at -= 3) {
    digits.insert(at - 3, ",");
  }
  return digits;
}

std::string short_number(double value) {
  if (!std::isfinite(value))
    return std::isnan(value) ? "n/a" : (value > 0 ? "\u221E" : "\u2212\u221E");
  const double size = std::abs(value);
  std::string text;
  if (size == 0) {
    text = "0";
  } else if (size >= 1e6 || size < 1e-3) {
    text = print("%.2e", size);
  } else if (size >= 100) {
    text = with_commas(std::llround(size));
  } else {
    // Three digits kept: "4.50". Rounded first, so that 0.9999 is "1.00".
    const double rounded = std::strtod(print("%.2e", size).c_str(), nullptr);
    const int decimals = 2 - static_cast<int>(std::floor(std::log10(rounded) + 1e-12));
    text = rounded >= 100 ? "100" : print(("%." + std::to_string(decimals) + "f").c_str(), size);
  }
  return value < 0 ? "\u2212" + text : text;
}

std::string percent(double fraction) {
  const double value = 100.0 * fraction;
  if (value == 0) return "0 %";
  if (value >= 99.995) return "100 %";
  if (value >= 10) return print("%.1f", value) + " %";
  if (value >= 0.01) return print("%.2f", value) + " %";
  return print("%.2g", value) + " %";
}

std::string counted(std::int64_t count, const std::string& noun) {
  return with_commas(count) + " " + noun + (count == 1 ? "" : "s");
}

}  // namespace drrik::detail
