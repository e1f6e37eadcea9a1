// drrik info: autoencoders, activations, arrays and datasets.

#include <algorithm>
#include <map>

#include "drrik/activations/store.h"
#include "drrik/base/error.h"
#include "drrik/base/interrupt.h"
#include "drrik/data/source.h"
#include "drrik/io/npy.h"
#include "drrik/model/hook.h"
#include "drrik/sae/io.h"
#include "info.h"

namespace drrik::cli {
namespace {

namespace fs = std::filesystem;

/// Rows of text formats are counted by reading them: up to so many bytes without being asked.
constexpr std::uint64_t kCountedBytes = std::uint64_t{256} << 20;
constexpr int kShownSamples = 3;

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", value);
  return text;
}

}  // namespace

void activations_info(const fs::path& path, Info& info) {
  const ActivationInfo found = describe_activations(path);
  Json& json = info.json;
  Screen& screen = info.screen;
  json["rows"] = found.rows;
  json["dim"] = found.dim;
  json["dtype"] = dtype_name(found.dtype);
  json["bytes"] = found.bytes;
  json["files"] = found.files;
  screen.title("activations", path.string());
  screen.section("Arrays");
  screen.row("rows", grouped(found.rows));
  screen.row("width", grouped(found.dim));
  screen.row("dtype", dtype_name(found.dtype));
  screen.row("size", str(human_bytes(static_cast<double>(found.bytes)), " in ", found.files.size(),
                         found.files.size() == 1 ? " file" : " files"));
  if (!found.has_metadata) return;
  const ActivationMetadata& metadata = found.metadata;
  const ExtractorOptions& config = metadata.config;
  json["model"] = config.model.model_name;
  json["dataset"] = config.dataset.dataset_name;
  json["hook"] = hook_name(config.extraction.hook);
  json["positions"] = positions_name(config.extraction.positions);
  json["layers"] = metadata.layer_paths;
  json["layer_dim"] = metadata.activation_dim;
  json["samples"] = metadata.num_samples;
  json["skipped"] = metadata.skipped;
  json["max_length"] = config.dataset.max_length;
  json["complete"] = metadata.complete;
  screen.section("Where from");
  screen.row("model", printable(config.model.model_name));
  screen.row("hook", hook_name(config.extraction.hook));
  screen.row("layers", str(join(metadata.layer_paths),
                           metadata.layer_paths.size() > 1
                               ? str("; ", metadata.activation_dim, " columns each")
                               : std::string()));
  screen.row("positions", positions_name(config.extraction.positions));
  screen.row("dataset", printable(config.dataset.dataset_name));
  screen.row("texts", str(grouped(metadata.num_samples), ", of at most ",
                          grouped(config.dataset.max_length), " tokens",
                          metadata.skipped > 0
                              ? str("; ", grouped(metadata.skipped), " left out without a token")
                              : std::string()));
  if (!metadata.complete) screen.note("cut short: drrik extract --resume continues it");
}

void sae_info(const fs::path& path, Info& info) {
  const LoadedSae loaded = load_sae_with_record(path);
  const SaeRecord& record = loaded.record;
  const auto finite = [](double value) { return value == value; };
  Json& json = info.json;
  json["format"] = loaded.format;
  json["architecture"] = loaded.sae->architecture();
  json["d_in"] = loaded.sae->d_in();
  json["d_sae"] = loaded.sae->d_sae();
  json["model"] = record.model_name;
  json["hook"] = record.hook_name;
  json["layer"] = record.layer < 0 ? Json(nullptr) : Json(record.layer);
  json["dataset"] = record.dataset;
  json["context_size"] = record.context_size;
  json["normalize_activations"] = record.normalize_activations;
  json["epochs"] = record.history.training_losses.size();
  json["metrics"] = record.metrics;
  json["facts"] = record.facts;
  Screen& screen = info.screen;
  screen.title("autoencoder", path.string());
  screen.section("Architecture");
  const double expansion =
      static_cast<double>(loaded.sae->d_sae()) / static_cast<double>(loaded.sae->d_in());
  screen.row("kind", str(loaded.sae->architecture(), " (", loaded.format, ")"));
  screen.row("size", str(grouped(loaded.sae->d_in()), " to ", grouped(loaded.sae->d_sae()),
                         " latents, × ", number(expansion)));
  screen.row("input scaling", record.normalize_activations);
  if (!record.model_name.empty() || !record.hook_name.empty()) {
    screen.section("Trained on");
    screen.row("model", printable(record.model_name));
    screen.row("hook", printable(record.hook_name));
    if (record.layer >= 0) screen.row("layer", std::to_string(record.layer));
    screen.row("dataset", printable(record.dataset));
    if (record.context_size > 0)
      screen.row("context", str(grouped(record.context_size), " tokens"));
  }
  if (!record.metrics.empty() || !record.history.training_losses.empty()) {
    screen.section("Training");
    const auto& losses = record.history.training_losses;
    if (!losses.empty()) {
      screen.row("epochs", std::to_string(losses.size()));
      screen.row("loss", losses.size() == 1
                             ? number(losses.back())
                             : str(number(losses.front()), " to ", number(losses.back())));
    }
    const auto& l0 = record.history.training_l0_norms;
    if (!l0.empty()) screen.row("active latents", str(number(l0.back()), " a row"));
    const auto& validation = record.history.validation_losses;
    if (!validation.empty() && finite(validation.back())) {
      screen.row("validation loss", number(validation.back()));
    }
    for (const auto& [name, value] : record.metrics) screen.row(printable(name, 60), number(value));
  }
  if (!record.facts.empty()) {
    screen.section("Settings");
    for (const auto& [name, value] : record.facts) {
      screen.row(printable(name, 60), printable(value));
    }
  }
}

