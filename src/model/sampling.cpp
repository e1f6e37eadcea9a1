// From logits to the next id. Order and filters are those of transformers' logits processors.

#include <algorithm>
#include <cmath>
#include <limits>

#include "drrik/model/generate.h"
#include "drrik/ops/softmax.h"

namespace drrik {
namespace {

constexpr float kOut = -std::numeric_limits<float>::infinity();

/// Each id counts once, however often it occurred.
void penalize(std::span<const std::int32_t> history, float penalty, std::span<float> scores) {
  std::vector<std::int32_t> seen(history.begin(), history.end());
  std::sort(seen.begin(), seen.end());
  seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
  for (const std::int32_t id : seen) {
    if (id < 0 || static_cast<std::size_t>(id) >= scores.size()) {
      throw_data("token ", id, " in the history, the vocabulary has 0 to ", scores.size() - 1);
    }
    float& score = scores[static_cast<std::size_t>(id)];
    score = score < 0.0F ? score * penalty : score / penalty;
  }
}

/// Everything under the k-th largest score goes; ties with it stay.
void keep_top_k(std::size_t k, std::span<float> scores) {
  if (k >= scores.size()) return;
  std::vector<float> sorted(scores.begin(), scores.end());
  const auto kth = sorted.begin() + static_cast<std::ptrdiff_t>(k - 1);
  std::nth_element(sorted.begin(), kth, sorted.end(), std::greater<>());
  for (float& score : scores) {
    if (score < *kth) score = kOut;
  }
}

/// Drops the least probable ids whose probabilities add up to at most 1 - top_p, never the last.
void keep_top_p(double top_p, std::span<float> probabilities) {
  const double rest = 1.0 - top_p;
  // All ids under rest / V together are within the part that goes: no need to sort them.
  const double floor = rest / static_cast<double>(probabilities.size());
  double dropped = 0.0;
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < probabilities.size(); ++i) {
    const auto p = static_cast<double>(probabilities[i]);
    if (p < floor) {
      dropped += p;
      probabilities[i] = 0.0F;
    } else {
      order.push_back(i);
    }
  }
  const auto less = [&](std::size_t a, std::size_t b) {
    return probabilities[a] != probabilities[b] ? probabilities[a] < probabilities[b] : a > b;
  };
  // Halving instead of sorting: what stands before `low` goes, what stands from `high` on stays.
  std::size_t low = 0;
  std::size_t high = order.size();
  while (high - low > 1) {
    const std::size_t middle = low + (high - low) / 2;
    const auto at = [&](std::size_t i) { return order.begin() + static_cast<std::ptrdiff_t>(i); };
    std::nth_element(at(low), at(middle), at(high), less);
    double sum = 0.0;
    for (std::size_t i = low; i < middle; ++i) sum += static_cast<double>(probabilities[order[i]]);
    if (dropped + sum <= rest) {
      for (std::size_t i = low; i < middle; ++i) probabilities[order[i]] = 0.0F;
      dropped += sum;
      low = middle;
    } else {
      high = middle;
    }
  }
  if (low + 1 < order.size() && dropped + static_cast<double>(probabilities[order[low]]) <= rest) {
    probabilities[order[low]] = 0.0F;
  }
}

void to_probabilities(std::span<float> scores) {
  const float most = *std::max_element(scores.begin(), scores.end());
  double total = 0.0;
  for (float& score : scores) {
    score = std::exp(score - most);
    total += static_cast<double>(score);
  }
  const auto scale = static_cast<float>(1.0 / total);
  for (float& score : scores) score *= scale;
}

void renormalize(std::span<float> probabilities) {
  double total = 0.0;
  for (const float p : probabilities) total += static_cast<double>(p);
  const auto scale = static_cast<float>(1.0 / total);
  for (float& p : probabilities) p *= scale;
}

/// The scores with the penalty applied, checked.
std::vector<float> penalized(std::span<const float> logits, std::span<const std::int32_t> history,
                             const SamplingOptions& options) {
  if (logits.empty()) throw_usage("sampling from no logits");
  std::vector<float> scores(logits.begin(), logits.end());
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (std::isnan(scores[i])) throw_numeric("the logit of token ", i, " is NaN");
  }
  if (options.repetition_penalty != 1.0) {
    penalize(history, static_cast<float>(options.repetition_penalty), scores);
  }
  return scores;
}

}  // namespace

void SamplingOptions::validate() const {
  const auto bad = [](const char* name, auto value, const char* wanted) {
    throw_usage(name, " is ", value, ", wanted ", wanted);
  };
  if (!(temperature >= 0.0) || !std::isfinite(temperature)) {
    bad("temperature", temperature, "0 (greedy) or more");
  }
  if (!(top_p > 0.0 && top_p <= 1.0)) bad("top_p", top_p, "more than 0, at most 1");
  if (top_k < 0) bad("top_k", top_k, "0 (off) or more");
  if (!(repetition_penalty > 0.0) || !std::isfinite(repetition_penalty)) {
    bad("repetition_penalty", repetition_penalty, "more than 0");
  }
  if (max_new_tokens < 0) bad("max_new_tokens", max_new_tokens, "0 or more");
}

std::vector<float> next_token_distribution(std::span<const float> logits,
                                           std::span<const std::int32_t> history,
                                           const SamplingOptions& options) {
  options.validate();
  std::vector<float> scores = penalized(logits, history, options);
  const float most = *std::max_element(scores.begin(), scores.end());
  const auto temperature = static_cast<float>(options.temperature);
  // Divided by a temperature this small, the largest score would overflow: the limit is greedy.
  const bool greedy = temperature == 0.0F || !std::isfinite(most / temperature);
  if (greedy) {
    const auto best = static_cast<std::size_t>(argmax(scores));
    std::fill(scores.begin(), scores.end(), 0.0F);
    scores[best] = 1.0F;
    return scores;
  }
  for (float& score : scores) score /= temperature;
  if (options.top_k > 0) keep_top_k(static_cast<std::size_t>(options.top_k), scores);
  to_probabilities(scores);
  if (options.top_p < 1.0) {
    keep_top_p(options.top_p, scores);
    renormalize(scores);
  }
  return scores;
}

std::int32_t sample_token(std::span<const float> logits, std::span<const std::int32_t> history,
                          const SamplingOptions& options, Rng& rng) {
  if (options.temperature == 0.0) {
    const std::vector<float> scores = penalized(logits, history, options);
    return static_cast<std::int32_t>(argmax(scores));
  }
  const std::vector<float> probabilities = next_token_distribution(logits, history, options);
  const double u = rng.uniform_double();
  double sum = 0.0;
  std::int32_t last = 0;  // rounding may leave the sum under u
  for (std::size_t i = 0; i < probabilities.size(); ++i) {
    if (probabilities[i] == 0.0F) continue;
    last = static_cast<std::int32_t>(i);
    sum += static_cast<double>(probabilities[i]);
    if (u < sum) break;
  }
  return last;
}

}  // namespace drrik
