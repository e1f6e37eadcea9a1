#include "drrik/activations/live_stream.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <deque>
#include <utility>

#include "activations/inputs.h"
#include "activations/live_rows.h"
#include "activations/metadata.h"
#include "activations/shuffle_buffer.h"
#include "activations/sink_filter.h"
#include "drrik/base/interrupt.h"
#include "drrik/base/log.h"
#include "drrik/base/threads.h"
#include "drrik/model/hook_names.h"

namespace drrik {
namespace {

using detail::LiveBlock;
using detail::LiveRecipe;
using detail::RowBytes;

constexpr std::string_view kOverlapNames[] = {"none", "texts", "model"};
constexpr std::string_view kFormat = "drrik-live-stream";
constexpr std::int64_t kGrain = 64;

constexpr const char* kState = "state of a live stream";

std::string hook_text(const Hook& hook) {
  return str(hook_name(hook.point), " of layer ", hook.layer);
}

/// By id: special tokens, in the tokenizer's own words or by their part.
std::vector<bool> special_tokens(const Tokenizer& tokenizer) {
  std::vector<bool> out(static_cast<std::size_t>(tokenizer.vocab_size()));
  for (std::size_t id = 0; id < out.size(); ++id) {
    out[id] = tokenizer.is_special(static_cast<std::int32_t>(id));
  }
  for (const auto& id : {tokenizer.bos_id(), tokenizer.eos_id(), tokenizer.pad_id()}) {
    if (!id || *id < 0) continue;
    const auto place = static_cast<std::size_t>(*id);
    if (place >= out.size()) out.resize(place + 1);
    out[place] = true;
  }
  return out;
}

LiveRecipe make_recipe(const LiveStreamOptions& options, const LiveStreamInputs& inputs) {
  LiveRecipe recipe;
  std::int64_t top = 0;
  for (const Hook& hook : options.hooks) top = std::max(top, hook.layer);
  recipe.model = inputs.model ? inputs.model : detail::load_model_to(options.model, top);
  for (const Hook& hook : options.hooks) {
    recipe.model->check_hook(hook);
    const std::int64_t width = recipe.model->hook_width(hook.point);
    recipe.sites.push_back({hook, recipe.model->module_path(hook), width, recipe.width});
    recipe.width += width;
  }
  recipe.tokenizer = inputs.tokenizer ? inputs.tokenizer : detail::load_tokenizer_of(options.model);
  recipe.limits = detail::batch_limits(options.dataset, recipe.model->config());
  recipe.limits.batch_size = options.batch_size;
  recipe.limits.max_batch_tokens = options.max_batch_tokens;
  recipe.dtype = options.buffer_dtype;
  if (options.drop_special_tokens) recipe.dropped = special_tokens(*recipe.tokenizer);
  recipe.norms = options.sink_multiple > 0.0;
  recipe.overlap = options.overlap;
  recipe.ranks = inputs.ranks != nullptr ? inputs.ranks : &local_communicator();
  return recipe;
}

/// Everything that rows and their order depend on.
Json made_of(const LiveStreamOptions& options, const LiveStreamInputs& inputs,
             std::int64_t buffer_rows) {
  ExtractorOptions groups;
  groups.model = options.model;
  groups.dataset = options.dataset;
  Json out = detail::config_to_json(groups);
  out.erase("extraction");
  out["model"].erase("device_map");
  out["dataset"]["texts"] = inputs.texts ? static_cast<std::int64_t>(inputs.texts->size()) : -1;
  Json hooks = Json::array();
  for (const Hook& hook : options.hooks) hooks.push_back(hook_text(hook));
  out["stream"] = {{"hooks", std::move(hooks)},
                   {"batch_size", options.batch_size},
                   {"max_batch_tokens", options.max_batch_tokens},
                   {"shuffle", options.shuffle},
                   {"seed", str(options.seed)},
                   {"buffer_rows", buffer_rows},
                   {"buffer_dtype", std::string(dtype_name(options.buffer_dtype))},
                   {"drop_special_tokens", options.drop_special_tokens},
                   {"sink_multiple", options.sink_multiple}};
  return out;
}

void refuse_other_options(const Json& then, const Json& now) {
  expect_object(then, kState);
  for (const auto& [group, fields] : now.items()) {
    const Json& before = get_member(then, group, kState);
    expect_object(before, str(kState, ": ", group));
    for (const auto& [name, value] : fields.items()) {
      const auto found = before.find(name);
      const std::string was = found == before.end() ? "absent" : json_text(*found);
      if (was == json_text(value)) continue;
      throw_data(kState, ": ", name, " was ", was, ", now ", json_text(value),
                 "; a stream goes on only with the options that it began with");
    }
  }
}

std::int64_t get_count(const Json& json, std::string_view key) {
  const std::int64_t value = get_int(json, key, kState);
  if (value < 0) throw_data(kState, ": '", key, "' is ", value, ", wanted a count");
  return value;
}

class LiveStream final : public RowStream {
 public:
  LiveStream(const LiveStreamOptions& options, LiveStreamInputs inputs)
      : options_(options),
        inputs_(std::move(inputs)),
        recipe_(make_recipe(options_, inputs_)),
        source_(detail::open_texts(options_.dataset, inputs_.texts)),
        buffer_(buffer_rows(), recipe_.row_bytes()),
        sinks_(options_.sink_multiple, static_cast<std::int64_t>(recipe_.sites.size())),
        made_of_(made_of(options_, inputs_, buffer_.capacity())),
        rng_(options_.seed) {
    for (const LiveRecipe::Site& site : recipe_.sites) {
      sites_.push_back({std::string(hook_name(site.hook.point)),
                        transformer_lens_name(site.hook, recipe_.model->config()), site.hook.layer,
                        site.width});
    }
  }

