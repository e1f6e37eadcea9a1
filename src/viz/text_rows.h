#pragma once
// TextRows: a model over texts, batch by batch, with the activations of some hooks and the tokens
// they belong to.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "activations/ahead.h"
#include "activations/batch_reader.h"
#include "drrik/activations/options.h"
#include "drrik/model/model.h"
#include "drrik/tensor/tensor.h"

namespace drrik::detail {

struct TextRowsOptions {
  ExtractorOptions::DatasetGroup dataset;
  std::optional<std::vector<std::string>> texts;  ///< Instead of the dataset.
  std::vector<Hook> hooks;                        ///< One or two, different.
  std::int64_t max_rows = -1;                     ///< The pass ends with so many; negative: all.
  std::int64_t max_batch_tokens = 2048;
  bool drop_special_tokens = true;  ///< BOS, EOS, padding and all that the tokenizer marks special.
};

/// By token id, whether its rows are left out as a special token's.
std::vector<bool> special_ids(const Tokenizer& tokenizer);

/// Texts are tokenised on a thread of its own, two batches ahead. Not thread-safe.
class TextRows {
 public:
  /// Model and tokenizer must outlive it. Throws Error(usage), and as open_dataset().
  TextRows(const Model& model, const Tokenizer& tokenizer, const TextRowsOptions& options);
  ~TextRows();

  /// Whole sequences and the rows of theirs that count (cut where max_rows is reached, so that only
  /// the last batch's last rows are missing). False at the end. Throws Error(data) naming token and
  /// dataset row of a NaN or Inf, and for a dataset that gives no token; Error(interrupted).
  bool next();

  const TokenBatch& tokens() const { return batch_.tokens; }
  /// Of each row its token in tokens().ids.
  const std::vector<std::int64_t>& rows() const { return rows_; }
  /// [rows, width] at hook `i`.
  MatView<const float> activations(std::size_t i) const;
  std::int64_t rows_so_far() const { return given_; }
  double fraction() const;

 private:
  std::optional<Batch> read();

  const Model* model_;
  TextRowsOptions options_;
  BatchLimits limits_;
  std::vector<bool> dropped_;
  std::unique_ptr<TextSource> source_;
  std::unique_ptr<BatchReader> reader_;
  Batch batch_;
  std::vector<std::int64_t> rows_;
  std::vector<Tensor> buffers_;
  std::int64_t given_ = 0;
  std::unique_ptr<Ahead<Batch>> ahead_;  // last: it uses the others
};

}  // namespace drrik::detail
