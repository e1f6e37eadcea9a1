#pragma once
// Texts of a source, tokenised and cut into batches for the model.

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "drrik/activations/store.h"
#include "drrik/data/packing.h"
#include "drrik/data/source.h"
#include "drrik/model/model.h"
#include "drrik/text/tokenizer.h"

namespace drrik::detail {

struct BatchLimits {
  std::int64_t max_length = 512;   ///< Tokens of a text.
  bool add_special_tokens = true;  ///< Whether the tokenizer's template is applied.
  BosRule bos = BosRule::kAsTokenizer;
  bool pack = false;            ///< Contexts of max_length tokens instead of single texts.
  std::int64_t batch_size = 0;  ///< Texts in a batch; 0: no limit.
  std::int64_t max_batch_tokens = 2048;
  std::int64_t num_samples = -1;  ///< Dataset rows taken in all; negative: every one.
};

struct Batch {
  TokenBatch tokens;
  std::vector<SampleRecord> samples;  ///< One a sequence; row and rows are not set.
  ActivationWriter::Progress after;   ///< Where the reading stands after its last sample.
};

/// Forms batches. Which texts share a batch depends on nothing before the batch's first text, so
/// that reading can go on from any batch's end with the same batches. Not thread-safe.
class BatchReader {
 public:
  /// `source` and `tokenizer` must outlive the reader. Rows before start.next_index are left out.
  BatchReader(TextSource& source, const Tokenizer& tokenizer, const BatchLimits& limits,
              const ActivationWriter::Progress& start);

  /// False at the end. Throws as TextSource::next() and Tokenizer::encode().
  bool next(Batch& batch);
  /// After the last batch: counts the rows that were skipped behind it too.
  const ActivationWriter::Progress& end() const { return read_; }
  /// The share of this reader's work done, 0 to 1: of num_samples or of the input, whichever is
  /// further. Rows left out at the start are not part of it.
  double fraction() const;

 private:
  struct Item {
    SampleRecord sample;
    ActivationWriter::Progress after;
  };
  struct Text {
    Sample sample;
    std::vector<std::int32_t> ids;
    ActivationWriter::Progress after;
  };
  /// A text whose tokens are not all in contexts yet.
  struct PackedText {
    std::int64_t index = 0;
    std::int64_t begin = 0;  ///< Tokens that contexts of an earlier run hold.
    std::int64_t end = 0;
    ActivationWriter::Progress after;
  };
  void read_ahead();
  std::vector<Text> read_texts();
  void add_text(Text text);
  void pack_text(Text text);
  void take_contexts();

  TextSource* source_;
  const Tokenizer* tokenizer_;
  BatchLimits limits_;
  ActivationWriter::Progress read_;   // after the last row taken from the source
  ActivationWriter::Progress given_;  // after the last sample handed out
  std::deque<Item> items_;
  std::int64_t first_ = 0;    // rows consumed before the start
  double passed_over_ = 0.0;  // share of the input that they are
  bool exhausted_ = false;

  std::optional<Packer> packer_;
  std::deque<PackedText> packing_;
  std::optional<std::int32_t> separator_;  ///< Begins a text that the template leaves bare.
  std::int64_t resume_token_ = 0;
};

}  // namespace drrik::detail