  const std::vector<RowSite>& sites() const override { return sites_; }
  std::int64_t rows() const override { return pass_rows_; }

  std::int64_t next(std::span<const MatView<float>> out) override {
    return next_share(out, out.empty() ? 0 : out[0].rows(), 0, 1);
  }
  std::int64_t next_share(std::span<const MatView<float>> out, std::int64_t wanted, int rank,
                          int ranks) override;
  void rewind() override { begin({.pass = at_.pass + 1}); }
  RowStreamState state() const override;
  void restore(const RowStreamState& state) override;
  std::vector<std::pair<std::string, std::string>> facts() const override;

 private:
  /// Where the stream is, apart from the rows that it holds.
  struct Place {
    std::int64_t pass = 0;
    std::uint64_t drawn = 0;  // position of the generator
    ActivationWriter::Progress read = {};
    bool exhausted = false;  // no texts are left
    std::int64_t given = 0;  // rows of this pass
    std::int64_t tokens = 0;
    std::int64_t special = 0;
    std::int64_t sinks = 0;
  };
  /// Rows that wait for their turn, in the order of the texts.
  struct Waiting {
    Tensor rows;  // [n, width]
    std::vector<std::int64_t> kept;
    std::size_t used = 0;
  };

  std::int64_t buffer_rows() const {
    if (!options_.shuffle) return 0;
    if (options_.buffer_bytes < recipe_.row_bytes()) {
      throw_usage("buffer_bytes ", options_.buffer_bytes, " hold no row of ", recipe_.row_bytes(),
                  " bytes");
    }
    return std::min(options_.buffer_rows, options_.buffer_bytes / recipe_.row_bytes());
  }
  std::int64_t block_rows() const {  // of one batch at most
    return std::max(options_.max_batch_tokens, recipe_.limits.max_length);
  }
  void begin(const Place& place);
  bool read_block();
  void fill_buffer();
  std::vector<RowBytes> waiting_rows(std::int64_t most) const;
  void use_waiting(std::int64_t count);
  void hand_out(std::span<const RowBytes> rows, std::span<const MatView<float>> out) const;

