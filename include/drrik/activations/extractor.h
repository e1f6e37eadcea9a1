#pragma once
// ActivationExtractor: a model over a dataset, and what its layers do.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "drrik/activations/options.h"
#include "drrik/activations/store.h"
#include "drrik/base/communicator.h"
#include "drrik/data/source.h"
#include "drrik/model/model.h"
#include "drrik/text/tokenizer.h"

namespace drrik {

/// Runs a model over texts and collects the activations at a hook of some layers.
///
/// Texts are cut to max_length tokens and laid end to end without padding, so that the last token
/// is always a real one; nothing above the highest layer asked for is loaded or computed. Not
/// thread-safe.
class ActivationExtractor {
 public:
  /// Throws Error(usage) when the options are impossible.
  explicit ActivationExtractor(ExtractorOptions options);
  ~ActivationExtractor();
  ActivationExtractor(ActivationExtractor&&) noexcept;
  ActivationExtractor& operator=(ActivationExtractor&&) noexcept;

  const ExtractorOptions& options() const;

  /// Loads tokenizer and model, the latter up to the highest layer asked for and without its head.
  /// A second call returns the same. Throws Error(usage) for a layer that the model does not have,
  /// Error(data), Error(io).
  const Model& load_model();
  const Tokenizer& load_tokenizer();
  /// Opens the dataset, so that a missing file or column is told before any work. The next
  /// extract() reads it. Throws as open_dataset().
  TextSource& load_dataset();

  /// Uses a model that is loaded already (it must hold the layers asked for).
  void use_model(std::shared_ptr<const Model> model, std::shared_ptr<const Tokenizer> tokenizer);
  /// Uses these texts instead of the dataset.
  void use_texts(std::vector<std::string> texts);

  /// Divides the batches among ranks, each of which is given the same options, dataset and calls:
  /// every one runs the model on one of as many batches as there are ranks, and gives the rows to
  /// rank 0, which alone writes. They are, byte for byte, those of one rank. Errors and interrupts
  /// of one are thrown on all. `ranks` must outlive the extractor.
  void use_ranks(Communicator& ranks);

  /// Called (on rank 0) after each batch with the samples done so far; it may set_interrupted().
  void set_batch_callback(std::function<void(std::int64_t samples)> callback);

  /// Activations float32 [rows, activation_dim · layers] of the first min(num_samples, size) texts
  /// in memory. Throws Error(data) for an empty dataset, Error(numeric) naming layer, sample and
  /// position of a NaN or Inf, Error(interrupted). Ranks but the first get no rows.
  Activations extract(std::optional<std::int64_t> num_samples = {});

  /// The same, streamed into a store in bounded memory (`folder` empty: output_dir). After an
  /// interruption or an error what was written is valid and `resume` continues it; the files are
  /// then those of an extraction that was never interrupted. Returns the metadata without samples.
  ActivationMetadata extract_to(const std::filesystem::path& folder = {}, bool resume = false,
                                std::optional<std::int64_t> num_samples = {});

  /// Writes to `output_dir`, or else to the one of the options; Error(usage) when neither is known.
  void save_activations(const Activations& activations,
                        const std::filesystem::path& output_dir = {}) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The first `count` characters (code points) of valid UTF-8 text.
std::string utf8_prefix(const std::string& text, std::int64_t count);

}  // namespace drrik
