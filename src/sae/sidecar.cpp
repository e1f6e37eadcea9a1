// drrik.json: what SAELens's files have no place for.

#include <cmath>
#include <limits>

#include "drrik/base/error.h"
#include "drrik/base/system.h"
#include "io/json.h"
#include "sae/format.h"

namespace drrik {
namespace {

constexpr const char* kSidecar = "drrik.json";
constexpr std::int64_t kVersion = 1;

// NaN (no validation split) is null in JSON.
std::vector<double> numbers(const Json& object, const char* key) {
  std::vector<double> out;
  const Json* array = find_member(object, key, kSidecar);
  if (array == nullptr) return out;
  for (const Json& value : expect_array(*array, key)) {
    out.push_back(value.is_null() ? std::numeric_limits<double>::quiet_NaN()
                                  : json_double(value, key));
  }
  return out;
}

}  // namespace

bool read_sidecar(const std::filesystem::path& folder, SaeRecord& record, ReluHints& hints) {
  if (!std::filesystem::exists(folder / kSidecar)) return false;
  const Json json = read_json_file(folder / kSidecar);
  expect_object(json, kSidecar);
  const std::int64_t version = get_int(json, "version", kSidecar);
  if (version > kVersion) {
    throw_data(kSidecar, ": version ", version, ", this drrik reads up to ", kVersion);
  }
  hints.l1_coefficient = find_double(json, "l1_coefficient", kSidecar);
  hints.normalize_decoder = find_bool(json, "normalize_decoder", kSidecar);
  hints.pre_encoder_bias = find_bool(json, "pre_encoder_bias", kSidecar);
  record.model_name = get_string(json, "model_name", kSidecar, "");
  record.hook_name = get_string(json, "hook_name", kSidecar, "");
  record.foreign_hook_name = get_string(json, "foreign_hook_name", kSidecar, "");
  record.layer = get_int(json, "layer", kSidecar, -1);
  record.dataset = get_string(json, "dataset", kSidecar, "");
  record.context_size = get_int(json, "context_size", kSidecar, 0);
  record.normalize_activations = get_string(json, "normalize_activations", kSidecar, "none");
  if (const Json* history = find_member(json, "history", kSidecar)) {
    expect_object(*history, "history");
    record.history.training_losses = numbers(*history, "training_losses");
    record.history.training_l0_norms = numbers(*history, "training_l0_norms");
    record.history.validation_losses = numbers(*history, "validation_losses");
    record.history.validation_l0_norms = numbers(*history, "validation_l0_norms");
  }
  if (const Json* metrics = find_member(json, "metrics", kSidecar)) {
    for (const auto& [key, value] : expect_object(*metrics, "metrics").items()) {
      if (value.is_number()) record.metrics[key] = json_double(value, key);
    }
  }
  if (const Json* facts = find_member(json, "facts", kSidecar)) {
    for (const auto& [key, value] : expect_object(*facts, "facts").items()) {
      record.facts[key] = json_string(value, key);
    }
  }
  return true;
}

void write_sidecar(const ReluSae& sae, const SaeRecord& record,
                   const std::filesystem::path& folder) {
  const ReluSaeConfig& config = sae.config();
  Json json = {{"format", "drrik sae"},
               {"version", kVersion},
               {"architecture", sae.architecture()},
               {"activation_dim", config.activation_dim},
               {"hidden_dim", config.hidden_dim},
               {"l1_coefficient", config.l1_coefficient},
               {"normalize_decoder", config.normalize_decoder},
               {"pre_encoder_bias", config.pre_encoder_bias},
               {"normalize_activations", record.normalize_activations},
               {"model_name", record.model_name},
               {"hook_name", record.hook_name},
               {"layer", record.layer},
               {"dataset", record.dataset},
               {"context_size", record.context_size},
               {"written_by", str("drrik ", version())}};
  json["history"] = {{"training_losses", record.history.training_losses},
                     {"training_l0_norms", record.history.training_l0_norms},
                     {"validation_losses", record.history.validation_losses},
                     {"validation_l0_norms", record.history.validation_l0_norms}};
  json["metrics"] = Json::object();
  for (const auto& [key, value] : record.metrics) json["metrics"][key] = value;
  json["facts"] = Json::object();
  for (const auto& [key, value] : record.facts) json["facts"][key] = value;
  if (!record.foreign_hook_name.empty()) json["foreign_hook_name"] = record.foreign_hook_name;
  write_json_file(folder / kSidecar, json);
}

}  // namespace drrik
