// Rotary embeddings: what config.json says about them, and the frequencies that follow.
// Source: transformers' modeling_rope_utils.

#include <cmath>
#include <numbers>

#include "model/family.h"

namespace drrik {

std::vector<float> rope_inverse_frequencies(const RopeOptions& rope, std::int64_t length) {
  const std::int64_t pairs = (rope.dim + 1) / 2;
  std::vector<float> out(static_cast<std::size_t>(pairs));
  const auto dim = static_cast<double>(rope.dim);
  const auto original = static_cast<double>(rope.original_positions);

  // kYarn: between these pair indices the scaling blends in.
  double low = 0.0;
  double high = 0.0;
  if (rope.scaling == RopeScaling::kYarn) {
    const auto index = [&](double rotations) {
      return dim * std::log(original / (rotations * 2.0 * std::numbers::pi)) /
             (2.0 * std::log(rope.theta));
    };
    low = index(rope.beta_fast);
    high = index(rope.beta_slow);
    if (rope.truncate) {
      low = std::floor(low);
      high = std::ceil(high);
    }
    low = std::max(low, 0.0);
    high = std::min(high, dim - 1.0);
    if (low == high) high += 0.001;
  }

  double theta = rope.theta;
  if (rope.scaling == RopeScaling::kDynamic && rope.stretched(length)) {
    const double stretch =
        rope.factor * static_cast<double>(length) / original - (rope.factor - 1.0);
    theta *= std::pow(stretch, dim / (dim - 2.0));
  }
  const std::vector<double>& divisors =
      rope.stretched(length) ? rope.long_factors : rope.short_factors;

  for (std::int64_t j = 0; j < pairs; ++j) {
    const auto exponent = static_cast<double>(2 * j) / dim;
    double f = 1.0 / std::pow(theta, exponent);
    switch (rope.scaling) {
      case RopeScaling::kNone:
      case RopeScaling::kDynamic:
        break;
      case RopeScaling::kLongRope:
        f /= divisors[static_cast<std::size_t>(j)];
        break;
      case RopeScaling::kLinear:
        f /= rope.factor;
        break;
      case RopeScaling::kLlama3: {
        const double wavelength = 2.0 * std::numbers::pi / f;
        if (wavelength > original / rope.low_freq_factor) {
          f /= rope.factor;
        } else if (wavelength >= original / rope.high_freq_factor) {
          const double smooth = (original / wavelength - rope.low_freq_factor) /
                                (rope.high_freq_factor - rope.low_freq_factor);
          f = (1.0 - smooth) * f / rope.factor + smooth * f;
        }
        break;
      }
      case RopeScaling::kYarn: {
        const double ramp = std::clamp((static_cast<double>(j) - low) / (high - low), 0.0, 1.0);
        f = f / rope.factor * ramp + f * (1.0 - ramp);
        break;
      }
    }
    out[static_cast<std::size_t>(j)] = static_cast<float>(f);
  }
  return out;
}

std::vector<float> alibi_slopes(std::int64_t heads) {
  std::vector<float> out;
  std::int64_t power = 1;
  while (power * 2 <= heads) power *= 2;
  const auto base = [](std::int64_t n) {
    return std::pow(2.0, -std::pow(2.0, -(std::log2(static_cast<double>(n)) - 3.0)));
  };
  for (std::int64_t i = 1; i <= power; ++i) {
    out.push_back(static_cast<float>(std::pow(base(power), static_cast<double>(i))));
  }
  for (std::int64_t i = 0; i < heads - power; ++i) {
    out.push_back(static_cast<float>(std::pow(base(2 * power), static_cast<double>(2 * i + 1))));
  }
  return out;
}

namespace detail {
namespace {

double yarn_mscale(double factor, double mscale) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

std::vector<double> parse_divisors(const Json& json, std::string_view key, std::string_view what,
                                   std::int64_t pairs) {
  std::vector<double> out = get_doubles(json, key, what);
  if (static_cast<std::int64_t>(out.size()) != pairs) {
    throw_data(what, ": '", key, "' has ", out.size(), " numbers, wanted ", pairs);
  }
  for (const double value : out) {
    if (!(value > 0.0) || !std::isfinite(value)) {
      throw_data(what, ": '", key, "' has ", value, ", wanted positive numbers");
    }
  }
  return out;
}

void parse_scaling(const Json& json, std::string_view what, std::string_view type,
                   const ModelConfig& config, RopeOptions& rope) {
  if (type == "default") return;
  rope.original_positions =
      get_size(json, "original_max_position_embeddings", what, kMaxPositions, config.max_positions);
  const auto original = static_cast<double>(rope.original_positions);
  // Without a factor, it is by how much the model's positions exceed the original ones.
  rope.factor =
      get_positive(json, "factor", what, static_cast<double>(config.max_positions) / original);
  if (type == "linear") {
    rope.scaling = RopeScaling::kLinear;
  } else if (type == "dynamic") {
    rope.scaling = RopeScaling::kDynamic;
    rope.original_positions = config.max_positions;
    if (rope.dim <= 2)
      throw_data(what, ": dynamic scaling of ", rope.dim, " elements, wanted more than 2");
    if (rope.factor < 1.0) throw_data(what, ": 'factor' is ", rope.factor, ", wanted at least 1");
  } else if (type == "llama3") {
    rope.scaling = RopeScaling::kLlama3;
    rope.low_freq_factor = get_positive(json, "low_freq_factor", what, 1.0);
    rope.high_freq_factor = get_positive(json, "high_freq_factor", what, 4.0);
    if (rope.high_freq_factor <= rope.low_freq_factor) {
      throw_data(what, ": 'high_freq_factor' is ", rope.high_freq_factor,
                 ", wanted more than 'low_freq_factor' (", rope.low_freq_factor, ")");
    }
  } else if (type == "yarn") {
    rope.scaling = RopeScaling::kYarn;
    if (rope.theta <= 1.0) throw_data(what, ": 'rope_theta' is ", rope.theta, ", wanted over 1");
    rope.beta_fast = get_positive(json, "beta_fast", what, 32.0);
    rope.beta_slow = get_positive(json, "beta_slow", what, 1.0);
    rope.truncate = get_bool(json, "truncate", what, true);
    const double mscale = get_double(json, "mscale", what, 0.0);
    const double mscale_all = get_double(json, "mscale_all_dim", what, 0.0);
    double scale = yarn_mscale(rope.factor, 1.0);
    if (mscale != 0.0 && mscale_all != 0.0) {
      scale = yarn_mscale(rope.factor, mscale) / yarn_mscale(rope.factor, mscale_all);
    }
    rope.cos_sin_scale = get_positive(json, "attention_factor", what, scale);
  } else if (type == "longrope") {
    rope.scaling = RopeScaling::kLongRope;
    rope.short_factors = parse_divisors(json, "short_factor", what, (rope.dim + 1) / 2);
    rope.long_factors = parse_divisors(json, "long_factor", what, (rope.dim + 1) / 2);
    const double scale =
        rope.factor <= 1.0 ? 1.0 : std::sqrt(1.0 + std::log(rope.factor) / std::log(original));
    rope.cos_sin_scale = get_positive(json, "attention_factor", what, scale);
  } else {
    throw_data(what, ": rope type '", type,
               "' is not supported; supported: default, linear, dynamic, llama3, yarn, longrope");
  }
}

}  // namespace

RopeOptions parse_rope_parameters(const Json& parameters, std::string_view what, double theta,
                                  double partial, const ModelConfig& config) {
  expect_object(parameters, what);
  RopeOptions rope;
  rope.theta = get_positive(parameters, "rope_theta", what, theta);
  partial = get_positive(parameters, "partial_rotary_factor", what, partial);
  rope.dim =
      static_cast<std::int64_t>(static_cast<double>(config.head_dim) * std::min(partial, 2.0));
  // An odd count still makes whole pairs.
  if (rope.dim < 1 || rope.dim + rope.dim % 2 > config.head_dim) {
    throw_data(what, ": a rotary factor of ", partial, " with heads of ", config.head_dim,
               " rotates ", rope.dim, " elements, wanted 1 to ", config.head_dim);
  }
  std::string type = get_string(parameters, "type", what, "default");
  type = get_string(parameters, "rope_type", what, type);
  parse_scaling(parameters, what, type, config, rope);
  return rope;
}

void parse_rope(const Json& json, std::string_view what, double theta, double partial,
                ModelConfig& config) {
  // Inside rope_parameters first, then the keys that transformers 4 wrote, then the class default.
  static const Json kEmpty = Json::object();
  const Json* parameters = find_member(json, "rope_parameters", what);
  if (!parameters) parameters = find_member(json, "rope_scaling", what);
  if (!parameters) parameters = &kEmpty;
  config.rope = parse_rope_parameters(
      *parameters, str(what, ": rope_parameters"), get_positive(json, "rope_theta", what, theta),
      get_positive(json, "partial_rotary_factor", what, partial), config);
  if (config.rope.scaling == RopeScaling::kDynamic) {
    // It is there to go beyond the positions it names.
    const double longest = static_cast<double>(config.max_positions) * config.rope.factor;
    config.max_positions =
        static_cast<std::int64_t>(std::min(longest, static_cast<double>(kMaxPositions)));
  }
}

}  // namespace detail
}  // namespace drrik
