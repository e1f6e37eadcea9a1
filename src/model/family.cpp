#include "model/family.h"

#include <array>
#include <cmath>

namespace drrik::detail {

extern const Family kGpt2Family;
extern const Family kGptNeoXFamily;
extern const Family kLlamaFamily;

std::span<const Family* const> families() {
  static const std::array<const Family*, 3> table = {&kGpt2Family, &kGptNeoXFamily, &kLlamaFamily};
  return table;
}

const Family& get_family(std::string_view name) {
  std::vector<std::string> names;
  for (const Family* family : families()) {
    if (family->name == name) return *family;
    names.emplace_back(family->name);
  }
  throw_data("model family '", name, "' is not supported; supported: ", join(names),
             did_you_mean(name, names));
}

std::int64_t get_size(const Json& json, std::string_view key, std::string_view what,
                      std::int64_t limit) {
  const std::int64_t value = get_int(json, key, what);
  if (value < 1 || value > limit) {
    throw_data(what, ": '", key, "' is ", value, ", wanted 1 to ", limit);
  }
  return value;
}

std::int64_t get_size(const Json& json, std::string_view key, std::string_view what,
                      std::int64_t limit, std::int64_t fallback) {
  return find_member(json, key, what) ? get_size(json, key, what, limit) : fallback;
}

double get_positive(const Json& json, std::string_view key, std::string_view what,
                    double fallback) {
  const double value = get_double(json, key, what, fallback);
  if (!(value > 0.0) || !std::isfinite(value)) {
    throw_data(what, ": '", key, "' is ", value, ", wanted a positive number");
  }
  return value;
}

Activation get_activation(const Json& json, std::string_view key, std::string_view what,
                          std::string_view fallback) {
  const std::string name = get_string(json, key, what, fallback);
  const auto found = find_activation(name);
  if (!found) {
    std::vector<std::string> known;
    for (int i = 0; i <= static_cast<int>(Activation::kReluSquared); ++i) {
      known.emplace_back(activation_name(static_cast<Activation>(i)));
    }
    throw_data(what, ": '", key, "' is '", name, "', which is not a known activation (",
               join(known), ")", did_you_mean(name, known));
  }
  return *found;
}

}  // namespace drrik::detail
