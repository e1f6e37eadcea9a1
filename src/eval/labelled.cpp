#include "drrik/eval/labelled.h"

#include <algorithm>
#include <map>
#include <optional>

#include "drrik/base/error.h"
#include "drrik/base/interrupt.h"
#include "drrik/base/progress.h"
#include "drrik/base/threads.h"
#include "drrik/sae/sparse_coder.h"

namespace drrik {
namespace {

constexpr std::int64_t kBatchTokens = 2048;
constexpr std::size_t kMaxNamed = 20;

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

// The values of one column by the number of their row.
std::map<std::int64_t, std::string> read_column(DatasetOptions options, const std::string& column,
                                                std::int64_t last_row) {
  options.text_column = column;
  options.scalars = true;
  options.num_samples = -1;
  std::map<std::int64_t, std::string> values;
  const auto source = open_dataset(options);
  while (auto sample = source->next()) {
    check_interrupt("reading labels");
    if (sample->index > last_row) break;
    values.emplace_hint(values.end(), sample->index, std::move(sample->text));
  }
  return values;
}

// Sums of the tokens of one text that count.
class Pool {
 public:
  explicit Pool(std::int64_t d_sae) : latent_(at(d_sae)) {}

  void add(const SparseRows& features, std::int64_t row) {
    const auto end = at(features.row_start[at(row) + 1]);
    for (auto e = at(features.row_start[at(row)]); e < end; ++e) {
      double& sum = latent_[at(features.latent[e])];
      if (sum == 0.0) touched_.push_back(features.latent[e]);
      sum += static_cast<double>(features.value[e]);
    }
  }

  void take(double tokens, SparseRows& out) {
    std::ranges::sort(touched_);
    // A sum that came back to 0 is in the list twice.
    touched_.erase(std::unique(touched_.begin(), touched_.end()), touched_.end());
    for (const std::int32_t latent : touched_) {
      double& sum = latent_[at(latent)];
      out.latent.push_back(latent);
      out.value.push_back(static_cast<float>(sum / tokens));
      sum = 0.0;
    }
    out.row_start.push_back(static_cast<std::int64_t>(out.latent.size()));
    touched_.clear();
  }

 private:
  std::vector<double> latent_;
  std::vector<std::int32_t> touched_;
};

}  // namespace

LabelledTexts read_labelled(const DatasetOptions& options, const std::vector<std::string>& columns,
                            std::int64_t max_texts) {
  if (columns.empty()) throw_usage("labelled texts: no column of labels is named");
  if (options.shuffle_seed) {
    throw_usage("labelled texts: rows are not shuffled here, they are drawn by the seed later");
  }
  DatasetOptions of_texts = options;
  of_texts.num_samples = max_texts;
  std::vector<Sample> samples;
  const auto source = open_dataset(of_texts);
  while (auto sample = source->next()) {
    check_interrupt("reading texts");
    samples.push_back(std::move(*sample));
  }
  const std::int64_t last = samples.back().index;
  std::vector<std::map<std::int64_t, std::string>> values;
  for (const std::string& column : columns) values.push_back(read_column(options, column, last));

  LabelledTexts out;
  out.labels.resize(columns.size());
  for (Sample& sample : samples) {
    const bool whole = std::ranges::all_of(
        values, [&](const auto& column) { return column.contains(sample.index); });
    if (!whole) continue;
    out.texts.push_back(std::move(sample.text));
    for (std::size_t c = 0; c < columns.size(); ++c) {
      out.labels[c].push_back(values[c].at(sample.index));
    }
  }
  if (out.texts.empty()) {
    throw_data("dataset '", options.path, "': no row has both a text and its labels (",
               join(columns), ")");
  }
  return out;
}

ClassSplit split_classes(const std::vector<std::string>& labels, const SplitOptions& options,
                         Rng& rng) {
  std::map<std::string, std::vector<std::int64_t>> by_name;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    by_name[labels[i]].push_back(static_cast<std::int64_t>(i));
  }
  std::vector<std::string> names;
  for (const auto& [name, texts] : by_name) names.push_back(name);
  std::ranges::stable_sort(names, [&](const std::string& a, const std::string& b) {
    return by_name[a].size() > by_name[b].size();
  });
  ClassSplit split;
  for (const std::string& name : names) {
    std::vector<std::int64_t>& texts = by_name[name];
    const auto size = static_cast<std::int64_t>(texts.size());
    if (size < options.min_class_size ||
        static_cast<std::int64_t>(split.names.size()) == options.max_classes) {
      ++split.classes_left_out;
      continue;
    }
    rng.shuffle(std::span(texts));
    const std::int64_t test = std::min(options.test_size / 2, std::max<std::int64_t>(size / 5, 1));
    const std::int64_t train = std::min(options.train_size / 2, size - test);
    split.names.push_back(name);
    split.test.emplace_back(texts.begin(), texts.begin() + test);
    split.train.emplace_back(texts.begin() + test, texts.begin() + test + train);
  }
  if (split.names.size() < 2) {
    std::vector<std::string> found;
    for (const std::string& name : names) {
      if (found.size() == kMaxNamed) {
        found.push_back(str("... (", names.size() - kMaxNamed, " more)"));
        break;
      }
      found.push_back(str("'", name, "' ", by_name[name].size()));
    }
    throw_data("labels: ", split.names.size(), " of ", names.size(), " stand on at least ",
               options.min_class_size, " texts, wanted two; there are: ", join(found));
  }
  return split;
}

