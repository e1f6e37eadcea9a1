#include "drrik/eval/absorption.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <numeric>
#include <optional>

#include "drrik/base/error.h"
#include "drrik/base/interrupt.h"
#include "drrik/base/progress.h"
#include "drrik/eval/logistic.h"
#include "eval/tasks.h"

namespace drrik {
namespace {

constexpr int kLetters = 26;
constexpr std::int64_t kFewestWords = 100;
constexpr std::int64_t kBatchTokens = 2048;
constexpr std::int64_t kFewestLetters = 20;  // SAEBench's min_feats_for_eval
constexpr double kLargeModel = 2e9;          // parameters, SAEBench's advice

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

struct Word {
  std::int32_t token = 0;
  std::string text;  ///< With its space.
  int letter = 0;
};

// 0 to 25 of a space and letters; -1 otherwise.
int first_letter(const std::string& text) {
  if (text.size() < 2 || text[0] != ' ') return -1;
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  if (!std::all_of(text.begin() + 1, text.end(), is_letter)) return -1;
  return (text[1] | 0x20) - 'a';
}

std::vector<Word> words_of(const Tokenizer& tokenizer) {
  std::vector<Word> words;
  for (std::int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (tokenizer.is_special(id)) continue;
    std::string text = tokenizer.token_bytes(id);
    const int letter = first_letter(text);
    if (letter >= 0) words.push_back({id, std::move(text), letter});
  }
  if (static_cast<std::int64_t>(words.size()) < kFewestWords) {
    throw_usage("absorption: the vocabulary has ", words.size(),
                " tokens that are a word (a space and letters), wanted ", kFewestWords,
                "; a model of characters cannot be asked for first letters");
  }
  return words;
}

// " cat has the first letter: C", after a newline, for each example; then a newline and the word.
class Prompts {
 public:
  Prompts(const ProbeModel& probe, const std::vector<Word>& examples, std::int64_t count)
      : probe_(probe), examples_(examples), count_(count) {
    count_ = std::min(count_, static_cast<std::int64_t>(examples.size()) - 1);
  }

  /// Ids up to the word's own token, empty where the tokenizer does not leave the word whole.
  /// What follows the word in SAEBench's prompt cannot reach back to it in a causal model.
  std::vector<std::int32_t> make(const Word& word, Rng& rng) {
    std::vector<const Word*> chosen;
    while (static_cast<std::int64_t>(chosen.size()) < count_) {
      const Word& example = examples_[static_cast<std::size_t>(rng.below(examples_.size()))];
      const bool taken =
          example.token == word.token || std::ranges::any_of(chosen, [&](const Word* other) {
            return other->token == example.token;
          });
      if (!taken) chosen.push_back(&example);
    }
    const std::int64_t positions = probe_.model.config().max_positions;
    for (;;) {
      std::string text = "\n";
      for (const Word* example : chosen) {
        text += example->text +
                " has the first letter: " + static_cast<char>('A' + example->letter) + "\n";
      }
      text += word.text;
      std::vector<std::int32_t> ids =
          probe_.tokenizer.encode(text, {.add_special_tokens = probe_.add_special_tokens});
      while (!ids.empty() && probe_.tokenizer.is_special(ids.back())) ids.pop_back();
      if (positions <= 0 || static_cast<std::int64_t>(ids.size()) <= positions || chosen.empty()) {
        if (ids.empty() || ids.back() != word.token) return {};
        return ids;
      }
      chosen.pop_back();
      count_ = static_cast<std::int64_t>(chosen.size());  // the next ones are about as long
    }
  }

  std::int64_t fewest() const { return count_; }

