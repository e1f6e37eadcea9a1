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
constexpr std::size_t kBlocksAhead = 1;
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
  batches_.emplace([this] { return read(); }, kBatchesAhead, tokenizer_threads());
  if (recipe.overlap == LiveOverlap::kModel) {
    blocks_.emplace([this] { return run(); }, kBlocksAhead, num_threads());
  }
}

std::int64_t LiveRows::blocks_at_once(LiveOverlap overlap) {
  // With kModel: one given, one waiting, one being made.
  return overlap == LiveOverlap::kModel ? 2 + static_cast<std::int64_t>(kBlocksAhead) : 1;
}

std::optional<Batch> LiveRows::read() {
  Batch batch;
  if (reader_.next(batch)) return batch;
  tell_skipped(start_, reader_.end());
  return std::nullopt;
}

std::optional<Batch> LiveRows::next_batch() { return batches_ ? batches_->next() : read(); }

std::optional<LiveBlock> LiveRows::next() { return blocks_ ? blocks_->next() : run(); }

std::optional<LiveBlock> LiveRows::run() {
  std::optional<Batch> batch = next_batch();
  if (!batch) return std::nullopt;
  const std::vector<std::int32_t>& ids = batch->tokens.ids;
  kept_.clear();
  for (std::size_t r = 0; r < ids.size(); ++r) {
    const auto id = static_cast<std::size_t>(ids[r]);
    if (id < recipe_->dropped.size() && recipe_->dropped[id]) continue;
    kept_.push_back(static_cast<std::int64_t>(r));
  }
  std::int64_t row = 0;
  for (SampleRecord& sample : batch->samples) {
    sample.row = row;
    sample.rows = static_cast<std::int64_t>(sample.input_ids.size());
    row += sample.rows;
  }

  LiveBlock block;
  const auto rows = static_cast<std::int64_t>(kept_.size());
  block.rows = Tensor::uninitialized(recipe_->dtype, {rows, recipe_->width});
  if (recipe_->norms) block.squared_norms.resize(kept_.size() * recipe_->sites.size());
  block.tokens = batch->tokens.rows();
  block.after = batch->after;
  ForwardOptions forward;
  for (const LiveRecipe::Site& site : recipe_->sites) forward.hooks.push_back(site.hook);
  forward.on_hook = [&](const Hook& hook, MatView<float> activations) {
    const auto& sites = recipe_->sites;
    const auto site =
        std::find_if(sites.begin(), sites.end(), [&](const auto& one) { return one.hook == hook; });
    take(*site, static_cast<std::size_t>(site - sites.begin()), activations, *batch, block);
  };
  recipe_->model->forward(batch->tokens, forward);
  return block;
}

void LiveRows::take(const LiveRecipe::Site& site, std::size_t number,
                    MatView<const float> activations, const Batch& batch, LiveBlock& block) const {
  // Of the rows that are left out too: what is wrong with them is wrong with the model.
  check_finite(activations, site.width, {site.path}, batch.samples, Positions::kAll);
  if (recipe_->dtype == DType::kF16) refuse_beyond_half(activations);
  const auto size = static_cast<std::int64_t>(dtype_size(recipe_->dtype));
  std::byte* const to = block.rows.mutable_raw() + site.column * size;
  parallel_for(
      static_cast<std::int64_t>(kept_.size()), kGrain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
          const auto row = activations.row(kept_[static_cast<std::size_t>(i)]);
          convert_from_float(row.data(), recipe_->dtype, site.width, to + i * recipe_->row_bytes());
          if (block.squared_norms.empty()) continue;
          block.squared_norms[static_cast<std::size_t>(i) * recipe_->sites.size() + number] =
              squared_norm(row);
        }
      });
}

}  // namespace drrik::detail
