#pragma once
// LiveRows: from texts to the rows of some hooks, batch by batch, perhaps ahead of its caller and
// on several ranks.

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "activations/ahead.h"
#include "activations/batch_reader.h"
#include "drrik/activations/live_stream.h"
#include "drrik/base/communicator.h"
#include "drrik/model/model.h"
#include "drrik/tensor/tensor.h"

namespace drrik::detail {

/// What rows are made of; the same for every pass.
struct LiveRecipe {
  std::shared_ptr<const Model> model;
  std::shared_ptr<const Tokenizer> tokenizer;
  BatchLimits limits;
  struct Site {
    Hook hook;
    std::string path;         ///< Module path, for messages.
    std::int64_t width = 0;   ///< Elements.
    std::int64_t column = 0;  ///< Its first element in a row.
  };
  std::vector<Site> sites;
  std::int64_t width = 0;  ///< Elements of a row: the sites side by side.
  DType dtype = DType::kF32;
  std::vector<bool> dropped;  ///< By token id, whether its rows are left out; ids beyond: not.
  bool norms = false;         ///< Whether a block tells its rows' norms.
  LiveOverlap overlap = LiveOverlap::kNone;
  Communicator* ranks = nullptr;  ///< Never null in a recipe that is used.

  std::int64_t row_bytes() const { return width * static_cast<std::int64_t>(dtype_size(dtype)); }
};

/// The rows of one batch.
struct LiveBlock {
  std::int64_t count = 0;            ///< Rows.
  Tensor rows;                       ///< [count, width]
  std::vector<float> squared_norms;  ///< [count, sites], or empty
  std::int64_t tokens = 0;           ///< Of the batch, those left out counted.
  ActivationWriter::Progress after;  ///< Where reading goes on for the next one.
};

/// What a block holds depends on nothing but the recipe and where its batch begins: not on the
/// ranks, each of which runs the model on one batch of a round and gives its rows to the others.
/// Rounds are made ahead; rows are exchanged by next(), on its caller's thread. Not thread-safe.
class LiveRows {
 public:
  /// `recipe` must outlive it.
  LiveRows(const LiveRecipe& recipe, std::unique_ptr<TextSource> source,
           const ActivationWriter::Progress& start);

  /// Nothing at the end. Throws as the extractor's loop does. Collective.
  std::optional<LiveBlock> next();

  /// Batches that may have rows in memory at once, the one that next() gave counted.
  static std::int64_t blocks_at_once(LiveOverlap overlap, int ranks);

 private:
  /// The blocks of a batch for each rank (fewer at the end), in their order; of the others' the
  /// rows are not there yet.
  struct Round {
    std::deque<LiveBlock> blocks;
    int first = 0;  ///< The rank of the first.
  };
  std::optional<Batch> read();
  std::optional<Batch> next_batch();
  std::optional<Round> run();
  std::vector<std::int64_t> kept_of(const Batch& batch) const;
  LiveBlock block_of(Batch& batch) const;
  void receive(LiveBlock& block, int from) const;
  void take(const LiveRecipe::Site& site, std::size_t number, MatView<const float> activations,
            const Batch& batch, std::span<const std::int64_t> kept, LiveBlock& block) const;

  const LiveRecipe* recipe_;
  std::unique_ptr<TextSource> source_;
  ActivationWriter::Progress start_;
  BatchReader reader_;
  Round round_;  // what is left of it
  // Each works on what stands above it.
  std::optional<Ahead<Batch>> batches_;
  std::optional<Ahead<Round>> rounds_;
};

}  // namespace drrik::detail
