#include "train/checkpoint.h"

#include <algorithm>
#include <limits>

#include "drrik/base/error.h"
#include "drrik/io/safetensors.h"
#include "io/json.h"

namespace drrik {
namespace {

constexpr const char* kState = "drrik_train_state";
constexpr std::int64_t kVersion = 1;

Json identity_json(const RunIdentity& run) {
  const FitOptions& o = run.options;
  return {{"activation_dim", run.sae.activation_dim},
          {"hidden_dim", run.sae.hidden_dim},
          {"l1_coefficient", run.sae.l1_coefficient},
          {"normalize_decoder", run.sae.normalize_decoder},
          {"pre_encoder_bias", run.sae.pre_encoder_bias},
          {"training rows", run.train_rows},
          {"batch_size", o.batch_size},
          {"learning_rate", o.learning_rate},
          {"beta1", o.beta1},
          {"beta2", o.beta2},
          {"eps", o.eps},
          {"validation_split", o.validation_split},
          {"shuffle", o.shuffle},
          {"resample_dead_neurons", o.resample_dead_neurons},
          {"resample_interval", o.resample_interval},
          {"resample_rows", o.resample_rows},
          {"window_size", o.window_size},
          {"seed", o.seed},
          {"path", static_cast<int>(o.path)}};
}

Json numbers_json(const std::vector<double>& values) {
  Json array = Json::array();
  for (const double v : values) array.push_back(v);  // NaN becomes null
  return array;
}

std::vector<double> numbers(const Json& json, const char* key) {
  std::vector<double> out;
  for (const Json& value : expect_array(get_member(json, key, kState), key)) {
    out.push_back(value.is_null() ? std::numeric_limits<double>::quiet_NaN()
                                  : json_double(value, key));
  }
  return out;
}

void check_identity(const Json& saved, const RunIdentity& run) {
  const Json wanted = identity_json(run);
  for (const auto& [key, value] : wanted.items()) {
    const Json* got = find_member(saved, key, kState);
    if (got == nullptr || *got != value) {
      throw_data("the run was started with ", key, " ", got == nullptr ? "unknown" : got->dump(),
                 ", this one has ", value.dump(), "; resume with the same settings");
    }
  }
}

}  // namespace

void write_checkpoint(const std::filesystem::path& path, const RunIdentity& identity,
                      const TrainState& state, Stepper& stepper) {
  const Json json = {{"version", kVersion},
                     {"run", identity_json(identity)},
                     {"step", state.step},
                     {"epoch", state.epoch},
                     {"epoch_steps", state.epoch_steps},
                     {"epoch_loss", state.epoch_loss},
                     {"epoch_l0", state.epoch_l0},
                     {"window_start", state.window_start},
                     {"resampled", state.resampled},
                     {"median_rows", state.median_rows},
                     {"density", stepper.density()},
                     {"training_losses", numbers_json(state.history.training_losses)},
                     {"training_l0_norms", numbers_json(state.history.training_l0_norms)},
                     {"validation_losses", numbers_json(state.history.validation_losses)},
                     {"validation_l0_norms", numbers_json(state.history.validation_l0_norms)}};
  const Tensor last_active = Tensor::from<std::int64_t>(
      state.last_active, {static_cast<std::int64_t>(state.last_active.size())});
  std::vector<NamedTensor> tensors = stepper.state();
  tensors.push_back({"last_active", &last_active});
  write_safetensors(path, tensors, {{kState, json_text(json)}});
}

void read_checkpoint(const std::filesystem::path& path, const RunIdentity& identity,
                     TrainState& state, Stepper& stepper) {
  try {
    const SafetensorsFile file = SafetensorsFile::open(path);
    const auto text = file.metadata().find(kState);
    if (text == file.metadata().end()) throw_data("not a checkpoint of drrik train");
    const Json json = parse_json(text->second, kState);
    expect_object(json, kState);
    if (get_int(json, "version", kState) != kVersion) {
      throw_data("a checkpoint of version ", get_int(json, "version", kState),
                 ", this drrik reads ", kVersion);
    }
    check_identity(expect_object(get_member(json, "run", kState), "run"), identity);
    TrainState read;
    read.step = get_int(json, "step", kState);
    read.epoch = get_int(json, "epoch", kState);
    read.epoch_steps = get_int(json, "epoch_steps", kState);
    read.epoch_loss = get_double(json, "epoch_loss", kState);
    read.epoch_l0 = get_double(json, "epoch_l0", kState);
    read.window_start = get_int(json, "window_start", kState);
    read.resampled = get_int(json, "resampled", kState);
    read.median_rows = get_int(json, "median_rows", kState);
    read.history.training_losses = numbers(json, "training_losses");
    read.history.training_l0_norms = numbers(json, "training_l0_norms");
    read.history.validation_losses = numbers(json, "validation_losses");
    read.history.validation_l0_norms = numbers(json, "validation_l0_norms");
    const Tensor last = file.get("last_active");
    if (last.shape() != std::vector<std::int64_t>{identity.sae.hidden_dim}) {
      throw_data("tensor 'last_active' has shape ", shape_string(last.shape()), ", wanted [",
                 identity.sae.hidden_dim, "]");
    }
    const Tensor owned = last.clone();
    const auto values = owned.data<std::int64_t>();
    read.last_active.assign(values.begin(), values.end());
    for (const NamedTensor& part : stepper.state()) stepper.restore(part.name, file.get(part.name));
    stepper.set_density(get_double(json, "density", kState));
    state = std::move(read);
  } catch (Error& error) {
    if (std::string_view(error.what()).find(path.string()) == std::string_view::npos) {
      error.add_context(path.string());
    }
    throw;
  }
}

}  // namespace drrik
