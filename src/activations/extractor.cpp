#include "drrik/activations/extractor.h"

#include <algorithm>
#include <array>
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

std::int64_t rows_of(const detail::Batch& batch) {
  return batch.samples.back().row + batch.samples.back().rows;
}

std::size_t bytes_of(MatView<const float> rows) {
  return static_cast<std::size_t>(rows.rows() * rows.cols()) * sizeof(float);
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
  Communicator* ranks = &local_communicator();

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

  // The one loop: reads, runs the model, keeps rows, hands them on (rank 0). Returns where it
  // ended.
  ActivationWriter::Progress run(const ActivationMetadata& metadata,
                                 const ActivationWriter::Progress& start, const Sink& sink);
  // As many batches as there are ranks, fewer at the end; their samples know their rows.
  void read_round(detail::BatchReader& reader, std::vector<detail::Batch>& round) const;
};

void ActivationExtractor::Impl::read_round(detail::BatchReader& reader,
                                           std::vector<detail::Batch>& round) const {
  round.clear();
  while (round.size() < static_cast<std::size_t>(ranks->size())) {
    detail::Batch batch;
    if (!reader.next(batch)) return;
    std::int64_t count = 0;
    for (SampleRecord& sample : batch.samples) {
      sample.row = count;
      sample.rows = detail::rows_of(options.extraction.positions,
                                    static_cast<std::int64_t>(sample.input_ids.size()));
      count += sample.rows;
    }
    round.push_back(std::move(batch));
  }
}

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

  // One batch for each rank, of which `own` is this one's.
  std::vector<detail::Batch> round;
  const auto own = static_cast<std::size_t>(ranks->rank());
  BatchRows own_values;
  BatchRows others_values;
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
    detail::collect_positions(activations, round[own].tokens.boundaries, extraction.positions,
                              rows.cols_range(column * dim, dim));
  };

  std::unique_ptr<Progress> progress;
  if (own == 0) progress = std::make_unique<Progress>("Extracting", 0, "tokens");
  std::int64_t tokens = 0;
  std::int64_t done = 0;
  const auto give = [&](detail::Batch& batch, MatView<const float> values) {
    const std::int64_t length = batch.tokens.rows();
    done += static_cast<std::int64_t>(batch.samples.size());
    tokens += length;
    sink(values, std::move(batch.samples), batch.after);
    // The number of tokens is not known ahead; the share of the input read so far says it.
    const double fraction = reader.fraction();
    if (fraction > 0.0) {
      progress->set_total(static_cast<std::int64_t>(static_cast<double>(tokens) / fraction));
    }
    progress->set_note(str(done, " samples"));
    progress->advance(length);
    if (on_batch) on_batch(done);
  };
  for (;;) {
    together(*ranks, [&] {
      read_round(reader, round);
      if (!round.empty()) check_interrupt("extracting activations");
      if (own >= round.size()) return;
      rows = own_values.resize(rows_of(round[own]), metadata.row_dim());
      loaded.forward(round[own].tokens, forward);
      detail::check_finite(rows, dim, metadata.layer_paths, round[own].samples,
                           extraction.positions);
    });
    if (round.empty()) break;
    together(*ranks, [&] {
      if (own > 0) {
        if (own < round.size()) {
          ranks->send({reinterpret_cast<const std::byte*>(rows.data()), bytes_of(rows)}, 0);
        }
        return;
      }
      // What cannot be written is no reason to leave the others waiting with their rows.
      std::optional<Error> failed;
      for (std::size_t r = 0; r < round.size(); ++r) {
        if (r > 0) {
          rows = others_values.resize(rows_of(round[r]), metadata.row_dim());
          ranks->receive({reinterpret_cast<std::byte*>(rows.data()), bytes_of(rows)},
                         static_cast<int>(r));
        }
        if (failed) continue;
        try {
          give(round[r], rows);
        } catch (const Error& error) {
          failed = error;
        }
      }
      if (failed) throw *failed;
    });
  }
  if (progress) {
    progress->set_total(tokens);
    progress->finish();
  }
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

void ActivationExtractor::use_ranks(Communicator& ranks) { impl_->ranks = &ranks; }

void ActivationExtractor::set_batch_callback(std::function<void(std::int64_t)> callback) {
  impl_->on_batch = std::move(callback);
}

Activations ActivationExtractor::extract(std::optional<std::int64_t> num_samples) {
  Activations out;
  auto& metadata = out.metadata;
  together(*impl_->ranks, [&] {
    metadata = impl_->head(num_samples.value_or(impl_->options.dataset.num_samples));
    impl_->load_tokenizer();
    impl_->load_dataset();
  });
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
  Communicator& ranks = *impl_->ranks;
  ActivationMetadata head;
  // Whatever is wrong with the inputs is told before an earlier store is touched.
  together(ranks, [&] {
    head = impl_->head(num_samples.value_or(impl_->options.dataset.num_samples));
    impl_->load_tokenizer();
    impl_->load_dataset();
  });
  // Rank 0 alone knows of the folder.
  std::optional<ActivationWriter> writer;
  std::int64_t complete = 0;
  ActivationWriter::Progress begin;
  together(ranks, [&] {
    if (ranks.rank() > 0) return;
    writer.emplace(target, head,
                   resume ? ActivationWriter::Mode::kResume : ActivationWriter::Mode::kReplace);
    complete = writer->already_complete() ? 1 : 0;
    begin = writer->progress();
  });
  ranks.maximum(std::span(&complete, 1));
  ranks.broadcast(std::as_writable_bytes(std::span(&begin, 1)), 0);
  ActivationMetadata made = head;
  const auto finish = [&](const ActivationWriter::Progress& end) {
    together(ranks, [&] {
      if (writer) made = writer->finish(end);
    });
    std::array<std::int64_t, 3> counts = {made.num_rows, made.num_samples, made.skipped};
    ranks.broadcast(std::as_writable_bytes(std::span(counts)), 0);
    made.num_rows = counts[0];
    made.num_samples = counts[1];
    made.skipped = counts[2];
    return made;
  };
  if (complete != 0) {
    log_info("'", target.string(), "' is complete: nothing to resume");
    return finish({});
  }
  if (resume && begin.consumed > 0) log_info("resuming after ", begin.consumed, " samples");
  try {
    const auto end = impl_->run(head, begin,
                                [&](MatView<const float> rows, std::vector<SampleRecord> samples,
                                    const ActivationWriter::Progress& after) {
                                  writer->append(rows, std::move(samples), after);
                                });
    return finish(end);
  } catch (const Error&) {
    try {
      if (writer) writer->suspend();
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
