#include "activations/batch_reader.h"

#include <algorithm>

#include "drrik/activations/extractor.h"
#include "drrik/base/log.h"
#include "drrik/base/threads.h"

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
      first_(start.consumed) {}

void BatchReader::read_ahead() {
  struct Row {
    Sample sample;
    std::int64_t consumed = 0;
  };
  std::vector<Row> rows;
  std::size_t bytes = 0;
  while (rows.size() < kAheadTexts && bytes < kAheadBytes && !exhausted_) {
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
    rows.push_back({std::move(*sample), read_.consumed});
  }

  // Tokenising takes a few percent of the time on two cores but a third of it on many, so it is
  // shared among the threads rather than moved to one beside them.
  std::vector<std::vector<std::int32_t>> ids(rows.size());
  const EncodeOptions encode{.add_special_tokens = limits_.add_special_tokens,
                             .max_length = limits_.max_length};
  parallel_for(
      static_cast<std::int64_t>(rows.size()), 1, [&](std::int64_t begin, std::int64_t end) {
        for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
          ids[i] = tokenizer_->encode(rows[i].sample.text, encode);
        }
      });

  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Sample& sample = rows[i].sample;
    if (ids[i].empty()) {
      ++read_.skipped;
      if (read_.skipped <= kWarnings) {
        log_warning("sample ", sample.index, " has no tokens: skipped",
                    read_.skipped == kWarnings ? "; further ones are only counted" : "");
      }
      continue;
    }
    Item item;
    item.sample.index = sample.index;
    item.sample.text = utf8_prefix(sample.text, kTextCharacters);
    item.sample.input_ids = std::move(ids[i]);
    item.after = {sample.index + 1, rows[i].consumed, read_.skipped};
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
