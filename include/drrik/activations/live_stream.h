#pragma once
// make_live_stream(): training rows straight from a model over texts, without a disk between.
//
//   texts ─▶ tokens ─▶ forward pass, once for all hooks ─▶ rows ─▶ shuffle buffer ─▶ next()

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "drrik/activations/options.h"
#include "drrik/activations/row_stream.h"
#include "drrik/base/communicator.h"
#include "drrik/model/hook.h"
#include "drrik/model/model.h"
#include "drrik/text/tokenizer.h"

namespace drrik {

/// What a live stream does on threads of its own while the caller works with its rows. The rows do
/// not depend on it, bit for bit.
enum class LiveOverlap : std::uint8_t {
  kNone,
  kTexts,  ///< Texts are read and tokenised up to two batches ahead.
  /// The model runs too, one batch ahead. It wants all the threads that the caller's own work
  /// wants, so it pays where that work leaves some idle.
  kModel
};
/// "none", "texts", "model".
std::string_view live_overlap_name(LiveOverlap overlap);
/// Throws Error(usage) naming the known ones.
LiveOverlap parse_live_overlap(std::string_view name);

struct LiveStreamOptions {
  static ExtractorOptions::DatasetGroup packed() {
    ExtractorOptions::DatasetGroup group;
    group.pack = true;
    return group;
  }

  ExtractorOptions::ModelGroup model;
  /// As for an extraction, but that texts are packed into contexts unless `pack` is turned off.
  ExtractorOptions::DatasetGroup dataset = packed();
  /// The sites, in this order. One forward pass serves all of them and ends at the highest.
  std::vector<Hook> hooks;
  std::int64_t batch_size = 0;           ///< Contexts in a forward pass at most; 0: no limit.
  std::int64_t max_batch_tokens = 2048;  ///< Tokens in one at most; a longer context goes alone.

  /// Rows leave in random order: the buffer is filled, then each row asked for is drawn from it
  /// uniformly and the next of the model's takes its place; at the end the buffer empties. Off:
  /// in the order of the texts, without a buffer.
  bool shuffle = true;
  std::uint64_t seed = 42;
  std::int64_t buffer_rows = std::int64_t{1} << 17;   ///< Rows in the shuffle buffer at most.
  std::int64_t buffer_bytes = std::int64_t{1} << 30;  ///< And bytes: the smaller bound counts.
  DType buffer_dtype = DType::kF32;  ///< kF32, kBF16 or kF16: what rows are rounded to.

  /// Leaves out the rows of BOS, EOS and padding and of every token that the tokenizer marks
  /// special, wherever they stand. Source: SAELens' exclude_special_tokens.
  bool drop_special_tokens = true;
  /// Leaves out attention sinks: rows whose norm, at any site, exceeds so many times the median
  /// norm there of the pass so far (its own batch counted, special tokens not; medians by bins of
  /// 0.8 %). 0: keeps them. Source: dictionary_learning's max_activation_norm_multiple.
  double sink_multiple = 10.0;

  LiveOverlap overlap = LiveOverlap::kTexts;

  /// Throws Error(usage) naming the field.
  void validate() const;
};

/// What is there already instead of being loaded by the options' names.
struct LiveStreamInputs {
  std::shared_ptr<const Model> model;  ///< Must hold the layers of the hooks.
  std::shared_ptr<const Tokenizer> tokenizer;
  std::optional<std::vector<std::string>> texts;  ///< Instead of the dataset.
  /// Ranks that run the model together, each with the same options, dataset and calls: one batch of
  /// the texts a rank and round, whose rows it then gives to all, so that the stream of each is
  /// that of one rank. Errors and interrupts of one come out of next() on all. They must outlive
  /// the stream. Null: alone.
  Communicator* ranks = nullptr;
};

/// Opens model, tokenizer and dataset, so that what is wrong with them is told before any work.
///
/// Rows are those that an extraction with Positions::kAll and the same options stores, bit for bit,
/// less the special tokens and sinks; they are the same in every pass, in another order. Needs no
/// equal requests: the sequence of rows does not depend on how many next() is asked for at a time.
///
/// next() throws Error(numeric) naming layer, sample and position of a NaN or Inf (or of what
/// exceeds float16 in such a buffer), Error(data) for a dataset that gives no row, Error(io), and
/// Error(interrupted). It then gave no row: the stream is where the call before left it, but for
/// rows that came into the buffer, and may be asked for its state().
///
/// state() copies the buffer, and rows that wait to enter it, in their dtype. restore() goes to the
/// same place by reading the texts again up to it, without running the model. It takes a stream
/// made of the same options but for `overlap`, `residency`, `device_map` and the number of ranks,
/// and the same dataset; equal bits also need the same number of threads and machine.
///
/// Memory: the buffer, the rows of the batches under way (two, with kModel four, with ranks one
/// more) and, from next(), as many rows as it is asked for; facts() has the bound as "memory". The
/// model comes on top.
///
/// Throws Error(usage) for impossible options, a layer or point that the model does not have, or
/// two equal hooks; as Model::load(), Tokenizer::from_folder() and open_dataset().
std::unique_ptr<RowStream> make_live_stream(const LiveStreamOptions& options,
                                            LiveStreamInputs inputs = {});

}  // namespace drrik
