#include "viz/text_rows.h"

#include <algorithm>

#include "activations/inputs.h"
#include "activations/nonfinite.h"
#include "drrik/base/error.h"
#include "drrik/base/interrupt.h"
#include "drrik/base/threads.h"

namespace drrik::detail {
namespace {

constexpr std::size_t kBatchesAhead = 2;

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

}  // namespace

std::vector<bool> special_ids(const Tokenizer& tokenizer) {
  std::vector<bool> special(at(tokenizer.vocab_size()), false);
  for (std::int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    special[at(id)] = tokenizer.is_special(id);
  }
  for (const auto& id : {tokenizer.bos_id(), tokenizer.eos_id(), tokenizer.pad_id()}) {
    if (id && *id >= 0 && at(*id) < special.size()) special[at(*id)] = true;
  }
  return special;
}

TextRows::TextRows(const Model& model, const Tokenizer& tokenizer, const TextRowsOptions& options)
    : model_(&model),
      options_(options),
      limits_(batch_limits(options.dataset, model.config())),
      source_(open_texts(options.dataset, options.texts)) {
  for (const Hook& hook : options_.hooks) model.check_hook(hook);
  limits_.max_batch_tokens = options_.max_batch_tokens;
  if (options_.drop_special_tokens) dropped_ = special_ids(tokenizer);
  reader_ =
      std::make_unique<BatchReader>(*source_, tokenizer, limits_, ActivationWriter::Progress{});
  buffers_.resize(options_.hooks.size());
  // Beside the model a quarter of the threads keeps up with it, as for a live stream.
  ahead_ = std::make_unique<Ahead<Batch>>([this] { return read(); }, kBatchesAhead,
                                          std::max(1, num_threads() / 4));
}

TextRows::~TextRows() = default;

std::optional<Batch> TextRows::read() {
  Batch batch;
  if (reader_->next(batch)) return batch;
  tell_skipped({}, reader_->end());
  return std::nullopt;
}

MatView<const float> TextRows::activations(std::size_t i) const {
  const Tensor& buffer = buffers_[i];
  return {buffer.data<float>().data(), static_cast<std::int64_t>(rows_.size()), buffer.dim(1)};
}

double TextRows::fraction() const {
  if (options_.max_rows <= 0) return 0.0;
  return static_cast<double>(given_) / static_cast<double>(options_.max_rows);
}

bool TextRows::next() {
  check_interrupt("reading features");
  if (options_.max_rows >= 0 && given_ >= options_.max_rows) return false;
  std::optional<Batch> batch = ahead_->next();
  if (!batch) return false;
  batch_ = std::move(*batch);
  rows_.clear();
  const std::vector<std::int32_t>& ids = batch_.tokens.ids;
  for (std::size_t t = 0; t < ids.size(); ++t) {
    const auto id = static_cast<std::size_t>(ids[t]);
    if (ids[t] >= 0 && id < dropped_.size() && dropped_[id]) continue;
    rows_.push_back(static_cast<std::int64_t>(t));
  }
  if (options_.max_rows >= 0) {
    const std::int64_t left = options_.max_rows - given_;
    if (static_cast<std::int64_t>(rows_.size()) > left) rows_.resize(at(left));
  }
  const auto n = static_cast<std::int64_t>(rows_.size());
  ForwardOptions forward;
  forward.hooks = options_.hooks;
  forward.on_hook = [&](const Hook& hook, MatView<const float> from) {
    const auto site = std::ranges::find(options_.hooks, hook) - options_.hooks.begin();
    Tensor& buffer = buffers_[at(site)];
    if (!buffer.defined() || buffer.dim(0) < n) {
      buffer = Tensor::uninitialized(DType::kF32, {n, from.cols()});
    }
    const auto to = buffer.mutable_mat<float>();
    parallel_for(n, 64, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) {
        std::ranges::copy(from.row(rows_[at(r)]), to.row_ptr(r));
      }
    });
    refuse_nonfinite(
        MatView<const float>(to.rows_range(0, n)), [&](std::int64_t r) { return given_ + r; },
        str(" (", hook_name(hook.point), " of layer ", hook.layer, ", texts from sample ",
            batch_.samples.front().index, " on)"));
  };
  model_->forward(batch_.tokens, forward);
  given_ += n;
  return true;
}

}  // namespace drrik::detail
