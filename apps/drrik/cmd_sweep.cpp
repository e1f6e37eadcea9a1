// drrik sweep: coders side by side: what they cost in activity and keep in faithfulness, and
// whether seeds agree on the features.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>

#include "drrik/activations/row_source.h"
#include "drrik/base/error.h"
#include "drrik/eval/matching.h"
#include "drrik/eval/metrics.h"
#include "drrik/eval/splice.h"
#include "drrik/sae/io.h"
#include "drrik/viz/frontier.h"
#include "options.h"
#include "pipeline.h"
#include "sae_flags.h"

namespace drrik::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kSpliceTexts = 16;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

struct Flags {
  std::vector<std::string> saes;
  std::string activations;
  std::string output;
  bool no_match = false;
};

struct Member {
  std::string name;
  LoadedSae loaded;
  EvalReport report;
  double ce_recovered = kNan;
  double kl = kNan;
  double seconds = 0.0;
};

// A folder of autoencoders, or one of them.
std::vector<std::string> sae_folders(const std::vector<std::string>& given) {
  std::vector<std::string> folders;
  for (const std::string& path : given) {
    if (is_sae_path(path)) {
      folders.push_back(path);
      continue;
    }
    std::error_code error;
    std::vector<std::string> inside;
    for (const auto& entry : fs::directory_iterator(path, error)) {
      if (entry.is_directory() && is_sae_path(entry.path()))
        inside.push_back(entry.path().string());
    }
    if (error) throw_io("'", path, "': ", error.message());
    if (inside.empty()) throw_data("'", path, "' holds no autoencoders");
    std::ranges::sort(inside);
    folders.insert(folders.end(), inside.begin(), inside.end());
  }
  return folders;
}

std::string fact(const SaeRecord& record, const std::string& name) {
  const auto found = record.facts.find(name);
  return found != record.facts.end() ? found->second : "";
}

// What must be equal for two coders to differ by their seed alone.
std::string kin(const Member& m) {
  return str(m.loaded.sae->architecture(), " ", m.loaded.sae->d_sae(), " ", m.loaded.record.layer,
             " ", m.loaded.record.hook_name, " ", fact(m.loaded.record, "learning_rate"), " ",
             fact(m.loaded.record, "sparsity_coefficient"), " ", fact(m.loaded.record, "k"));
}

std::string series_of(const Member& m) {
  std::string name = str(m.loaded.sae->architecture(), " ", m.loaded.sae->d_sae());
  if (m.loaded.record.layer >= 0) name += str(", layer ", m.loaded.record.layer);
  return name;
}