BinaryTask one_versus_rest(const std::vector<std::vector<std::int64_t>>& by_class, std::size_t own,
                           Rng& rng) {
  const std::vector<std::int64_t>& positives = by_class[own];
  const std::size_t others = by_class.size() - 1;
  const std::size_t from_each = (positives.size() + others - 1) / others;
  std::vector<std::int64_t> negatives;
  for (std::size_t c = 0; c < by_class.size(); ++c) {
    if (c == own) continue;
    std::vector<std::int64_t> drawn = by_class[c];
    rng.shuffle(std::span(drawn));
    drawn.resize(std::min(drawn.size(), from_each));
    negatives.insert(negatives.end(), drawn.begin(), drawn.end());
  }
  rng.shuffle(std::span(negatives));
  negatives.resize(std::min(negatives.size(), positives.size()));
  BinaryTask task{positives, std::vector<std::uint8_t>(positives.size(), 1)};
  task.samples.insert(task.samples.end(), negatives.begin(), negatives.end());
  task.labels.resize(task.samples.size(), 0);
  return task;
}

void ProbeModel::check() const {
  model.check_hook(hook);
  if (sae.d_in() != sae.d_out() || sae.architecture().find("transcoder") != std::string::npos) {
    throw_usage("probes are made at one hook; the autoencoder reads one thing (", sae.d_in(),
                " wide) and writes another (", sae.d_out(), " wide)");
  }
  if (model.hook_width(hook.point) != sae.d_in()) {
    throw_data("hook ", hook_name(hook.point), " is ", model.hook_width(hook.point),
               " wide, the autoencoder takes ", sae.d_in());
  }
}

