#include "train/coder_checkpoint.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "drrik/base/error.h"
#include "drrik/io/safetensors.h"
#include "io/json.h"
#include "train/coder_loss.h"

namespace drrik {
namespace {

constexpr const char* kState = "drrik_coder_run";
constexpr std::int64_t kVersion = 1;

Json config_json(const SparseCoderConfig& c) {
  return {{"architecture", c.architecture},
          {"d_in", c.d_in},
          {"d_out", c.d_out},
          {"d_sae", c.d_sae},
          {"k", c.k},
          {"groups", c.groups},
          {"parts", c.parts},
          {"apply_b_dec_to_input", c.apply_b_dec_to_input},
          {"skip", c.skip},
          {"relu_after_topk", c.relu_after_topk},
          {"rescale_by_decoder_norm", c.rescale_by_decoder_norm}};
}

Json training_json(const CoderTraining& t) {
  return {{"reconstruction", static_cast<int>(t.reconstruction)},
          {"sparsity_coefficient", t.sparsity.coefficient},
          {"by_decoder_norm", t.sparsity.by_decoder_norm},
          {"jumprelu", static_cast<int>(t.sparsity.jumprelu)},
          {"target_l0", t.sparsity.target_l0},
          {"tanh_scale", t.sparsity.tanh_scale},
          {"bandwidth", t.sparsity.bandwidth},
          {"preact_coefficient", t.sparsity.preact_coefficient},
          {"gradient_to_input", t.sparsity.gradient_to_input},
          {"aux_coefficient", t.aux.coefficient},
          {"aux_k", t.aux.k},
          {"aux_rectify", t.aux.rectify},
          {"aux_scale", static_cast<int>(t.aux.scale)},
          {"group_weights", t.group_weights},
          {"learning_rate", t.adam.learning_rate},
          {"beta1", t.adam.beta1},
          {"beta2", t.adam.beta2},
          {"eps", t.adam.eps},
          {"weight_decay", t.adam.decoupled_weight_decay},
          {"clip_norm", t.clip_norm},
          {"unit_decoder", t.unit_decoder},
          {"dead_steps", t.dead_steps},
          {"threshold_decay", t.threshold_decay},
          {"threshold_start", t.threshold_start},
          {"threshold_from_zero", t.threshold_from_zero},
          {"compute", static_cast<int>(t.compute)},
          {"path", static_cast<int>(t.path)}};
}

Json job_json(const CoderJob& job) {
  return {{"name", job.name},
          {"inputs", job.inputs},
          {"targets", job.targets},
          {"coder", config_json(job.config)},
          {"training", training_json(job.training)},
          {"warmup_steps", job.schedule.warmup_steps},
          {"warmup_from_zero", job.schedule.warmup_from_zero},
          {"decay_steps", job.schedule.decay_steps},
          {"cosine", job.schedule.cosine},
          {"sparsity_warmup_steps", job.schedule.sparsity_warmup_steps},
          {"resample_interval", job.resampling.interval},
          {"resample_times", job.resampling.times},
          {"resample_window", job.resampling.window},
          {"resample_rows", job.resampling.rows},
          {"seed", job.seed}};
}

// `steps` is not part of it where nothing but the end depends on it.
Json identity_json(const CoderRunIdentity& run) {
  Json jobs = Json::array();
  bool length_matters = false;
  for (const CoderJob* job : run.jobs) {
    jobs.push_back(job_json(*job));
    length_matters |= job->schedule.decay_steps > 0 || job->schedule.cosine;
  }
  Json json = {{"batch_size", run.options.batch_size},
               {"site_scales", run.options.site_scales},
               {"log_every", run.options.log_every},
               {"coders", jobs}};
  if (length_matters) json["steps"] = run.steps;
  return json;
}

// Throws naming the first value that differs.
void expect_same(const std::string& where, const Json& saved, const Json& wanted) {
  if (saved == wanted) return;
  if (saved.is_object() && wanted.is_object()) {
    for (const auto& [key, value] : wanted.items()) {
      const auto found = saved.find(key);
      if (found != saved.end()) {
        expect_same(where.empty() ? key : where + "." + key, *found, value);
      }
    }
  }
  if (saved.is_array() && wanted.is_array() && saved.size() == wanted.size()) {
    for (std::size_t i = 0; i < saved.size(); ++i) {
      expect_same(where + "[" + std::to_string(i) + "]", saved[i], wanted[i]);
    }
  }
  throw_data("the run was started with ", where, " ", saved.dump(), ", this one has ",
             wanted.dump(), "; resume with the same settings");
}

Json loss_json(const CoderLoss& loss) {
  Json json = {{"dead", loss.dead}};
  for (const auto& [name, field] : kLossFields) json[name] = loss.*field;  // NaN becomes null
  return json;
}

CoderLoss read_loss(const Json& json) {
  CoderLoss loss;
  loss.dead = get_int(json, "dead", kState);
  for (const auto& [name, field] : kLossFields) {
    const Json& value = get_member(json, name, kState);
    loss.*field =
        value.is_null() ? std::numeric_limits<double>::quiet_NaN() : json_double(value, name);
  }
  return loss;
}

std::vector<std::int64_t> counts_of(const SafetensorsFile& file, const std::string& name,
                                    std::size_t wanted) {
  const Tensor tensor = file.get(name).clone();
  if (tensor.dtype() != DType::kI64 || tensor.rank() != 1 ||
      tensor.dim(0) != static_cast<std::int64_t>(wanted)) {
    throw_data("tensor '", name, "' is ", dtype_name(tensor.dtype()), " ",
               shape_string(tensor.shape()), ", wanted int64 [", wanted, "]");
  }
  const auto values = tensor.data<std::int64_t>();
  return {values.begin(), values.end()};
}

void take(const SafetensorsFile& file, const std::string& name, Tensor& to) {
  Tensor tensor = file.get(name).clone();
  if (tensor.dtype() != to.dtype() || tensor.shape() != to.shape()) {
    throw_data("tensor '", name, "' is ", dtype_name(tensor.dtype()), " ",
               shape_string(tensor.shape()), ", wanted ", dtype_name(to.dtype()), " ",
               shape_string(to.shape()));
  }
  to = std::move(tensor);
}

}  // namespace

void write_coder_checkpoint(const std::filesystem::path& path, const CoderRunIdentity& identity,
                            const CoderRunState& state, const std::vector<CoderPart>& parts,
                            const RowStream& stream) {
  RowStreamState rows = stream.state();
  Json coders = Json::array();
  std::vector<NamedTensor> tensors;
  std::vector<Tensor> owned;
  owned.reserve(2 * parts.size());
  for (const CoderPart& part : parts) {
    CoderJobState& s = *part.state;
    coders.push_back({{"since", s.since},
                      {"sum", loss_json(s.sum)},
                      {"last", loss_json(s.last.loss)},
                      {"fire_rows", s.fire_rows},
                      {"reservoir", s.reservoir.size()},
                      {"resamplings", s.resamplings},
                      {"resampled", s.resampled},
                      {"threshold_updates", part.stepper->threshold_updates()}});
    const std::string prefix = part.name + "/";
    for (const NamedTensor& t : part.stepper->state())
      tensors.push_back({prefix + t.name, t.tensor});
    const auto h = static_cast<std::int64_t>(s.last_active.size());
    tensors.push_back({prefix + "last_active",
                       &owned.emplace_back(Tensor::from<std::int64_t>(s.last_active, {h}))});
    tensors.push_back(
        {prefix + "fires", &owned.emplace_back(Tensor::from<std::int64_t>(s.fires, {h}))});
    if (s.reservoir.rows().defined()) {
      tensors.push_back({prefix + "reservoir.rows", &s.reservoir.rows()});
      tensors.push_back({prefix + "reservoir.keys", &s.reservoir.keys()});
    }
  }
  Json stream_tensors = Json::array();
  for (const auto& [name, tensor] : rows.tensors) {
    stream_tensors.push_back(name);
    tensors.push_back({"stream/" + name, &tensor});
  }
  const Json json = {{"version", kVersion}, {"run", identity_json(identity)},
                     {"step", state.step},  {"rows", state.rows},
                     {"pass", state.pass},  {"coders", coders},
                     {"stream", rows.json}, {"stream_tensors", stream_tensors}};
  write_safetensors(path, tensors, {{kState, json_text(json)}});
}

void read_coder_checkpoint(const std::filesystem::path& path, const CoderRunIdentity& identity,
                           CoderRunState& state, const std::vector<CoderPart>& parts,
                           RowStream& stream) {
  try {
    const SafetensorsFile file = SafetensorsFile::open(path);
    const auto text = file.metadata().find(kState);
    if (text == file.metadata().end()) throw_data("not a checkpoint of a run of coders");
    const Json json = parse_json(text->second, kState);
    expect_object(json, kState);
    if (get_int(json, "version", kState) != kVersion) {
      throw_data("a checkpoint of version ", get_int(json, "version", kState),
                 ", this drrik reads ", kVersion);
    }
    expect_same("", expect_object(get_member(json, "run", kState), "run"), identity_json(identity));
    CoderRunState read;
    read.step = get_int(json, "step", kState);
    read.rows = get_int(json, "rows", kState);
    read.pass = get_int(json, "pass", kState);
    const Json& coders = expect_array(get_member(json, "coders", kState), "coders");
    if (coders.size() != parts.size()) {
      throw_data("state of ", coders.size(), " coders, wanted ", parts.size());
    }
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const CoderPart& part = parts[i];
      CoderJobState& s = *part.state;
      const std::string prefix = part.name + "/";
      for (const NamedTensor& t : part.stepper->state()) {
        part.stepper->restore(t.name, file.get(prefix + t.name));
      }
      const Json& saved = expect_object(coders[i], "coders");
      part.stepper->set_threshold_updates(get_int(saved, "threshold_updates", kState));
      s.last_active = counts_of(file, prefix + "last_active", s.last_active.size());
      s.fires = counts_of(file, prefix + "fires", s.fires.size());
      s.fire_rows = get_int(saved, "fire_rows", kState);
      s.since = get_int(saved, "since", kState);
      s.sum = read_loss(expect_object(get_member(saved, "sum", kState), "sum"));
      s.last = {};
      s.last.loss = read_loss(expect_object(get_member(saved, "last", kState), "last"));
      s.last.step = read.step;
      s.last.rows = read.rows;
      s.resamplings = get_int(saved, "resamplings", kState);
      s.resampled = get_int(saved, "resampled", kState);
      if (s.reservoir.rows().defined()) {
        const std::int64_t size = get_int(saved, "reservoir", kState);
        take(file, prefix + "reservoir.rows", s.reservoir.rows());
        take(file, prefix + "reservoir.keys", s.reservoir.keys());
        if (size < 0 || size > s.reservoir.rows().dim(0)) {
          throw_data("a reservoir of ", size, " rows, there is room for ",
                     s.reservoir.rows().dim(0));
        }
        s.reservoir.set_size(size);
      }
    }
    RowStreamState rows;
    rows.json = get_string(json, "stream", kState);
    for (const Json& name : expect_array(get_member(json, "stream_tensors", kState), "stream")) {
      const std::string key = json_string(name, "stream_tensors");
      rows.tensors.emplace_back(key, file.get("stream/" + key).clone());
    }
    stream.restore(rows);
    state = read;
  } catch (Error& error) {
    if (std::string_view(error.what()).find(path.string()) == std::string_view::npos) {
      error.add_context(path.string());
    }
    throw;
  }
}

}  // namespace drrik