  LiveStreamOptions options_;
  LiveStreamInputs inputs_;
  LiveRecipe recipe_;
  std::vector<RowSite> sites_;
  std::unique_ptr<TextSource> source_;  // opened and not begun
  detail::ShuffleBuffer buffer_;
  detail::SinkFilter sinks_;
  Json made_of_;
  Place at_;
  Rng rng_;
  std::deque<Waiting> waiting_;
  std::int64_t waiting_rows_ = 0;
  std::int64_t pass_rows_ = -1;
  std::unique_ptr<detail::LiveRows> producer_;  // made when it is first needed
};

void LiveStream::begin(const Place& place) {
  producer_.reset();
  waiting_.clear();
  waiting_rows_ = 0;
  buffer_.clear();
  sinks_.clear();
  at_ = place;
  rng_ = Rng(options_.seed, static_cast<std::uint64_t>(place.pass));
  rng_.seek(place.drawn);
}

/// The rows of one more batch begin to wait. False: there is none.
bool LiveStream::read_block() {
  together(*recipe_.ranks, [&] {
    check_interrupt("running the model for its activations");
    if (producer_) return;
    if (!source_) source_ = detail::open_texts(options_.dataset, inputs_.texts);
    producer_ = std::make_unique<detail::LiveRows>(recipe_, std::move(source_), at_.read);
  });
  std::optional<LiveBlock> block;
  try {
    block = producer_->next();
  } catch (...) {
    producer_.reset();  // another call begins at this batch again
    throw;
  }
  if (!block) {
    at_.exhausted = true;
    producer_.reset();
    return false;
  }
  Waiting waiting;
  if (recipe_.norms) {
    waiting.kept = sinks_.keep(block->squared_norms);
  } else {
    waiting.kept.resize(static_cast<std::size_t>(block->count));
    for (std::size_t r = 0; r < waiting.kept.size(); ++r) {
      waiting.kept[r] = static_cast<std::int64_t>(r);
    }
  }
  const auto kept = static_cast<std::int64_t>(waiting.kept.size());
  at_.read = block->after;
  at_.tokens += block->tokens;
  at_.special += block->tokens - block->count;
  at_.sinks += block->count - kept;
  if (kept > 0) {
    waiting.rows = std::move(block->rows);
    waiting_.push_back(std::move(waiting));
    waiting_rows_ += kept;
  }
  return true;
}

/// Where the first `most` of the rows that wait are.
std::vector<RowBytes> LiveStream::waiting_rows(std::int64_t most) const {
  const auto count = static_cast<std::size_t>(std::min(most, waiting_rows_));
  std::vector<RowBytes> out;
  out.reserve(count);
  for (const Waiting& block : waiting_) {
    for (std::size_t i = block.used; i < block.kept.size() && out.size() < count; ++i) {
      out.push_back(block.rows.raw() + block.kept[i] * recipe_.row_bytes());
    }
  }
  return out;
}

void LiveStream::use_waiting(std::int64_t count) {
  waiting_rows_ -= count;
  while (count > 0) {
    Waiting& block = waiting_.front();
    const auto here = std::min(count, static_cast<std::int64_t>(block.kept.size() - block.used));
    block.used += static_cast<std::size_t>(here);
    count -= here;
    if (block.used == block.kept.size()) waiting_.pop_front();
  }
}

void LiveStream::fill_buffer() {
  if (at_.pass == 0 && buffer_.size() < buffer_.capacity() && at_.given == 0) {
    log_info("filling the shuffle buffer: up to ", buffer_.capacity(),
             " rows before the first batch");
  }
  while (!buffer_.full()) {
    if (waiting_rows_ == 0 && (at_.exhausted || !read_block())) return;
    const auto rows = waiting_rows(buffer_.capacity() - buffer_.size());
    buffer_.fill(rows);
    use_waiting(static_cast<std::int64_t>(rows.size()));
  }
}

void LiveStream::hand_out(std::span<const RowBytes> rows,
                          std::span<const MatView<float>> out) const {
  const auto size = static_cast<std::int64_t>(dtype_size(recipe_.dtype));
  parallel_for(static_cast<std::int64_t>(rows.size()), kGrain,
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t r = begin; r < end; ++r) {
                   const RowBytes row = rows[static_cast<std::size_t>(r)];
                   for (std::size_t s = 0; s < out.size(); ++s) {
                     const LiveRecipe::Site& site = recipe_.sites[s];
                     convert_to_float(row + site.column * size, recipe_.dtype, site.width,
                                      out[s].row_ptr(r));
                   }
                 }
               });
}

