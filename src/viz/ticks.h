#pragma once
// Numbers for people: ticks and their labels.

#include <cstdint>
#include <string>
#include <vector>

namespace drrik::detail {

struct Tick {
  double at = 0.0;
  std::string label;
};

/// The largest of 1, 2 and 5 times a power of ten that is at most `value` > 0: over 2/5 of it.
double round_below(double value);
/// About `count` round numbers over [low, high].
std::vector<Tick> linear_ticks(double low, double high, int count);
/// The same, whole numbers only.
std::vector<Tick> integer_ticks(double low, double high, int count);
/// Powers of ten within [low, high] (thinned to about `count`), labelled 10⁻³ below 0.01 and above
/// 9999.
std::vector<Tick> log_ticks(double low, double high, int count);

/// "1,234,567".
std::string with_commas(std::int64_t value);
/// Three significant digits: "0.0123", "4.57", "1230", "1.2e+09".
std::string short_number(double value);
/// "0.42 %", "12.3 %", "100 %".
std::string percent(double fraction);
/// "1 row", "2,000 rows".
std::string counted(std::int64_t count, const std::string& noun);

}  // namespace drrik::detail