PooledTexts pool_texts(const ProbeModel& probe, const std::vector<std::string>& texts,
                       std::span<const std::int64_t> wanted) {
  probe.check();
  const std::int64_t positions = probe.model.config().max_positions;
  EncodeOptions encode{.add_special_tokens = probe.add_special_tokens,
                       .max_length = probe.max_length};
  if (positions > 0) encode.max_length = std::min(encode.max_length, positions);
  const std::int64_t d = probe.sae.d_in();
  PooledTexts out;
  out.row_of.assign(texts.size(), -1);
  out.latents.row_start = {0};
  std::vector<float> means;
  Pool pool(probe.sae.d_sae());
  TokenBatch batch;
  std::vector<std::int64_t> in_batch;  // texts
  SparseRows features;
  std::vector<double> sum(at(d));
  Progress progress("Pooling", static_cast<std::int64_t>(wanted.size()), "texts");

  const auto pool_one = [&](MatView<const float> rows, std::size_t s) {
    std::ranges::fill(sum, 0.0);
    std::int64_t tokens = 0;
    for (std::int64_t r = batch.boundaries[s]; r < batch.boundaries[s + 1]; ++r) {
      if (probe.tokenizer.is_special(batch.ids[at(r)])) continue;
      const auto row = rows.row(r);
      for (std::size_t c = 0; c < sum.size(); ++c) sum[c] += static_cast<double>(row[c]);
      pool.add(features, r);
      ++tokens;
    }
    if (tokens == 0) return;
    out.row_of[at(in_batch[s])] = static_cast<std::int64_t>(out.latents.row_start.size()) - 1;
    for (const double value : sum) {
      means.push_back(static_cast<float>(value / static_cast<double>(tokens)));
    }
    pool.take(static_cast<double>(tokens), out.latents);
  };
  const auto run = [&] {
    if (in_batch.empty()) return;
    check_interrupt("pooling texts");
    const auto pool_all = [&](const Hook&, MatView<float> rows) {
      probe.sae.encode(rows, features);
      for (std::size_t s = 0; s < in_batch.size(); ++s) pool_one(rows, s);
    };
    probe.model.forward(batch, {.hooks = {probe.hook}, .on_hook = pool_all});
    progress.advance(static_cast<std::int64_t>(in_batch.size()));
    batch.clear();
    in_batch.clear();
  };
  for (const std::int64_t text : wanted) {
    if (out.row_of[at(text)] >= 0) continue;
    const std::vector<std::int32_t> ids = probe.tokenizer.encode(texts[at(text)], encode);
    if (ids.empty()) continue;
    if (!in_batch.empty() && batch.rows() + static_cast<std::int64_t>(ids.size()) > kBatchTokens) {
      run();
    }
    batch.append(ids);
    in_batch.push_back(text);
  }
  run();
  progress.finish();
  out.activations =
      Tensor::from<float>(means, {static_cast<std::int64_t>(out.latents.row_start.size()) - 1, d});
  return out;
}

LatentDirections::LatentDirections(const Sae& sae) : sae_(&sae) {
  const auto* coder = dynamic_cast<const SparseCoder*>(&sae);
  if (coder == nullptr) return;
  if (coder->config().row_normalization != RowNormalization::kNone) {
    throw_usage("the autoencoder scales every row before it encodes it, so that a feature adds ",
                "something else to each; latents cannot be taken out of pooled activations");
  }
  if (coder->config().rescale_by_decoder_norm) divisors_ = coder->decoder_norms();
}

std::vector<float> LatentDirections::of(std::int64_t latent) const {
  std::vector<float> direction = sae_->decoder_direction(latent);
  if (divisors_.empty() || !(divisors_[at(latent)] > 0.0F)) return direction;
  for (float& value : direction) value /= divisors_[at(latent)];
  return direction;
}

std::vector<std::vector<double>> LatentDirections::products(
    const std::vector<std::vector<double>>& vectors) const {
  std::vector<std::vector<double>> out(vectors.size(), std::vector<double>(at(sae_->d_sae())));
  parallel_for(sae_->d_sae(), 32, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t j = first; j < last; ++j) {
      const std::vector<float> direction = of(j);
      for (std::size_t v = 0; v < vectors.size(); ++v) {
        double product = 0.0;
        for (std::size_t c = 0; c < direction.size(); ++c) {
          product += static_cast<double>(direction[c]) * vectors[v][c];
        }
        out[v][at(j)] = product;
      }
    }
  });
  return out;
}

}  // namespace drrik