std::int64_t LiveStream::next_share(std::span<const MatView<float>> out, std::int64_t wanted,
                                    int rank, int ranks) {
  if (out.size() != sites_.size()) {
    throw_usage("live stream: ", out.size(), " matrices for the rows of ", sites_.size(), " sites");
  }
  const std::int64_t room = out[0].rows();
  for (std::size_t s = 0; s < out.size(); ++s) {
    if (out[s].rows() == room && out[s].cols() == sites_[s].width) continue;
    throw_usage("live stream: matrix ", s, " is [", out[s].rows(), ", ", out[s].cols(),
                "], wanted [", room, ", ", sites_[s].width, "]");
  }
  if (room < (wanted + ranks - 1) / ranks) {
    throw_usage("live stream: room for ", room, " rows of ", wanted, " that ", ranks,
                " ranks share");
  }
  // Whatever may fail or be interrupted comes before the first row is drawn.
  fill_buffer();
  while (!at_.exhausted && waiting_rows_ < wanted && read_block()) {
  }
  const std::int64_t count = std::min(wanted, buffer_.size() + waiting_rows_);
  const std::vector<RowBytes> incoming = waiting_rows(count);
  const RowShare share = row_share(count, rank, ranks);
  const auto shared = [&](std::span<const RowBytes> rows) {
    return rows.subspan(static_cast<std::size_t>(share.begin),
                        static_cast<std::size_t>(share.count()));
  };
  if (options_.shuffle) {
    std::vector<RowBytes> drawn(static_cast<std::size_t>(count));
    const std::int64_t used = buffer_.draw(rng_, incoming, drawn);
    hand_out(shared(drawn), out);
    buffer_.settle();
    use_waiting(used);
  } else {
    hand_out(shared(incoming), out);
    use_waiting(count);
  }
  at_.given += count;
  if (count < wanted) {
    if (at_.given == 0) {
      throw_data("the dataset's ", at_.tokens, " tokens give no row: ", at_.special,
                 " are special, ", at_.sinks, " are attention sinks");
    }
    pass_rows_ = at_.given;
  }
  return count;
}

RowStreamState LiveStream::state() const {
  const Json json = {{"format", std::string(kFormat)},
                     {"version", 1},
                     {"made_of", made_of_},
                     {"pass", at_.pass},
                     {"drawn", str(rng_.position())},
                     {"next_index", at_.read.next_index},
                     {"consumed", at_.read.consumed},
                     {"skipped", at_.read.skipped},
                     {"next_token", at_.read.next_token},
                     {"exhausted", at_.exhausted},
                     {"given", at_.given},
                     {"tokens", at_.tokens},
                     {"special", at_.special},
                     {"sinks", at_.sinks},
                     {"pass_rows", pass_rows_}};
  RowStreamState out;
  out.json = json_text(json);
  Tensor buffer = Tensor::uninitialized(recipe_.dtype, {buffer_.size(), recipe_.width});
  std::copy_n(buffer_.data(), buffer.bytes(), buffer.mutable_raw());
  out.tensors.emplace_back("buffer", std::move(buffer));
  Tensor waiting = Tensor::uninitialized(recipe_.dtype, {waiting_rows_, recipe_.width});
  std::byte* to = waiting.mutable_raw();
  for (const RowBytes row : waiting_rows(waiting_rows_)) {
    to = std::copy_n(row, recipe_.row_bytes(), to);
  }
  out.tensors.emplace_back("waiting", std::move(waiting));
  if (recipe_.norms) out.tensors.emplace_back("norms", sinks_.counts().clone());
  return out;
}