void arrays_info(const fs::path& npz, Info& info) {
  const std::map<std::string, Tensor> arrays = read_npz(npz);
  info.screen.title("arrays", npz.string());
  info.screen.section("Arrays");
  Json list = Json::array();
  std::vector<std::vector<std::string>> rows;
  for (const auto& [name, array] : arrays) {
    list.push_back(
        {{"name", name}, {"dtype", dtype_name(array.dtype())}, {"shape", array.shape()}});
    rows.push_back(
        {printable(name, 60), shape_string(array.shape()), std::string(dtype_name(array.dtype()))});
  }
  info.json["arrays"] = list;
  info.screen.table({"name", "shape", "dtype"}, rows);
}

void dataset_info(const std::string& path, bool count_all, Info& info) {
  DatasetOptions options;
  options.path = path;
  const DatasetInfo found = inspect_dataset(options);
  Json& json = info.json;
  Screen& screen = info.screen;
  json["format"] = found.format;
  json["files"] = found.files;
  json["bytes"] = found.bytes;
  json["configs"] = found.configs;
  json["splits"] = found.splits;
  json["text_column"] = found.text_column.empty() ? Json(nullptr) : Json(found.text_column);
  Json columns = Json::array();
  std::vector<std::vector<std::string>> rows;
  for (const DatasetColumn& column : found.columns) {
    columns.push_back({{"name", column.name}, {"type", column.type}, {"text", column.text}});
    rows.push_back({printable(column.name, 60), printable(column.type, 60),
                    column.name == found.text_column ? "the text"
                    : column.text                    ? "can be"
                                                     : ""});
  }
  json["columns"] = columns;

  // Rows and samples need a text column; without one the columns are what there is to say.
  std::optional<std::int64_t> count = found.rows;
  std::optional<std::uint64_t> text_bytes;
  std::vector<std::string> samples;
  std::string why_not;
  if (found.text_column.empty()) {
    why_not = "no column is clearly the text: choose one with --text-column";
  } else {
    const auto source = open_dataset(options);
    const bool whole = count_all || (!count && found.bytes <= kCountedBytes);
    std::int64_t seen = 0;
    std::uint64_t bytes = 0;
    while (whole || seen < kShownSamples) {
      check_interrupt("counting a dataset's rows");
      const auto sample = source->next();
      if (!sample) break;
      if (seen < kShownSamples) samples.push_back(sample->text.substr(0, 4096));
      bytes += sample->text.size();
      ++seen;
    }
    if (whole) {
      text_bytes = bytes;
      if (!count) count = seen;
    }
  }
  json["rows"] = count ? Json(*count) : Json(nullptr);
  json["text_bytes"] = text_bytes ? Json(*text_bytes) : Json(nullptr);
  json["samples"] = samples;

  screen.title("dataset", path);
  screen.section("Files");
  screen.row("format", found.format);
  screen.row("size", str(human_bytes(static_cast<double>(found.bytes)), " in ", found.files.size(),
                         found.files.size() == 1 ? " file" : " files"));
  screen.row("rows", count ? grouped(*count) : "not counted (--count reads them all)");
  if (text_bytes) screen.row("text", human_bytes(static_cast<double>(*text_bytes)));
  screen.row("configurations", printable(join(found.configs), 400));
  screen.row("splits", printable(join(found.splits), 400));
  screen.section("Columns");
  screen.table({"column", "type", ""}, rows);
  if (!samples.empty()) {
    screen.section("First texts");
    for (std::size_t i = 0; i < samples.size(); ++i) {
      screen.row(std::to_string(i), printable(samples[i], 160));
    }
  }
  if (!why_not.empty()) screen.note(why_not);
}

}  // namespace drrik::cli