 private:
  const ProbeModel& probe_;
  const std::vector<Word>& examples_;
  std::int64_t count_;
};

// Words with the activation at each one's token.
struct Share {
  std::vector<Word> words;
  Tensor activations;  ///< [words, d]
  SparseRows latents;
};

Share read_share(const ProbeModel& probe, std::vector<Word> words, std::int64_t examples, Rng& rng,
                 AbsorptionReport& report) {
  Share share;
  Prompts prompts(probe, words, examples);
  const std::int64_t d = probe.sae.d_in();
  std::vector<float> values;
  TokenBatch batch;
  Progress progress("Reading words", static_cast<std::int64_t>(words.size()), "words");
  const auto run = [&] {
    if (batch.ids.empty()) return;
    check_interrupt("reading words");
    const auto take = [&](const Hook&, MatView<float> rows) {
      for (std::int64_t s = 0; s < batch.sequences(); ++s) {
        const auto row = rows.row(batch.boundaries[at(s) + 1] - 1);
        values.insert(values.end(), row.begin(), row.end());
      }
    };
    probe.model.forward(batch, {.hooks = {probe.hook}, .on_hook = take});
    batch.clear();
  };
  for (const Word& word : words) {
    progress.advance(1);
    const std::vector<std::int32_t> ids = prompts.make(word, rng);
    if (ids.empty()) {
      ++report.words_left_out;
      continue;
    }
    if (batch.rows() + static_cast<std::int64_t>(ids.size()) > kBatchTokens) run();
    batch.append(ids);
    share.words.push_back(word);
  }
  run();
  progress.finish();
  report.examples = std::min(report.examples, prompts.fewest());
  share.activations =
      Tensor::from<float>(values, {static_cast<std::int64_t>(share.words.size()), d});
  probe.sae.encode(share.activations.mat<float>(), share.latents);
  return share;
}

std::vector<std::uint8_t> labels_of(const std::vector<Word>& words, int letter) {
  std::vector<std::uint8_t> labels;
  for (const Word& word : words) labels.push_back(word.letter == letter ? 1 : 0);
  return labels;
}

double f1_score(const std::vector<std::uint8_t>& said, const std::vector<std::uint8_t>& labels) {
  std::int64_t both = 0;
  std::int64_t either = 0;  // positives said plus positives there are
  for (std::size_t i = 0; i < said.size(); ++i) {
    both += said[i] != 0 && labels[i] != 0 ? 1 : 0;
    either += (said[i] != 0 ? 1 : 0) + (labels[i] != 0 ? 1 : 0);
  }
  return either > 0 ? 2.0 * static_cast<double>(both) / static_cast<double>(either) : 0.0;
}

std::vector<std::uint8_t> positives(const LogisticModel& model, const ProbeRows& rows) {
  std::vector<std::uint8_t> out;
  for (std::int64_t i = 0; i < rows.rows(); ++i) out.push_back(model.margin(rows, i) > 0 ? 1 : 0);
  return out;
}

// Latents that a sparse probe gives the largest positive weights, first ones first.
std::vector<std::int64_t> best_latents(const ProbeRows& train,
                                       const std::vector<std::uint8_t>& labels,
                                       double positive_weight, const AbsorptionOptions& options) {
  const LogisticModel sparse = fit_sparse_logistic(
      train, labels, {.l1 = options.l1, .positive_weight = positive_weight, .tolerance = 1e-5});
  std::vector<std::int64_t> order;
  for (std::size_t j = 0; j < sparse.weights.size(); ++j) {
    if (sparse.weights[j] > 0.0) order.push_back(static_cast<std::int64_t>(j));
  }
  std::ranges::stable_sort(order, [&](std::int64_t a, std::int64_t b) {
    return sparse.weights[at(a)] > sparse.weights[at(b)];
  });
  order.resize(std::min(order.size(), at(options.max_k)));
  return order;
}

// One more latent at a time, as long as it adds to F1: the letter's own.
void choose_latents(const ProbeRows& train, const std::vector<std::uint8_t>& train_labels,
                    const ProbeRows& test, const std::vector<std::uint8_t>& test_labels,
                    const std::vector<std::int64_t>& candidates, double f1_jump,
                    AbsorptionReport::Letter& letter) {
  double best = -1.0;
  for (std::size_t k = 1; k <= candidates.size(); ++k) {
    const auto columns = std::span(candidates).first(k);
    const auto width = static_cast<std::int64_t>(k);
    const std::vector<float> few_train = dense_columns(train, columns);
    const std::vector<float> few_test = dense_columns(test, columns);
    const ProbeRows small_train(MatView<const float>(few_train.data(), train.rows(), width));
    const ProbeRows small_test(MatView<const float>(few_test.data(), test.rows(), width));
    const LogisticModel model =
        fit_logistic(small_train, train_labels, LogisticOptions::balanced(train_labels));
    const double f1 = f1_score(positives(model, small_test), test_labels);
    letter.f1_by_k.push_back(f1);
    if (k > 1 && f1 <= best + f1_jump) break;
    best = f1;
    letter.latents.assign(columns.begin(), columns.end());
  }
}

struct Scored {
  AbsorptionReport::Letter letter;
  std::vector<double> full;      ///< By true positive, 0 or 1.
  std::vector<double> fraction;  ///< By true positive.
};

// Everything about one letter; nothing when it cannot be scored.
class LetterTask {
 public:
  LetterTask(const ProbeModel& probe, const LatentDirections& directions, const Share& train,
             const Share& test, const AbsorptionOptions& options)
      : options_(options),
        test_words_(test.words),
        train_words_(train.words),
        train_activations_(train.activations.mat<float>()),
        test_activations_(test.activations.mat<float>()),
        directions_(directions),
        train_latents_(train.latents, probe.sae.d_sae()),
        test_latents_(test.latents, probe.sae.d_sae()),
        norms_(at(probe.sae.d_sae())) {
    for (std::int64_t j = 0; j < probe.sae.d_sae(); ++j) {
      double squares = 0.0;
      for (const float x : directions_.of(j)) {
        squares += static_cast<double>(x) * static_cast<double>(x);
      }
      norms_[at(j)] = std::sqrt(squares);
    }
  }

