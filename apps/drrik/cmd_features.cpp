// drrik features: which features a text excites.

#include <cstdio>
#include <memory>

#include "drrik/base/error.h"
#include "drrik/steer/steering.h"
#include "sae_flags.h"

namespace drrik::cli {
namespace {

struct Flags {
  SteerFlags where;
  std::string text;
  FindFeaturesOptions find;
  bool no_special_tokens = false;
};

void run(const Globals& globals, const Flags& flags) {
  const SaeSteering steering = flags.where.open(globals);
  FindFeaturesOptions find = flags.find;
  find.include_special_tokens = !flags.no_special_tokens;
  const auto features = steering.find_steering_features(flags.text, find);
  Json rows = Json::array();
  std::string table = "feature  activation  normalized  decoder norm\n";
  for (const SteeringFeature& f : features) {
    rows.push_back({{"feature_idx", f.feature_idx},
                    {"activation", f.activation},
                    {"normalized_activation", f.normalized_activation},
                    {"decoder_weight_norm", f.decoder_weight_norm}});
    char line[96];
    std::snprintf(line, sizeof line, "%7lld  %10.4g  %10.4g  %12.4g\n",
                  static_cast<long long>(f.feature_idx), f.activation, f.normalized_activation,
                  f.decoder_weight_norm);
    table += line;
  }
  if (features.empty()) table = "no feature is active on this text\n";
  emit(globals, {{"text", flags.text}, {"features", rows}}, table);
}

}  // namespace

Command features_command() {
  return {"features", "Find the features that a text excites most",
          "  drrik features --sae sae --model assets/demo/model --layer 3 --text \"The sea was "
          "calm.\" --top-k 10\n",
          [](CLI::App& app, Globals& globals) -> std::function<void()> {
            auto flags = std::make_shared<Flags>();
            flags->where.add(app, globals);
            app.add_option("--text", flags->text, "The text")->required();
            app.add_option("--top-k", flags->find.top_k, "Features to show")->capture_default_str();
            app.add_option("--min-activation", flags->find.min_activation,
                           "Leave out features whose mean is not above this")
                ->capture_default_str();
            app.add_flag("--no-special-tokens", flags->no_special_tokens,
                         "Leave BOS and its like out of the mean");
            return [&globals, flags] { run(globals, *flags); };
          }};
}

}  // namespace drrik::cli
