// drrik dashboard: a page that shows every feature, from one pass over texts.

#include <memory>
#include <optional>

#include "dashboard_flags.h"
#include "drrik/base/error.h"
#include "drrik/base/log.h"
#include "drrik/base/system.h"
#include "drrik/model/hook_names.h"
#include "drrik/viz/dashboard.h"
#include "options.h"
#include "pipeline.h"

namespace drrik::cli {
namespace {

namespace fs = std::filesystem;

struct Flags {
  DashboardFlags inputs;
  std::string output = "dashboard";
  bool single_file = false;
  std::string labels;
  std::string neuronpedia;
  NeuronpediaOptions naming;
  std::string saedashboard;
};

// One file is named by its ending; a folder gets one of a fixed name.
fs::path packed_path(const std::string& output) {
  const fs::path path(output);
  return path.extension() == ".html" ? path : path / "dashboard.html";
}

// Labels that are there are kept; those of --labels win.
FeatureLabels gather_labels(const fs::path& beside, const std::string& given) {
  FeatureLabels labels;
  std::error_code ignored;
  if (fs::is_regular_file(beside, ignored)) labels = load_labels(beside);
  if (!given.empty()) {
    for (auto& [feature, label] : load_labels(given)) labels[feature] = label;
  }
  return labels;
}

void run(const Globals& globals, const Flags& flags) {
  DashboardOptions options = flags.inputs.options(globals);
  if (!flags.neuronpedia.empty() || !flags.saedashboard.empty()) options.lens_bins = 50;
  if (!flags.single_file && fs::path(flags.output).extension() == ".html") {
    throw_usage("--output: '", flags.output, "' names a page; --single-file makes one, without it ",
                "a folder is wanted");
  }
  if (!flags.single_file) check_dashboard_folder(flags.output);
  const fs::path target =
      flags.single_file ? packed_path(flags.output) : fs::path(flags.output) / "index.html";
  const fs::path labels_path = target.parent_path() / "labels.json";
  // Whatever is wrong with small inputs is told before the long pass.
  const FeatureLabels labels = gather_labels(labels_path, flags.labels);

  const DashboardInputs inputs = flags.inputs.open(globals, options);
  Dashboard dashboard = Dashboard::make(inputs, options);
  dashboard.set_labels(labels);
  Json json{{"output", target.string()}};
  if (flags.single_file) {
    dashboard.write_file(target);
    if (!labels.empty()) save_labels(labels, labels_path);
  } else {
    dashboard.write_folder(flags.output);
  }
  std::string text = str(target.string(), "\n");
  if (!flags.neuronpedia.empty()) {
    dashboard.write_neuronpedia(flags.neuronpedia, flags.naming);
    json["neuronpedia"] = flags.neuronpedia;
    text += flags.neuronpedia + "\n";
  }
  if (!flags.saedashboard.empty()) {
    dashboard.write_saedashboard(flags.saedashboard);
    json["saedashboard"] = flags.saedashboard;
    text += flags.saedashboard + "\n";
  }
  json["features"] = dashboard.features().d_sae();
  json["summary"] = Json::object();
  for (const auto& [name, value] : dashboard.summary()) {
    json["summary"][name] = number_or_null(value);
    text += str("  ", name, " ", value, "\n");
  }
  json["peak_memory_bytes"] = peak_resident_bytes();
  emit(globals, json, text);
}

}  // namespace

Command dashboard_command() {
  return {"dashboard", "Make a page that shows every feature: examples, logit lens, neighbours",
          "  drrik dashboard --sae sae --model assets/demo/model --dataset assets/demo/text.jsonl "
          "--output dashboard\n"
          "  drrik dashboard --sae sae --model M --dataset D --single-file --output sae.html\n"
          "  drrik dashboard --sae sae --model M --dataset D --labels explanations.jsonl "
          "--neuronpedia upload\n",
          [](CLI::App& app, Globals& globals) -> std::function<void()> {
            auto flags = std::make_shared<Flags>();
            flags->inputs.add(app, globals);
            app.add_option("--output", flags->output, "Folder for the page and its data")
                ->capture_default_str()
                ->type_name("DIR");
            app.add_flag("--single-file", flags->single_file,
                         "One file with everything in it (--output may name it: sae.html)");
            app.add_option("--labels", flags->labels,
                           "Labels of features: a labels.json, or explanations from Neuronpedia "
                           "(JSON or JSON Lines)")
                ->type_name("FILE");
            app.add_option("--neuronpedia", flags->neuronpedia,
                           "Also write Neuronpedia's batch files and bulk export into this folder")
                ->type_name("DIR");
            app.add_option("--neuronpedia-model", flags->naming.model_id,
                           "The model's name there (default: the folder's)");
            app.add_option("--neuronpedia-set", flags->naming.sae_set,
                           "The name of the set of autoencoders there (default: the folder's)");
            app.add_option("--neuronpedia-suffix", flags->naming.sae_id_suffix,
                           "What tells this one from others of its layer and set");
            app.add_option("--neuronpedia-release", flags->naming.release, "Title of the release");
            app.add_option("--neuronpedia-creator", flags->naming.creator, "Who made it");
            app.add_option("--saedashboard", flags->saedashboard,
                           "Also write the JSON that the package sae-dashboard loads")
                ->type_name("FILE");
            return [&globals, flags] { run(globals, *flags); };
          }};
}

}  // namespace drrik::cli
