#pragma once
// What a dashboard holds; its writers read it.

#include <string>
#include <utility>
#include <vector>

#include "drrik/viz/dashboard.h"
#include "viz/directions.h"

namespace drrik {

struct Dashboard::Data {
  explicit Data(FeatureExamples examples) : features(std::move(examples)) {}

  DashboardOptions options;
  std::string title;
  std::string created;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::shared_ptr<const Sae> sae;
  SaeRecord record;
  Hook hook;
  Hook output;
  std::string foreign_hook;  // TransformerLens's name, where there is one
  struct {
    std::int64_t d_model = 0;
    std::int64_t n_layers = 0;
    std::int64_t vocab_size = 0;
    std::int64_t context_size = 0;
  } model;
  FeatureExamples features;
  ReconstructionMetrics metrics;
  std::vector<std::pair<std::string, double>> summary;
  std::vector<TrainingSeries> training;
  std::vector<std::pair<std::string, std::string>> notes;
  FeatureLabels labels;

  // [d_sae] each
  std::vector<float> norms;
  std::vector<float> biases;
  detail::RankedLists nearest;
  std::vector<std::vector<Coactivation>> coactive;
  std::optional<detail::LogitLens> lens;
  detail::NeuronLists neurons;
  detail::PlaneMap map;

  std::int64_t d_sae() const { return features.d_sae(); }
  /// Distinct tokens of the strongest examples, strongest first.
  std::vector<std::int32_t> fires_on(std::int64_t feature, std::size_t count) const;
};

namespace detail {

/// A token for people: its bytes where they are UTF-8, "\xNN" for those that are not.
std::string shown_token(const Tokenizer& tokenizer, std::int32_t id);

}  // namespace detail
}  // namespace drrik
