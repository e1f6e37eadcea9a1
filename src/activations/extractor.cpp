#include "drrik/activations/extractor.h"

#include <algorithm>
#include <utility>

#include "activations/batch_reader.h"
#include "activations/collect.h"
#include "activations/inputs.h"
#include "drrik/base/interrupt.h"
#include "drrik/base/log.h"
#include "drrik/base/progress.h"
#include "drrik/model/hook_names.h"

namespace drrik {
namespace {

std::int64_t highest_layer(const ExtractorOptions& options) {
  const auto& layers = options.extraction.mlp_layers;
  return *std::max_element(layers.begin(), layers.end());
}

/// Rows of one batch, kept from the batch before to spare the allocation.
struct BatchRows {
  std::vector<float> values;
  MatView<float> resize(std::int64_t rows, std::int64_t cols) {
    const auto size = static_cast<std::size_t>(rows * cols);
    if (values.size() < size) values.resize(size);
    return {values.data(), rows, cols};
  }
};

}  // namespace

std::string utf8_prefix(const std::string& text, std::int64_t count) {
  std::int64_t seen = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool starts = (static_cast<unsigned char>(text[i]) & 0xC0U) != 0x80U;
    if (starts && seen++ == count) return text.substr(0, i);
  }
  return text;
}

struct ActivationExtractor::Impl {
  ExtractorOptions options;
  std::shared_ptr<const Model> model;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::unique_ptr<TextSource> dataset;
  std::optional<std::vector<std::string>> texts;
  std::function<void(std::int64_t)> on_batch;

  void check_layers(const Model& loaded) const {
    for (const std::int64_t layer : options.extraction.mlp_layers) {
      loaded.check_hook({options.extraction.hook, layer});
    }
  }

  const Model& load_model() {
    if (!model) model = detail::load_model_to(options.model, highest_layer(options));
    check_layers(*model);
    return *model;
  }

  const Tokenizer& load_tokenizer() {
    if (!tokenizer) tokenizer = detail::load_tokenizer_of(options.model);
    return *tokenizer;
  }

  TextSource& load_dataset() {
    if (!dataset) dataset = detail::open_texts(options.dataset, texts);
    return *dataset;
  }

  ActivationMetadata head(std::int64_t num_samples) {
    const Model& loaded = load_model();
    ActivationMetadata metadata;
    metadata.config = options;
    metadata.config.dataset.num_samples = num_samples;
    metadata.activation_dim = loaded.hook_width(options.extraction.hook);
    for (const std::int64_t layer : options.extraction.mlp_layers) {
      const Hook hook{options.extraction.hook, layer};
      metadata.layer_paths.push_back(loaded.module_path(hook));
      std::string lens = transformer_lens_name(hook, loaded.config());
      if (!lens.empty()) metadata.lens_names.push_back(std::move(lens));
    }
    metadata.dtype = options.extraction.store_dtype;
    return metadata;
  }

  using Sink = std::function<void(MatView<const float> rows, std::vector<SampleRecord> samples,
                                  const ActivationWriter::Progress& after)>;

  // The one loop: reads, runs the model, keeps rows, hands them on. Returns where it ended.
  ActivationWriter::Progress run(const ActivationMetadata& metadata,
                                 const ActivationWriter::Progress& start, const Sink& sink);
};

ActivationWriter::Progress ActivationExtractor::Impl::run(const ActivationMetadata& metadata,
                                                          const ActivationWriter::Progress& start,
                                                          const Sink& sink) {
  const Model& loaded = load_model();
  const Tokenizer& words = load_tokenizer();
  // Taken out of the cache first: a stream serves one extraction, even one that fails.
  load_dataset();
  const std::unique_ptr<TextSource> source = std::move(dataset);
  const auto& extraction = options.extraction;

  detail::BatchLimits limits = detail::batch_limits(options.dataset, loaded.config());
  limits.batch_size = extraction.batch_size;
  limits.max_batch_tokens = extraction.max_batch_tokens;
  limits.num_samples = metadata.config.dataset.num_samples;
  detail::BatchReader reader(*source, words, limits, start);

  detail::Batch batch;
  BatchRows buffer;
  MatView<float> rows;
  const std::int64_t dim = metadata.activation_dim;

  ForwardOptions forward;
  for (const std::int64_t layer : extraction.mlp_layers) {
    forward.hooks.push_back({extraction.hook, layer});
  }
  std::sort(forward.hooks.begin(), forward.hooks.end(),
            [](const Hook& a, const Hook& b) { return a.layer < b.layer; });
  forward.on_hook = [&](const Hook& hook, MatView<float> activations) {
    const auto& layers = extraction.mlp_layers;
    const auto column = std::find(layers.begin(), layers.end(), hook.layer) - layers.begin();
    detail::collect_positions(activations, batch.tokens.boundaries, extraction.positions,
                              rows.cols_range(column * dim, dim));
  };

  Progress progress("Extracting", 0, "tokens");
  std::int64_t tokens = 0;
  std::int64_t done = 0;
  while (reader.next(batch)) {
    check_interrupt("extracting activations");
    std::int64_t count = 0;
    for (SampleRecord& sample : batch.samples) {
      sample.row = count;
      sample.rows =
          detail::rows_of(extraction.positions, static_cast<std::int64_t>(sample.input_ids.size()));
      count += sample.rows;
    }
    rows = buffer.resize(count, metadata.row_dim());
    loaded.forward(batch.tokens, forward);
    detail::check_finite(rows, dim, metadata.layer_paths, batch.samples, extraction.positions);
    done += static_cast<std::int64_t>(batch.samples.size());
    tokens += batch.tokens.rows();
    sink(rows, std::move(batch.samples), batch.after);
    // The number of tokens is not known ahead; the share of the input read so far says it.
    const double fraction = reader.fraction();
    if (fraction > 0.0) {
      progress.set_total(static_cast<std::int64_t>(static_cast<double>(tokens) / fraction));
    }
    progress.set_note(str(done, " samples"));
    progress.advance(batch.tokens.rows());
    if (on_batch) on_batch(done);
  }
  progress.set_total(tokens);
  progress.finish();
  const ActivationWriter::Progress end = reader.end();
  detail::tell_skipped(start, end);
  return end;
}