  std::optional<Scored> score(int letter) const {
    const auto train_labels = labels_of(train_words_, letter);
    const auto test_labels = labels_of(test_words_, letter);
    const auto positive = static_cast<double>(std::ranges::count(train_labels, std::uint8_t{1}));
    const auto n = static_cast<double>(train_labels.size());
    const bool tested = std::ranges::count(test_labels, std::uint8_t{1}) > 0;
    if (positive < 2 || positive == n || !tested) return std::nullopt;
    const double weight = (n - positive) / positive;
    // SAEBench's weight decay of 1e-4 on the mean loss.
    const LogisticModel probe = fit_logistic(train_activations_, train_labels,
                                             {.c = 1.0 / (1e-4 * n), .positive_weight = weight});
    Scored scored;
    scored.letter.letter = static_cast<char>('a' + letter);
    const auto said = positives(probe, test_activations_);
    scored.letter.probe_f1 = f1_score(said, test_labels);
    if (!(scored.letter.probe_f1 > options_.min_probe_f1)) return std::nullopt;
    const auto candidates = best_latents(train_latents_, train_labels, weight, options_);
    if (candidates.empty()) return std::nullopt;
    choose_latents(train_latents_, train_labels, test_latents_, test_labels, candidates,
                   options_.f1_jump, scored.letter);
    measure(probe.weights, said, test_labels, scored);
    return scored;
  }

 private:
  void measure(std::vector<double> direction, const std::vector<std::uint8_t>& said,
               const std::vector<std::uint8_t>& labels, Scored& scored) const {
    double length = 0.0;
    for (const double w : direction) length += w * w;
    length = std::sqrt(length);
    if (length > 0.0) {
      for (double& w : direction) w /= length;
    }
    const std::vector<double> products = directions_.products({direction})[0];
    const std::vector<std::int64_t>& main = scored.letter.latents;
    std::vector<ActiveLatent> active;
    for (std::int64_t i = 0; i < test_latents_.rows(); ++i) {
      if (said[at(i)] == 0 || labels[at(i)] == 0) continue;
      active.clear();
      test_latents_.each(i, [&](std::int64_t j, float value) {
        const double norm = norms_[at(j)];
        active.push_back({j, static_cast<double>(value) * products[at(j)],
                          norm > 0.0 ? products[at(j)] / norm : 0.0,
                          std::ranges::find(main, j) != main.end()});
      });
      const WordAbsorption word =
          word_absorption(test_activations_.dot(i, direction), active, options_);
      scored.full.push_back(word.full ? 1.0 : 0.0);
      scored.fraction.push_back(word.fraction);
    }
    AbsorptionReport::Letter& letter = scored.letter;
    letter.true_positives = static_cast<std::int64_t>(scored.full.size());
    const double full = std::accumulate(scored.full.begin(), scored.full.end(), 0.0);
    const double fraction = std::accumulate(scored.fraction.begin(), scored.fraction.end(), 0.0);
    letter.full = std::llround(full);
    letter.full_rate = full / static_cast<double>(letter.true_positives);
    letter.mean_fraction = fraction / static_cast<double>(letter.true_positives);
  }