void LiveStream::restore(const RowStreamState& state) {
  const Json json = parse_json(state.json, kState);
  expect_object(json, kState);
  if (get_string(json, "format", kState) != kFormat || get_int(json, "version", kState) != 1) {
    throw_data(kState, ": it is of another kind of stream, '", get_string(json, "format", kState),
               "' version ", get_int(json, "version", kState));
  }
  refuse_other_options(get_member(json, "made_of", kState), made_of_);
  Place place;
  place.pass = get_count(json, "pass");
  const std::string drawn = get_string(json, "drawn", kState);
  char* end = nullptr;
  place.drawn = std::strtoull(drawn.c_str(), &end, 10);
  if (drawn.empty() || *end != '\0') throw_data(kState, ": 'drawn' is '", drawn, "', no number");
  place.read = {get_count(json, "next_index"), get_count(json, "consumed"),
                get_count(json, "skipped"), get_count(json, "next_token")};
  place.exhausted = get_bool(json, "exhausted", kState);
  place.given = get_count(json, "given");
  place.tokens = get_count(json, "tokens");
  place.special = get_count(json, "special");
  place.sinks = get_count(json, "sinks");
  const std::int64_t pass_rows = get_int(json, "pass_rows", kState);

  const auto tensor = [&](std::string_view name) -> const Tensor& {
    for (const auto& [key, value] : state.tensors) {
      if (key == name) return value;
    }
    throw_data(kState, ": no tensor '", name, "'");
  };
  const auto rows_of = [&](std::string_view name) -> const Tensor& {
    const Tensor& rows = tensor(name);
    if (rows.dtype() != recipe_.dtype || rows.rank() != 2 || rows.dim(1) != recipe_.width) {
      throw_data(kState, ": '", name, "' is ", dtype_name(rows.dtype()), " ",
                 shape_string(rows.shape()), ", wanted ", dtype_name(recipe_.dtype), " rows of ",
                 recipe_.width);
    }
    return rows;
  };
  const Tensor& buffer = rows_of("buffer");
  const Tensor& waiting = rows_of("waiting");
  if (buffer.dim(0) > buffer_.capacity()) {
    throw_data(kState, ": ", buffer.dim(0), " rows for a buffer of ", buffer_.capacity());
  }
  detail::SinkFilter sinks(options_.sink_multiple, static_cast<std::int64_t>(sites_.size()));
  if (recipe_.norms) sinks.set_counts(tensor("norms"));

  begin(place);
  pass_rows_ = pass_rows;
  sinks_ = std::move(sinks);
  std::vector<RowBytes> rows;
  for (std::int64_t r = 0; r < buffer.dim(0); ++r) {
    rows.push_back(buffer.raw() + r * recipe_.row_bytes());
  }
  buffer_.fill(rows);
  if (waiting.dim(0) == 0) return;
  Waiting block;
  block.rows = waiting.clone();
  block.kept.resize(static_cast<std::size_t>(waiting.dim(0)));
  for (std::size_t r = 0; r < block.kept.size(); ++r) block.kept[r] = static_cast<std::int64_t>(r);
  waiting_.push_back(std::move(block));
  waiting_rows_ = waiting.dim(0);
}

