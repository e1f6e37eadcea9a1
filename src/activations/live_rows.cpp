#include "activations/live_rows.h"

#include <algorithm>
#include <utility>

#include "activations/collect.h"
#include "activations/inputs.h"
#include "activations/nonfinite.h"
#include "drrik/base/threads.h"

namespace drrik::detail {
namespace {

constexpr std::size_t kBatchesAhead = 2;
constexpr std::size_t kRoundsAhead = 1;
constexpr std::int64_t kGrain = 64;

// Beside the model a quarter of the threads keeps up with it: tokenising takes a few percent of
// the time on two cores and a third, by one thread, on many.
int tokenizer_threads() { return std::max(1, num_threads() / 4); }

float squared_norm(std::span<const float> row) {
  double sum = 0.0;
  for (const float value : row) sum += static_cast<double>(value) * static_cast<double>(value);
  return static_cast<float>(sum);
}

}  // namespace

LiveRows::LiveRows(const LiveRecipe& recipe, std::unique_ptr<TextSource> source,
                   const ActivationWriter::Progress& start)
    : recipe_(&recipe),
      source_(std::move(source)),
      start_(start),
      reader_(*source_, *recipe.tokenizer, recipe.limits, start) {
  if (recipe.overlap == LiveOverlap::kNone) return;
  const auto ahead = kBatchesAhead * static_cast<std::size_t>(recipe.ranks->size());
  batches_.emplace([this] { return read(); }, ahead, tokenizer_threads());
  if (recipe.overlap == LiveOverlap::kModel) {
    rounds_.emplace([this] { return run(); }, kRoundsAhead, num_threads());
  }
}

std::int64_t LiveRows::blocks_at_once(LiveOverlap overlap, int ranks) {
  // One given; of the ranks' own rounds, with kModel, one waiting and one being made. A block of
  // another rank is given while the own one waits for its turn.
  const std::int64_t given = ranks > 1 ? 2 : 1;
  return overlap == LiveOverlap::kModel ? given + 1 + static_cast<std::int64_t>(kRoundsAhead)
                                        : given;
}

std::optional<Batch> LiveRows::read() {
  Batch batch;
  if (reader_.next(batch)) return batch;
  tell_skipped(start_, reader_.end());
  return std::nullopt;
}

std::optional<Batch> LiveRows::next_batch() { return batches_ ? batches_->next() : read(); }

std::optional<LiveBlock> LiveRows::next() {
  Communicator& ranks = *recipe_->ranks;
  if (round_.blocks.empty()) {
    std::optional<Round> made;
    together(ranks, [&] { made = rounds_ ? rounds_->next() : run(); });
    if (!made) return std::nullopt;
    round_ = std::move(*made);
  }
  LiveBlock block = std::move(round_.blocks.front());
  round_.blocks.pop_front();
  if (ranks.size() > 1) receive(block, round_.first);
  ++round_.first;
  return block;
}

// Every rank reads all texts and knows of each batch how many rows it gives.
std::optional<LiveRows::Round> LiveRows::run() {
  const Communicator& ranks = *recipe_->ranks;
  Round round;
  std::optional<Batch> own;
  while (round.blocks.size() < static_cast<std::size_t>(ranks.size())) {
    std::optional<Batch> batch = next_batch();
    if (!batch) break;
    LiveBlock block;
    block.count = static_cast<std::int64_t>(kept_of(*batch).size());
    block.tokens = batch->tokens.rows();
    block.after = batch->after;
    if (static_cast<int>(round.blocks.size()) == ranks.rank()) own = std::move(batch);
    round.blocks.push_back(std::move(block));
  }
  if (round.blocks.empty()) return std::nullopt;
  if (own) round.blocks[static_cast<std::size_t>(ranks.rank())] = block_of(*own);
  return round;
}

std::vector<std::int64_t> LiveRows::kept_of(const Batch& batch) const {
  const std::vector<std::int32_t>& ids = batch.tokens.ids;
  std::vector<std::int64_t> kept;
  for (std::size_t r = 0; r < ids.size(); ++r) {
    const auto id = static_cast<std::size_t>(ids[r]);
    if (id < recipe_->dropped.size() && recipe_->dropped[id]) continue;
    kept.push_back(static_cast<std::int64_t>(r));
  }
  return kept;
}

LiveBlock LiveRows::block_of(Batch& batch) const {
  std::int64_t row = 0;
  for (SampleRecord& sample : batch.samples) {
    sample.row = row;
    sample.rows = static_cast<std::int64_t>(sample.input_ids.size());
    row += sample.rows;
  }
  const std::vector<std::int64_t> kept = kept_of(batch);
  LiveBlock block;
  block.count = static_cast<std::int64_t>(kept.size());
  block.rows = Tensor::uninitialized(recipe_->dtype, {block.count, recipe_->width});
  if (recipe_->norms) block.squared_norms.resize(kept.size() * recipe_->sites.size());
  block.tokens = batch.tokens.rows();
  block.after = batch.after;
  ForwardOptions forward;
  for (const LiveRecipe::Site& site : recipe_->sites) forward.hooks.push_back(site.hook);
  forward.on_hook = [&](const Hook& hook, MatView<float> activations) {
    const auto& sites = recipe_->sites;
    const auto site =
        std::find_if(sites.begin(), sites.end(), [&](const auto& one) { return one.hook == hook; });
    take(*site, static_cast<std::size_t>(site - sites.begin()), activations, batch, kept, block);
  };
  recipe_->model->forward(batch.tokens, forward);
  return block;
}

// From the rank that has it, to all the others.
void LiveRows::receive(LiveBlock& block, int from) const {
  if (block.count == 0) return;
  if (!block.rows.defined()) {
    block.rows = Tensor::uninitialized(recipe_->dtype, {block.count, recipe_->width});
    if (recipe_->norms) {
      block.squared_norms.resize(static_cast<std::size_t>(block.count) * recipe_->sites.size());
    }
  }
  recipe_->ranks->broadcast({block.rows.mutable_raw(), block.rows.bytes()}, from);
  recipe_->ranks->broadcast(std::as_writable_bytes(std::span(block.squared_norms)), from);
}

void LiveRows::take(const LiveRecipe::Site& site, std::size_t number,
                    MatView<const float> activations, const Batch& batch,
                    std::span<const std::int64_t> kept, LiveBlock& block) const {
  // Of the rows that are left out too: what is wrong with them is wrong with the model.
  check_finite(activations, site.width, {site.path}, batch.samples, Positions::kAll);
  if (recipe_->dtype == DType::kF16) refuse_beyond_half(activations);
  const auto size = static_cast<std::int64_t>(dtype_size(recipe_->dtype));
  std::byte* const to = block.rows.mutable_raw() + site.column * size;
  parallel_for(
      static_cast<std::int64_t>(kept.size()), kGrain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
          const auto row = activations.row(kept[static_cast<std::size_t>(i)]);
          convert_from_float(row.data(), recipe_->dtype, site.width, to + i * recipe_->row_bytes());
          if (block.squared_norms.empty()) continue;
          block.squared_norms[static_cast<std::size_t>(i) * recipe_->sites.size() + number] =
              squared_norm(row);
        }
      });
}

}  // namespace drrik::detail
