#include "activations/inputs.h"

#include <filesystem>

#include "drrik/base/error.h"
#include "drrik/base/log.h"
#include "drrik/hub/resolve.h"

namespace drrik::detail {
namespace {

std::filesystem::path model_folder(const ExtractorOptions::ModelGroup& model) {
  if (model.model_name.empty()) throw_usage("no model: model_name is empty");
  return resolve_model_folder(model.model_name, model.revision);
}

}  // namespace

std::shared_ptr<const Model> load_model_to(const ExtractorOptions::ModelGroup& model,
                                           std::int64_t top_layer) {
  const auto folder = model_folder(model);
  const ModelConfig config = read_model_config(folder);
  if (top_layer >= config.n_layers) {
    throw_usage("layer ", top_layer, " does not exist: '", folder.string(), "' has ",
                config.n_layers, " layers, 0 to ", config.n_layers - 1);
  }
  if (model.trust_remote_code) {
    log_warning("trust_remote_code has no effect: code from a model folder is never run");
  }
  ModelOptions load;
  load.compute = model.torch_dtype == DType::kBF16 ? Compute::kBF16 : Compute::kF32;
  load.max_layers = top_layer + 1;
  load.skip_head = true;
  load.residency = model.residency;
  return std::make_shared<const Model>(Model::load(folder, load));
}

std::shared_ptr<const Tokenizer> load_tokenizer_of(const ExtractorOptions::ModelGroup& model) {
  return std::make_shared<const Tokenizer>(Tokenizer::from_folder(model_folder(model)));
}

std::unique_ptr<TextSource> open_texts(const ExtractorOptions::DatasetGroup& dataset,
                                       const std::optional<std::vector<std::string>>& texts) {
  if (texts) {
    if (texts->empty()) throw_data("no texts to extract activations from");
    return make_text_source(*texts);
  }
  if (dataset.dataset_name.empty()) throw_usage("no dataset: dataset_name is empty");
  DatasetOptions open;
  open.path = dataset.dataset_name;
  open.config = dataset.dataset_config;
  open.revision = dataset.dataset_revision;
  open.split = dataset.split;
  open.skip = dataset.skip;
  if (dataset.shuffle_seed >= 0) {
    open.shuffle_seed = static_cast<std::uint64_t>(dataset.shuffle_seed);
  }
  open.text_column = dataset.text_column;
  open.sample_by = dataset.sample_by;
  return open_dataset(open);
}

BatchLimits batch_limits(const ExtractorOptions::DatasetGroup& dataset, const ModelConfig& config) {
  BatchLimits limits;
  limits.max_length = dataset.max_length;
  const std::int64_t positions = config.max_positions;
  if (positions > 0 && positions < limits.max_length) {
    log_info(dataset.pack ? "contexts have" : "texts are cut to", " the ", positions,
             " positions of the model");
    limits.max_length = positions;
  }
  limits.add_special_tokens = dataset.add_special_tokens;
  limits.bos = dataset.bos;
  limits.pack = dataset.pack;
  limits.num_samples = dataset.num_samples;
  return limits;
}

void tell_skipped(const ActivationWriter::Progress& start, const ActivationWriter::Progress& end) {
  if (end.skipped > start.skipped) {
    log_warning(end.skipped, " of ", end.consumed, " samples had no text and were skipped");
  }
  if (end.consumed == 0) throw_data("the dataset is empty: no sample to extract from");
  if (end.consumed == end.skipped) {
    throw_data("none of the dataset's ", end.consumed, " samples has any text");
  }
}

}  // namespace drrik::detail
