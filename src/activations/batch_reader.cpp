#include "activations/batch_reader.h"

#include <algorithm>
#include <utility>

#include "drrik/activations/extractor.h"
#include "drrik/base/error.h"
#include "drrik/base/log.h"

namespace drrik::detail {
namespace {

constexpr std::int64_t kTextCharacters = 200;
// Texts tokenised together: enough to share among threads, few enough to hold.
constexpr std::size_t kAheadTexts = 256;
constexpr std::size_t kAheadBytes = std::size_t{4} << 20;
constexpr std::int64_t kWarnings = 3;

}  // namespace

BatchReader::BatchReader(TextSource& source, const Tokenizer& tokenizer, const BatchLimits& limits,
                         const ActivationWriter::Progress& start)
    : source_(&source),
      tokenizer_(&tokenizer),
      limits_(limits),
      read_(start),
      given_(start),
      first_(start.consumed),
      resume_token_(start.next_token) {
  if (!limits_.pack) return;
  read_.next_token = 0;
  PackingOptions packing;
  packing.context_size = limits_.max_length;
  packing.tail = PackingOptions::Tail::kKeep;
  packer_.emplace(packing);
  if (limits_.add_special_tokens && limits_.bos != BosRule::kNever &&
      tokenizer_->encode("", {.bos = limits_.bos}).empty()) {
    separator_ = tokenizer_->bos_id();
  }
}

std::vector<BatchReader::Text> BatchReader::read_texts() {
  std::vector<Text> texts;
  std::size_t bytes = 0;
  while (texts.size() < kAheadTexts && bytes < kAheadBytes && !exhausted_) {
    if (limits_.num_samples >= 0 && read_.consumed >= limits_.num_samples) {
      exhausted_ = true;
      break;
    }
    std::optional<Sample> sample = source_->next();
    if (!sample) {
      exhausted_ = true;
      break;
    }
    if (sample->index < read_.next_index) {
      passed_over_ = source_->fraction();
      continue;
    }
    read_.next_index = sample->index + 1;
    ++read_.consumed;
    bytes += sample->text.size();
    texts.push_back({std::move(*sample), {}, read_});
  }

  // Tokenising takes a few percent of the time on two cores but a third of it on many, so it is
  // shared among the threads rather than moved to one beside them.
  const EncodeOptions encode{.add_special_tokens = limits_.add_special_tokens,
                             .max_length = limits_.pack ? 0 : limits_.max_length,
                             .bos = limits_.bos};
  std::vector<std::string_view> views;
  views.reserve(texts.size());
  for (const Text& text : texts) views.emplace_back(text.sample.text);
  auto ids = tokenizer_->encode_batch(views, encode);
  for (std::size_t i = 0; i < texts.size(); ++i) texts[i].ids = std::move(ids[i]);
  return texts;
}

void BatchReader::read_ahead() {
  for (Text& text : read_texts()) {
    if (text.ids.empty()) {
      ++read_.skipped;
      if (read_.skipped <= kWarnings) {
        log_warning("sample ", text.sample.index, " has no tokens: skipped",
                    read_.skipped == kWarnings ? "; further ones are only counted" : "");
      }
      continue;
    }
    text.after.skipped = read_.skipped;
    if (packer_) {
      pack_text(std::move(text));
    } else {
      add_text(std::move(text));
    }
  }
  if (!packer_) return;
  if (exhausted_) packer_->finish();
  take_contexts();
}

void BatchReader::add_text(Text text) {
  Item item;
  item.sample.index = text.sample.index;
  item.sample.text = utf8_prefix(text.sample.text, kTextCharacters);
  item.sample.input_ids = std::move(text.ids);
  item.after = text.after;
  items_.push_back(std::move(item));
}

void BatchReader::pack_text(Text text) {
  if (separator_) text.ids.insert(text.ids.begin(), *separator_);
  PackedText packed;
  packed.index = text.sample.index;
  packed.begin = std::exchange(resume_token_, 0);
  packed.end = static_cast<std::int64_t>(text.ids.size());
  packed.after = text.after;
  if (packed.begin >= packed.end) {
    throw_data("sample ", packed.index, " has ", packed.end, " tokens, fewer than the ",
               packed.begin, " that were taken from it before; the dataset changed since");
  }
  packer_->add(std::span(text.ids).subspan(static_cast<std::size_t>(packed.begin)), packed.index);
  packing_.push_back(packed);
}

void BatchReader::take_contexts() {
  while (std::optional<PackedContext> context = packer_->next()) {
    Item item;
    item.sample.index = context->segments.front().document;
    item.sample.text = utf8_prefix(tokenizer_->decode(context->ids), kTextCharacters);
    item.sample.input_ids = std::move(context->ids);
    const PackedSegment& last = context->segments.back();
    while (packing_.front().index != last.document) packing_.pop_front();
    const PackedText& text = packing_.front();
    const std::int64_t used = text.begin + last.document_begin + last.length;
    item.after = text.after;
    if (used < text.end) {  // a later context goes on with this text
      item.after.next_index = text.index;
      --item.after.consumed;
      item.after.next_token = used;
    }
    items_.push_back(std::move(item));
  }
}

bool BatchReader::next(Batch& batch) {
  batch.tokens.clear();
  batch.samples.clear();
  for (;;) {
    while (items_.empty() && !exhausted_) read_ahead();
    if (items_.empty()) break;
    Item& item = items_.front();
    const auto length = static_cast<std::int64_t>(item.sample.input_ids.size());
    const auto count = static_cast<std::int64_t>(batch.samples.size());
    if (count > 0 &&
        (batch.tokens.rows() + length > limits_.max_batch_tokens || count == limits_.batch_size)) {
      break;
    }
    batch.tokens.append(item.sample.input_ids);
    batch.samples.push_back(std::move(item.sample));
    batch.after = given_ = item.after;
    items_.pop_front();
  }
  return !batch.samples.empty();
}

double BatchReader::fraction() const {
  const auto share = [](std::int64_t part, std::int64_t whole) {
    return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0.0;
  };
  const std::int64_t given = given_.consumed - first_;
  double done = 0.0;
  if (passed_over_ < 1.0) {
    // Texts read ahead are not done yet.
    done = (source_->fraction() - passed_over_) / (1.0 - passed_over_) *
           share(given, read_.consumed - first_);
  }
  if (limits_.num_samples > 0) done = std::max(done, share(given, limits_.num_samples - first_));
  return std::clamp(done, 0.0, 1.0);
}

}  // namespace drrik::detail