  const AbsorptionOptions& options_;
  const std::vector<Word>& test_words_;
  const std::vector<Word>& train_words_;
  ProbeRows train_activations_;
  ProbeRows test_activations_;
  const LatentDirections& directions_;
  ProbeRows train_latents_;
  ProbeRows test_latents_;
  std::vector<double> norms_;
};

void remark(const ProbeModel& probe, AbsorptionReport& report) {
  const auto scored = static_cast<std::int64_t>(report.letters.size());
  if (scored < kFewestLetters) {
    report.remarks.push_back(
        str("a probe reads the first letter for ", scored, " of 26 letters only, fewer than the ",
            kFewestLetters, " that SAEBench wants: the model hardly represents spelling at this ",
            "hook, so that there is little to be absorbed"));
  }
  if (static_cast<double>(probe.model.config().parameter_count()) < kLargeModel) {
    report.remarks.push_back(
        "SAEBench asks this of models from 2 billion parameters on; smaller ones cannot spell");
  }
}

}  // namespace

WordAbsorption word_absorption(double projection, const std::vector<ActiveLatent>& active,
                               const AbsorptionOptions& options) {
  WordAbsorption out;
  bool main_fires = false;
  double main_projection = 0.0;
  const ActiveLatent* top = nullptr;
  std::vector<double> absorbing;
  for (const ActiveLatent& latent : active) {
    if (latent.main) {
      main_fires = true;
      main_projection += latent.projection;
    } else if (latent.cosine >= options.fraction_cosine && latent.projection > 0.0) {
      absorbing.push_back(latent.projection);
    }
    if (top == nullptr || latent.projection > top->projection) top = &latent;
  }
  out.full = !main_fires && top != nullptr && projection > 0.0 &&
             top->cosine >= options.full_cosine && top->projection / projection >= options.share;
  const std::size_t count = std::min(absorbing.size(), at(options.absorbers));
  std::partial_sort(absorbing.begin(), absorbing.begin() + static_cast<std::ptrdiff_t>(count),
                    absorbing.end(), std::greater<>());
  const double absorbed = std::accumulate(
      absorbing.begin(), absorbing.begin() + static_cast<std::ptrdiff_t>(count), 0.0);
  if (projection <= 0.0 || main_projection >= projection || absorbed / projection < options.share) {
    return out;
  }
  if (main_projection <= 0.0) {
    out.fraction = 1.0;
    return out;
  }
  const double taken = std::min(absorbed, projection - main_projection);
  out.fraction = taken / (taken + main_projection);
  return out;
}

AbsorptionReport first_letter_absorption(const ProbeModel& probe,
                                         const AbsorptionOptions& options) {
  probe.check();
  if (!probe.model.config().causal) {
    throw_usage("absorption: an encoder sees the whole text, so that a word's activation depends ",
                "on what follows it; the task is for models that read from left to right");
  }
  Rng rng(options.seed);
  std::vector<Word> words = words_of(probe.tokenizer);
  rng.shuffle(std::span(words));
  words.resize(std::min(words.size(), at(std::max<std::int64_t>(options.max_words, kFewestWords))));
  const auto middle = words.begin() + static_cast<std::ptrdiff_t>(words.size() * 4 / 5);
  AbsorptionReport report;
  report.examples = options.examples;
  const LatentDirections directions(probe.sae);  // refuses what cannot be scored
  const Share train = read_share(probe, {words.begin(), middle}, options.examples, rng, report);
  const Share test = read_share(probe, {middle, words.end()}, options.examples, rng, report);
  report.words = static_cast<std::int64_t>(train.words.size() + test.words.size());
  report.test_words = static_cast<std::int64_t>(test.words.size());
  if (train.words.empty() || test.words.empty()) {
    throw_usage("absorption: the tokenizer leaves none of the drawn words whole in a prompt");
  }

  // Mean over letters, by word: each of a letter's words weighs 1 / their number.
  ClusterSums sums(3);  // full, fraction, weight
  Progress progress("Scoring letters", kLetters, "letters");
  const LetterTask task(probe, directions, train, test, options);
  double split = 0.0;
  for (int letter = 0; letter < kLetters; ++letter) {
    const std::optional<Scored> scored = task.score(letter);
    progress.advance(1);
    if (!scored || scored->full.empty()) {
      report.unscored += static_cast<char>('a' + letter);
      continue;
    }
    const double weight = 1.0 / static_cast<double>(scored->full.size());
    for (std::size_t i = 0; i < scored->full.size(); ++i) {
      sums.add(
          std::array<double, 3>{scored->full[i] * weight, scored->fraction[i] * weight, weight});
      sums.close();
    }
    split += static_cast<double>(scored->letter.latents.size());
    report.letters.push_back(scored->letter);
  }
  report.full_rate = sums.ratio(0, 2);
  report.mean_fraction = sums.ratio(1, 2);
  report.mean_split_latents =
      report.letters.empty() ? 0.0 : split / static_cast<double>(report.letters.size());
  remark(probe, report);
  return report;
}

}  // namespace drrik
