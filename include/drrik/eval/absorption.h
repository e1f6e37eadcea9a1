#pragma once
// Feature absorption after SAEBench's first-letter task: do the latents for "starts with S" fail to
// fire on words for which a latent of their own has taken that over? Method and where it differs:
// docs/evaluation.md.

#include <cstdint>
#include <string>
#include <vector>

#include "drrik/eval/labelled.h"
#include "drrik/sae/confidence.h"

namespace drrik {

struct AbsorptionOptions {
  std::int64_t max_words = 4000;  ///< Drawn at random where the vocabulary has more.
  std::int64_t examples = 10;     ///< Solved ones in each prompt; fewer where they do not fit.
  std::int64_t max_k = 10;        ///< Latents that a letter's k-sparse probe may use at most.
  double f1_jump = 0.03;          ///< F1 that one more latent must add to belong to the letter.
  double l1 = 0.01;               ///< Penalty of the probe that chooses latents.
  double full_cosine = 0.025;     ///< Least cosine of the absorbing latent, full absorption.
  double fraction_cosine = 0.1;   ///< The same, absorption fraction.
  double share = 0.4;             ///< Least share of the probe's projection that absorbers explain.
  std::int64_t absorbers = 3;     ///< Latents counted as absorbers at most, absorption fraction.
  double min_probe_f1 = 0.6;      ///< Letters that a probe reads worse are not scored.
  std::uint64_t seed = 42;
};

struct AbsorptionReport {
  struct Letter {
    char letter = 'a';
    double probe_f1 = 0.0;              ///< Of the probe on activations, on test words.
    std::vector<std::int64_t> latents;  ///< That belong to the letter.
    std::vector<double> f1_by_k;        ///< Of the k-sparse probes, k = 1, 2, …
    std::int64_t true_positives = 0;    ///< Test words of the letter that the probe finds.
    std::int64_t full = 0;              ///< Of them, fully absorbed.
    double full_rate = 0.0;
    double mean_fraction = 0.0;
  };
  std::int64_t words = 0;
  std::int64_t test_words = 0;
  std::int64_t words_left_out = 0;  ///< Of the drawn ones: the tokenizer cuts them otherwise.
  std::int64_t examples = 0;        ///< In each prompt, at least.
  std::vector<Letter> letters;      ///< Scored ones, in order of the alphabet.
  std::string unscored;             ///< Letters with too few words, a bad probe or no latent.
  Interval full_rate;               ///< Mean over scored letters, 95 % interval over words.
  Interval mean_fraction;           ///< As above.
  double mean_split_latents = 0.0;  ///< Latents of a letter.
  std::vector<std::string> remarks;
};

/// The words are those tokens of the vocabulary that are a space and letters a to z in either case.
/// Throws Error(usage) when there are fewer than 100, as for a vocabulary of characters, and as
/// ProbeModel::check(), whose max_length is not looked at.
AbsorptionReport first_letter_absorption(const ProbeModel& probe,
                                         const AbsorptionOptions& options = {});

/// What one word shows: the two measures, given what each latent adds to the probe's projection.
/// For tests and other tasks than letters.
struct WordAbsorption {
  bool full = false;
  double fraction = 0.0;
};
struct ActiveLatent {
  std::int64_t latent = 0;
  double projection = 0.0;  ///< Activation · norm of its direction · cosine.
  double cosine = 0.0;      ///< Of its direction and the probe's.
  bool main = false;        ///< Belongs to the letter.
};
/// `projection` is that of the whole activation; `active` the latents that fire.
WordAbsorption word_absorption(double projection, const std::vector<ActiveLatent>& active,
                               const AbsorptionOptions& options = {});

}  // namespace drrik
