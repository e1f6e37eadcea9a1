#pragma once
// Labelled texts for probes: read from a dataset, cut into classes with their shares for training
// and testing, and pooled to one vector a text.

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "drrik/base/rng.h"
#include "drrik/data/source.h"
#include "drrik/model/model.h"
#include "drrik/sae/sae.h"
#include "drrik/tensor/tensor.h"
#include "drrik/text/tokenizer.h"

namespace drrik {

struct LabelledTexts {
  std::vector<std::string> texts;
  std::vector<std::vector<std::string>> labels;  ///< [columns][texts]
};

/// Reads texts (options.text_column) and the columns of their labels, which may hold strings,
/// numbers or booleans. Rows without a text or one of the labels are left out; at most `max_texts`
/// are taken. The files are read once for each column. Throws as open_dataset(); Error(usage) when
/// no label column is named or options shuffle; Error(data) when no row has everything.
LabelledTexts read_labelled(const DatasetOptions& options, const std::vector<std::string>& columns,
                            std::int64_t max_texts = 200'000);

struct SplitOptions {
  /// Texts of a class and of the others together that a probe is trained and tested with (SAEBench:
  /// 4000 and 1000), half of them the class's own. Where there are fewer, four fifths are for
  /// training.
  std::int64_t train_size = 4000;
  std::int64_t test_size = 1000;
  std::int64_t min_class_size = 20;  ///< Rarer labels are left out.
  std::int64_t max_classes = 20;     ///< The most frequent ones are kept.
};

/// Texts by class, drawn at random; no text is in both shares.
struct ClassSplit {
  std::vector<std::string> names;                ///< By frequency, ties by name.
  std::vector<std::vector<std::int64_t>> train;  ///< [classes], indices of texts.
  std::vector<std::vector<std::int64_t>> test;
  std::int64_t classes_left_out = 0;
};

/// Throws Error(data), naming the labels there are, when fewer than two are frequent enough.
ClassSplit split_classes(const std::vector<std::string>& labels, const SplitOptions& options,
                         Rng& rng);

/// Samples of one class (label 1) and as many others (label 0), as SAEBench draws them: from each
/// other class the same number, then at random down to as many as there are positives.
struct BinaryTask {
  std::vector<std::int64_t> samples;
  std::vector<std::uint8_t> labels;
};
BinaryTask one_versus_rest(const std::vector<std::vector<std::int64_t>>& by_class, std::size_t own,
                           Rng& rng);

/// Texts as one vector each: means over their tokens.
struct PooledTexts {
  std::vector<std::int64_t> row_of;  ///< [texts]: row below; -1 when no token of it counts.
  Tensor activations;                ///< float32 [rows, d_in], mean activation at the hook.
  SparseRows latents;                ///< Mean features, [rows]; latents ascending.
};

/// Which of a model's activations an autoencoder belongs to, and how texts get there.
struct ProbeModel {
  const Model& model;
  const Tokenizer& tokenizer;
  const Sae& sae;
  Hook hook;
  std::int64_t max_length = 128;  ///< Tokens a text is cut to, special ones included.
  bool add_special_tokens = true;

  /// Throws Error(usage) for an encoder-decoder of other rows (a transcoder) or hooks that the
  /// model lacks, Error(data) for a width that does not fit.
  void check() const;
};

/// Runs the model over the texts that `wanted` names. Special tokens (BOS and the like) are in the
/// context and not in the means.
PooledTexts pool_texts(const ProbeModel& probe, const std::vector<std::string>& texts,
                       std::span<const std::int64_t> wanted);

/// What a latent adds to the output for each unit of its feature: its decoder direction, over its
/// norm where the architecture measures features by it.
class LatentDirections {
 public:
  /// Throws Error(usage) for an autoencoder that scales rows before it encodes them: a feature then
  /// adds something else to every row. `sae` must outlive it.
  explicit LatentDirections(const Sae& sae);
  std::vector<float> of(std::int64_t latent) const;
  /// [vectors][d_sae]: direction · vector of every latent with each of the given vectors.
  std::vector<std::vector<double>> products(const std::vector<std::vector<double>>& vectors) const;

 private:
  const Sae* sae_;
  std::vector<float> divisors_;
};

}  // namespace drrik
