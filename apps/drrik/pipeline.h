#pragma once
// The stages that `drrik run` strings together and single subcommands run alone.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli.h"
#include "drrik/activations/store.h"
#include "drrik/text/tokenizer.h"
#include "drrik/train/trainer.h"
#include "drrik/viz/feature_stats.h"
#include "drrik/viz/row_label.h"
#include "drrik/viz/visualizer.h"

namespace drrik::cli {

struct TrainJob {
  std::string activations;  ///< Folder or .npy.
  std::string output;       ///< Autoencoder's folder.
  std::string init = {};    ///< Weights to start from; empty: random.
  bool resume = false;
  std::string export_pt = {};  ///< Also written as the described PyTorch file; empty: not.
  bool record_steps = false;   ///< Keep every step's loss for the result.
};

struct Trained {
  FitResult fit;
  std::vector<StepRecord> steps;  ///< With record_steps.
  bool already_complete = false;  ///< --resume found a finished run; `fit` is empty.
  std::int64_t hidden_dim = 0;
};

/// Trains by config.autoencoder and config.training and writes the folder. After an interruption
/// the checkpoint is in the folder, and the error says how to go on.
Trained train_autoencoder(const Config& config, const TrainJob& job);
Json training_json(const Trained& trained, const std::string& output);

/// JSON has neither NaN nor infinity.
Json number_or_null(double value);

/// Token ids of the first texts of a dataset, for spliced evaluation.
std::vector<std::vector<std::int32_t>> tokenize_dataset(const Config& config,
                                                        const Tokenizer& tokenizer,
                                                        std::int64_t max_texts);

/// The tokenizer of the model that a store was made with; null where it is not at hand.
std::shared_ptr<const Tokenizer> tokenizer_of(const ActivationMetadata& metadata);

/// Labels of rows from an activation folder's metadata, with tokens apart when its model's
/// tokenizer is at hand. "row N" for a bare .npy file.
RowLabeler labeler_for(const std::string& activations);

VisualizerOptions visualizer_options(const Globals& globals);
TrainingCurves training_curves(const SaeHistory& history);

}  // namespace drrik::cli
