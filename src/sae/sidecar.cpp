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

Json common(const SaeRecord& record, const std::string& architecture) {
  Json json = {{"format", "drrik sae"},
               {"version", kVersion},
               {"architecture", architecture},
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
  if (!record.foreign_hook_name_out.empty()) {
    json["foreign_hook_name_out"] = record.foreign_hook_name_out;
  }
  return json;
}

}  // namespace

bool read_sidecar(const std::filesystem::path& folder, SaeRecord& record, ReluHints& relu,
                  CoderHints& coder) {
  if (!std::filesystem::exists(folder / kSidecar)) return false;
  const Json json = read_json_file(folder / kSidecar);
  expect_object(json, kSidecar);
  const std::int64_t version = get_int(json, "version", kSidecar);
  if (version > kVersion) {
    throw_data(kSidecar, ": version ", version, ", this drrik reads up to ", kVersion);
  }
  relu.l1_coefficient = find_double(json, "l1_coefficient", kSidecar);
  relu.normalize_decoder = find_bool(json, "normalize_decoder", kSidecar);
  relu.pre_encoder_bias = find_bool(json, "pre_encoder_bias", kSidecar);
  if (const Json* hints = find_member(json, "coder", kSidecar)) {
    expect_object(*hints, "coder");
    coder.architecture = get_string(*hints, "architecture", "coder");
    coder.k = get_int(*hints, "k", "coder");
    coder.groups = get_ints(*hints, "groups", "coder");
    coder.parts = get_int(*hints, "parts", "coder");
  }
  record.model_name = get_string(json, "model_name", kSidecar, "");
  record.hook_name = get_string(json, "hook_name", kSidecar, "");
  record.foreign_hook_name = get_string(json, "foreign_hook_name", kSidecar, "");
  record.foreign_hook_name_out = get_string(json, "foreign_hook_name_out", kSidecar, "");
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
  Json json = common(record, sae.architecture());
  json["activation_dim"] = config.activation_dim;
  json["hidden_dim"] = config.hidden_dim;
  json["l1_coefficient"] = config.l1_coefficient;
  json["normalize_decoder"] = config.normalize_decoder;
  json["pre_encoder_bias"] = config.pre_encoder_bias;
  write_json_file(folder / kSidecar, json);
}

void write_sidecar(const SparseCoder& coder, const SaeRecord& record,
                   const std::filesystem::path& folder) {
  const SparseCoderConfig& config = coder.config();
  Json json = common(record, config.architecture);
  json["coder"] = {{"architecture", config.architecture},
                   {"k", config.k},
                   {"groups", config.groups},
                   {"parts", config.parts}};
  write_json_file(folder / kSidecar, json);
}

}  // namespace drrik
