#include "interesting.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <set>

namespace drrik::cli {
namespace {

constexpr double kMinDensity = 1e-5;
constexpr double kMaxDensity = 0.05;  // denser features stand for no one thing
constexpr std::int64_t kMinRows = 8;

std::string plain_word(std::string text) {
  std::erase_if(text, [](char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; });
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

bool is_word(const std::string& text) {
  return text.size() >= 3 && std::ranges::all_of(text, [](char c) {
           return std::isalpha(static_cast<unsigned char>(c)) != 0;
         });
}

// Whether the token at `position` is a whole word: it begins one, and what follows does not go on
// with it.
bool is_whole_word(const std::vector<std::int32_t>& ids, std::int64_t position,
                   const Tokenizer& tokenizer) {
  const std::string token = tokenizer.token_display(ids[static_cast<std::size_t>(position)]);
  if (token.empty() || std::isspace(static_cast<unsigned char>(token.front())) == 0) return false;
  const auto next = static_cast<std::size_t>(position) + 1;
  if (next >= ids.size()) return false;
  const std::string after = tokenizer.token_display(ids[next]);
  return after.empty() || std::isalpha(static_cast<unsigned char>(after.front())) == 0;
}

InterestingFeature describe(const FeatureStats& stats, const ActivationMetadata& metadata,
                            const Tokenizer& tokenizer, std::int64_t feature) {
  InterestingFeature result{feature, "", 0.0};
  std::map<std::string, int> counts;
  const auto examples = stats.examples(feature);
  for (const FeatureExample& example : examples) {
    const auto origin = metadata.origin(example.row);
    if (origin.position < 0) return result;
    const auto& ids = metadata.samples[static_cast<std::size_t>(origin.sample)].input_ids;
    const std::int32_t id = ids[static_cast<std::size_t>(origin.position)];
    if (tokenizer.is_special(id) || !is_whole_word(ids, origin.position, tokenizer)) continue;
    ++counts[plain_word(tokenizer.token_display(id))];
  }
  for (const auto& [token, count] : counts) {
    const double share = static_cast<double>(count) / static_cast<double>(examples.size());
    if (is_word(token) && share > result.clarity) {
      result.token = token;
      result.clarity = share;
    }
  }
  return result;
}

}  // namespace

std::vector<InterestingFeature> interesting_features(const FeatureStats& stats,
                                                     const ActivationMetadata& metadata,
                                                     const Tokenizer& tokenizer, std::int64_t n) {
  const std::vector<std::int64_t> by_max =
      stats.top_features(stats.d_sae(), FeatureStats::Key::kMaxActivation);
  std::vector<InterestingFeature> clear;
  if (!metadata.samples.empty() && metadata.config.extraction.positions == Positions::kAll) {
    for (const std::int64_t feature : by_max) {
      const double density = stats.density(feature);
      if (density < kMinDensity || density > kMaxDensity) continue;
      if (stats.active_rows(feature) < kMinRows) continue;
      const InterestingFeature found = describe(stats, metadata, tokenizer, feature);
      if (found.clarity >= 0.5) clear.push_back(found);
    }
  }
  // by_max is by activation, so that equal clarity keeps the stronger feature first.
  std::ranges::stable_sort(clear, std::greater<>{}, &InterestingFeature::clarity);
  std::vector<InterestingFeature> chosen;
  std::set<std::string> tokens;
  std::set<std::int64_t> taken;
  const auto wanted = static_cast<std::size_t>(n);
  for (const InterestingFeature& candidate : clear) {
    if (chosen.size() == wanted) break;
    if (!tokens.insert(candidate.token).second) continue;
    chosen.push_back(candidate);
    taken.insert(candidate.feature);
  }
  for (const double limit : {kMaxDensity, 1.0}) {
    for (const std::int64_t feature : by_max) {
      if (chosen.size() == wanted) break;
      if (stats.density(feature) <= limit && taken.insert(feature).second) {
        chosen.push_back({feature, "", 0.0});
      }
    }
  }
  return chosen;
}

}  // namespace drrik::cli
