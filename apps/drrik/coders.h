#pragma once
// Training of the architectures beside the described one: any number of coders on one stream.

#include <string>
#include <vector>

#include "cli.h"
#include "drrik/train/coder_trainer.h"

namespace drrik::cli {

struct CoderCommand {
  std::string activations;           ///< Folder or .npy; empty: live from the model.
  std::vector<std::string> targets;  ///< Folders whose rows transcoders are to give.
  std::string output;
  std::string init;                ///< Weights to start from; empty: random.
  std::vector<std::string> sweep;  ///< "k=16,32": one coder for each value (and combination).
  bool crosscoder = false;         ///< All sites side by side, instead of a coder for each.
  std::string target_hook;         ///< Live: the hook that transcoders are to give; empty: none.
  std::int64_t buffer_rows = std::int64_t{1} << 17;  ///< Live: rows in the shuffle buffer.
  bool keep_special_tokens = false;                  ///< Live: also learn from BOS and its kind.
  double sink_multiple =
      10.0;  ///< Live: rows of so many times the median norm are left out; 0: none.
  bool resume = false;
};

struct TrainedCoder {
  std::string name;
  std::string folder;
  CoderRecord last;
  std::map<std::string, double> held_out;  ///< Of the validation rows; empty without.
  std::int64_t d_sae = 0;
};

struct TrainedCoders {
  std::vector<TrainedCoder> coders;
  CoderRun run;  ///< Its coders are moved out.
  bool already_complete = false;
};

/// Trains what the configuration and the sweep ask for and writes each coder's folder: `output`
/// itself for one, `output`/<name> for several, with train_log.jsonl in `output`.
TrainedCoders train_coder_folders(const Globals& globals, const CoderCommand& command);
Json coders_json(const TrainedCoders& trained, const std::string& output);
std::string coders_text(const TrainedCoders& trained, const std::string& output);

}  // namespace drrik::cli