std::vector<std::pair<std::string, std::string>> LiveStream::facts() const {
  std::vector<std::string> places;
  for (const LiveRecipe::Site& site : recipe_.sites) places.push_back(hook_text(site.hook));
  const auto of_tokens = [&](std::int64_t count) {
    return str(" (", count, " of the ", at_.tokens, " tokens of this pass so far)");
  };
  const std::int64_t buffer_bytes = buffer_.bytes();
  // One batch whose rows wait in part, and those that the producer holds.
  const std::int64_t blocks =
      1 + detail::LiveRows::blocks_at_once(recipe_.overlap, recipe_.ranks->size());
  const std::int64_t batch_bytes = blocks * block_rows() * recipe_.row_bytes();
  const auto& dataset = options_.dataset;
  return {
      {"source", "live: the model runs while its rows are used"},
      {"model", inputs_.model ? "given by the caller" : options_.model.model_name},
      {"dataset",
       inputs_.texts ? str(inputs_.texts->size(), " texts in memory") : dataset.dataset_name},
      {"hooks", join(places)},
      {"contexts", dataset.pack
                       ? str("texts packed into ", recipe_.limits.max_length, " tokens")
                       : str("one text each, cut to ", recipe_.limits.max_length, " tokens")},
      {"special tokens", options_.drop_special_tokens
                             ? "left out: BOS, EOS, padding and what the tokenizer marks special" +
                                   of_tokens(at_.special)
                             : std::string("kept")},
      {"attention sinks",
       recipe_.norms ? str("left out: rows with a norm beyond ", options_.sink_multiple,
                           " times the pass's median so far, at any hook", of_tokens(at_.sinks))
                     : std::string("kept")},
      {"order", options_.shuffle ? str("random, drawn from a buffer of ", buffer_.capacity(),
                                       " rows, seed ", options_.seed)
                                 : std::string("that of the texts")},
      {"rows", str(dtype_name(recipe_.dtype), ", ", recipe_.row_bytes(), " bytes each")},
      {"memory", str(buffer_bytes + batch_bytes, " bytes at most (buffer ", buffer_bytes,
                     ", batches ", batch_bytes, ") and the rows asked for at a time")},
      {"ahead", std::string(live_overlap_name(recipe_.overlap))}};
}

}  // namespace

std::string_view live_overlap_name(LiveOverlap overlap) {
  return kOverlapNames[static_cast<std::size_t>(overlap)];
}

LiveOverlap parse_live_overlap(std::string_view name) {
  for (std::size_t i = 0; i < std::size(kOverlapNames); ++i) {
    if (name == kOverlapNames[i]) return static_cast<LiveOverlap>(i);
  }
  throw_usage("overlap '", name, "', wanted none, texts or model");
}

void LiveStreamOptions::validate() const {
  if (hooks.empty()) throw_usage("live stream: no hook asked for");
  for (std::size_t i = 0; i < hooks.size(); ++i) {
    if (hooks[i].layer < 0) throw_usage("layer ", hooks[i].layer, "; layers count from 0");
    for (std::size_t j = 0; j < i; ++j) {
      if (hooks[i] == hooks[j]) throw_usage(hook_text(hooks[i]), " is asked for twice");
    }
  }
  // The rest is an extraction's.
  ExtractorOptions groups;
  groups.model = model;
  groups.dataset = dataset;
  groups.extraction.mlp_layers = {0};
  groups.extraction.batch_size = batch_size;
  groups.extraction.max_batch_tokens = max_batch_tokens;
  groups.validate();
  if (buffer_dtype != DType::kF32 && buffer_dtype != DType::kBF16 && buffer_dtype != DType::kF16) {
    throw_usage("buffer_dtype ", dtype_name(buffer_dtype), ", wanted float32, bfloat16 or float16");
  }
  if (buffer_rows < 1) throw_usage("buffer_rows ", buffer_rows, ", wanted at least 1");
  if (buffer_bytes < 1) throw_usage("buffer_bytes ", buffer_bytes, ", wanted at least 1");
  if (!(sink_multiple == 0.0 || (sink_multiple >= 1.0 && std::isfinite(sink_multiple)))) {
    throw_usage("sink_multiple ", sink_multiple, ", wanted at least 1, or 0 to keep sinks");
  }
}

std::unique_ptr<RowStream> make_live_stream(const LiveStreamOptions& options,
                                            LiveStreamInputs inputs) {
  options.validate();
  return std::make_unique<LiveStream>(options, std::move(inputs));
}

}  // namespace drrik