ActivationExtractor::ActivationExtractor(ExtractorOptions options)
    : impl_(std::make_unique<Impl>()) {
  options.validate();
  impl_->options = std::move(options);
}
ActivationExtractor::~ActivationExtractor() = default;
ActivationExtractor::ActivationExtractor(ActivationExtractor&&) noexcept = default;
ActivationExtractor& ActivationExtractor::operator=(ActivationExtractor&&) noexcept = default;

const ExtractorOptions& ActivationExtractor::options() const { return impl_->options; }
const Model& ActivationExtractor::load_model() { return impl_->load_model(); }
const Tokenizer& ActivationExtractor::load_tokenizer() { return impl_->load_tokenizer(); }
TextSource& ActivationExtractor::load_dataset() { return impl_->load_dataset(); }

void ActivationExtractor::use_model(std::shared_ptr<const Model> model,
                                    std::shared_ptr<const Tokenizer> tokenizer) {
  impl_->model = std::move(model);
  impl_->tokenizer = std::move(tokenizer);
}

void ActivationExtractor::use_texts(std::vector<std::string> texts) {
  impl_->texts = std::move(texts);
  impl_->dataset.reset();
}

void ActivationExtractor::set_batch_callback(std::function<void(std::int64_t)> callback) {
  impl_->on_batch = std::move(callback);
}

Activations ActivationExtractor::extract(std::optional<std::int64_t> num_samples) {
  Activations out;
  out.metadata = impl_->head(num_samples.value_or(impl_->options.dataset.num_samples));
  auto& metadata = out.metadata;
  std::vector<float> values;
  const auto end = impl_->run(metadata, {},
                              [&](MatView<const float> rows, std::vector<SampleRecord> samples,
                                  const ActivationWriter::Progress&) {
                                values.insert(values.end(), rows.data(),
                                              rows.data() + rows.rows() * rows.cols());
                                for (SampleRecord& sample : samples) {
                                  sample.row += metadata.num_rows;
                                  metadata.samples.push_back(std::move(sample));
                                }
                                metadata.num_rows += rows.rows();
                              });
  metadata.num_samples = static_cast<std::int64_t>(metadata.samples.size());
  metadata.skipped = end.skipped;
  out.activations = Tensor::from<float>(values, {metadata.num_rows, metadata.row_dim()});
  return out;
}

ActivationMetadata ActivationExtractor::extract_to(const std::filesystem::path& folder, bool resume,
                                                   std::optional<std::int64_t> num_samples) {
  const std::filesystem::path target =
      folder.empty() ? std::filesystem::path(impl_->options.extraction.output_dir) : folder;
  if (target.empty()) throw_usage("no folder to write activations to: output_dir is empty");
  const ActivationMetadata head =
      impl_->head(num_samples.value_or(impl_->options.dataset.num_samples));
  // Whatever is wrong with the inputs is told before an earlier store is touched.
  impl_->load_tokenizer();
  impl_->load_dataset();
  ActivationWriter writer(
      target, head, resume ? ActivationWriter::Mode::kResume : ActivationWriter::Mode::kReplace);
  if (writer.already_complete()) {
    log_info("'", target.string(), "' is complete: nothing to resume");
    return writer.finish({});
  }
  if (resume && writer.progress().consumed > 0) {
    log_info("resuming after ", writer.progress().consumed, " samples");
  }
  try {
    const auto end = impl_->run(head, writer.progress(),
                                [&](MatView<const float> rows, std::vector<SampleRecord> samples,
                                    const ActivationWriter::Progress& after) {
                                  writer.append(rows, std::move(samples), after);
                                });
    return writer.finish(end);
  } catch (const Error&) {
    try {
      writer.suspend();
    } catch (const Error& second) {
      log_error(second.what());
    }
    throw;
  }
}

void ActivationExtractor::save_activations(const Activations& activations,
                                           const std::filesystem::path& output_dir) const {
  const std::filesystem::path target =
      output_dir.empty() ? std::filesystem::path(impl_->options.extraction.output_dir) : output_dir;
  if (target.empty()) throw_usage("no folder to save activations to: output_dir is empty");
  drrik::save_activations(activations.activations, activations.metadata, target);
}

}  // namespace drrik
