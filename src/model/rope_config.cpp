// Rotary embeddings: what config.json says about them, and the frequencies that follow.
// Source: transformers' modeling_rope_utils.

#include <cmath>
#include <numbers>

#include "model/family.h"

namespace drrik {

std::vector<float> rope_inverse_frequencies(const RopeOptions& rope) {
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

  for (std::int64_t j = 0; j < pairs; ++j) {
    const auto exponent = static_cast<double>(2 * j) / dim;
    double f = 1.0 / std::pow(rope.theta, exponent);
    switch (rope.scaling) {
      case RopeScaling::kNone:
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

namespace detail {
namespace {

double yarn_mscale(double factor, double mscale) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

void parse_scaling(const Json& json, std::string_view what, std::string_view type,
                   ModelConfig& config) {
  RopeOptions& rope = config.rope;
  if (type == "default") return;
  rope.factor = get_positive(json, "factor", what, 1.0);
  rope.original_positions =
      get_size(json, "original_max_position_embeddings", what, kMaxPositions, config.max_positions);
  if (type == "linear") {
    rope.scaling = RopeScaling::kLinear;
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
  } else {
    throw_data(what, ": rope type '", type,
               "' is not supported; supported: default, linear, llama3, yarn");
  }
}

}  // namespace

void parse_rope(const Json& json, std::string_view what, double theta, double partial,
                ModelConfig& config) {
  // Inside rope_parameters first, then the keys that transformers 4 wrote, then the class default.
  static const Json kEmpty = Json::object();
  const Json* parameters = find_member(json, "rope_parameters", what);
  if (!parameters) parameters = find_member(json, "rope_scaling", what);
  if (!parameters) parameters = &kEmpty;
  const std::string where = str(what, ": rope_parameters");
  expect_object(*parameters, where);

  RopeOptions& rope = config.rope;
  rope.theta = get_positive(json, "rope_theta", what, theta);
  rope.theta = get_positive(*parameters, "rope_theta", where, rope.theta);
  partial = get_positive(json, "partial_rotary_factor", what, partial);
  partial = get_positive(*parameters, "partial_rotary_factor", where, partial);
  rope.dim =
      static_cast<std::int64_t>(static_cast<double>(config.head_dim) * std::min(partial, 2.0));
  // An odd count still makes whole pairs.
  if (rope.dim < 1 || rope.dim + rope.dim % 2 > config.head_dim) {
    throw_data(what, ": a rotary factor of ", partial, " with heads of ", config.head_dim,
               " rotates ", rope.dim, " elements, wanted 1 to ", config.head_dim);
  }
  std::string type = get_string(*parameters, "type", where, "default");
  type = get_string(*parameters, "rope_type", where, type);
  parse_scaling(*parameters, where, type, config);
}

}  // namespace detail
}  // namespace drrik