Json number_or_null(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

void run(const Globals& globals, const Flags& flags) {
  std::vector<Member> members;
  const auto rows = open_row_source(
      globals.folder_or(flags.activations, "--activations", "extractor.extraction.output_dir"));
  for (const std::string& folder : sae_folders(flags.saes)) {
    Member member;
    member.name = fs::path(folder).lexically_normal().filename().string();
    member.loaded = load_sae_with_record(folder);
    member.report = evaluate(*member.loaded.sae, *rows);
    members.push_back(std::move(member));
  }
  const Config& config = globals.config;
  if (!config.extractor.model.model_name.empty()) {
    if (config.extractor.dataset.dataset_name.empty()) {
      throw_usage("--model needs --dataset: texts to splice the autoencoders into");
    }
    const Tokenizer tokenizer = open_tokenizer(config);
    const Model model = load_model(config);
    const auto sequences = tokenize_dataset(
        config, tokenizer, config.extractor.dataset.num_samples.value_or(kSpliceTexts));
    for (Member& member : members) {
      const SpliceReport splice =
          evaluate_splice(model, *member.loaded.sae,
                          hook_of({}, "", member.loaded.record, model.config()), sequences);
      member.ce_recovered = splice.ce_recovered;
      member.kl = splice.kl_spliced;
    }
  }

  Json json = {{"coders", Json::array()}, {"matches", Json::array()}};
  std::string text;
  char line[256];
  std::snprintf(line, sizeof line, "%-34s %8s %9s %9s %7s %9s\n", "coder", "latents", "L0", "FVU",
                "dead", "CE rec.");
  text += line;
  std::vector<FrontierPoint> points;
  for (const Member& m : members) {
    points.push_back({series_of(m), m.report.l0, m.report.fvu, m.ce_recovered});
    json["coders"].push_back({{"name", m.name},
                              {"architecture", m.loaded.sae->architecture()},
                              {"d_sae", m.report.d_sae},
                              {"layer", m.loaded.record.layer},
                              {"l0", m.report.l0},
                              {"fvu", number_or_null(m.report.fvu)},
                              {"dead_latents", m.report.dead_latents},
                              {"ce_recovered", number_or_null(m.ce_recovered)},
                              {"kl_spliced", number_or_null(m.kl)}});
    char recovered[32] = "-";
    if (std::isfinite(m.ce_recovered)) {
      std::snprintf(recovered, sizeof recovered, "%.4f", m.ce_recovered);
    }
    std::snprintf(line, sizeof line, "%-34s %8lld %9.2f %9.4f %7lld %9s\n", m.name.c_str(),
                  static_cast<long long>(m.report.d_sae), m.report.l0, m.report.fvu,
                  static_cast<long long>(m.report.dead_latents), recovered);
    text += line;
  }
  if (!flags.no_match) {
    bool any = false;
    for (std::size_t i = 0; i < members.size(); ++i) {
      for (std::size_t j = i + 1; j < members.size(); ++j) {
        if (kin(members[i]) != kin(members[j]) ||
            fact(members[i].loaded.record, "seed") == fact(members[j].loaded.record, "seed")) {
          continue;
        }
        const FeatureMatch match = match_features(*members[i].loaded.sae, *members[j].loaded.sae);
        json["matches"].push_back({{"a", members[i].name},
                                   {"b", members[j].name},
                                   {"mean_max_cosine", match.mean_max_cosine},
                                   {"matched_share", match.matched},
                                   {"mutual_share", match.mutual}});
        if (!any) text += "\nseeds that agree: mean max cosine, share over 0.7, mutual share\n";
        any = true;
        std::snprintf(line, sizeof line, "%-70s %.3f %.3f %.3f\n",
                      (members[i].name + " ~ " + members[j].name).c_str(), match.mean_max_cosine,
                      match.matched, match.mutual);
        text += line;
      }
    }
  }
  if (!flags.output.empty()) {
    VisualizerOptions options = visualizer_options(globals);
    options.output_dir = flags.output;
    const Figure figure = plot_frontier(points, options);
    json["figure"] = figure.path.string();
    text += "\n" + figure.path.string();
  }
  emit(globals, json, text);
}

}  // namespace

Command sweep_command() {
  return {"sweep", "Compare trained autoencoders: L0, FVU, cross-entropy, agreement of seeds",
          "  drrik sweep saes --activations acts\n"
          "  drrik sweep saes --activations acts --model assets/demo/model --dataset "
          "assets/demo/text.jsonl --output report\n",
          [](CLI::App& app, Globals& globals) -> std::function<void()> {
            auto flags = std::make_shared<Flags>();
            app.add_option("saes", flags->saes, "Autoencoders, or folders of them")->required();
            app.add_option("--activations", flags->activations,
                           "Rows that none of them was trained on: a folder or .npy file");
            app.add_option("--output", flags->output, "Folder for the picture of the frontier");
            app.add_flag("--no-match", flags->no_match, "Leave out the agreement of seeds");
            add_setting(app, globals, "--model", "extractor.model.model_name");
            add_setting(app, globals, "--dtype", "extractor.model.torch_dtype");
            add_dataset_settings(app, globals);
            add_setting(app, globals, "--max-length", "extractor.dataset.max_length");
            add_bos_settings(app, globals);
            add_setting(app, globals, "--style", "visualization.style");
            add_setting(app, globals, "--format", "visualization.format");
            return [&globals, flags] { run(globals, *flags); };
          }};
}

}  // namespace drrik::cli
